# SPDX-License-Identifier: Apache-2.0
"""What an installed package brings: programs, headers, and a library that other code links with."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

import pintable
from pintable._base import paths as _paths


def _is_installed() -> bool:
    try:
        distribution = importlib.metadata.distribution("pintable")
    except importlib.metadata.PackageNotFoundError:
        return False
    here = Path(pintable.__file__)
    return Path(str(distribution.locate_file("pintable/__init__.py"))).resolve() == here.resolve()


pytestmark = pytest.mark.skipif(not _is_installed(), reason="pintable is not installed here")

CC = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
HAS_PYTHON_H = Path(sysconfig.get_path("include"), "Python.h").exists()
needs_cc = pytest.mark.skipif(CC is None, reason="there is no C compiler")

# Joins as any library would that knows nothing of the Python package but its address.
EXTENSION = r"""
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <pintable/pintable.h>

static PyObject *fail(const pint_error *err)
{
    PyErr_Format(PyExc_RuntimeError, "%d %s", (int)err->status, err->message);
    return NULL;
}

/* join(address, capsule, table, value) -> (session, same handle as the capsule's)
 * Fills the column x of the table in place. */
static PyObject *join(PyObject *self, PyObject *args)
{
    const char *address, *name;
    PyObject *capsule;
    long long value;
    (void)self;
    if (!PyArg_ParseTuple(args, "sOsL", &address, &capsule, &name, &value)) {
        return NULL;
    }
    const void *theirs = PyCapsule_GetPointer(capsule, "pintable.pool");
    if (theirs == NULL) {
        return NULL;
    }
    pint_error err = {0};
    pint_join_options options = PINT_JOIN_INIT;
    options.flags = PINT_JOIN_SHARED | PINT_JOIN_NO_START;
    pint_pool *pool;
    if (pint_pool_join(address, &options, &pool, &err) != PINT_OK) {
        return fail(&err);
    }
    const uint64_t session = pint_pool_session(pool);
    const int same = pool == theirs;
    pint_table *table;
    if (pint_table_open(pool, name, PINT_WRITE, &table, &err) != PINT_OK) {
        pint_pool_leave(pool);
        return fail(&err);
    }
    pint_column column;
    const pint_status status = pint_table_column(table, "x", &column, &err);
    if (status == PINT_OK) {
        int64_t *x = pint_column_values(&column);
        for (uint64_t row = 0; row < pint_table_rows(table); row++) {
            x[row] = value;
        }
    }
    pint_table_close(table);
    pint_pool_leave(pool);
    return status == PINT_OK ? Py_BuildValue("Ki", (unsigned long long)session, same) : fail(&err);
}

