# SPDX-License-Identifier: Apache-2.0
"""pintable._native: the C library one to one, lifetimes, threads, fork, and no leaks."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pintable
import pytest
from pintable import _native as native

N_ROWS = 3000
CHUNK_ROWS = 512


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A private service of this file's own: it leaves when its last session has left."""
    with tempfile.TemporaryDirectory(prefix="pn-", dir="/tmp") as folder:
        yield folder


@pytest.fixture(scope="module")
def pool(address: str) -> native.Pool:
    return native.Pool(address)


def field(name: str, kind: int, nullable: bool = False, **more: Any) -> tuple[Any, ...]:
    keys = ("unit", "zone", "width", "length", "item", "room", "categories", "metadata")
    values = {"unit": 0, "zone": None, "width": 0, "length": 0, "item": 0, "room": 0}
    values |= {"categories": 0, "metadata": None} | more
    return (name, kind, nullable, *(values[key] for key in keys))


FIELDS = (
    field("x", native.FLOAT64, True),
    field("y", native.INT64),
    field("bit", native.BOOL, True),
    field("s", native.TEXT, True, room=100_000),
    field("c", native.DICT_TEXT, True, item=native.INT8, room=1000, categories=20, metadata=b"c!"),
    field("t", native.TIMESTAMP, False, unit=native.MICROSECOND, zone="Europe/Berlin"),
    field("v", native.LIST_FIXED, False, item=native.FLOAT32, length=3),
)


@contextmanager
def made(pool: native.Pool, name: str, fields: Any = FIELDS, rows: int = N_ROWS) -> Iterator[Any]:
    """A published table, dropped at the end."""
    table = pool.create(name, fields, rows, CHUNK_ROWS, 0, b"meta")
    table.publish()
    try:
        yield table
    finally:
        pool.drop(name)


def doubles(table: Any, name: str = "x") -> memoryview:
    return memoryview(table.column(name).values()).cast("d")


# ---- facts ---------------------------------------------------------------------------------------


def test_constants_are_those_of_the_headers() -> None:
    assert (native.BOOL, native.TEXT, native.LIST_FIXED) == (1, 17, 19)
    assert (native.IN, native.OUT, native.INOUT, native.UPDATE) == (1, 2, 3, 4)
    assert native.statuses["E_BUSY"] == -7 and native.status_name(-7) == "E_BUSY"
    assert native.status_name(-12345) == native.status_name(10**12) == "unknown status"
    assert native.version == pintable.__version__


def test_a_pool_tells_who_it_is(pool: native.Pool, address: str) -> None:
    assert pool.address.startswith(address) and len(pool.id) == 16 and pool.session > 0
    assert not pool.read_only
    again = native.Pool(address)
    assert (again.session, again.id) == (pool.session, pool.id), "one session a process"
    reader = native.Pool(address, read_only=True)
    assert reader.read_only and reader.session != pool.session and reader.id == pool.id


def test_a_table_tells_what_it_was_created_from(pool: native.Pool) -> None:
    with made(pool, "facts") as table:
        assert (table.name, table.rows, table.n_columns) == ("facts", N_ROWS, len(FIELDS))
        assert (table.chunk_rows, table.chunks, table.metadata) == (512, 6, b"meta")
        assert table.writable and table.published and not table.frozen and not table.dropped
        assert table.column_names() == [f[0] for f in FIELDS] and "facts" in pool.tables()
        c, t, v = table.column("c"), table.column("t"), table.column("v")
        assert (c.type, c.item_type, c.data_bytes, c.metadata) == (18, native.INT8, 1000, b"c!")
        assert (t.unit, t.zone, t.nullable, t.metadata) == (3, "Europe/Berlin", False, None)
        assert (v.list_length, v.item_type, v.row_bytes, v.index) == (3, native.FLOAT32, 12, 6)
        assert c.zone is None and table.column_at(6).name == "v" and v.table is table
        reader = pool.open("facts")
        assert reader.id == table.id and not reader.writable
        assert pool.open_id(table.id, True).writable
        pool.rename("facts", "renamed")
        assert table.name == reader.name == "renamed"
        pool.rename("renamed", "facts")
    assert table.dropped


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda p: p.open("no such"), pintable.NotFound),
        (lambda p: p.open("a\0b"), ValueError),
        (lambda p: p.open(7), TypeError),
        (lambda p: p.open_id(2**64 - 1), pintable.NotFound),
        (lambda p: p.open_id(-1), ValueError),
        (lambda p: p.drop("no such"), pintable.NotFound),
        (lambda p: p.create("a/b", FIELDS, 1), pintable.Invalid),
        (lambda p: p.create("a", FIELDS, -1), ValueError),
        (lambda p: p.create("a", [("x", 1)], 1), TypeError),
        (lambda p: p.create("a", [list(FIELDS[0])], 1), TypeError),
        (lambda p: p.create("a", 5, 1), TypeError),
        (lambda p: p.create("a", [], 1), pintable.Error),
        (lambda p: p.create("a", [field("x", 99)], 1), pintable.Error),
        (lambda p: p.create("a", [field("x", 1, metadata="no bytes")], 1), TypeError),
        (lambda p: p.create("a", FIELDS, 2**47), pintable.Error),
        (lambda p: native.Pool("/nowhere/at/all", start=False), pintable.NoService),
        (lambda p: native.Pool(timeout=-1), ValueError),
        (lambda p: native.Pool(timeout=float("nan")), ValueError),
    ],
)
def test_bad_arguments_raise(pool: native.Pool, call: Callable[..., Any], error: Any) -> None:
    with pytest.raises(error):
        call(pool)


