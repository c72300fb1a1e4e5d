# SPDX-License-Identifier: Apache-2.0
"""Device copies on the fake CUDA driver, where the tests are told of one: FAKECUDA_LIBRARY names
it, PINTABLE_BROKER the broker where it is not beside the service."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator

import pytest
from child import PrivateService, ends_well, private_service
from test_device_processes import CHUNK, ROWS, work_on_both_sides

import pintable

np = pytest.importorskip("numpy")

@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateService]:
    """A service whose broker has the fake driver; scripts get its environment."""
    library = os.environ.get("FAKECUDA_LIBRARY")
    if not library:
        pytest.skip("FAKECUDA_LIBRARY does not name the fake CUDA driver")
    monkeypatch.setenv("PINTABLE_LIBCUDA", library)
    monkeypatch.setenv("FAKECUDA_ASYNC", "thread")
    with private_service() as service:
        yield service


# The fake's device memory is mapped, so the host can play the kernel once the stream has passed.
CUDA_PRELUDE = """
import ctypes
import numpy as np
import pintable

def on_device(c):
    c._device.stream_wait(c.stream)
    return np.ctypeslib.as_array((ctypes.c_int64 * len(c)).from_address(c.address))

t = pintable.create({"x": "int64", "y": "float64?"}, 1200, chunk_rows=512)
t["x"] = np.arange(1200)
d = t.device("cuda:0")
"""

CUDA = {
    "bracket": """
        with d["x"].begin(access="rw") as c:
            on_device(c)[:] *= 2
        assert d["x"].to_host() == 9600 and t["x"][1199] == 2398
        assert d["x"].moved == (9600, 9600)
        """,
    "array interface": """
        with d["x"].begin(slice(100, 200)) as c:
            i = c.__cuda_array_interface__
            assert (i["shape"], i["typestr"], i["version"], i["stream"]) == ((100,), "<i8", 3, 1)
            assert i["data"] == (c.address, True) and i["strides"] is None
        with d.begin(["x", "y"], access="rw") as part:
            assert part["x"].__cuda_array_interface__["data"][1] is False
            assert part["y"].validity.__cuda_array_interface__["typestr"] == "|u1"
        for use in (lambda: c.__cuda_array_interface__, c.__dlpack__):
            try:
                use()
            except pintable.WrongState:
                continue
            raise AssertionError("usable after the block")
        """,
    "dlpack": """
        with d["x"].begin() as c:
            assert c.__dlpack_device__() == (2, 0)
            assert '"dltensor"' in repr(c.__dlpack__())
            assert '"dltensor_versioned"' in repr(c.__dlpack__(stream=-1, max_version=(1, 0)))
        """,
    "consumer on another stream": """
        ours, other = d.stream(), d.stream()
        with d["x"].begin(access="rw", stream=ours) as c:
            c.__dlpack__(stream=other.ptr)
            assert c.__cuda_array_interface__["stream"] == ours.ptr
            data = np.ctypeslib.as_array((ctypes.c_int64 * 1200).from_address(c.address))
            assert data[7] == 7  # the call has waited
        """,
    "several columns, read only": """
        with d.begin(["x", "y"], stream=d.stream()) as part:
            assert (on_device(part["x"])[:10] == np.arange(10)).all()
        """,
    "ordinal": """
        assert d.info().ordinal == 0 and t.device(d.info().uuid).info().ordinal == 0
        """,
    "uuid": """
        for name in (d.info().uuid, "GPU-" + d.info().uuid, bytes.fromhex(d.info().uuid)):
            with t.device(name)["x"].begin() as c:
                assert c.__dlpack_device__() == (2, 0)
        """,
    "no host memory": """
        with d["x"].begin() as c:
            for use, kind in ((c.numpy, pintable.Unsupported), (c.memoryview, BufferError)):
                try:
                    use()
                except kind:
                    continue
                raise AssertionError("no error")
        """,
    "ipc": """
        d["x"].open("ipc")
        with d["x"].handle() as handle:
            assert handle.kind == "ipc" and len(handle.ipc) == 64 and handle.fd is None
        try:
            d["x"].close()
            d["x"].open("vmm")
        except pintable.Exists:
            pass
        else:
            raise AssertionError("no error")
        """,
    "pin": """
        d.pin()
        assert d.info().pinned > 0
        d.unpin()
        assert d.info().pinned == 0
        """,
    "fork": """
        import os
        pid = os.fork()
        if pid == 0:
            for use in (d["x"].to_host, lambda: t.device("cuda:0")):
                try:
                    use()
                except pintable.Forked:
                    continue
                os._exit(1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        """,
}


@pytest.mark.parametrize("what", CUDA)
def test_cuda(cuda: PrivateService, what: str):
    ends_well(CUDA_PRELUDE + textwrap.dedent(CUDA[what]) + "t.drop()\n", env=cuda.env)


def test_cuda_and_host_workers_lose_no_update(cuda: PrivateService):
    t = pintable.create({"x": "int64"}, ROWS, chunk_rows=CHUNK, address=cuda.folder)
    add = (
        "import ctypes, numpy as np; c._device.stream_wait(c.stream); "
        "np.ctypeslib.as_array((ctypes.c_int64 * len(c)).from_address(c.address))[:] += 1000"
    )
    work_on_both_sides(t, "cuda:0", add, cuda.env)
    t.drop()
    t.close()
