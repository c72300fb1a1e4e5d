#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Rules that no compiler checks: formatting, banned words, which layer may include what, file lists.
# Prints one line per violation and fails if there is any.
#
# A line that must break a rule says why in a comment that starts with "check-ok:", on that line.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")/.."

n_bad=0
bad() {
    echo "$1" >&2
    n_bad=$((n_bad + 1))
}

files=$(git ls-files -co --exclude-standard | sort -u)
files=$(while IFS= read -r f; do if [[ -f $f ]]; then echo "$f"; fi; done <<<"$files")
# select PATTERN: names that match an extended regular expression.
select_files() { grep -E "$1" <<<"$files" || true; }

sources=$(select_files '\.(c|h|cc|cu|cuh)$')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Code without comments and literals, as "file:line:code". #include lines keep their names.
strip_comments() {
    xargs -d '\n' awk '
        FNR == 1 { in_comment = 0 }
        {
            line = $0
            if (line ~ /check-ok:/) { line = "" }
            if (!in_comment && line ~ /^[ \t]*#[ \t]*include/) {
                sub(/\/[\/*].*/, "", line)
                print FILENAME ":" FNR ":" line
                next
            }
            out = ""
            while (line != "") {
                if (in_comment) {
                    end = index(line, "*/")
                    if (end == 0) { line = ""; break }
                    line = substr(line, end + 2)
                    in_comment = 0
                    continue
                }
                if (!match(line, /\/\*|\/\/|"|\047/)) { out = out line; break }
                out = out substr(line, 1, RSTART - 1)
                token = substr(line, RSTART, RLENGTH)
                line = substr(line, RSTART + RLENGTH)
                if (token == "/*") { in_comment = 1; continue }
                if (token == "//") { break }
                pattern = token == "\"" ? "^([^\"\\\\]|\\\\.)*\"" : "^([^\047\\\\]|\\\\.)*\047"
                if (match(line, pattern)) { line = substr(line, RLENGTH + 1) }
                out = out token token
            }
            if (out ~ /[^ \t]/) { print FILENAME ":" FNR ":" out }
        }'
}
if [[ -n $sources ]]; then
    strip_comments <<<"$sources" >"$work/code"
else
    : >"$work/code"
fi

# forbid WHAT CODE_PATTERN [ALLOWED_FILES [ONLY_IN_FILES]]: extended regular expressions.
forbid() {
    local what=$1 pattern=$2 allowed=${3:-^$} only=${4:-.} hit file rest
    while IFS= read -r hit; do
        file=${hit%%:*}
        rest=${hit#*:}
        if [[ $file =~ $only && ! $file =~ $allowed ]]; then
            bad "$file:${rest%%:*}: $what"
        fi
    done < <(grep -E "^[^:]*:[0-9]+:.*$pattern" "$work/code" || true)
}

check_banned_words() {
    local word
    for word in sprintf vsprintf strcpy strcat strtok atoi gets alloca usleep sleep; do
        forbid "$word() is banned" "(^|[^A-Za-z0-9_])$word[[:space:]]*\\(" '^docker/'
    done
    forbid "volatile is banned: use atomics" '(^|[^A-Za-z0-9_])volatile([^A-Za-z0-9_]|$)'
    forbid "atomic_thread_fence is banned: order on the variable itself" 'atomic_thread_fence'
    forbid "fork() is not allowed here" '(^|[^A-Za-z0-9_])fork[[:space:]]*\(' \
        '^(tests/|ipc/service/|ipc/launch\.c$|examples/|bench/)'
}

# Joins each call to the end of its statement, so that flags on the next line are seen.
check_close_on_exec() {
    local hits
    hits=$(awk '
        function check(text, name, flag) {
            if (text ~ ("(^|[^A-Za-z0-9_.>])" name "[ \t]*\\(") && text !~ flag && text !~ /^[ \t]*#/) {
                print file ":" first ": " name "() without " flag
            }
        }
        function flush() {
            check(statement, "open", "O_CLOEXEC")
            check(statement, "openat", "O_CLOEXEC")
            check(statement, "pipe2", "O_CLOEXEC")
            check(statement, "socket", "SOCK_CLOEXEC")
            check(statement, "socketpair", "SOCK_CLOEXEC")
            check(statement, "accept4", "SOCK_CLOEXEC")
            check(statement, "memfd_create", "MFD_CLOEXEC")
            statement = ""
        }
        {
            match($0, /^[^:]*:[0-9]+:/)
            place = substr($0, 1, RLENGTH)
            split(place, parts, ":")
            code = substr($0, RLENGTH + 1)
            if (parts[1] != file) { flush(); file = parts[1] }
            if (statement == "") { first = parts[2] }
            statement = statement " " code
            if (code ~ /[;{}][ \t]*$/) { flush() }
        }
        END { flush() }' "$work/code")
    local hit
    while IFS= read -r hit; do
        [[ -z $hit ]] || bad "$hit"
    done <<<"$hits"
}

check_layers() {
    local include='#[[:space:]]*include[[:space:]]*[<"]'
    forbid "cJSON belongs to ipc/" "$include(cjson/)?cJSON" '^(ipc|tests)/'
    forbid "<csv.h> belongs to ipc/cli/" '#[[:space:]]*include[[:space:]]*<csv\.h>' '^ipc/cli/'
    # What a kernel source includes is its own business; the library knows CUDA in device/cuda* alone.
    forbid "CUDA headers belong to device/cuda*" "${include}[^>\"]*cuda[^>\"]*\\.h[>\"]" \
        '^(device/cuda|tests/(device|fakecuda)/|bench/)|\.cuh?$'
    forbid "only tests/device/ may include the toolkit's headers" \
        '#[[:space:]]*include[[:space:]]*<cuda[^>]*\.h>' '^tests/device/|\.cuh?$'
    forbid "device/ may include host/ and the headers of ipc/'s client only" \
        "${include}ipc/(service|cli|json|wire|launch|connect|shared)" '^$' '^device/'
    forbid "only tests/, examples/ and bench/ may include device/" "${include}device/" \
        '^(device|tests|examples|bench)/'
    forbid "host/ may not include ipc/ or device/" "$include(ipc|device)/" '^$' '^host/'
    forbid "ipc/ may not include device/" "${include}device/" '^$' '^ipc/'
    forbid "the library may not include ipc/service/ or ipc/cli/" "${include}ipc/(service|cli)/" \
        '^(ipc/service/|ipc/cli/|tests/|bench/)'
    forbid "ipc/service/ may not include ipc/cli/" "${include}ipc/cli/" '^$' '^ipc/service/'
    forbid "ipc/cli/ may not include ipc/service/" "${include}ipc/service/" '^$' '^ipc/cli/'
    forbid "nothing but tests/ includes tests/" "${include}tests/" '^tests/'
}

# Public headers: forbid() cannot say "all but", so they have a check of their own.
check_public_headers() {
    local hit
    while IFS= read -r hit; do
        [[ -z $hit ]] ||
            bad "${hit%:*}: a public header includes only <stddef.h>, <stdint.h> and pintable/"
    done < <(grep -E '^include/pintable/[^:]*\.h:[0-9]+:[[:space:]]*#[[:space:]]*include' "$work/code" |
        grep -vE '[<"](stddef\.h|stdint\.h|pintable/[a-z_]+\.h)[>"]' || true)
    local header
    for header in $(select_files '^include/pintable/[^/]*\.h$'); do
        grep -qxE "[[:space:]]*$(basename "$header")" CMakeLists.txt ||
            bad "$header: not in PINT_PUBLIC_HEADERS of CMakeLists.txt"
    done
}

# The Python extension stands on the public API alone: whatever it can do, other extensions can.
check_native_includes() {
    local hit libc='(emmintrin|errno|inttypes|limits|math|pthread|sched|signal|stdarg|stdatomic|stddef|stdint|stdio|stdlib|string|time)'
    while IFS= read -r hit; do
        [[ -z $hit ]] || bad "${hit%:*}: python/native/ includes Python.h, pintable/ and libc only"
    done < <(grep -E '^python/native/[^:]*:[0-9]+:[[:space:]]*#[[:space:]]*include' "$work/code" |
        grep -vE "#[[:space:]]*include[[:space:]]+(\"native\.h\"|<(Python|pintable/[a-z_]+|$libc)\.h>)" ||
        true)
}

# Every C file is built: named, with or without its folder, in some CMakeLists.txt.
check_file_lists() {
    local lists file
    lists=$(select_files '(^|/)CMakeLists\.txt$' | xargs -d '\n' cat)
    for file in $(select_files '\.(c|cc)$'); do
        grep -qE "(^|[^A-Za-z0-9_])$(basename "$file")([^A-Za-z0-9_]|\$)" <<<"$lists" ||
            bad "$file: in no CMakeLists.txt"
    done
}

check_spdx() {
    local file
    for file in $(select_files '(\.(c|h|cc|cu|cuh|h\.in|cmake|cmake\.in|sh|py|pyi|py\.in|pml|toml)|(^|/)CMakeLists\.txt|^run|^\.ci/run)$'); do
        head -n 3 "$file" | grep -q 'SPDX-License-Identifier: Apache-2\.0' ||
            bad "$file: no SPDX line"
    done
}

# The formatter's result depends on its version: 14 is what Debian 12 has.
check_format() {
    local hit
    if ! command -v clang-format >/dev/null || [[ $(clang-format --version) != *"version 14."* ]]; then
        echo "check: formatting not checked, clang-format 14 is not installed"
        return
    fi
    while IFS= read -r hit; do
        [[ -z $hit ]] || bad "$hit: not formatted; ./run format"
    done < <(select_files '\.(c|h|cc|cu|cuh)$' | while IFS= read -r file; do
        clang-format --dry-run -Werror "$file" >/dev/null 2>&1 || echo "$file"
    done)
}

# docs/errors.md is made from the header.
check_errors() {
    tools/errors.sh --check || bad "docs/errors.md: run tools/errors.sh"
}

# Python: syntax with the interpreter at hand (nothing is written), and ruff's rules (pyproject.toml)
# where it is installed, for example by ./run test.
check_python() {
    local hit ruff
    local -a python_files
    mapfile -t python_files < <(select_files '\.pyi?$')
    ((${#python_files[@]} > 0)) || return 0
    if ! command -v python3 >/dev/null || ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "check: Python not checked, there is no Python 3.11 or later"
        return
    fi
    while IFS= read -r hit; do
        bad "$hit"
    done < <(python3 - "${python_files[@]}" <<'PY'
import sys

for name in sys.argv[1:]:
    try:
        with open(name, encoding="utf-8") as file:
            compile(file.read(), name, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        print(f"{name}:{getattr(error, 'lineno', 1)}: {error}")
PY
    )
    ruff=$(command -v ruff || true)
    [[ -n $ruff || ! -x build/venv/bin/ruff ]] || ruff=build/venv/bin/ruff
    if [[ -z $ruff ]]; then
        echo "check: Python rules not checked, ruff is not installed"
        return
    fi
    while IFS= read -r hit; do
        bad "$hit"
    done < <("$ruff" check --quiet --no-cache --output-format=concise "${python_files[@]}")
}

# The groups of the Python package. When a file is imported it may import from its own group and from
# lower ones; inside functions and under TYPE_CHECKING anything. python/README.md names each file.
check_python_groups() {
    local hit
    command -v python3 >/dev/null || return 0
    while IFS= read -r hit; do
        [[ -z $hit ]] || bad "$hit"
    done < <(select_files '^python/pintable/.*\.py$' | python3 -c '
import ast, re, sys

ORDER = [{"_base"}, {"_values"}, {"_table"}, {"_frame", "_device"}, {"_map"}]
LEVEL = {group: level for level, groups in enumerate(ORDER) for group in groups}
TOP = {"__init__", "__main__"}
readme = open("python/README.md", encoding="utf-8").read()
rows = dict(re.findall(r"^\| `(_\w+)/` \| (.*)$", readme, re.M))


def run_at_import(body):
    """Statements that run when the module is imported."""
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from run_at_import(node.orelse)
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node
            for field in ("body", "orelse", "finalbody"):
                yield from run_at_import(getattr(node, field, []))
            for handler in getattr(node, "handlers", []):
                yield from run_at_import(handler.body)


def imported(node, package):
    """Full names of what a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    parts = package[: len(package) + 1 - node.level] if node.level else []
    base = ".".join([*parts, *filter(None, [node.module])])
    return [f"{base}.{alias.name}" for alias in node.names]


for path in sys.stdin.read().split():
    *package, name = path.removeprefix("python/").removesuffix(".py").split("/")
    group = package[1] if len(package) > 1 else None
    if group is None:
        if name not in TOP:
            print(f"{path}: belongs into a group: {sorted(LEVEL)}")
        continue
    if group not in LEVEL:
        print(f"{path}: the group {group} has no place in the order of tools/check.sh")
        continue
    if name != "__init__" and f"`{name}`" not in rows.get(group, ""):
        print(f"{path}: not in the row of {group}/ in python/README.md")
    for node in run_at_import(ast.parse(open(path, encoding="utf-8").read()).body):
        for target in imported(node, package):
            parts = target.split(".")
            other = parts[1] if parts[0] == "pintable" and len(parts) > 1 else group
            if other not in (group, "_native") and not LEVEL.get(other, 99) < LEVEL[group]:
                print(f"{path}:{node.lineno}: {group}/ may not import {target} when it is imported")
for group in sorted(rows.keys() - LEVEL.keys()):
    print(f"python/README.md: there is no group {group}/")
')
}

check_banned_words
check_close_on_exec
check_errors
check_layers
check_public_headers
check_native_includes
check_python_groups
check_file_lists
check_spdx
check_format
check_python
if ((n_bad > 0)); then
    echo "check: $n_bad violations" >&2
    exit 1
fi
echo "check: ok"