def test_errors_carry_status_and_errno(pool: native.Pool) -> None:
    with pytest.raises(LookupError) as caught:
        pool.open("no such")
    assert (caught.value.status, caught.value.name, caught.value.errno) == (-3, "E_NOT_FOUND", 0)


# ---- buffers -------------------------------------------------------------------------------------


def test_buffers_are_the_memory(pool: native.Pool) -> None:
    with made(pool, "buffers") as table:
        values = table.column("x").values()
        assert len(values) == values.nbytes == 8 * N_ROWS and not values.readonly
        view = memoryview(values)
        assert (view.ndim, view.format, view.c_contiguous) == (1, "B", True)
        doubles(table)[17] = 2.5
        assert ctypes.c_double.from_address(values.address + 8 * 17).value == 2.5
        assert pool.contains(values.address, values.nbytes)
        assert not pool.contains(id(values), 1)
        assert table.column("bit").values().nbytes == table.column("x").validity().nbytes == 375
        assert table.column("v").values().nbytes == 12 * N_ROWS
        assert table.column("y").validity() is None
        text = table.column("s")
        assert text.values() is None and text.offsets().nbytes == 8 * (N_ROWS + 1)
        assert text.data().nbytes == 100_000 and text.data().readonly, "text is fixed by now"
        assert table.column("x").offsets() is None and table.column("c").data() is None


def test_a_reader_gets_read_only_buffers(pool: native.Pool) -> None:
    with made(pool, "reader"):
        values = pool.open("reader").column("x").values()
        assert values.readonly and memoryview(values).readonly
        with pytest.raises(TypeError):
            memoryview(values)[0] = 1
        column = pool.open("reader").column("x")
        for store in (column.store_null_mask, pool.open("reader").column("bit").store_bools):
            with pytest.raises(pintable.PermissionDenied):
                store(0, 1, b"\1")


def test_a_table_of_no_rows_has_empty_buffers(pool: native.Pool) -> None:
    with made(pool, "empty", rows=0) as table:
        assert (table.rows, table.chunks) == (0, 0)
        for name in ("x", "bit", "v"):
            assert bytes(table.column(name).values()) == b""
        assert bytes(table.column("x").validity()) == b""
        assert table.column("x").count_null(0, 0) == 0
        table.column("x").null_mask(0, 0, bytearray())


# ---- closing -------------------------------------------------------------------------------------


def test_every_use_of_a_closed_table_raises(pool: native.Pool) -> None:
    with made(pool, "closed") as table:
        column, job = table.column("x"), table.job("j", [("x", native.INOUT)])
        table.close()
        table.close()
        assert table.closed
        for use in ("name", "id", "rows", "metadata", "capsule", "published", "frozen"):
            with pytest.raises(ValueError, match="closed"):
                getattr(table, use)
        for call in (
            lambda: table.column("x"),
            lambda: table.publish(),
            lambda: table.claim([column], 0, native.OUT),
            lambda: table.job("k"),
            lambda: column.values(),
            lambda: column.name,
            lambda: column.mark(0, 1),
            lambda: column.null_mask(0, 1, bytearray(1)),
            lambda: column.wait(0, 0, 0),
        ):
            with pytest.raises(ValueError, match="closed"):
                call()
        assert job.next() is not None, "a job has a hold of its own"


