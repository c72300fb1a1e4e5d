#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The shared library exports exactly the names in cmake/exports.txt, which is sorted.
# usage: exports_test.sh NM LIBRARY EXPORTS_FILE
set -euo pipefail
export LC_ALL=C
nm=$1 library=$2 exports=$3
expected=$(grep -v -e '^#' -e '^$' "$exports")
if [[ $expected != "$(sort -u <<<"$expected")" ]]; then
    echo "$exports is not sorted, or names something twice"
    exit 1
fi
if grep -v -x '[p]int_[a-z0-9_]*' <<<"$expected"; then
    echo "$exports: the names above are not pint_*"
    exit 1
fi
# Type A is the version node itself.
actual=$("$nm" -D --defined-only "$library" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort -u)
diff -u --label "$exports" --label "exported by $library" <(echo "$expected") <(echo "$actual")
