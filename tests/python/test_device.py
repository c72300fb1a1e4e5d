# SPDX-License-Identifier: Apache-2.0
"""Device copies: on "host" everywhere, and on the fake CUDA driver where the tests are told of one:
FAKECUDA_LIBRARY names it, PINTABLE_BROKER the broker where it is not beside the service."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import mmap
import os
import pickle
import sys
import threading
import weakref
from collections.abc import Iterator

import pytest
from child import (
    DEADLINE_S,
    PrivateService,
    ends_well,
    private_service,
    start_python,
    tables_of_child_go,
)
from test_fork import forked
from test_interrupt import _ends

import pintable

np = pytest.importorskip("numpy")

ROWS, CHUNK = 1200, 512  # three chunks, the last one short


@pytest.fixture
def t(make) -> pintable.Table:
    table = make({"x": "int64", "y": "float64?", "s": "text[1]"}, ROWS, chunk_rows=CHUNK)
    table["x"] = np.arange(ROWS)
    table["y"] = np.arange(float(ROWS))
    return table


@pytest.fixture
def d(t: pintable.Table) -> pintable.Device:
    return t.device("host")


# ---- brackets ----------------------------------------------------------------------------------


def test_a_bracket_has_the_values_and_publishes_what_is_written(t, d):
    with d["x"].begin(access="rw") as c:
        array = c.numpy()
        assert array.tolist() == list(range(ROWS)) and array.ctypes.data == c.address
        assert (c.shape, c.dtype, c.nbytes, c.ndim, len(c)) == ((ROWS,), "<i8", 8 * ROWS, 1, ROWS)
        assert c.rows == range(ROWS) and c.validity is None and c.validity_address is None
        array += 1
    assert d["x"].to_host() == 8 * ROWS
    assert t["x"].numpy(writable=False).tolist() == list(range(1, ROWS + 1))
    assert [d["x"].places(chunk) for chunk in range(3)] == [{"host", "device"}] * 3


def test_only_stale_chunks_are_moved(t, d):
    with d["x"].begin():
        pass
    assert d["x"].moved == (8 * ROWS, 0)
    with d["x"].begin():
        pass
    assert d["x"].moved == (8 * ROWS, 0)
    with t.lease(1, "x") as part:
        part["x"][:] = 7
    with d["x"].begin() as c:
        assert (c.numpy()[CHUNK : 2 * CHUNK] == 7).all()
    assert d["x"].moved == (8 * (ROWS + CHUNK), 0)
    d["x"].close()
    assert d["x"].moved == (8 * (ROWS + CHUNK), 0)


def test_rows_inside_a_chunk(t, d):
    with d["x"].begin(slice(600, 700), "rw") as c:
        assert c.numpy().tolist() == list(range(600, 700)) and c.rows == range(600, 700)
        c.numpy()[:] = 0
    d["x"].to_host(slice(600, 700))
    assert t["x"].numpy()[599] == 599 and (t["x"].numpy()[600:700] == 0).all()
    assert t["x"].numpy()[700] == 700
    with pytest.raises(pintable.OutOfRange):
        d["x"].begin((0, ROWS + 1))
    with d["x"].begin(slice(5, 5)) as c:
        assert c.numpy().shape == (0,)


def test_to_read_is_read_only(d):
    with d["x"].begin() as c:
        assert c.readonly and not c.numpy().flags.writeable and c.memoryview().readonly
        with pytest.raises(ValueError):
            c.numpy().flags.writeable = True
    with d["x"].begin(access="rw") as c:
        assert not c.readonly and not c.memoryview().readonly


def test_whole_chunks_written_without_reading(t, d):
    for rows in (slice(0, 100), slice(1, CHUNK), slice(CHUNK, ROWS - 1)):
        with pytest.raises(pintable.Invalid, match="whole chunks"):
            d["x"].begin(rows, "w")
    with d["x"].begin(slice(CHUNK, ROWS), "w") as c:
        c.numpy()[:] = 3
    d["x"].to_host()
    assert d["x"].moved[0] == 0
    assert t["x"].numpy().sum() == sum(range(CHUNK)) + 3 * (ROWS - CHUNK)


def test_an_exception_gives_the_old_values_back(t, d):
    with pytest.raises(ZeroDivisionError), d["x"].begin(access="rw") as c:
        c.numpy()[:] = -1
        raise ZeroDivisionError
    assert t["x"].numpy().tolist() == list(range(ROWS))
    with d["x"].begin(timeout=DEADLINE_S) as c:
        assert c.numpy().tolist() == list(range(ROWS))


def test_an_exception_tears_what_only_the_device_had(t, d):
    with d["x"].begin(slice(0, 1), "rw") as c:
        c.numpy()[:] = 5
    with pytest.raises(ZeroDivisionError):
        with d["x"].begin(slice(0, 1), "rw", timeout=DEADLINE_S) as c:
            assert c.numpy()[0] == 5
            raise ZeroDivisionError
    with pytest.raises(pintable.Torn):
        d["x"].begin(slice(0, 1)).__enter__()
    assert d["x"].places(0) == frozenset()
    with d["x"].begin(slice(0, CHUNK), "w") as c:  # rewritten as a whole, it is good again
        c.numpy()[:] = 6
    d["x"].to_host()
    assert (t["x"].numpy()[:CHUNK] == 6).all()


def test_a_host_writer_keeps_the_device_out_and_the_other_way_round(t, d):
    with t.lease(1, "x"):
        with pytest.raises(pintable.Busy):
            d["x"].begin(access="rw", timeout=0).__enter__()
        with d["x"].begin(slice(0, CHUNK), "rw", timeout=0):
            pass
    with d["x"].begin(slice(0, CHUNK), "rw", timeout=DEADLINE_S):
        with pytest.raises(pintable.Busy):
            t.lease(0, "x", timeout=0).__enter__()
        with pytest.raises(pintable.Busy, match="this thread"):
            d["x"].begin(slice(0, CHUNK)).__enter__()
        with d["x"].begin(slice(CHUNK, None)), d["x"].begin(slice(CHUNK, None)):
            pass  # readers share


def test_several_columns(t, d):
    with d.begin(["y", "x"], access="rw") as part:
        assert list(part) == ["x", "y"]
        part["y"].numpy()[:] = part["x"].numpy() * 2
    d["y"].to_host()
    assert t["y"].numpy().tolist() == [2.0 * i for i in range(ROWS)]
    with pytest.raises(pintable.Invalid):
        d.begin([])


@pytest.mark.parametrize("access", ["r", "rw", "w"])
def test_all_columns_or_none(t, d, access):
    with d["x"].begin(access="rw") as c:
        c.numpy()[:] = 1  # the device alone has these
    with t.lease(2, "y"), pytest.raises((pintable.Busy, pintable.Timeout)):
        d.begin(["x", "y"], access=access, timeout=0 if access == "r" else 0.05).__enter__()
    d["x"].to_host(timeout=DEADLINE_S)
    assert (t["x"].numpy() == 1).all()
    with d["x"].begin(access="rw", timeout=DEADLINE_S) as c:
        assert (c.numpy() == 1).all()


def test_nothing_is_usable_after_the_block(d):
    bracket = d["y"].begin(access="rw")
    with bracket as c:
        array, validity = c.numpy(), c.validity
    uses = (
        lambda: c.address, c.numpy, c.memoryview, lambda: c.validity, c.__dlpack__,
        lambda: validity.address, lambda: c.validity_address,
    )  # fmt: skip
    for use in uses:
        with pytest.raises(pintable.WrongState):
            use()
    assert not array.flags.writeable and "not held" in repr(c)
    with pytest.raises(pintable.WrongState):
        bracket.__enter__()


def test_a_bracket_that_is_never_left_goes_with_its_object(d):
    bracket = d["x"].begin(access="rw")
    bracket.__enter__()
    del bracket
    gc.collect()
    with d["x"].begin(access="rw", timeout=DEADLINE_S):
        pass


# ---- types -------------------------------------------------------------------------------------

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
    with t.device("host")["x"].begin() as c:
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
    with d.begin(t.columns, (2, 20)) as part:
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


# ---- DLPack ------------------------------------------------------------------------------------


def test_dlpack_shares_the_memory(d):
    with d["x"].begin(access="rw") as c:
        array = np.from_dlpack(c)
        array[0] = 77
        assert array.ctypes.data == c.address and c.numpy()[0] == 77
        assert c.__dlpack_device__() == (1, 0)
        assert not hasattr(c, "__cuda_array_interface__")
        legacy, versioned = c.__dlpack__(), c.__dlpack__(max_version=(1, 2))
        assert '"dltensor"' in repr(legacy) and '"dltensor_versioned"' in repr(versioned)


def test_dlpack_of_rows_to_read(d):
    with d["x"].begin() as c:
        with pytest.raises(BufferError, match="read-only"):
            c.__dlpack__()
        if int(np.__version__.split(".")[0]) >= 2:
            assert not np.from_dlpack(c).flags.writeable


def test_dlpack_refuses_what_it_cannot_do(d):
    with d["x"].begin(access="rw") as c:
        for more in ({"copy": True}, {"dl_device": (2, 0)}, {"stream": 3}):
            with pytest.raises(BufferError):
                c.__dlpack__(**more)
        c.__dlpack__(dl_device=(1, 0), copy=False, stream=None)


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


# ---- lifetimes ---------------------------------------------------------------------------------


def test_arrays_outlive_everything(make):
    t = make({"x": "int64"}, ROWS)
    t["x"] = np.arange(ROWS)
    d = t.device("host")
    with d["x"].begin() as c:
        array, packed = c.numpy(), c.memoryview()
    d["x"].drop()
    d.close()
    t.drop()
    t.close()
    del d, t, c
    gc.collect()
    assert array.sum() == sum(range(ROWS)) and len(packed) == 8 * ROWS


def test_a_forgotten_table_closes_without_the_collector(make):
    t = make({"x": "int64"}, ROWS)
    seen = weakref.ref(t)
    gc.disable()
    try:
        with t.device("host").begin(["x"], access="rw") as part:
            part["x"].numpy()[:] = 1
        with t.device("host")["x"].begin() as c:
            pass
        native = t.device("host")._opened.native
        del t, part
        assert seen() is None and c.shape == (ROWS,)
        n_references = sys.getrefcount(native)
        assert n_references == 3  # native, c, and the argument
    finally:
        gc.enable()


def test_use_after_close_raises(t):
    d = t.device("host")
    column = d["x"]
    with column.begin(access="rw"):
        column.close()  # put off to the end of the block
        d.close()
    for use in (lambda: column.begin().__enter__(), column.to_host, d.info, d.stream, column.drop):
        with pytest.raises(ValueError, match="closed"):
            use()
    with t.device("host")["x"].begin(timeout=DEADLINE_S):  # opens again
        pass
    t.close()
    with pytest.raises(ValueError, match="closed"):
        t.device("host")


def test_the_same_device_while_the_table_is_open(t):
    assert t.device("host")._opened is t.device("host")._opened
    generation = t.device("host")["x"].generation
    gc.collect()
    assert t.device("host")["x"].generation == generation


def test_a_copy_that_another_dropped_is_opened_again(t, d):
    first = d["x"].open().generation
    with d["x"].begin(access="rw") as c:
        c.numpy()[:] = 4
    other = pintable.open(t.name)
    other.device("host")["x"].drop()
    assert (t["x"].numpy() == 4).all()
    with pytest.raises(pintable.DeviceLost):
        d["x"].to_host()
    with d["x"].begin(access="rw") as c:
        assert (c.numpy() == 4).all()
    assert d["x"].generation > first
    other.close()


# ---- the rest of the interface -----------------------------------------------------------------


def test_who_may_not_write(t):
    writer = t.device("host")["x"].open()
    reader = pintable.open(t.name, "r")
    column = reader.device("host")["x"]
    with column.begin() as c:
        assert c.numpy()[3] == 3
    with pytest.raises(pintable.PermissionDenied):
        column.begin(access="rw").__enter__()
    with writer.begin(access="rw") as c:
        c.numpy()[3] = 33
    assert column.to_host(timeout=DEADLINE_S) == 8 * ROWS and reader["x"][3] == 33
    reader.close()
    t.freeze()
    with t.device("host")["x"].begin() as c:
        assert c.numpy()[3] == 33
    with pytest.raises(pintable.Frozen):
        t.device("host")["x"].begin(access="rw").__enter__()


def test_names_of_devices(t):
    for name in ("gpu", "", "host:1", "ab" * 15):
        with pytest.raises(pintable.NoDevice):
            t.device(name)
    for name in (0, b"short", None):
        with pytest.raises(pintable.Invalid):
            t.device(name)


def test_no_driver():
    code = """
    import pintable
    t = pintable.create({"x": "int64"}, 10)
    for name in ("cuda:0", "cuda", "GPU-" + "12" * 16, bytes(16)):
        try:
            t.device(name)
        except pintable.NoDevice as error:
            assert isinstance(error, pintable.DeviceError) and error.name == "E_NO_DEVICE"
        else:
            raise AssertionError(name)
    t.drop()
    """
    ends_well(code, env={"PINTABLE_LIBCUDA": "/nonexistent/libcuda.so.1"})
    tables_of_child_go()


def test_errors_of_devices():
    kinds = (
        pintable.NoDevice, pintable.DeviceFailed, pintable.OutOfDeviceMemory, pintable.DeviceAhead,
        pintable.DeviceLost,
    )  # fmt: skip
    assert [kind.status for kind in kinds] == [-60, -61, -62, -63, -64]
    for kind in kinds:
        found = pickle.loads(pickle.dumps(kind("text", kind.status, 0)))
        assert type(found) is kind and isinstance(found, pintable.DeviceError)
    assert issubclass(pintable.OutOfDeviceMemory, MemoryError)


def test_facts_of_a_device(d):
    info = d.info()
    assert not info.is_cuda and len(info.uuid) == 32 and info.can_vmm and info.memory > info.free
    assert (d.name, d.is_cuda, d["x"].kind) == ("host", False, "vmm")
    assert d["x"].nbytes >= 8 * ROWS and "host" in repr(d["x"])
    with pytest.raises(pintable.Invalid):
        d["x"].begin(access="read")
    with pytest.raises(pintable.OutOfRange):
        d["x"].places(3)


def test_pinning(t, d):
    seen = []
    d.pin(lambda done, whole: seen.append((done, whole)))
    assert seen and seen[-1][0] <= seen[-1][1] and d.info().pinned >= t["x"].numpy().nbytes
    d.unpin()
    with pytest.raises(pintable.WrongState):
        d.unpin()

    def stop(done: int, whole: int) -> None:
        raise KeyError(done)

    with pytest.raises(KeyError):
        d.pin(stop)
    with pytest.raises(pintable.WrongState):
        d.unpin()


def test_the_raw_handle(d):
    with d["y"].begin(access="rw") as c:
        c.numpy()[:] = 8.5
    with d["y"].handle() as handle:
        assert (handle.kind, handle.uuid, handle.ipc) == ("vmm", d.info().uuid, None)
        assert handle.generation == d["y"].generation and handle.nbytes == d["y"].nbytes
        with mmap.mmap(handle.fd, handle.nbytes, prot=mmap.PROT_READ) as memory:
            found = np.frombuffer(memory, "f8", ROWS, handle.values_offset)
            assert (found == 8.5).all() and memory[handle.validity_offset] == 255
            del found
        fd = handle.fd
    assert handle.fd is None
    with pytest.raises(OSError):
        os.fstat(fd)


def test_rows_stored_plainly_on_the_host(t, d):
    with d["x"].begin(access="rw") as c:
        c.numpy()[:] = 1
    d["x"].own_host(slice(0, 10))
    assert (t["x"].numpy()[:CHUNK] == 1).all() and d["x"].places(0) == {"host"}
    t["x"][0:10] = 2
    with d["x"].begin() as c:
        assert c.numpy()[[9, 10]].tolist() == [2, 1]


class Torch:
    def __init__(self, number: int) -> None:
        self.cuda_stream = number


class Cupy:
    def __init__(self, number: int) -> None:
        self.ptr = number


class Protocol:
    def __init__(self, number: int) -> None:
        self.number = number

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.number


def test_streams_of_all_kinds(d):
    stream = d.stream()
    for given in (stream, stream.ptr, Torch(stream.ptr), Cupy(stream.ptr), Protocol(stream.ptr)):
        with d["x"].begin(access="rw", stream=given, timeout=DEADLINE_S) as c:
            assert c.stream == stream.ptr
            c.numpy()[0] += 1
    stream.wait()
    d["x"].to_host()
    with pytest.raises(pintable.TypeMismatch):
        d["x"].begin(stream="0")
    with pytest.raises(pintable.Invalid):
        d["x"].begin(stream=-1)


# ---- processes ---------------------------------------------------------------------------------


def test_fork(t, d):
    d["x"].open()
    opened = d._opened

    def body() -> None:
        for use in (d["x"].to_host, d["x"].begin().__enter__, d.info):
            with pytest.raises(pintable.Forked):
                use()
        again = t.device("host")
        assert again._opened is not opened
        with again["x"].begin(access="rw", timeout=DEADLINE_S) as c:
            c.numpy()[5] = 6
        again["x"].to_host()

    assert forked(body) == 0
    with d["x"].begin(access="rw", timeout=DEADLINE_S) as c:
        assert c.numpy()[5] == 6


@pytest.mark.parametrize("keep", ["", "array = c.numpy()", "array = c.numpy(); del t"])
def test_what_was_written_is_there_though_the_process_ends_at_once(t, keep):
    code = f"""
    import sys, pintable
    t = pintable.open(sys.argv[1])
    with t.device("host")["x"].begin(access="rw") as c:
        c.numpy()[:] = 9
        {keep}
    """
    ends_well(code, t.name)
    t.device("host")["x"].to_host(timeout=DEADLINE_S)
    assert (t["x"].numpy() == 9).all()


def test_ctrl_c_ends_waiting_for_rows():
    _ends(
        """
        table = one_chunk()
        holder = other_process_holds(table, "p = t.lease(0, ['x']); p.__enter__()")
        column = table.device("host")["x"]
        interrupted(lambda: column.begin(access="rw").__enter__())
        interrupted(lambda: column.begin(access="rw", timeout=1000).__enter__())
        let_go(holder)
        with column.begin(access="rw", timeout=60) as c:
            c.numpy()[:] = 1
        """
    )
    tables_of_child_go()


# In each chunk: a sum that no lost update of either side would leave right.
DEVICE_WORKER = """
import sys, pintable
name, device, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
table = pintable.open(name)
column = table.device(device)["x"]
print("ready", flush=True)
for _ in range(rounds):
    for chunk in range(table.chunks):
        first = chunk * table.chunk_rows
        rows = (first, min(table.rows, first + table.chunk_rows))
        with column.begin(rows, "rw", timeout=60) as c:
            {add}
