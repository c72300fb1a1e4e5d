# SPDX-License-Identifier: Apache-2.0
"""What a block gives on "host": types, numpy, DLPack, streams, and other packages' arrays."""

from __future__ import annotations

import ctypes
import signal
import sys
import threading

import pytest
from child import DEADLINE_S, ends_well, run_python

import pintable

np = pytest.importorskip("numpy")

ROWS, CHUNK = 1200, 512  # three chunks, the last one short

# numpy before 2.1 takes DLPack before 1.0 alone: refused for rows to read, as it cannot say so. And
# all that from_dlpack() makes is read-only there, and it has no copy=.
NUMPY_TAKES_DLPACK_1 = np.lib.NumpyVersion(np.__version__) >= "2.1.0"


@pytest.fixture
def t(make) -> pintable.Table:
    table = make({"x": "int64", "y": "float64?", "s": "text[1]"}, ROWS, chunk_rows=CHUNK)
    table["x"] = np.arange(ROWS)
    table["y"] = np.arange(float(ROWS))
    return table


@pytest.fixture
def d(t: pintable.Table) -> pintable.Device:
    return t.device("host")


# ---- types --------------------------------------------------------------------------------------

TYPES = {
    "bool": ([True, False], "|b1"), "int8": ([-1, 2], "|i1"), "uint16": ([1, 65535], "<u2"),
    "int32": ([-5, 5], "<i4"), "uint64": ([0, 2**64 - 1], "<u8"), "float16": ([0.5, 2], "<f2"),
    "float32": ([0.5, -1], "<f4"), "float64": ([1e300, 0], "<f8"),
}  # fmt: skip


@pytest.mark.parametrize("kind", TYPES)
def test_numbers(make, kind):
    values, typestr = TYPES[kind]
    t = make(kind, 2)
    t["x"] = values
    with t.device("host")["x"].begin(access="rw") as c:
        assert c.dtype == typestr and c.numpy().tolist() == values
        assert np.from_dlpack(c).dtype == np.dtype(typestr)


def test_other_types(make):
    import datetime

    t = make(
        {"t": "timestamp[ns]", "d": "date", "c": "category", "l": "list[float32, 3]",
         "b": "binary[5]", "i": "bit"}, 20,
    )  # fmt: skip
    t["t"] = np.full(20, np.datetime64("2020-01-01", "ns"))
    t["d"] = datetime.date(1970, 1, 3)
    t["c"] = ["a", "b"] * 10
    t["l"] = np.arange(60, dtype="f4").reshape(20, 3)
    t["b"] = [b"abcde"] * 20
    t["i"] = [True] + [False] * 18 + [True]
    d = t.device("host")
    with d.begin(t.columns, (2, 20), "rw") as part:
        assert part["t"].dtype == "<i8" and part["t"].numpy()[0] == np.datetime64("2020-01-01")
        assert part["d"].numpy().tolist() == [2] * 18 and part["d"].dtype == "<i4"
        assert part["c"].numpy().tolist() == [0, 1] * 9
        assert part["l"].shape == (18, 3) and part["l"].numpy()[0].tolist() == [6.0, 7.0, 8.0]
        assert np.from_dlpack(part["l"])[17].tolist() == [57.0, 58.0, 59.0]
        assert part["b"].numpy()[0].tobytes() == b"abcde"
        bits = part["i"]
        assert bits.shape == (3,) and bits.bit_offset == 2
        assert bits.numpy().tolist() == [1, 0, 8]


def test_nulls_are_bits_beside_the_values(t, d):
    with t.lease(0, "y") as part:
        part.set_null("y", [0, 9])
    with d["y"].begin((8, 24), "rw") as c:
        validity = c.validity
        assert validity.numpy().tolist() == [0b11111101, 255] and c.bit_offset == 0
        assert c.validity_address == validity.address and validity.dtype == "|u1"
        validity.numpy()[1] = 0
    d["y"].to_host()
    assert np.flatnonzero(t["y"].null_mask()).tolist() == [0, 9, *range(16, 24)]


