# SPDX-License-Identifier: Apache-2.0
"""Jobs: every chunk once, leaving the loop, failures, handles, other processes and threads."""

from __future__ import annotations

import multiprocessing
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import pintable
from pintable import Table

np = pytest.importorskip("numpy")

CHUNK = 512
ROWS = 8 * CHUNK - 100


@pytest.fixture
def table() -> Iterator[Table]:
    table = Table.create(
        {"x": "int64", "y": "float64?", "c": "category?", "s": "text[100]"}, ROWS, chunk_rows=CHUNK
    )
    table["x"] = np.arange(ROWS)
    yield table
    if not table.closed and not table.dropped:
        table.drop()
    table.close()


def test_every_chunk_comes_once(table: Table) -> None:
    seen: list[range] = []
    for part in table.job("j", columns="x", out="y"):
        seen.append(part.rows)
        part["y"] = part["x"] * 2
    assert [row for rows in sorted(seen, key=lambda rows: rows.start) for row in rows] == list(
        range(ROWS)
    )
    assert seen[-1].stop == ROWS or max(rows.stop for rows in seen) == ROWS
    assert (table["y"].numpy() == np.arange(ROWS) * 2).all()
    job = table.job("j", columns="x", out="y")
    assert job.progress() == (8, 8, 0, 0, 0)
    assert job.progress().n_done == 8
    assert list(job) == []
    assert job.next() is None
    job.wait(0)
    job.drop()
    with pytest.raises(pintable.NotFound):
        job.drop()


def test_part_is_done_when_the_next_is_asked_for(table: Table) -> None:
    job = table.job("j", inout="x")
    loop = iter(job)
    next(loop)
    assert job.progress()[1:4] == (0, 0, 1)
    next(loop)
    assert job.progress()[1:4] == (1, 0, 1)
    loop.close()
    assert job.progress()[1:4] == (1, 0, 0)


def test_break_hands_the_chunk_back(table: Table) -> None:
    job = table.job("j", inout="x")
    for part in job:
        part["x"][:] = -1
        break
    assert job.progress().n_done == 0
    assert job.progress().n_held == 0
    assert (table["x"].numpy() == np.arange(ROWS)).all()
    for part in job:
        part["x"][:] += 1
    assert (table["x"].numpy() == np.arange(ROWS) + 1).all()


def test_exception_hands_the_chunk_back(table: Table) -> None:
    job = table.job("j", inout="x")
    with pytest.raises(ZeroDivisionError):
        for part in job:
            part["x"][:] = -1
            if part.first >= 2 * CHUNK:
                raise ZeroDivisionError
    counts = job.progress()
    assert (counts.n_done, counts.n_held, counts.n_failed) == (2, 0, 0)
    x = table["x"].numpy()
    assert (x[: 2 * CHUNK] == -1).all()
    assert (x[2 * CHUNK :] == np.arange(2 * CHUNK, ROWS)).all()


def test_done_before_break_counts(table: Table) -> None:
    job = table.job("j", inout="x")
    for part in job:
        part["x"][:] = -1
        part.done()
        break
    assert job.progress().n_done == 1
    assert (table["x"].numpy()[:CHUNK] == -1).all()


def test_part_ends(table: Table) -> None:
    job = table.job("j", columns="y", inout="x")
    part = job.next()
    assert part is not None
    array = part["x"]
    with pytest.raises(pintable.PermissionDenied):
        part["y"] = 1.0
    with pytest.raises(pintable.NotFound):
        part["c"]
    part.done()
    with pytest.raises(pintable.WrongState):
        part["x"]
    with pytest.raises(pintable.WrongState):
        part.done()
    with pytest.raises(pintable.WrongState):
        part.fail("again")
    with pytest.raises(pintable.WrongState):
        part.reject("again")
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def test_third_failure_sets_aside(table: Table) -> None:
    job = table.job("j", inout="x")
    n_taken = 0
    while (part := job.next()) is not None:
        if part.first == CHUNK:
            n_taken += 1
            part.fail(f"try {n_taken}")
        else:
            part.done()
    assert n_taken == 3
    assert job.failed() == [(range(CHUNK, 2 * CHUNK), "try 3")]
    assert job.progress()[:4] == (8, 7, 1, 0)


def test_reject_sets_aside_at_once(table: Table) -> None:
    job = table.job("j", inout="x")
    while (part := job.next()) is not None:
        part["x"][:] = -1
        if part.chunk == 7:
            part.reject("no good")
        else:
            part.done()
    assert job.failed() == [(range(7 * CHUNK, ROWS), "no good")]
    x = table["x"].numpy()
    assert (x[: 7 * CHUNK] == -1).all()
    assert (x[7 * CHUNK :] == np.arange(7 * CHUNK, ROWS)).all()