"""


def _work_on_both_sides(t: pintable.Table, device: str, add: str, env: dict[str, str]) -> None:
    rounds, column = 20, t.device(device)["x"].open()
    t["x"] = 0

    @contextlib.contextmanager
    def leased(chunk: int) -> Iterator[pintable.Part]:
        """A lease does not fetch what is newest on a device: that is the caller's to do."""
        first = chunk * CHUNK
        while True:
            lease = t.lease(chunk, "x", timeout=DEADLINE_S)
            try:
                part = lease.__enter__()
                break
            except pintable.DeviceAhead:
                column.to_host((first, min(ROWS, first + CHUNK)), timeout=DEADLINE_S)
        yield part
        lease.__exit__(None)

    code = DEVICE_WORKER.format(add=add)
    with start_python(code, t.name, device, str(rounds), env=env) as worker:
        assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
        for _ in range(rounds):
            for chunk in range(t.chunks):
                with leased(chunk) as part:
                    part["x"] += 1
        output, errors = worker.communicate(timeout=DEADLINE_S)
    assert (worker.returncode, errors) == (0, "")
    for chunk in range(t.chunks):
        with leased(chunk) as part:
            assert (part["x"] == rounds * 1001).all()


def test_host_and_device_workers_lose_no_update(t):
    _work_on_both_sides(t, "host", "c.numpy()[:] += 1000", {})


