#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Tries what was installed into an environment with nothing else in it: import, a table that a second
# process sees, the command line, and a C program linked with what the package brings.
# usage: smoke_wheel.sh VENV
set -euo pipefail
venv=$(realpath -- "$1")
work=$(mktemp -d)
export PINTABLE_ADDRESS=$work/pool.sock
unset PINTABLED PYTHONPATH
stop() {
    "$venv/bin/pintable" stop --force >/dev/null 2>&1 || true
    rm -rf -- "$work"
}
trap stop EXIT
cd "$work" # not the source tree

cat >make.py <<'PY'
import subprocess
import sys
import pintable

with pintable.create({"x": "float64", "name": "category"}, 1000, name="smoke", keep=True) as table:
    assert len(table) == 1000 and table.columns == ["x", "name"], table
    child = "import pintable; print(pintable.open('smoke').rows)"
    seen = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True)
    assert seen.stdout == "1000\n", seen
PY
"$venv/bin/python" make.py
[[ $("$venv/bin/pintable" ls) == *smoke* ]]
[[ $("$venv/bin/python" -m pintable ls) == *smoke* ]]
version=$("$venv/bin/python" -c 'import pintable; print(pintable.__version__)')

cat >program.c <<'C'
#include <pintable/pintable.h>
#include <stdio.h>

int main(void)
{
    pint_pool *pool;
    pint_table *table;
    pint_error err = {0};
    if (pint_pool_join(NULL, NULL, &pool, &err) != PINT_OK ||
        pint_table_open(pool, "smoke", PINT_READ, &table, &err) != PINT_OK) {
        return 1;
    }
    (void)printf("%llu\n", (unsigned long long)pint_table_rows(table));
    pint_table_close(table);
    pint_pool_leave(pool);
    return 0;
}
C
include=$("$venv/bin/python" -c 'import pintable; print(pintable.get_include())')
library=$("$venv/bin/python" -c 'import pintable; print(pintable.get_library_dir())')
gcc -I "$include" program.c -o program -L "$library" -lpintable -Wl,-rpath,"$library"
[[ $(./program) == 1000 ]]
echo "smoke: pintable $version imports, shares a table with a second process and with C, ls lists it"
