# SPDX-License-Identifier: Apache-2.0
"""Devices, rows and rights that cannot be, from Python: which exception, what its text says, and
that the table is as it was. The GPUs are the fake driver's: see test_device_cuda.py."""

from __future__ import annotations

import os
import textwrap

import pytest
from child import DEADLINE_S, PrivateService, ends_well, private_service, tables_of_child_go
from test_device import CHUNK, ROWS
from test_device_cuda import CUDA_PRELUDE, cuda

import pintable

np = pytest.importorskip("numpy")

__all__ = ["cuda"]  # the fixture

UUID_0 = "GPU-66616b65-6375-6461-2d64-657669636500"
UUID_1 = "GPU-66616b65-6375-6461-2d64-657669636501"


@pytest.fixture
def t(make) -> pintable.Table:
    table = make({"x": "int64", "b": "bool", "s": "text[1]"}, ROWS, chunk_rows=CHUNK)
    table["x"] = np.arange(ROWS)
    return table


# ---- devices that are not there ----------------------------------------------------------------

OPEN = """
import sys
import pintable

name, kind, text = sys.argv[1:]
t = pintable.create({"x": "int64"}, 10)
t["x"] = range(10)
for again in range(2):
    try:
        t.device(name)
    except pintable.Error as error:
        assert type(error).__name__ == kind, (type(error), error)
        assert text in str(error), error
    else:
        raise AssertionError(name)
with t.device("host")["x"].begin(access="rw") as c:
    c.numpy()[:] += 1
t.device("host")["x"].to_host()
assert list(t["x"]) == list(range(1, 11))
t.drop()
"""


def refused(name: str, kind: str, text: str, **env: str) -> None:
    ends_well(OPEN, name, kind, text, env=env)
    tables_of_child_go()


def test_no_driver_has_its_reason():
    refused("cuda:0", "NoDevice", "cannot open", PINTABLE_LIBCUDA="/nonexistent/libcuda.so.1")
    refused("cuda:0", "NoDevice", "another library", PINTABLE_LIBCUDA="libm.so.6")


@pytest.fixture
def fake() -> str:
    library = os.environ.get("FAKECUDA_LIBRARY")
    if not library:
        pytest.skip("FAKECUDA_LIBRARY does not name the fake CUDA driver")
    return library


@pytest.mark.parametrize(
    ("env", "kind", "text"),
    [
        ({"FAKECUDA_DRIVER": "stub"}, "NoDevice", "CUDA_ERROR_STUB_LIBRARY"),
        ({"FAKECUDA_VERSION": "11080"}, "NoDevice", "too old: it has CUDA 11.8"),
        ({"FAKECUDA_DEVICES": "0"}, "NoDevice", "CUDA_ERROR_NO_DEVICE (100)"),
        ({"CUDA_VISIBLE_DEVICES": ""}, "NoDevice", "CUDA_ERROR_NO_DEVICE (100)"),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, "NoDevice", "CUDA_ERROR_NO_DEVICE (100)"),
        ({"CUDA_VISIBLE_DEVICES": UUID_1}, "NoDevice", "CUDA_ERROR_NO_DEVICE (100)"),
        ({"FAKECUDA_FAIL": "cuInit:1:999"}, "DeviceFailed", "CUDA_ERROR_UNKNOWN (999)"),
        ({"FAKECUDA_FAIL": "cuInit:1:3"}, "Forked", "use spawn or exec"),
        (
            {"FAKECUDA_FAIL": "cuDevicePrimaryCtxRetain:1+:2"},
            "OutOfDeviceMemory",
            "CUDA_ERROR_OUT_OF_MEMORY (2)",
        ),
    ],
)
def test_a_driver_that_is_none(fake: str, env: dict[str, str], kind: str, text: str):
    refused("cuda:0", kind, text, PINTABLE_LIBCUDA=fake, **env)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cuda:1", "not among the 1 GPUs"),
        (UUID_1, "not among the 1 GPUs"),
        ("cuda:GPU-66616b65", "32 hexadecimal digits"),
        ("cuda:-1", "32 hexadecimal digits"),
    ],
)
def test_a_gpu_that_is_not_there(fake: str, name: str, text: str):
    refused(name, "NoDevice", text, PINTABLE_LIBCUDA=fake)


def test_a_gpu_that_is_hidden_from_the_process_alone(fake: str):
    refused(
        UUID_0, "NoDevice", "CUDA_VISIBLE_DEVICES",
        PINTABLE_LIBCUDA=fake, FAKECUDA_DEVICES="2", CUDA_VISIBLE_DEVICES=UUID_1,
    )  # fmt: skip