def test_memory_outlives_table_and_drop_as_long_as_a_view(pool: native.Pool) -> None:
    with made(pool, "views") as table:
        view = doubles(table)
        view[:] = array("d", range(N_ROWS))
        table.close()
    del table
    gc.collect()
    with made(pool, "other") as other:  # would get the memory if it were free
        doubles(other)[:] = array("d", [9.0] * N_ROWS)
        assert view[1234] == 1234.0


BIG = [field("x", native.FLOAT64, True)]  # large enough to find no hole left by another test
BIG_ROWS = 600_000


def address_of(table: Any) -> int:
    return int(table.column("x").values().address)


HOLDERS: dict[str, Callable[[Any], object]] = {
    "nothing": lambda table: None,
    "buffer": lambda table: memoryview(table.column("x").values()),
    "lease": lambda table: table.claim([table.column("x")], 0, native.UPDATE),
    "job": lambda table: table.job("hold", [("x", native.INOUT)]),
    "lease of a job": lambda table: table.job("hold", [("x", native.INOUT)]).next(),
    "capsule": lambda table: table.capsule,
    "second handle": lambda table: table.pool.open(table.name),
}


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("publish", [True, False])
def test_memory_goes_back_with_its_last_holder(
    pool: native.Pool, holder: str, publish: bool
) -> None:
    if not publish and holder in ("job", "lease of a job", "second handle"):
        pytest.skip("needs a published table")
    table = pool.create("big", BIG, BIG_ROWS)
    if publish:
        table.publish()
    address, held = address_of(table), [HOLDERS[holder](table)]
    if publish:
        pool.drop("big")
    table.close()
    del table
    if holder != "nothing":
        others = [pool.create("other", BIG, BIG_ROWS) for _ in range(3)]
        assert address not in map(address_of, others), "the memory is still held"
        del others
    held.clear()
    others = []
    for _ in range(60):  # holes that tables of earlier tests have left come first
        others.append(pool.create("other", BIG, BIG_ROWS))
        if address_of(others[-1]) == address:
            return
    raise AssertionError("the memory did not come back")


def test_objects_die_in_any_order(pool: native.Pool) -> None:
    with made(pool, "order"):
        for first in range(6):
            table = pool.open("order", True)
            column = table.column("x")
            job = table.job("j", [("x", native.INOUT)])
            things = [
                table,
                column,
                memoryview(column.values()),
                job,
                job.next(),
                table.capsule,
            ]
            table.drop_job("j")
            del table, column, job
            while things:
                things.pop(first % len(things))
        lease = pool.open("order", True).claim([pool.open("order", True).column("x")], 0, 3, 5)
        assert lease.held
        lease.commit()


# ---- nulls and bits ------------------------------------------------------------------------------

RANGES = [(0, N_ROWS), (0, 0), (0, 1), (7, 1), (7, 2), (3, 4), (3, 5), (3, 6), (5, 30), (8, 8)]
RANGES += [(9, 7), (16, 17), (1, N_ROWS - 1), (N_ROWS - 1, 1), (2995, 5), (N_ROWS, 0)]


def pattern(n: int, seed: int) -> bytearray:
    state, out = seed, bytearray()
    for _ in range(n):
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        out.append(state >> 30)
    return out


@pytest.mark.parametrize(("first", "n"), RANGES)
def test_masks_touch_their_rows_only(pool: native.Pool, first: int, n: int) -> None:
    with made(pool, "masks") as table:
        for column, store, load in (
            (table.column("x"), "store_null_mask", "null_mask"),
            (table.column("bit"), "store_bools", "get_bools"),
            (table.column("bit"), "store_null_mask", "null_mask"),
        ):
            before, new = pattern(N_ROWS, 1), pattern(n, 2)
            getattr(column, store)(0, N_ROWS, before)
            any_true = bytes(200 * byte for byte in new)  # every byte but 0 is true
            getattr(column, store)(first, n, any_true)
            expected = before[:first] + new + before[first + n :]
            out = bytearray(N_ROWS)
            getattr(column, load)(0, N_ROWS, out)
            assert out == expected
            part = bytearray(n)
            getattr(column, load)(first, n, part)
            assert part == new
        x = table.column("x")
        mask = bytearray(N_ROWS)
        x.null_mask(0, N_ROWS, mask)
        assert x.count_null(first, n) == sum(mask[first : first + n])
        assert [x.is_null(row) for row in range(20)] == [bool(m) for m in mask[:20]]


