#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Writes docs/errors.md from the table in include/pintable/status.h. --check: only compare.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

render() {
    cat <<'TXT'
# Status codes

Made from `include/pintable/status.h` by `tools/errors.sh`. Negative codes are grouped by the largest thing
the caller must throw away; a caller can act on the group without knowing the code
(`PINT_IS_TABLE_ERROR(s)` and so on). Numbers are never reused. The message in `pint_error` says
operation, object, value and limit.

| group | numbers | what is lost |
|---|---|---|
| outcome | 0 and above | nothing: success, or success without a result |
| call | -1 to -19 | nothing has changed |
| table | -20 to -39 | close the table, or recover the chunk the message names |
| service | -40 to -59 | requests do not work; mapped data stay usable |
| device | -60 to -79 | the device copy; host data are intact |
| process | -80 to -99 | the process lacks memory, descriptors or kernel support |

| name | number | meaning |
|---|---|---|
TXT
    sed -n 's/^ *X(\([A-Z_]*\), *\(-\{0,1\}[0-9]*\), *"\(.*\)").*$/| `PINT_\1` | \2 | \3 |/p' include/pintable/status.h
    cat <<'TXT'

The programs' exit codes follow from these: see `docs/cli.md`. On the wire the numbers are the `code` of a
JSON-RPC error (`docs/protocol.md`).
TXT
}

if [[ ${1:-} == --check ]]; then
    diff -u docs/errors.md <(render) >&2 || { echo "docs/errors.md is not what tools/errors.sh makes" >&2; exit 1; }
else
    render >docs/errors.md
fi
