# SPDX-License-Identifier: Apache-2.0
"""Leases, optimistic reading, and the parts they give."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import pintable
import pytest
from child import DEADLINE_S, start_python

np = pytest.importorskip("numpy")


@pytest.fixture
def t(make):
    t = make({"x": "int64", "y": "float64?", "c": "category?", "s": "text[1]", "d": "date?"}, 1200,
             chunk_rows=512)  # fmt: skip
    t["x"] = np.arange(1200)
    return t


# ---- leases ------------------------------------------------------------------------------------


def test_a_lease_gives_the_rows_of_its_chunk(t):
    with t.lease(2, ["x", "y"]) as part:
        assert (part.first, part.n_rows, len(part), part.chunk) == (1024, 176, 176, 2)
        assert part.rows == range(1024, 1200) and part.table is t
        assert part.columns == t.columns and "x" in part and "z" not in part
        assert part["x"].tolist() == list(range(1024, 1200))
        part["x"][:] = 0
        part["x"] += 5
        part["y"] = [1.0, None] * 88
    assert t["x"].numpy()[1024:].tolist() == [5] * 176 and t["x"][1023] == 1023
    assert t["y"][1024] == 1.0 and t["y"][1025] is None


def test_one_name_and_storing_of_all_kinds(t):
    with t.lease(0, "c") as part:
        part["c"] = ["a", None] * 256
        assert part["c"][:2].tolist() == [0, -1]
        part["c"] = "b"
        assert part.to_pylist("c") == ["b"] * 512
        part.set_null("c", [0, -1])
        assert part.null_mask("c").sum() == 2
    with t.lease(0, "d") as part:
        import datetime

        before = part["d"]
        assert np.isnat(before).all() and not before.flags.writeable
        part["d"] = datetime.date(2020, 1, 1)
        assert (part["d"] == np.datetime64("2020-01-01")).all()
    assert t["c"][1] == "b" and t["c"][0] is None and t["c"][512] is None


def test_only_leased_columns_can_be_written(t):
    with t.lease(0, "x") as part:
        assert not part["y"].flags.writeable
        with pytest.raises(pintable.PermissionDenied, match="'y'.*\\['x'\\]"):
            part["y"] = 1.0
        with pytest.raises(pintable.PermissionDenied):
            part.set_null("y", 0)
        with pytest.raises(pintable.NotFound):
            part["z"]


def test_wrong_values_name_rows_of_the_table(t):
    with pytest.raises(pintable.TypeMismatch, match="row 515"), t.lease(1, "x") as part:
        part["x"][:] = -1
        part["x"] = [0, 0, 0, "three"] + [0] * 508
    assert t["x"][512] == 512  # and the old bytes are back
    with t.lease(1, "x") as part, pytest.raises(pintable.Invalid, match="for 512 rows"):
        part["x"] = [1, 2]


def test_an_exception_gives_the_old_bytes_back(t):
    seen = t["x"].version(0)
    with pytest.raises(ZeroDivisionError), t.lease(0, ["x", "y", "c"]) as part:
        part["x"][:] = -1
        part["y"] = 1.0
        part["c"] = "new"
        1 / 0
    assert t["x"].numpy()[:512].tolist() == list(range(512))
    assert t["y"].null_count == 1200 and t["c"].null_count == 1200
    assert t["x"].version(0) > seen
    with t.lease(0, "x"):
        pass


def test_without_undo_an_exception_leaves_the_chunk_torn(t):
    with pytest.raises(ZeroDivisionError), t.lease(0, "x", inout=False) as part:
        part["x"][0] = -1
        1 / 0
    with pytest.raises(pintable.Torn), t.lease(0, "x"):
        pass
    with pytest.raises(pintable.Torn), t.reading((0, 10), "x"):
        pass
    with pytest.raises(pintable.Torn):
        t["x"] = 0
    t["x"].recover(0)
    with t.lease(0, "x") as part:
        assert part["x"][0] == -1
    with pytest.raises(ZeroDivisionError), t.lease(1, "x", inout=False):
        1 / 0
    with t.lease(1, "x", inout=False) as part:  # a full rewrite clears it
        part["x"] = 3
    with t.reading((512, 520), "x") as part:
        assert part["x"][0] == 3


def in_thread(call: Callable[[], object]) -> type[BaseException] | None:
    """The type of what a call raises in another thread."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(DEADLINE_S)
    return type(raised[0]) if raised else None


