#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The Python package as CMake alone installs it: staged with DESTDIR, it loads the library that was
# installed with it, names its folders, and a table goes through a service started from there.
# usage: python_install_test.sh CMAKE BUILD_DIR PYTHON
set -euo pipefail
export LC_ALL=C
cmake=$1 build=$2 python=$3

work=$(mktemp -d)
export PINTABLE_ADDRESS=$work/s
unset PINTABLED PYTHONPATH
fail() {
    echo "$*"
    exit 1
}
stop() {
    "$program" stop --force >/dev/null 2>&1 || true
    rm -rf "$work"
}
program=true
trap stop EXIT

DESTDIR=$work/stage "$cmake" --install "$build" >"$work/install.log"
package=$(dirname "$(find "$work/stage" -name _native.abi3.so)")
program=$(find "$work/stage" -path '*/bin/pintable')
[[ -s $package/__init__.py && -x $program ]] || fail "$(<"$work/install.log")"
if grep -rIlF "$build" "$package"; then
    fail "the files above name the build folder"
fi

cat >"$work/try.py" <<'EOF_PY'
import importlib.metadata
import os
import sys

import pintable

stage = sys.argv[1]
with open("/proc/self/maps") as maps:
    libraries = {line.split()[-1] for line in maps if "/libpintable.so" in line}
assert len(libraries) == 1 and libraries.pop().startswith(stage), libraries
for path in (pintable.get_include(), pintable.get_library_dir(), pintable.get_service_path()):
    assert path.startswith(stage) and os.path.exists(path), path
assert os.path.exists(os.path.join(pintable.get_include(), "pintable", "pintable.h"))
assert importlib.metadata.version("pintable") == pintable.__version__
with pintable.create({"x": "int32"}, 10, name="staged", keep=True) as table:
    assert pintable.list_tables() == ["staged"] and len(table) == 10
print("ok")
EOF_PY
cd "$work" # not where the sources are
PYTHONPATH=$(dirname "$package") PATH=$(dirname "$program"):$PATH \
    "$python" -B "$work/try.py" "$(realpath "$work/stage")"
[[ $("$program" ls) == *staged* ]] || fail "ls does not show the table"
PYTHONPATH=$(dirname "$package") "$python" -B -m pintable ls | grep -q staged || fail "python -m pintable"
