# SPDX-License-Identifier: Apache-2.0
"""Device copies on "host": brackets, lifetimes and the rest of the interface."""

from __future__ import annotations

import dataclasses
import gc
import mmap
import os
import pickle
import sys
import threading
import weakref

import pytest
from child import DEADLINE_S, ends_well, tables_of_child_go, wait_until

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


# ---- brackets -----------------------------------------------------------------------------------


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


def test_whole_chunks_of_several_columns_are_not_brought(t, d):
    with d.begin(["x", "y"], access="w") as part:
        part["x"].numpy()[:], part["y"].numpy()[:] = 1, 2
        part["y"].validity.numpy()[:] = 255
    assert d["x"].moved == d["y"].moved == (0, 0)
    d["x"].to_host()
    d["y"].to_host()
    assert (t["x"].numpy() == 1).all() and (t["y"].numpy() == 2).all()


def test_two_that_want_two_columns_in_other_orders_do_not_wait_for_each_other(t, d):
    failed = []

    def work(columns: list[str]) -> None:
        try:
            for _ in range(100):
                with d.begin(columns, access="rw", stream=d.stream(), timeout=DEADLINE_S) as part:
                    for array in part.values():
                        array.numpy()[:] += 1
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(names,)) for names in (["x", "y"], ["y", "x"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    with d.begin(["x", "y"]) as part:
        assert part["x"].numpy()[0] == part["y"].numpy()[0] == 200


def test_a_block_waits_for_one_of_another_thread(t, d):
    with d["x"].begin(access="rw") as c:
        c.numpy()[:] = 5
        seen = []

        def other() -> None:
            try:
                with d["x"].begin(timeout=0.05):
                    seen.append("entered")
            except pintable.Timeout:
                seen.append("timeout")
            with d["x"].begin(timeout=DEADLINE_S) as x:
                seen.append(int(x.numpy()[0]))

        thread = threading.Thread(target=other)
        thread.start()
        wait_until(lambda: seen, "the other thread's timeout")
    thread.join()
    assert seen == ["timeout", 5]


def test_wait_until_it_is_published(t, d):
    stream = d.stream()
    d["y"].wait()  # not even open
    for i in range(50):
        with d["x"].begin(access="rw", stream=stream) as c:
            c.numpy()[:] = i
        d["x"].wait(timeout=DEADLINE_S)
        assert d["x"].places(2) == {"device"}
        d["x"].to_host(timeout=0)
    with d["x"].begin(access="rw"):
        d["x"].wait(timeout=0)  # what is open has not ended
    with pytest.raises(pintable.OutOfRange):
        d["x"].wait((0, ROWS + 1))


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


# ---- lifetimes ----------------------------------------------------------------------------------


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


# ---- the rest of the interface ------------------------------------------------------------------


def test_open_what_is_there_alone(t, d):
    with pytest.raises(pintable.NotFound):
        d["x"].open(create=False)
    d["x"].open()
    with pintable.open(t.name) as other:
        column = other.device("host")["x"].open(create=False)
        assert column.generation == d["x"].generation
        assert column.open("vmm", create=False) is column
        with pytest.raises(pintable.Exists):
            column.open("ipc", create=False)


def test_discard_loses_what_only_the_device_had(t, d):
    with d["x"].begin(slice(0, CHUNK), "rw") as c:
        c.numpy()[:] = 5
    d["x"].wait()
    d["x"].discard()
    with pytest.raises(pintable.Torn):
        t.lease(0, "x", timeout=DEADLINE_S).__enter__()
    with t.lease(1, "x") as part:
        assert part["x"][0] == CHUNK  # the host had it
    with pytest.raises(pintable.NotFound):
        d["x"].discard()
    with t.lease(0, "x", inout=False) as part:
        part["x"][:] = 6
    with d["x"].begin() as c:
        assert c.numpy()[0] == 6


def test_what_begin_of_the_extension_takes(d):
    native = d._opened.native
    for copies, error in (((), pintable.Invalid), ((1,), TypeError), ([], TypeError)):
        with pytest.raises(error):
            native.begin(copies, 0, 1, 1, 0)
    copy = d["x"].open()._copy(True)
    with pytest.raises(pintable.Invalid):
        native.begin((copy, copy), 0, 1, 1, 0)
    held = sys.getrefcount(copy)
    with pytest.raises(TypeError):
        native.begin((copy, 1), 0, 1, 1, 0)
    assert sys.getrefcount(copy) == held


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
    assert info.ordinal == -1
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


def test_what_does_not_travel_says_what_does(d):
    """Not by pickle, and copy.copy() goes the same way."""
    block = d["x"].begin()
    with block as c:
        for one in (d, d["x"], d.stream(), block):
            with pytest.raises(TypeError, match="belongs to this process: pass the table"):
                pickle.dumps(one)
        with pytest.raises(TypeError, match="belongs to its block"):
            pickle.dumps(c)
    with d["x"].handle() as handle, pytest.raises(TypeError, match="descriptor"):
        pickle.dumps(handle)
    ipc = dataclasses.replace(handle, kind="ipc", ipc=bytes(64))
    assert pickle.loads(pickle.dumps(ipc)) == ipc
    with pytest.raises(TypeError, match=r"inside a block"):
        np.asarray(d["x"])


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