def test_a_table_without_rows(make):
    t = make({"x": "float64?"}, 0)
    with t.device("host")["x"].begin(access="rw") as c:
        assert c.numpy().shape == (0,) and c.validity.numpy().shape == (0,)
        assert np.from_dlpack(c).shape == (0,)
    assert t.device("host")["x"].to_host() == 0


def test_text_has_no_device_copy(d):
    with pytest.raises(pintable.TypeMismatch, match="'s'"):
        d["s"]
    with pytest.raises(pintable.NotFound):
        d["z"]


# ---- DLPack -------------------------------------------------------------------------------------


def test_dlpack_shares_the_memory(d):
    with d["x"].begin(access="rw") as c:
        array = np.from_dlpack(c)
        c.numpy()[0] = 77
        assert array.ctypes.data == c.address and array[0] == 77
        assert array.flags.writeable == NUMPY_TAKES_DLPACK_1
        assert c.__dlpack_device__() == (1, 0)
        assert not hasattr(c, "__cuda_array_interface__")
        legacy, versioned = c.__dlpack__(), c.__dlpack__(max_version=(1, 2))
        assert '"dltensor"' in repr(legacy) and '"dltensor_versioned"' in repr(versioned)


def test_dlpack_of_rows_to_read(d):
    with d["x"].begin() as c:
        with pytest.raises(BufferError, match="read-only"):
            c.__dlpack__()
        if NUMPY_TAKES_DLPACK_1:
            assert not np.from_dlpack(c).flags.writeable
        else:
            with pytest.raises(BufferError, match="read-only"):
                np.from_dlpack(c)
            assert not c.numpy().flags.writeable


def test_dlpack_refuses_what_it_cannot_do(d):
    with d["x"].begin(access="rw") as c:
        for more in ({"dl_device": (2, 0)}, {"dl_device": (1, 1)}, {"stream": 3}, {"stream": -1}):
            with pytest.raises(BufferError):
                c.__dlpack__(**more)
        c.__dlpack__(dl_device=(1, 0), copy=False, stream=None)


@pytest.mark.skipif(not NUMPY_TAKES_DLPACK_1, reason="numpy before 2.1 has no from_dlpack(copy=)")
@pytest.mark.parametrize("access", ["r", "rw"])
def test_a_dlpack_copy_is_the_consumers_own(d, access):
    with d["x"].begin(slice(3, 9), access) as c:
        array = np.from_dlpack(c, copy=True)
        assert array.flags.writeable and array.ctypes.data != c.address
        array += 1
        assert c.numpy().tolist() == list(range(3, 9))
        same = np.from_dlpack(c, device="cpu", copy=False)
        assert same.ctypes.data == c.address
    assert array.tolist() == list(range(4, 10))
    with d["x"].begin(slice(5, 5), access) as c:
        assert np.from_dlpack(c, copy=True).shape == (0,)


def test_flags_of_capsules(d):
    """The flags lie behind version, context and deleter: bit 0 read-only, bit 1 copied."""
    api = ctypes.pythonapi
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]

    def flags(c, **more) -> int:
        capsule = c.__dlpack__(max_version=(1, 1), **more)
        managed = api.PyCapsule_GetPointer(capsule, b"dltensor_versioned")
        return ctypes.c_uint64.from_address(managed + 24).value

    for access, plain in (("r", 1), ("rw", 0)):
        with d["x"].begin(access=access) as c:
            assert (flags(c), flags(c, copy=False), flags(c, copy=True)) == (plain, plain, 2)
            assert '"dltensor"' in repr(c.__dlpack__(copy=True))  # a copy may be written to


def test_numpy_makes_an_array_of_it(make):
    t = make({"x": "int64", "t": "timestamp[ns]"}, 10)
    t["x"] = np.arange(10)
    with t.device("host").begin(["x", "t"], access="rw") as part:
        c = part["x"]
        array = np.asarray(c)
        assert array.ctypes.data == c.address and array.dtype == "i8"
        assert np.asarray(c, "f4").tolist() == list(range(10))
        own = np.array(c)
        own += 1
        assert np.add(c, 1).tolist() == own.tolist() and c.numpy()[0] == 0
        assert np.asarray(part["t"]).dtype == "M8[ns]"
    assert not array.flags.writeable