def test_a_gpu_that_is_hidden_from_the_service_alone(fake: str):
    code = """
    import pintable
    t = pintable.create({"x": "int64"}, 10)
    try:
        t.device("cuda:0")["x"].open()
    except pintable.NoDevice as error:
        assert str(error).startswith("the service's broker: no CUDA driver"), error
    else:
        raise AssertionError("no error")
    t.drop()
    """
    with private_service() as service:
        ends_well(code, env={**service.env, "PINTABLE_LIBCUDA": fake})


# ---- rows, rights, columns ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "rows",
    [
        (0, ROWS + 1), (ROWS, ROWS + 1), (ROWS + 1, ROWS + 2), (-1, 5), (0, 2**64), (2**63, 2**64),
        (2**64 - 1, 2**64), slice(0, ROWS, 2), "x", (1,), (0.5, 2),
    ],
)  # fmt: skip
def test_rows_that_are_not_there(t, rows):
    column = t.device("host")["x"]
    for use in (
        lambda: column.begin(rows).__enter__(),
        lambda: column.begin(rows, "rw").__enter__(),
        lambda: column.to_host(rows),
    ):
        with pytest.raises((IndexError, ValueError, TypeError, OverflowError, pintable.Error)):
            use()
    with t.lease(0, "x", timeout=0) as part:  # nothing was taken
        assert part["x"][3] == 3
    assert (t["x"].numpy() == np.arange(ROWS)).all()


def test_no_rows_are_rows(t):
    column = t.device("host")["x"]
    for rows in ((0, 0), (ROWS, ROWS), (5, 5)):
        with column.begin(rows, "rw") as c:
            assert len(c) == 0
    assert column.moved == (0, 0)


def test_text_and_bits(t):
    d = t.device("host")
    with pytest.raises(pintable.TypeMismatch, match="'s'"):
        d["s"]
    last = slice(2 * CHUNK, ROWS)  # 176 rows of bits
    with d["b"].begin(last, "w") as b:
        assert len(b) == ROWS - 2 * CHUNK
        b.memoryview()[:] = b"\xff" * len(b.memoryview())
    d["b"].to_host(timeout=DEADLINE_S)
    assert list(t["b"]) == [False] * (2 * CHUNK) + [True] * (ROWS - 2 * CHUNK)


def test_a_table_opened_to_read(t):
    reader = pintable.open(t.name, "r")
    column = reader.device("host")["x"]
    for access in ("w", "rw"):
        with pytest.raises(pintable.PermissionDenied):
            column.begin(access=access).__enter__()
    with t.lease(0, "x", timeout=0) as part:
        assert part["x"][3] == 3
    reader.close()


# ---- failures under way ------------------------------------------------------------------------

BAD = {
    "registration refused": (
        "cuMemHostRegister:1+:801",
        """
        try:
            d.pin()
        except pintable.DeviceFailed as error:
            assert "cuMemHostRegister: CUDA_ERROR_NOT_SUPPORTED (801)" in str(error), error
        else:
            raise AssertionError("no error")
        with d["x"].begin(access="rw") as c:  # through memory of the driver's own
            assert (on_device(c) == np.arange(1200)).all()
            on_device(c)[:] *= 2
        d["x"].to_host()
        assert (t["x"].numpy() == 2 * np.arange(1200)).all()
        t["x"] = np.arange(1200)
        assert d.info().pinned == 0
        """,
    ),
    "a kernel fails": (
        "work:1:719",
        """
        try:
            with d["x"].begin(access="rw") as c:
                on_device(c)
        except pintable.DeviceLost as error:
            assert "CUDA_ERROR_LAUNCH_FAILED (719)" in str(error), error
        else:
            raise AssertionError("no error")
        """,
    ),
    "a copy of the driver's is refused": (
        "cuMemcpyHtoDAsync:1:1",
        """
        try:
            d["x"].begin(access="rw").__enter__()
        except pintable.DeviceFailed as error:
            assert "cuMemcpyHtoDAsync: CUDA_ERROR_INVALID_VALUE (1)" in str(error), error
        else:
            raise AssertionError("no error")
        with d["x"].begin(access="rw") as c:  # the next one is not
            on_device(c)[:] += 0
        d["x"].to_host()
        """,
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_failures_under_way(cuda: PrivateService, what: str):
    failure, code = BAD[what]
    check = "assert (t['x'].numpy() == np.arange(1200)).all()\n"
    code = CUDA_PRELUDE + textwrap.dedent(code) + check + "t.drop()\n"
    ends_well(code, env={**cuda.env, "FAKECUDA_FAIL": failure})
