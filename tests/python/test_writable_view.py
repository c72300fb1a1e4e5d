# SPDX-License-Identifier: Apache-2.0
"""Arrays that are stored to at any time, and device copies of their columns: the next block has
what was stored, without a mark; and columns without such arrays are not copied twice."""

from __future__ import annotations

import gc
import sys

import pytest
from child import start_python, wait_until
from test_fork import forked

import pintable

np = pytest.importorskip("numpy")

ROWS, CHUNK = 2048, 512
BYTES = 8 * ROWS


@pytest.fixture
def t(make) -> pintable.Table:
    table = make({"x": "int64", "y": "float64?"}, ROWS, chunk_rows=CHUNK)
    table["x"] = np.arange(ROWS)
    table["y"] = np.arange(float(ROWS))
    return table


@pytest.fixture
def x(t: pintable.Table):
    """The device copy of column x; both sides have it."""
    found = t.device("host")["x"]
    assert first_on(found) == 0
    is_on_both(found)
    return found


def first_on(copy) -> int:
    """First value as a block to read finds it."""
    with copy.begin() as c:
        return int(c.numpy()[0])


def is_on_both(copy) -> None:
    """The copies of a block are over some time after it."""
    wait_until(
        lambda: all(copy.places(chunk) == {"host", "device"} for chunk in range(ROWS // CHUNK)),
        "the end of the copies",
    )


def moved_by_a_block(copy) -> int:
    before = copy.moved[0]
    first_on(copy)
    return copy.moved[0] - before


def has_no_views(copy) -> bool:
    """A second block finds all that the first one brought, or is bringing."""
    first_on(copy)
    return moved_by_a_block(copy) == 0


WAYS = {
    "numpy": lambda t: t["x"].numpy(),
    "slice": lambda t: t["x"][0:3],
    "rows": lambda t: t[0:600]["x"].numpy(),
    "derived": lambda t: t["x"].numpy()[::2][:4].reshape(2, 2)[0],
    "memoryview": lambda t: memoryview(t["x"].numpy()),
    "asarray": lambda t: np.asarray(t["x"].numpy(writable=True)),
}


@pytest.mark.parametrize("way", WAYS)
def test_stores_without_a_mark_are_seen_by_the_next_block(t, x, way) -> None:
    view = WAYS[way](t)
    for value in (7, 8):
        view[0] = value
        assert first_on(x) == value
        wait_until(lambda: x.places(0) == {"host"}, "the end of the copies")
    view[0] = 9
    del view
    assert first_on(x) == 9  # the last store, too
    is_on_both(x)
    assert moved_by_a_block(x) == 0


def test_a_writable_frame_counts_until_it_is_gone(t, x) -> None:
    pytest.importorskip("pandas")
    frame = t.to_pandas(writable=True)
    frame.loc[:, "x"].to_numpy()
    t["x"].to_pandas()
    assert moved_by_a_block(x) == BYTES
    assert moved_by_a_block(x) == BYTES
    del frame
    gc.collect()
    assert has_no_views(x)


def test_what_only_reads_does_not_count(t, x) -> None:
    kept = [t["x"].numpy(writable=False), np.asarray(t["x"]), t["x"][[1, 2]], t["x"].to_pylist()]
    if "pandas" in sys.modules:
        kept += [t.to_pandas(), t["x"].to_pandas()]
    with t.reading() as part:
        kept.append(part["x"])
    assert moved_by_a_block(x) == 0
    assert x.places(0) == {"host", "device"}
    assert not kept[0].flags.writeable
    with pytest.raises(ValueError):
        kept[0].flags.writeable = True


def test_leases_jobs_and_stores_count_by_their_chunks_alone(t, x) -> None:
    with t.lease(1, ["x"]) as part:
        array = part["x"]
        array[0] = 5
    assert moved_by_a_block(x) == 8 * CHUNK
    assert has_no_views(x)  # though the array of the lease still lives
    is_on_both(x)
    for part in t.job("once", inout="x"):
        part["x"][0] += 1
    assert moved_by_a_block(x) == BYTES
    assert has_no_views(x)
    is_on_both(x)
    t["x"][CHUNK : CHUNK + 2] = [1, 2]
    assert moved_by_a_block(x) == 8 * CHUNK
    assert has_no_views(x)
    assert array[0] == 1


def test_a_view_of_a_column_that_is_being_added_counts_too(t) -> None:
    t["z"] = np.arange(ROWS)
    z = t.device("host")["z"]
    assert first_on(z) == 0
    assert has_no_views(z)  # what filled it does not count
    view = t["z"].numpy()
    view[0] = 3
    assert first_on(z) == 3


def test_views_of_a_process_that_is_killed_end_with_it(t, x) -> None:
    script = """
        import sys
        import pintable
        view = pintable.open(sys.argv[1], "r+")["x"].numpy()
        for value in (11, 12):
            view[0] = value
            print(value, flush=True)
            sys.stdin.readline()
        sys.stdin.readline()
    """
    with start_python(script, t.name) as process:
        for value in ("11", "12"):
            assert process.stdout.readline().strip() == value
            assert first_on(x) == int(value)
            process.stdin.write("go\n")
            process.stdin.flush()
        process.kill()
    wait_until(lambda: has_no_views(x), "the end of a killed process's views")


@pytest.mark.skipif(not hasattr(sys, "getrefcount"), reason="CPython")
def test_views_end_with_the_interpreter(t, x) -> None:
    script = """
        import sys
        import pintable
        view = pintable.open(sys.argv[1], "r+")["x"].numpy()
        view[0] = 13
    """
    with start_python(script, t.name) as process:
        assert process.wait(60) == 0
    assert first_on(x) == 13
    wait_until(lambda: has_no_views(x), "the end of a process's views")


def test_what_a_forked_child_inherits_stays_registered(t, x) -> None:
    views = [t["x"].numpy()]

    def body() -> None:
        views[0][0] = 21

    assert forked(body) == 0
    assert first_on(x) == 21
    views.clear()  # a child might still store: nothing says that there is none
    assert moved_by_a_block(x) == BYTES


def test_stores_between_blocks_that_write_are_kept(t, x):
    array = t["x"].numpy()
    for i in range(1, 6):
        with x.begin(access="rw") as c:
            rows = c.numpy()
            assert rows[0] == (0 if i == 1 else 100 * (i - 1))
            rows[0] = i
        assert array[0] == i  # the end of the block has brought it
        array[0] = 100 * i
    del array