@pytest.mark.parametrize("version", [None, (1, 0)])
def test_the_deleter_of_a_taken_capsule_on_a_thread_of_its_own(d, version):
    api = ctypes.pythonapi
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    api.PyCapsule_SetName.argtypes = [ctypes.py_object, ctypes.c_char_p]
    name, used = b"dltensor", b"used_dltensor"
    if version:
        name, used = b"dltensor_versioned", b"used_dltensor_versioned"
    with d["x"].begin(access="rw") as c:

        def references() -> int:
            return sys.getrefcount(c._memory)

        before = references()
        capsule = c.__dlpack__(max_version=version)
        managed = api.PyCapsule_GetPointer(capsule, name)
        assert api.PyCapsule_SetName(capsule, used) == 0
        del capsule
        assert references() == before + 1  # what the consumer has now
        # the deleter: behind the context, which follows the tensor (48 bytes), or the version
        at = ctypes.c_void_p.from_address(managed + (16 if version else 56))
        deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(at.value)  # without the lock
        thread = threading.Thread(target=deleter, args=(managed,))
        thread.start()
        thread.join()
        assert references() == before
        unused = c.__dlpack__(max_version=version)
        assert references() == before + 1
        del unused
        assert references() == before


# ---- streams -------------------------------------------------------------------------------------


class Torch:
    def __init__(self, number: int) -> None:
        self.cuda_stream = number


class Cupy:
    def __init__(self, number: int) -> None:
        self.ptr = number


class Generic:
    """torch.Stream"""

    def __init__(self, number: int) -> None:
        self.native_handle = number


class Numba:
    def __init__(self, number: int) -> None:
        self.handle = ctypes.c_void_p(number)


class Protocol:
    ptr = "not the number: the protocol is asked first"

    def __init__(self, number: int, version: int = 0) -> None:
        self.number = number
        self.version = version

    def __cuda_stream__(self) -> tuple[int, int]:
        return self.version, self.number


def test_streams_of_all_kinds(d):
    stream = d.stream()
    kinds = (lambda number: stream, int, Torch, Cupy, Generic, Numba, Protocol)
    for given in [kind(stream.ptr) for kind in kinds]:
        with d["x"].begin(access="rw", stream=given, timeout=DEADLINE_S) as c:
            assert c.stream == stream.ptr
            c.numpy()[0] += 1
    stream.wait()
    d["x"].to_host()
    with pytest.raises(pintable.TypeMismatch):
        d["x"].begin(stream="0")
    with d["x"].begin(stream=Numba(0)) as c:  # its default stream
        assert c.stream == 0
    for bad in (-1, Protocol(stream.ptr, version=1)):
        with pytest.raises(pintable.Invalid):
            d["x"].begin(stream=bad)
    with pytest.raises(pintable.Invalid, match="pint_stream_create"):
        d["x"].begin(stream=1).__enter__()  # a stream of a GPU is none of "host"


# ---- packages that may be there ------------------------------------------------------------------


@pytest.mark.torch
def test_torch(t, d):
    torch = pytest.importorskip("torch")
    with d.begin(["x", "y"], access="rw") as part:
        x = torch.from_dlpack(part["x"])
        assert x.data_ptr() == part["x"].address and x.dtype == torch.int64
        x.mul_(3)
        y = torch.utils.dlpack.from_dlpack(part["y"].__dlpack__())  # before DLPack 1.0
        y.copy_(x)
        assert torch.from_dlpack(part["y"].validity).dtype == torch.uint8
    assert d["x"].to_host() == 8 * ROWS and t["x"].numpy().tolist() == list(range(0, 3 * ROWS, 3))
    d["y"].to_host()
    assert t["y"].numpy().tolist() == [3.0 * i for i in range(ROWS)]