def test_a_device_standardises_while_host_workers_write(make):
    t = make({"v": "float64", "z": "float64"}, 4 * CHUNK, chunk_rows=CHUNK)
    t["v"] = np.random.default_rng(1).normal(5.0, 3.0, t.rows)
    code = """
    import sys, numpy as np, pintable
    t = pintable.open(sys.argv[1])
    for i in range(40):
        with t.lease(i % t.chunks, "v", timeout=60) as part:
            part["v"][:] = part["v"] * 2 + i
        if i == 0:
            print("started", flush=True)
    """
    with start_python(code, t.name) as worker:
        assert worker.stdout is not None and worker.stdout.readline() == "started\n"
        d = t.device("host")
        for chunk in range(t.chunks):
            rows = (chunk * CHUNK, (chunk + 1) * CHUNK)
            with d["v"].begin(rows, timeout=DEADLINE_S) as v, d["z"].begin(rows, "w") as z:
                values = v.numpy()
                z.numpy()[:] = (values - values.mean()) / values.std()
        output, errors = worker.communicate(timeout=DEADLINE_S)
    assert (worker.returncode, errors) == (0, "")
    d["z"].to_host()
    z = t["z"].numpy().reshape(t.chunks, CHUNK)
    assert np.allclose(z.mean(axis=1), 0) and np.allclose(z.std(axis=1), 1)


# ---- CUDA, on the fake driver ------------------------------------------------------------------


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
    import textwrap

    ends_well(CUDA_PRELUDE + textwrap.dedent(CUDA[what]) + "t.drop()\n", env=cuda.env)


def test_cuda_and_host_workers_lose_no_update(cuda: PrivateService):
    t = pintable.create({"x": "int64"}, ROWS, chunk_rows=CHUNK, address=cuda.folder)
    add = (
        "import ctypes, numpy as np; c._device.stream_wait(c.stream); "
        "np.ctypeslib.as_array((ctypes.c_int64 * len(c)).from_address(c.address))[:] += 1000"
    )
    _work_on_both_sides(t, "cuda:0", add, cuda.env)
    t.drop()
    t.close()