def test_only_own_chunks_left(table: Table) -> None:
    job = table.job("j", inout="x")
    parts = [job.next() for _ in range(8)]
    with pytest.raises(pintable.Again):
        job.next(0)
    assert list(job) == []
    for part in parts:
        assert part is not None
        part.done()
    assert job.next(0) is None


def test_stores_text_and_nulls(table: Table) -> None:
    for part in table.job("j", columns="x", out=["y", "c"]):
        part["c"] = [f"k{value % 3}" if value % 5 else None for value in part["x"].tolist()]
        part["y"] = 0.5
        part.set_null("y", part["x"] % 2 == 1)
    assert table["c"].to_pylist()[:6] == [None, "k1", "k2", "k0", "k1", None]
    assert table["y"].to_pylist()[:3] == [0.5, None, 0.5]


def test_wrong_arguments(table: Table) -> None:
    with pytest.raises(pintable.NotFound):
        table.job("none")
    with pytest.raises(pintable.NotFound):
        table.job("j", columns="nope")
    with pytest.raises(pintable.TypeMismatch):
        table.job("j", out="s")
    with pytest.raises(pintable.Invalid):
        table.job("j", columns="x", out="x")
    with pytest.raises(pintable.Invalid):
        table.job("a/b", columns="x")
    with pytest.raises(pintable.TypeMismatch):
        table.job("j", columns=[1])
    table.job("j", inout="x")
    with pytest.raises(pintable.Exists):
        table.job("j", out="x")
    reader = Table.open(table.name, "r")
    with pytest.raises(pintable.PermissionDenied):
        reader.job("k", inout="x")


def test_frozen(table: Table) -> None:
    table.freeze()
    with pytest.raises(pintable.Frozen):
        table.job("j", inout="x")


def test_joined_without_columns_only_looks(table: Table) -> None:
    table.job("j", inout="x")
    job = table.job("j")
    assert job.progress().n_chunks == 8
    with pytest.raises(pintable.WrongState):
        job.next()
    with pytest.raises(pintable.WrongState):
        list(job)
    with pytest.raises(pintable.Timeout):
        job.wait(0)


def test_closed(table: Table) -> None:
    with table.job("j", inout="x") as job:
        assert job.progress().n_chunks == 8
    job.close()
    with pytest.raises(ValueError):
        job.progress()
    with pytest.raises(ValueError):
        job.next()


def test_pickles_as_a_handle(table: Table) -> None:
    name = "n" * 32
    table.rename("t" * 32)
    job = table.job(name, columns=["x", "c"], out="y")
    for protocol in (4, 5):
        assert len(pickle.dumps(job, protocol)) < 200
    twin = pickle.loads(pickle.dumps(job))
    assert twin.name == name
    part = twin.next()
    assert part.columns == ["x", "y", "c"]
    part["y"] = 1.0
    with pytest.raises(pintable.PermissionDenied):
        part["x"] = 1
    part.done()
    assert job.progress().n_done == 1
    data = pickle.dumps(job)
    job.drop()
    with pytest.raises(pintable.NotFound):
        pickle.loads(data)


def _increment(job: pintable.Job) -> int:
    n_rows = 0
    for part in job:
        part["x"][:] += 1
        n_rows += len(part)
    return n_rows


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_shared_by_processes(table: Table, method: str) -> None:
    job = table.job("j", inout="x")
    with multiprocessing.get_context(method).Pool(3) as pool:
        assert sum(pool.map(_increment, [job] * 3)) == ROWS
    assert (table["x"].numpy() == np.arange(ROWS) + 1).all()


def test_shared_by_threads(table: Table) -> None:
    job = table.job("j", inout="x")
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(_increment(job))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == ROWS
    assert (table["x"].numpy() == np.arange(ROWS) + 1).all()


def test_many_loops_leave_nothing(table: Table) -> None:
    for i in range(200):
        job = table.job(f"j{i}", inout="x")
        for _ in job:
            break
        job.drop()
    with table.lease(0, "x") as part:  # nobody holds it
        assert part["x"][0] == 0


def test_forgotten_part_is_handed_back_at_once(table: Table) -> None:
    job = table.job("j", inout="x")
    part = job.next()
    assert part is not None
    part["x"][:] = -1
    assert job.progress().n_held == 1
    del part
    assert job.progress().n_held == 0
    assert (table["x"].numpy() == np.arange(ROWS)).all()


def test_repr(table: Table) -> None:
    job: Any = table.job("j", inout="x")
    assert "'j'" in repr(job)
    assert job.table is table