def takes_versions(torch) -> bool:
    """Whether this torch takes DLPack 1.0, which can say that memory is to be read only."""
    seen = []

    class Producer:
        def __dlpack_device__(self) -> tuple[int, int]:
            return 1, 0

        def __dlpack__(self, **more: object) -> object:
            seen.append(more)
            raise BufferError

    with pytest.raises(BufferError):
        torch.from_dlpack(Producer())
    return seen[0].get("max_version") is not None


@pytest.mark.torch
def test_torch_and_rows_to_read(d):
    torch = pytest.importorskip("torch")
    with d["x"].begin() as c:
        if not takes_versions(torch):
            with pytest.raises(BufferError, match="read-only"):
                torch.from_dlpack(c)
            x = torch.utils.dlpack.from_dlpack(c.__dlpack__(copy=True))
        else:
            assert torch.from_dlpack(c).data_ptr() == c.address
            assert torch.from_dlpack(c, copy=False, device="cpu").data_ptr() == c.address
            x = torch.from_dlpack(c, copy=True)
        assert x.data_ptr() != c.address
        x.add_(1)
        assert c.numpy().tolist() == list(range(ROWS))


@pytest.mark.torch
def test_torch_cannot_write_rows_to_read(t):
    """torch has no read-only tensors; the memory itself is."""
    torch = pytest.importorskip("torch")
    if not takes_versions(torch):
        pytest.skip("this torch takes DLPack before 1.0 only, which is refused")
    code = """
    import sys, pintable, torch
    with pintable.open(sys.argv[1]).device("host")["x"].begin() as c:
        torch.from_dlpack(c)[0] = 1
    """
    ended = run_python(code, t.name)
    assert ended.status == -signal.SIGSEGV, ended
    with t.device("host")["x"].begin(access="rw", timeout=DEADLINE_S) as c:
        assert c.numpy()[0] == 0


@pytest.mark.torch
def test_a_stream_of_cpus_is_none(d):
    torch = pytest.importorskip("torch")
    try:
        stream = torch.Stream("cpu")
    except (RuntimeError, TypeError) as error:
        pytest.skip(f"this torch has no streams of CPUs: {error}")
    with pytest.raises(pintable.TypeMismatch):
        d["x"].begin(stream=stream)


# The kernel of a GPU worker, run by numba's simulator: the code of a GPU on "host".
NUMBA = """
import sys, numpy as np, pintable
from numba import cuda

@cuda.jit
def halve(x):
    i = cuda.grid(1)
    if i < x.size:
        x[i] //= 2

with pintable.open(sys.argv[1]).device("host")["x"].begin(slice(0, 100), "rw") as c:
    halve[4, 32](cuda.as_cuda_array(c) if c._device.is_cuda else c.numpy())
"""


def test_a_kernel_of_numba(t, d):
    pytest.importorskip("numba")
    ends_well(NUMBA, t.name, env={"NUMBA_ENABLE_CUDASIM": "1", "PYTHONWARNINGS": "ignore"})
    d["x"].to_host(timeout=DEADLINE_S)
    assert t["x"].numpy()[:102].tolist() == [i // 2 for i in range(100)] + [100, 101]


@pytest.mark.parametrize("package", ["cupy", "numba.cuda", "cuda.core"])
def test_numbers_of_streams_of_packages(package, d):
    """Their stream objects, made of a number: no GPU is needed for that."""
    module = pytest.importorskip(package)
    stream = d.stream()
    try:
        given = {
            "cupy": lambda: module.cuda.ExternalStream(stream.ptr),
            "numba.cuda": lambda: module.external_stream(stream.ptr),
            "cuda.core": lambda: module.Stream.from_handle(stream.ptr),
        }[package]()
    except Exception as error:
        pytest.skip(f"{package} makes no stream here: {error}")
    with d["x"].begin(stream=given, timeout=DEADLINE_S) as c:
        assert c.stream == stream.ptr