def test_single_and_listed_rows(pool: native.Pool) -> None:
    with made(pool, "rows") as table:
        x = table.column("x")
        x.store_null_mask(0, N_ROWS, bytes(N_ROWS))
        x.set_null_rows(array("q", [5, 6, 2999]), True)
        x.set_null(6, False)
        assert [row for row in range(N_ROWS) if x.is_null(row)] == [5, 2999]
        for bad in (array("q", [1, -1]), array("q", [N_ROWS])):
            with pytest.raises(pintable.OutOfRange):
                x.set_null_rows(bad, True)
        assert x.is_null(1), "rows before the bad one are marked, as documented"
        for wrong in (array("i", [1]), array("d", [1.0]), array("Q", [1]), b"12345678"):
            with pytest.raises(TypeError):
                x.set_null_rows(wrong, True)


def test_bulk_calls_check_rows_sizes_and_types(pool: native.Pool) -> None:
    with made(pool, "checks") as table:
        x, y = table.column("x"), table.column("y")
        for first, n in ((0, N_ROWS + 1), (N_ROWS, 1), (2**64 - 1, 2), (1, 2**64 - 1)):
            with pytest.raises((pintable.OutOfRange, ValueError)):
                x.null_mask(first, n, bytearray(8))
            with pytest.raises((pintable.OutOfRange, ValueError)):
                x.read(first, n, bytearray(8))
        for size in (9, 11):
            with pytest.raises(ValueError):
                x.null_mask(0, 10, bytearray(size))
        with pytest.raises((BufferError, TypeError)):
            x.null_mask(0, 10, bytes(10))
        with pytest.raises(pintable.TypeMismatch):
            y.store_null_mask(0, 1, b"\1")
        with pytest.raises(pintable.TypeMismatch):
            x.get_bools(0, 1, bytearray(1))
        out = bytearray(b"\7" * 5)
        y.null_mask(0, 5, out)
        assert out == bytes(5), "a column that is not nullable has no nulls"