static PyMethodDef methods[] = {{"join", join, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};
static PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "consumer", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_consumer(void)
{
    return PyModuleDef_Init(&module);
}
"""

PROGRAM = r"""
#include <inttypes.h>
#include <pintable/pintable.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    pint_pool *pool;
    pint_table *table;
    pint_error err = {0};
    if (argc != 3 || pint_pool_join(argv[1], NULL, &pool, &err) != PINT_OK ||
        pint_table_open(pool, argv[2], PINT_READ, &table, &err) != PINT_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    printf("%" PRIu64 " %" PRIu64 "\n", pint_pool_session(pool), pint_table_rows(table));
    pint_table_close(table);
    pint_pool_leave(pool);
    return 0;
}
"""


def compile_c(source: Path, output: Path, *options: str) -> None:
    assert CC is not None
    command = [*CC.split(), "-Wall", "-Wextra", "-Werror", "-O1", str(source), "-o", str(output)]
    command += ["-I", pintable.get_include(), "-L", pintable.get_library_dir(), "-lpintable"]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def run_python(code: str, **environment: str) -> str:
    everything = {**os.environ, **environment}
    done = subprocess.run(
        [sys.executable, "-c", code], env=everything, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_version_is_the_distributions() -> None:
    assert pintable.__version__ == importlib.metadata.version("pintable")


def test_headers_and_library_and_service_are_where_the_package_says() -> None:
    assert Path(pintable.get_include(), "pintable", "pintable.h").is_file()
    assert list(Path(pintable.get_library_dir()).glob("libpintable.so.*"))
    assert os.access(pintable.get_service_path(), os.X_OK)


def test_missing_parts_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_paths, "_package_dir", lambda: str(tmp_path))
    for get in (pintable.get_include, pintable.get_library_dir, pintable.get_service_path):
        with pytest.raises(FileNotFoundError, match="this copy of pintable has no"):
            get()


@pytest.mark.parametrize("how", ["script", "module"])
def test_the_command_line_sees_this_process_tables(how: str, make: Any) -> None:
    script = Path(sysconfig.get_path("scripts"), "pintable")
    command = [str(script)] if how == "script" else [sys.executable, "-m", "pintable"]
    table = make({"x": "int64"}, 5)
    done = subprocess.run(
        [*command, "--address", table.address, "ls", "--json"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert table.name in [entry["name"] for entry in json.loads(done.stdout)]


def test_the_command_line_passes_the_exit_status_on() -> None:
    done = subprocess.run([sys.executable, "-m", "pintable", "no-such"], capture_output=True)
    assert done.returncode == 64
    assert b"no-such" in done.stderr


def test_the_library_starts_the_service_of_the_package(tmp_path: Path) -> None:
    address = str(tmp_path / "s")
    environment = {"PINTABLE_ADDRESS": address, "PINTABLED": ""}
    try:
        run_python("import pintable; pintable.create({'x': 'bool'}, 1).close()", **environment)
        command = [_paths.get_program_path(), "--address", address, "stat", "--json"]
        stat = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        running = os.path.realpath(f"/proc/{stat['pid']}/exe")
        assert running == os.path.realpath(pintable.get_service_path())
    finally:
        stop = [_paths.get_program_path(), "--address", address, "stop", "--force"]
        subprocess.run(stop, check=True)


@needs_cc
@pytest.mark.skipif(not HAS_PYTHON_H, reason="this Python has no headers")
def test_an_extension_shares_the_pool_and_the_session(tmp_path: Path, make: Any) -> None:
    source = tmp_path / "consumer.c"
    source.write_text(EXTENSION)
    # No rpath: the library is found by its name, because pintable has loaded it.
    include = sysconfig.get_path("include")
    compile_c(source, tmp_path / "consumer.abi3.so", "-shared", "-fPIC", "-I", include)
    spec = importlib.util.spec_from_file_location("consumer", tmp_path / "consumer.abi3.so")
    assert spec is not None and spec.loader is not None
    consumer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(consumer)

    with open("/proc/self/maps", encoding="utf-8") as maps:
        libraries = {line.split()[-1] for line in maps if "/libpintable.so" in line}
    assert len(libraries) == 1, "the process has two copies of the library"
    table = make({"x": "int64"}, 1000)
    pool = table._native.pool
    session, same_handle = consumer.join(table.address, pool.capsule, table.name, 42)
    assert (session, same_handle) == (pool.session, 1)
    assert table["x"][999] == 42


@needs_cc
def test_a_program_links_with_the_package(tmp_path: Path, make: Any) -> None:
    source = tmp_path / "program.c"
    source.write_text(PROGRAM)
    compile_c(source, tmp_path / "program", f"-Wl,-rpath,{pintable.get_library_dir()}")
    table = make({"x": "int64"}, 1000)
    done = subprocess.run(
        [str(tmp_path / "program"), table.address, table.name], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    session, rows = map(int, done.stdout.split())
    assert rows == 1000
    assert session != table._native.pool.session


def test_import_needs_the_standard_library_only() -> None:
    code = """
import sys
import pintable
foreign = {"numpy", "pandas", "pyarrow", "tqdm", "cloudpickle", "joblib"} & set(sys.modules)
assert not foreign, foreign
"""
    run_python(code)


def test_import_elsewhere_than_on_linux_says_so() -> None:
    code = """
import sys
sys.platform = "darwin"
try:
    import pintable
except ImportError as error:
    assert "Linux" in str(error) and "\\n" not in str(error), error
else:
    raise AssertionError("imported")
"""
    run_python(code)