def test_a_held_chunk_is_busy(t):
    with t.lease(0, "x"):
        for timeout, error in ((0, pintable.Busy), (0.01, pintable.Timeout)):
            assert in_thread(lambda: t.lease(0, "x", timeout=timeout).__enter__()) is error  # noqa: B023
        with t.lease(1, "x"), t.lease(0, "y"):
            pass
        with pytest.raises(pintable.Busy):
            t.freeze()


def test_a_thread_does_not_wait_for_itself(t):
    def leased() -> None:
        with t.lease(0, ["y", "x"]):
            pass

    def stored() -> None:
        t["x"] = 1

    with t.lease(0, "x") as part:
        for call in (leased, stored):
            with pytest.raises(pintable.Busy, match="this thread holds chunk 0 of column 'x'"):
                call()
        t["y"] = 1
        part["x"] = 2
    stored()
    leased()
    for part in t.job("own", inout="x"):
        with pytest.raises(pintable.Busy, match="this thread holds"):
            stored()
        part["x"] = 3
    stored()
    with t.lease(0, "x") as part:
        with pytest.raises(pintable.Busy, match="this thread holds"):
            t.map(abs, inout="x", workers=1, progress=False)


def test_writeback_and_map_do_not_wait_for_their_own_lease(make):
    pd = pytest.importorskip("pandas")
    t = make.keep(pintable.from_pandas(pd.DataFrame({"x": [1.0, 2.0]})))
    with t.lease(0, "x"):
        df = t.to_pandas()
        df["x"] = 3.0
        with pytest.raises(pintable.Busy, match="this thread holds"):
            t.writeback(df)
    assert t.writeback(df) == {"x": 2}


def test_a_waiting_lease_gets_the_chunk(t):
    taken = threading.Event()
    waiter: list[int] = []

    def wait() -> None:
        taken.wait(DEADLINE_S)
        with t.lease(0, "x", timeout=DEADLINE_S) as part:
            waiter.append(int(part["x"][0]))

    thread = threading.Thread(target=wait)
    thread.start()
    with t.lease(0, "x") as part:
        taken.set()
        part["x"][0] = 42
    thread.join(DEADLINE_S)
    assert waiter == [42]


def test_after_the_end(t):
    with t.lease(0, "x") as part:
        view = part["x"]
    for use in (lambda: part["x"], lambda: part.__setitem__("x", 1), lambda: part.null_mask("y"),
                lambda: part.set_null("x", 0), lambda: part.to_pylist("x"),
                lambda: part.to_pandas()):  # fmt: skip
        with pytest.raises(pintable.WrongState, match="not held any more"):
            use()
    assert not view.flags.writeable and view[3] == 3
    assert "ended" in repr(part)
    for end in (part.done, part.fail):
        with pytest.raises(pintable.WrongState):
            end()


def test_a_lease_is_entered_once(t):
    lease = t.lease(0, "x")
    with lease as part:
        with pytest.raises(pintable.WrongState, match="no chunk of a job"):
            part.done()
    with pytest.raises(pintable.WrongState, match="once"), lease:
        pass


def test_bad_leases(t):
    for chunk in (-1, 3, 10**30):
        with pytest.raises((pintable.OutOfRange, OverflowError)):
            t.lease(chunk, "x")
    with pytest.raises(TypeError):
        t.lease("0", "x")
    with pytest.raises(pintable.TypeMismatch), t.lease(0, "s"):
        pass
    with pytest.raises(pintable.NotFound), t.lease(0, ["x", "z"]):
        pass
    with pytest.raises(pintable.TypeMismatch), t.lease(0, []):
        pass
    with pytest.raises(TypeError):
        t.lease(0, [3])
    with pytest.raises(ValueError), t.lease(0, ["x", "x"]):
        pass
    with t.lease(0, t.columns[:3], timeout=0):
        pass  # nothing of these was left held