def test_neighbours_in_one_byte_do_not_lose_stores(pool: native.Pool) -> None:
    """Two threads store the halves of the same bytes, the lock given up in between."""
    with made(pool, "neighbours") as table:
        x = table.column("x")
        x.store_null_mask(0, N_ROWS, bytes(N_ROWS))

        def store(first: int) -> None:
            for turn in range(3001):
                x.store_null_mask(first, 4, bytes([turn % 2 == 0] * 4))

        threads = [threading.Thread(target=store, args=(first,)) for first in (0, 4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert x.count_null(0, 8) == 8


# ---- text ----------------------------------------------------------------------------------------


def encoded(objects: Any, missing: tuple = ()) -> tuple[list[str | None], int]:
    """encode_text, taken apart again: the texts, and how many are missing."""
    offsets, validity, text, n_missing = native.encode_text(objects, missing)
    ends = memoryview(offsets).cast("q").tolist()
    n = len(ends) - 1
    assert ends[0] == 0 and ends[n] == len(text) and len(validity) == (n + 7) // 8
    bits = [validity[i // 8] >> (i % 8) & 1 for i in range(8 * len(validity))]
    assert not any(bits[n:])
    texts = [text[a:b].decode() if bit else None for a, b, bit in zip(ends, ends[1:], bits)]
    assert all(bit or a == b for a, b, bit in zip(ends, ends[1:], bits))
    return texts, n_missing


def test_text_is_encoded() -> None:
    na = object()
    for n in (0, 1, 7, 8, 9, 1000, 70_000):
        kinds = ["é", "plain", None, float("nan"), na, "", "🐍"]
        texts = [kinds[i % 7] if i % 7 else "é" * (i % 5) for i in range(n)]
        expected = [text if isinstance(text, str) else None for text in texts]
        assert encoded(texts, (na,)) == (expected, expected.count(None))


def test_text_of_lengths_that_the_first_ones_do_not_tell() -> None:
    texts = ["a", *["é" * 300] * 1000, "b" * 5_000_000, *[""] * 3000, "c"]
    assert encoded(texts) == (texts, 0)


def test_object_arrays_are_taken_with_their_strides() -> None:
    np = pytest.importorskip("numpy")
    texts = np.array(["a", None, "ccc", "dd", "e", None], object)
    assert encoded(texts) == (["a", None, "ccc", "dd", "e", None], 2)
    assert encoded(texts[::-2]) == ([None, "dd", None], 2)
    assert encoded(texts[::2]) == (["a", "ccc", "e"], 0)
    texts.flags.writeable = False
    assert encoded(texts)[1] == 2
    for wrong in (np.zeros(3), texts.reshape(2, 3)):
        with pytest.raises(TypeError):
            native.encode_text(wrong, ())


@pytest.mark.parametrize("bad", [5, b"bytes", "\ud800", 1.5])
def test_what_is_no_text_names_its_row(bad: object) -> None:
    for before in (2, 70_000):
        with pytest.raises((TypeError, UnicodeEncodeError)) as caught:
            native.encode_text([*["a"] * before, bad, "b"], ())
        assert caught.value.row == before


# ---- copying -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 63, 4096, 4097, 1 << 17, (1 << 17) + 3, 3_000_001])
def test_copies_of_every_kind(n: int) -> None:
    np = pytest.importorskip("numpy")
    random = np.random.default_rng(n)
    pairs, expected = [], []
    for code in ("i1", "u2", "f4", "i8", "f8"):
        wide = random.integers(0, 256, (n, 3 * np.dtype(code).itemsize), "u1").view(code)
        for source in (wide[:, 1], np.ascontiguousarray(wide[:, 2])[::-1], wide[:, 0].copy()):
            around = np.zeros(n + 7, code)  # targets that begin and end anywhere
            pairs.append((around[3 : 3 + n], source))
            expected.append((around, source.copy()))
        pairs.append((np.empty((n, 3), code), wide))
        expected.append((None, wide.copy()))
    native.copy(pairs)
    for (target, _), (around, source) in zip(pairs, expected, strict=True):
        assert target.tobytes() == source.tobytes()
        assert around is None or not (around[:3].any() or around[3 + n :].any())


def test_copies_that_are_refused_copy_nothing() -> None:
    np = pytest.importorskip("numpy")
    target, source = np.zeros(10, "i8"), np.ones(10, "i8")
    frozen = np.zeros(10, "i8")
    frozen.flags.writeable = False
    wide = np.ones((10, 4), "i8")
    for wrong, error in (
        ((target, source[:9]), ValueError),
        ((np.zeros((10, 2), "i8"), wide[:, :2]), ValueError),
        ((np.zeros(10, "c16"), np.ones(20, "c16")[::2]), ValueError),
        ((np.zeros(20, "i8")[::2], source), (ValueError, BufferError)),
        ((frozen, source), (ValueError, BufferError)),
        ((target,), TypeError),
        ([target, source], TypeError),
        (5, TypeError),
    ):
        with pytest.raises(error):
            native.copy([(target, source), wrong])
        assert not target.any()
    with pytest.raises(TypeError):
        native.copy(5)
    native.copy([])


# ---- leases, jobs, versions ----------------------------------------------------------------------


def test_leases_commit_abandon_and_let_go(pool: native.Pool) -> None:
    with made(pool, "leases") as table:
        x, values = table.column("x"), doubles(table)
        version = x.version(1)
        lease = table.claim([x], 1, native.INOUT)
        assert (lease.first, lease.n_rows, lease.chunk, lease.held) == (512, 512, 1, True)
        with pytest.raises(pintable.Busy):
            table.claim([x, table.column("y")], 1, native.INOUT, 0)
        values[512] = 1.0
        lease.commit()
        assert not lease.held and x.version(1) > version
        for call in (lease.commit, lease.abandon):
            with pytest.raises(pintable.LeaseLost):
                call()
        lease = table.claim([x], 1, native.INOUT)
        values[512] = 2.0
        del lease  # abandons: old bytes come back
        assert values[512] == 1.0
        torn = table.claim([x], 0, native.OUT)
        del torn
        with pytest.raises(pintable.Torn):
            table.claim([x], 0, native.INOUT, 0)
        with pytest.raises(pintable.Torn):
            x.read_begin(0)
        x.recover(0)
        with pytest.raises(pintable.WrongState):
            x.recover(0)
        stamp = x.read_begin(0)
        x.read_end(0, stamp)
        x.mark(0, 1)
        with pytest.raises(pintable.Changed):
            x.read_end(0, stamp)
        out, bits = bytearray(80), bytearray(2)
        values[0] = 7.5
        x.read(0, 10, out, bits)
        assert memoryview(out).cast("d")[0] == 7.5 and bits == bytes(2)
        with pytest.raises(ValueError):
            table.claim([pool.open("leases").column("x")], 0, native.OUT)


def test_a_job_hands_each_chunk_out_once(pool: native.Pool) -> None:
    with made(pool, "job") as table:
        job = table.job("j", [("x", native.INOUT)])
        assert (job.name, job.table) == ("j", table)
        first = job.next()
        others = [job.next(0) for _ in range(5)]
        with pytest.raises(pintable.Again):
            job.next()
        with pytest.raises(pintable.Timeout):
            job.wait(0.05)
        assert job.progress() == (6, 0, 0, 6, 0)
        for lease in others[:3]:
            job.done(lease)
        job.reject(others[3], "no ünit " + "x" * 500)
        others[4].commit()  # the same as done()
        with pytest.raises(pintable.Invalid):
            table.job("k", [("y", native.IN)]).done(first)
        for _ in range(3):
            lease = first if first.held else job.next()
            job.fail(lease, "again\ud800")
        assert job.next() is None
        job.wait(0)
        assert job.progress()[:3] == (6, 4, 2) and job.failed() == [0, 4]
        assert job.failure(4).startswith("no ünit x") and job.failure(1) is None
        assert job.failure(0) == "again?"
        job.close()
        with pytest.raises(ValueError, match="closed"):
            job.next()
        table.drop_job("j")
        with pytest.raises(pintable.NotFound):
            table.job("j")


def test_waits_end_on_time_on_change_and_on_close(pool: native.Pool) -> None:
    with made(pool, "wait") as table:
        x = table.column("x")
        seen = x.version(0)
        start = time.monotonic()
        with pytest.raises(pintable.Timeout, match=r"nothing within 0\.250 s"):
            x.wait(0, seen, 0.25)
        assert 0.25 <= time.monotonic() - start < 5
        outcomes: list[object] = []

        def wait() -> None:
            try:
                outcomes.append(x.wait(0, seen, 60))
            except ValueError as error:
                outcomes.append(str(error))

        waiter = threading.Thread(target=wait)
        waiter.start()
        table.close()  # put off until the wait is over, if it has begun
        with pytest.raises(ValueError, match="closed"):
            x.version(0)
        pool.open("wait", True).column("x").mark(0, 1)
        waiter.join(60)
        assert outcomes in ([seen + 1], ["the table is closed"])


def test_ctrl_c_ends_a_wait(address: str) -> None:
    code = f"""
        import os, signal, threading
        import pintable
        from pintable import _native as native
        pool = native.Pool({address!r})
        table = pool.create("sigint", [{field("x", native.FLOAT64)!r}], 10)
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            table.column("x").wait(0, table.column("x").version(0))
        except KeyboardInterrupt:
            print("interrupted")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "interrupted\n", done.stderr


# ---- threads, fork, exit -------------------------------------------------------------------------


def test_threads_open_read_and_close_at_will(pool: native.Pool) -> None:
    with made(pool, "threads") as table:
        shared = [pool.open("threads", True) for _ in range(50)]
        failures: list[BaseException] = []

        def work() -> None:
            try:
                for mine in shared:
                    try:
                        column = mine.column("x")
                        column.null_mask(0, N_ROWS, bytearray(N_ROWS))
                        memoryview(column.values())[:8].tobytes()
                        with mine_lease(mine, column):
                            pass
                        mine.close()
                    except ValueError as error:  # another thread was faster
                        assert "closed" in str(error)
            except BaseException as error:
                failures.append(error)

        @contextmanager
        def mine_lease(mine: Any, column: Any) -> Iterator[None]:
            lease = mine.claim([column], 2, native.INOUT, 30)
            yield
            lease.commit()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == [] and table.column("x").version(2) >= 2


def in_child(work: Callable[[], object]) -> None:
    """Run in a fork; fails here if it fails there."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException as error:
            os.write(2, repr(error).encode() + b"\n")
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_forked_child_has_references_of_its_own(pool: native.Pool) -> None:
    with made(pool, "fork") as table:
        view, lease = doubles(table), table.claim([table.column("x")], 0, native.INOUT)
        view[:] = array("d", range(N_ROWS))
        parent = pool.session
        told_r, told_w = os.pipe()
        ready_r, ready_w = os.pipe()

        def child() -> None:
            nonlocal lease, table, view
            os.write(ready_w, b"x")  # nothing of the library was called here yet
            os.read(told_r, 1)  # the parent has dropped the table and filled another
            assert view[1234] == 1234.0 and table.dropped
            assert pool.session != parent
            with pytest.raises(pintable.LeaseLost):
                lease.commit()
            assert table.column("x").count_null(0, N_ROWS) == N_ROWS
            del lease, table, view
            gc.collect()
            assert pool.open("fork", True).column("x").version(0) >= 0

        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                child()
                status = 0
            except BaseException as error:
                os.write(2, repr(error).encode() + b"\n")
            finally:
                os._exit(status)
        os.read(ready_r, 1)
        assert lease.held
        lease.commit()
        del view
        table.close()
        pool.drop("fork")
        other = pool.create("fork", FIELDS, N_ROWS, CHUNK_ROWS)
        doubles(other)[:] = array("d", [9.0] * N_ROWS)
        other.publish()
        os.write(told_w, b"x")
        assert os.waitpid(pid, 0)[1] == 0
        for fd in (told_r, told_w, ready_r, ready_w):
            os.close(fd)


def test_a_child_may_let_everything_die(pool: native.Pool) -> None:
    with made(pool, "dying") as table:
        things = [table, table.column("x"), memoryview(table.column("x").values())]
        things.append(table.claim([table.column("x")], 0, native.INOUT))
        del table

        def child() -> None:
            things.clear()
            gc.collect()
            assert pool.open("dying").column("x").values().nbytes == 8 * N_ROWS

        in_child(child)
        things.pop().commit()  # still the parent's
        things[0].claim([things[1]], 0, native.INOUT, 0).commit()


def test_views_are_good_to_the_last_moment_of_the_process(address: str) -> None:
    code = f"""
        import sys, types
        import pintable
        from pintable import _native as native
        pool = native.Pool({address!r})
        table = pool.create("exit", [{field("x", native.FLOAT64)!r}], 1000)
        class Last:
            def __init__(self, view):
                self.view = view
            def __del__(self, write=sys.stdout.write):
                self.view[999] = 4.0
                write(str(self.view[999]))
        sys.modules["last"] = Last(memoryview(table.column("x").values()).cast("d"))
        cycle = [table, pool]; cycle.append(cycle)
        del pool, table
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "4.0"), done.stderr


# ---- adding columns ------------------------------------------------------------------------------


def test_columns_move_with_their_buffers(pool: native.Pool) -> None:
    with made(pool, "wider", FIELDS[:1]) as table:
        new = pool.create("new", [field("n", native.FLOAT64)], N_ROWS, CHUNK_ROWS)
        view, column = doubles(new, "n"), new.column("n")
        view[7] = 7.0
        table.add_columns(new)
        assert new.closed and table.column_names() == ["x", "n"]
        with pytest.raises(ValueError, match="closed"):
            column.values()
        table.close()
        view[8] = view[7]
        again = pool.open("wider")
        assert doubles(again, "n")[8] == 7.0
        with pytest.raises(ValueError, match="closed"):
            again.add_columns(new)
    with pytest.raises(TypeError):
        again.add_columns(5)


# ---- leaks ---------------------------------------------------------------------------------------


def resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def refuse(call: Callable[[], object]) -> None:
    try:
        call()
    except (pintable.Error, ValueError, TypeError):
        return
    raise AssertionError("nothing was raised")


def leak_cases(pool: native.Pool, table: Any) -> dict[str, Callable[[], object]]:
    x, address = table.column("x"), os.path.dirname(pool.address)
    job = table.job("leaks", [("x", native.INOUT)])
    mask = bytes(N_ROWS)
    return {
        "pool": lambda: native.Pool(address),
        "table": lambda: pool.open("leaks", True),
        "column": lambda: table.column("x"),
        "buffer": lambda: memoryview(x.values()),
        "lease": lambda: table.claim([x], 3, native.UPDATE, 0).commit(),
        "lease let go": lambda: table.claim([x], 3, native.OUT, 0) and None,
        "job": lambda: table.job("leaks"),
        "capsules": lambda: (pool.capsule, table.capsule),
        "facts": lambda: (table.name, table.metadata, table.column_names(), pool.id, x.name),
        "masks": lambda: x.store_null_mask(0, N_ROWS, mask),
        "progress": lambda: (job.progress(), job.failed(), job.failure(0)),
        "text": lambda: native.encode_text(["a", None], ()),
        "copy": lambda: native.copy([(bytearray(4), b"four")]),
        "no table": lambda: refuse(lambda: pool.open("no such")),
        "no column": lambda: refuse(lambda: table.column("no such")),
        "no pool": lambda: refuse(lambda: native.Pool("/nowhere/at/all", start=False)),
        "bad fields": lambda: refuse(lambda: pool.create("a", [FIELDS[0], ("x",)], 1)),
        "refused fields": lambda: refuse(lambda: pool.create("a", [field("x", 99)], 1)),
        "bad claim": lambda: refuse(lambda: table.claim([x, 5], 0, 3)),
        "no lease": lambda: refuse(lambda: table.claim([x], 99, 3)),
        "bad job": lambda: refuse(lambda: table.job("bad", [("x", 1), ("y",)])),
        "no job": lambda: refuse(lambda: table.job("no such")),
        "bad buffer": lambda: refuse(lambda: x.null_mask(0, 5, bytearray(4))),
        "bad rows": lambda: refuse(lambda: x.set_null_rows(array("d", [1]), True)),
        "bad text": lambda: refuse(lambda: native.encode_text(["a", 5], ())),
        "bad copy": lambda: refuse(lambda: native.copy([(bytearray(1), b"")])),
        "timeout": lambda: refuse(lambda: x.wait(0, x.version(0), 0)),
    }


LEAK_CASES = [
    "pool", "table", "column", "buffer", "lease", "lease let go", "job", "capsules", "facts",
    "masks", "progress", "text", "copy", "no table", "no column", "no pool", "bad fields",
    "refused fields", "bad claim", "no lease", "bad job", "no job", "bad buffer", "bad rows",
    "bad text", "bad copy", "timeout",
]  # fmt: skip


@pytest.mark.parametrize("case", LEAK_CASES)
def test_nothing_leaks(pool: native.Pool, case: str) -> None:
    """References of types, None and the objects used, and resident memory, stay as they were."""
    n_turns = int(os.environ.get("PINTABLE_LEAK_TURNS", "3000"))
    with made(pool, "leaks") as table:
        call = leak_cases(pool, table)[case]
        watched = [getattr(native, kind) for kind in ("Pool", "Table", "Column", "Buffer")]
        watched += [native.Lease, native.Job, pool, table, pintable.NotFound, native.statuses]
        for _ in range(300):
            call()
        gc.collect()
        counts = [sys.getrefcount(thing) for thing in watched]
        blocks, resident = sys.getallocatedblocks(), resident_bytes()
        for _ in range(n_turns):
            call()
        gc.collect()
        grown = [sys.getrefcount(w) - n for w, n in zip(watched, counts, strict=True)]
        assert all(abs(n) < 10 for n in grown), grown
        assert sys.getallocatedblocks() - blocks < n_turns / 10
        assert resident_bytes() - resident < max(2 << 20, 16 * n_turns)


def test_unpublished_tables_go_with_their_objects(pool: native.Pool) -> None:
    before = set(pool.tables())
    for _ in range(50):
        pool.create("gone", FIELDS, N_ROWS)
    table = pool.create("gone", FIELDS, N_ROWS)
    table.publish()
    with pytest.raises(pintable.Exists):
        pool.create("gone", FIELDS, N_ROWS).publish()
    pool.create("gone", FIELDS, N_ROWS).publish(replace=True)
    assert table.dropped and set(pool.tables()) - before == {"gone"}
    pool.open("gone", True).freeze()
    frozen = pool.open("gone")
    assert frozen.frozen and not frozen.writable
    with pytest.raises(pintable.Frozen):
        pool.open("gone", True)
    pool.drop("gone")
    assert "gone" not in pool.tables()


def test_a_signal_handler_may_close_the_table_that_is_waited_for(pool: native.Pool) -> None:
    with made(pool, "handler") as table:
        x = table.column("x")

        def handle(number: int, frame: object) -> None:
            table.close()
            raise InterruptedError

        old = signal.signal(signal.SIGALRM, handle)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(InterruptedError):
                x.wait(0, x.version(0), 60)
        finally:
            signal.signal(signal.SIGALRM, old)
        assert table.closed
