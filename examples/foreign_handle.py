# SPDX-License-Identifier: Apache-2.0
"""Hand device memory to a process that does not know pintable.

usage: foreign_handle.py [DEVICE]    "cuda:0", "host"; without one, the GPU if there is one

On a GPU the foreign process gets the 64 bytes of a CUDA IPC handle and opens them with CuPy, numba,
or, where neither is installed, the driver's own calls. On "host" it gets a descriptor and maps it.
It reads while this process holds the rows: nothing else keeps writers away from it.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import subprocess
import sys
from typing import Any

import numpy as np

N_ROWS = 100_000


def main() -> None:
    """This side: a column's device copy, whose handle is given away."""
    import pintable

    table = pintable.create({"x": "float64"}, N_ROWS)
    table["x"] = np.arange(float(N_ROWS))
    try:
        device = table.device(sys.argv[1] if len(sys.argv) > 1 else "cuda:0")
    except pintable.NoDevice as error:
        print(f"here:  no GPU ({error})")
        device = table.device("host")
    column = device["x"].open("ipc" if device.is_cuda else "vmm")
    stream = device.stream()
    with column.begin(stream=stream), column.handle() as handle:
        stream.wait()  # the other process knows nothing of our stream: be done before it looks
        what = "64 bytes of a CUDA IPC handle" if handle.ipc else f"descriptor {handle.fd}"
        print(f"here:  {N_ROWS} rows on {device.name}, handed over as {what}", flush=True)
        note = {
            "rows": N_ROWS, "offset": handle.values_offset, "bytes": handle.nbytes,
            "uuid": handle.uuid, "ipc": handle.ipc and handle.ipc.hex(), "fd": handle.fd,
        }  # fmt: skip
        command = [sys.executable, os.path.abspath(__file__), "--foreign", json.dumps(note)]
        passed = () if handle.fd is None else (handle.fd,)
        subprocess.run(command, check=True, pass_fds=passed)
    print(f"here:  the table's own sum is {table['x'].numpy().sum():.0f}")
    table.drop()


# ---- the foreign side: no pintable from here on --------------------------------------------------


def foreign(note: dict[str, Any]) -> None:
    ways = (by_cupy, by_numba, by_driver) if note["ipc"] else (by_mmap,)
    missing = []
    for way in ways:
        try:
            total, how = way(note)
        except ImportError as error:
            missing.append(f"no {error.name}")
            continue
        about = f" ({', '.join(missing)})" if missing else ""
        assert "pintable" not in sys.modules
        print(f"there: {how}{about}, without pintable: the sum is {total:.0f}", flush=True)
        return


def by_cupy(note: dict[str, Any]) -> tuple[float, str]:
    import cupy

    runtime, uuid = cupy.cuda.runtime, bytes.fromhex(note["uuid"])
    found = [runtime.getDeviceProperties(i)["uuid"] for i in range(runtime.getDeviceCount())]
    # Numbers of GPUs differ between processes, UUIDs do not; CuPy may cut them at a zero byte.
    with cupy.cuda.Device(next(i for i, part in enumerate(found) if uuid.startswith(part))):
        base = runtime.ipcOpenMemHandle(bytes.fromhex(note["ipc"]))
        memory = cupy.cuda.UnownedMemory(base, note["bytes"], owner=None)
        pointer = cupy.cuda.MemoryPointer(memory, note["offset"])
        total = float(cupy.ndarray((note["rows"],), "f8", pointer).sum())
        runtime.ipcCloseMemHandle(base)
    return total, "CuPy has opened the handle"


def by_numba(note: dict[str, Any]) -> tuple[float, str]:
    from numba import cuda

    for gpu in cuda.gpus:
        if gpu.uuid.removeprefix("GPU-").replace("-", "") == note["uuid"]:
            cuda.select_device(gpu.id)
    handle = bytes.fromhex(note["ipc"])
    try:
        with cuda.open_ipc_array(handle, (note["rows"],), "f8", offset=note["offset"]) as x:
            return float(x.copy_to_host().sum()), "numba has opened the handle"
    except AttributeError as error:  # some numba-cuda cannot make a handle of bytes
        raise ImportError("open_ipc_array", name="numba that opens handles") from error


def by_driver(note: dict[str, Any]) -> tuple[float, str]:
    """What any program can do that finds the driver: here through ctypes."""
    library = ctypes.CDLL(os.environ.get("PINTABLE_LIBCUDA") or "libcuda.so.1")

    def call(name: str, *arguments: Any) -> None:
        status = getattr(library, name)(*arguments)
        if status != 0:
            raise SystemExit(f"{name}: error {status} of the driver")

    class IpcHandle(ctypes.Structure):
        _fields_ = [("reserved", ctypes.c_ubyte * 64)]

    context, address, n = ctypes.c_void_p(), ctypes.c_uint64(), ctypes.c_int()
    uuid = (ctypes.c_ubyte * 16)()
    call("cuInit", 0)
    call("cuDeviceGetCount", ctypes.byref(n))
    for device in range(n.value):
        call("cuDeviceGetUuid_v2", ctypes.byref(uuid), device)
        if bytes(uuid).hex() == note["uuid"]:
            call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    call("cuCtxPushCurrent_v2", context)
    handle = IpcHandle.from_buffer_copy(bytes.fromhex(note["ipc"]))
    call("cuIpcOpenMemHandle_v2", ctypes.byref(address), handle, ctypes.c_uint(1))
    size = 8 * note["rows"]
    memory = mmap.mmap(-1, (size + 4095) // 4096 * 4096)
    values = np.frombuffer(memory, "f8", note["rows"])
    where = ctypes.c_void_p(values.ctypes.data)
    call("cuMemHostRegister_v2", where, ctypes.c_size_t(len(memory)), 0)
    source = ctypes.c_uint64(address.value + note["offset"])
    call("cuMemcpyDtoHAsync_v2", where, source, ctypes.c_size_t(size), None)
    call("cuStreamSynchronize", None)
    call("cuMemHostUnregister", where)
    call("cuIpcCloseMemHandle", address)
    return float(values.sum()), "the driver has opened the handle"


def by_mmap(note: dict[str, Any]) -> tuple[float, str]:
    with mmap.mmap(note["fd"], note["bytes"], prot=mmap.PROT_READ) as memory:
        return float(np.frombuffer(memory, "f8", note["rows"], note["offset"]).copy().sum()), (
            "mmap has mapped the descriptor"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--foreign"]:
        foreign(json.loads(sys.argv[2]))
    else:
        main()