def test_a_forgotten_lease_is_given_back(t):
    lease = t.lease(0, "x")
    lease.__enter__()["x"][0] = -5
    del lease
    with t.lease(0, "x", timeout=0) as part:
        assert part["x"][0] == 0


def test_death_in_a_lease_gives_the_old_bytes_back(t):
    code = f"""
    import pintable
    t = pintable.open({t.name!r})
    with t.lease(0, "x") as part:
        part["x"][:] = -1
        print("held", flush=True)
        input()
    """
    with start_python(code) as child:
        assert child.stdout.readline() == "held\n"
        with pytest.raises(pintable.Busy), t.lease(0, "x", timeout=0):
            pass
        os.kill(child.pid, signal.SIGKILL)
        with t.lease(0, "x", timeout=DEADLINE_S) as part:
            assert part["x"].tolist() == list(range(512))


def test_parts_as_frames(t):
    pytest.importorskip("pandas")
    with t.lease(1, "x") as part:
        df = part.to_pandas(["x"])
        assert df.index.tolist() == list(range(512, 1024)) == df["x"].tolist()


# ---- reading -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rows, expected",
    [
        (None, range(1200)),
        (slice(500, 600), range(500, 600)),
        ((500, 600), range(500, 600)),
        (range(500, 600), range(500, 600)),
        (slice(-10, None), range(1190, 1200)),
    ],
)
def test_reading(t, rows, expected):
    with t.reading(rows, "x") as part:
        assert part["x"].tolist() == list(expected) and part.rows == expected
        assert not part["x"].flags.writeable
        with pytest.raises(pintable.NotFound, match="not one of this part"):
            part["y"]
        with pytest.raises(pintable.PermissionDenied):
            part["x"] = 1
    with pytest.raises(pintable.WrongState):
        part["x"]


def test_reading_a_slice_is_relative(t):
    with t[100:200].reading((5, 10)) as part:
        assert part["x"].tolist() == [105, 106, 107, 108, 109] and part.columns == t.columns


def test_reading_notices_changes(t):
    with pytest.raises(pintable.Changed), t.reading((0, 10), "x"):
        t["x"][3] = 5
    with pytest.raises(pintable.Changed), t.reading((0, 10), "x"), t.lease(0, "x"):
        pass
    with t.reading((0, 10), "x"):
        t["x"][600] = 5  # another chunk
        t["y"][0] = 1.0  # another column
    with pytest.raises(pintable.Changed), t.reading(None):
        t["c"][1199] = "last"


def test_an_exception_of_the_body_wins(t):
    with pytest.raises(ZeroDivisionError), t.reading((0, 10), "x"):
        t["x"][3] = 5
        1 / 0


def test_reading_what_is_written_is_busy(t):
    with t.lease(0, "x"):
        with pytest.raises(pintable.Busy), t.reading((0, 600), "x"):
            pass
        with t.reading((512, 600), "x"), t.reading((0, 10), "y"):
            pass


def test_bad_rows(t):
    for rows in (slice(0, 10, 2), range(0, 10, 2), 5, "a", [1, 2], (1, 2, 3)):
        with pytest.raises((pintable.Invalid, TypeError)):
            t.reading(rows)
    for rows in ((0, 1201), (-1, 5), (5, 4), range(0, 1201)):
        with pytest.raises(pintable.OutOfRange):
            t.reading(rows)
    with pytest.raises(pintable.NotFound), t.reading(None, ["x", "nothere"]):
        pass
    with t.reading((5, 5)) as part:
        assert len(part) == 0 and part["x"].tolist() == []


def test_writers_and_a_reader(make):
    """Pairs that are always equal when a reader says so."""
    t = make({"a": "int64", "b": "int64"}, 512)
    stop = threading.Event()

    def write() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            with t.lease(0, ["a", "b"]) as part:
                part["a"][:] = n
                part["b"][:] = n

    thread = threading.Thread(target=write)
    thread.start()
    clean = changed = 0
    try:
        while clean < 20:
            try:
                with t.reading() as part:
                    a, b = part["a"].copy(), part["b"].copy()
            except (pintable.Busy, pintable.Changed):
                changed += 1
                continue
            clean += 1
            assert (a == b).all() and (a == a[0]).all()
    finally:
        stop.set()
        thread.join()
