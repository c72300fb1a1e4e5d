# SPDX-License-Identifier: Apache-2.0
"""Shared memory lives as long as anything looks at it; no order of endings crashes."""

from __future__ import annotations

import gc
import os
import pickle
import textwrap
from collections.abc import Callable
from typing import Any

import pintable
import pytest
from child import (
    DEADLINE_S,
    ends_well,
    private_service,
    run_python,
    start_python,
    stat_of,
    stop_service_at,
    tables_of_child_go,
)

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")

N_ROWS = 5_000

# Every child script starts with it: a table of two columns whose values are known.
PRELUDE = f"""
import atexit, gc, os, signal, sys, threading
import numpy as np
import pandas as pd
import pintable

def make(name=None, keep=False):
    frame = pd.DataFrame({{"x": np.arange({N_ROWS}.0), "s": ["é", None] * ({N_ROWS} // 2)}})
    return pintable.from_pandas(frame, name, keep=keep)

def right(values):
    return len(values) == {N_ROWS} and values[-1] == {N_ROWS} - 1
"""


def script(code: str) -> str:
    return PRELUDE + textwrap.dedent(code)


def make_frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "x": np.arange(float(N_ROWS)),
            "k": pd.Categorical(["a", "b"] * (N_ROWS // 2)),
            "t": pd.date_range("2020-01-01", periods=N_ROWS, freq="s"),
            "i": pd.array([1, None] * (N_ROWS // 2), dtype="Int64"),
        }
    )


# Something derived from a table, and whether it still reads as it must.
VIEWS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], bool]]] = {
    "numpy": (lambda t: t["x"].numpy(), lambda v: v[-1] == N_ROWS - 1),
    "slice of numpy": (lambda t: t["x"].numpy()[::2][5:], lambda v: v[0] == 10),
    "slice of table": (lambda t: t[10:20]["x"].numpy(), lambda v: v.tolist() == [*range(10, 20)]),
    "reshaped": (lambda t: t["x"].numpy().reshape(-1, 2).T, lambda v: v[1, 0] == 1),
    "memoryview": (lambda t: memoryview(t["x"].numpy()), lambda v: v[7] == 7),
    "series": (lambda t: t["x"].to_pandas(), lambda v: v.sum() == N_ROWS * (N_ROWS - 1) / 2),
    "frame": (lambda t: t.to_pandas(), lambda v: v["x"].iat[-1] == N_ROWS - 1),
    "row of a frame": (lambda t: t.to_pandas()["x"].iloc[100:], lambda v: v.iat[0] == 100),
    "writable frame": (lambda t: t.to_pandas(writable=True), lambda v: v["x"].iat[9] == 9),
    "category": (lambda t: t.to_pandas()["k"], lambda v: list(v[:3]) == ["a", "b", "a"]),
    "timestamps": (
        lambda t: t.to_pandas()["t"],
        lambda v: v.iat[60] == pd.Timestamp("2020-01-01 00:01"),
    ),
    "masked": (lambda t: t.to_pandas()["i"], lambda v: v.sum() == N_ROWS // 2),
}


@pytest.mark.parametrize("kind", VIEWS)
def test_view_outlives_table_handle_and_drop(kind: str) -> None:
    derive, is_right = VIEWS[kind]
    table = pintable.from_pandas(make_frame())
    view = derive(table)
    table.drop()
    table.close()
    del table
    gc.collect()
    # Memory that came free would be used again by tables of the same size.
    for _ in range(5):
        other = pintable.from_pandas(make_frame().assign(x=-1.0))
        other.drop()
    assert is_right(view)


def test_arrow_text_outlives_its_table() -> None:
    pytest.importorskip("pyarrow")
    table = pintable.from_pandas(pd.DataFrame({"s": ["Zürich", None, "x" * 100] * 1000}))
    text = table.to_pandas()["s"]
    table.drop()
    table.close()
    del table
    gc.collect()
    other = pintable.from_pandas(pd.DataFrame({"s": ["-" * 100] * 3000}))
    other.drop()
    assert text.iloc[-3] == "Zürich"
    assert pd.isna(text.iloc[-2])
    assert text.iloc[-1] == "x" * 100


def test_views_write_through_after_close() -> None:
    table = pintable.create({"x": "int64"}, 1000, "through")
    view = table["x"].numpy()
    other = pintable.open("through")
    table.close()
    view[:] = 5
    assert (other["x"].numpy() == 5).all()
    other.drop()


def test_closed_table_raises_and_says_so() -> None:
    table = pintable.from_pandas(make_frame())
    column, piece = table["x"], table[1:5]
    table.drop()
    table.close()
    for use in (
        lambda: table["x"],
        lambda: table.to_pandas(),
        lambda: column.numpy(),
        lambda: piece["x"].numpy(),
        lambda: table.lease(0, ["x"]).__enter__(),
        lambda: table.freeze(),
    ):
        with pytest.raises(ValueError, match="closed"):
            use()
    table.close()  # again is allowed


def test_open_in_another_order_than_closed() -> None:
    table = pintable.from_pandas(make_frame(), "orders")
    handles = [pintable.open("orders") for _ in range(3)]
    views = [handle["x"].numpy() for handle in handles]
    table.drop()
    table.close()
    while handles:
        handles.pop(len(handles) // 2).close()
        gc.collect()
        assert all(view[-1] == N_ROWS - 1 for view in views)


# ---- the service dies ----------------------------------------------------------------------------


def test_views_survive_the_death_of_service_and_keeper() -> None:
    code = """
    table = make("orphan")
    view, frame = table["x"].numpy(), table.to_pandas()
    print("ready", flush=True)
    sys.stdin.readline()
    assert right(view) and right(frame["x"].to_numpy())
    with table.lease(0, ["x"], inout=False) as part:  # needs no service
        part["x"][:] = 1
    assert view[0] == table["x"].numpy()[0] == 1
    try:
        make("another")
    except pintable.ServiceGone as error:
        print(type(error).__name__, flush=True)
    assert right(view)
    table.close()
    assert right(view) and view[0] == 1
    """
    with private_service() as service:
        # No new service may be started in its place.
        env = {**service.env, "PINTABLED": "/nonexistent"}
        with start_python(script(code), env=env) as process:
            assert process.stdout.readline() == "ready\n"
            service.kill()
            output, errors = process.communicate("\n", timeout=DEADLINE_S)
    assert (process.returncode, errors) == (0, "")
    assert output.strip() in ("ServiceGone", "NoService")


def test_a_new_service_is_another_pool() -> None:
    code = """
    table = make("same name")
    view = table["x"].numpy()
    print("ready", flush=True)
    sys.stdin.readline()
    other = make("same name")  # starts a service where none is
    other["x"].numpy()[:] = -1
    assert right(view) and view[0] == 0
    assert (pintable.open("same name")["x"].numpy() == -1).all()
    other.drop()
    table.close()
    assert right(view)
    """
    with private_service() as service:
        with start_python(script(code), env=service.env) as process:
            assert process.stdout.readline() == "ready\n"
            service.kill()
            output, errors = process.communicate("\n", timeout=DEADLINE_S)
        stop_service_at(service.folder)
    assert (process.returncode, output, errors) == (0, "", "")


def test_service_restart_is_not_noticed() -> None:
    code = """
    table = make("kept through")
    view = table["x"].numpy()
    print("ready", flush=True)
    sys.stdin.readline()
    make("made after").drop()
    assert right(view) and right(pintable.open("kept through")["x"].numpy())
    table.drop()
    """
    with private_service() as service:
        with start_python(script(code), env=service.env) as process:
            assert process.stdout.readline() == "ready\n"
            os.kill(stat_of(service.folder)["pid"], 9)
            output, errors = process.communicate("\n", timeout=DEADLINE_S)
        assert (process.returncode, output, errors) == (0, "", "")


# ---- the interpreter ends ------------------------------------------------------------------------

ENDINGS = {
    "module globals": """
        table = make()
        view, frame = table["x"].numpy(), table.to_pandas()
        """,
    "module globals of others": """
        sys.view = make()["x"].numpy()
        os.frame = make().to_pandas(writable=True)
        """,
    "dropped and closed": """
        table = make()
        view, frame = table["x"].numpy(), table.to_pandas()
        table.drop()
        table.close()
        """,
    "atexit before import": """
        view = make()["x"].numpy()
        atexit.register(lambda: os._exit(0 if right(view) else 9))
        """,
    "atexit uses everything": """
        table = make()
        view, frame = table["x"].numpy(), table.to_pandas()
        def last():
            assert right(view) and right(frame["x"].to_numpy())
            assert right(table["x"].numpy())
            table.drop()
            table.close()
            assert right(view)
        atexit.register(last)
        """,
    "cycles whose finalisers read": """
        class Holder:
            def __init__(self):
                table = make()
                self.me, self.table = self, table
                self.view, self.frame = table["x"].numpy(), table.to_pandas()
            def __del__(self):
                assert self.view[-1] == len(self.view) - 1
                self.table.close()
        gc.disable()
        holders = [Holder() for _ in range(5)]
        """,
    "daemon thread reads on": """
        view, go = make()["x"].numpy(), threading.Event()
        def read():
            while True:
                view.sum()
                go.set()
        threading.Thread(target=read, daemon=True).start()
        go.wait()
        """,
    "daemon thread waits in a call": """
        table, go = make(), threading.Event()
        def wait():
            go.set()
            table.wait("x")
        threading.Thread(target=wait, daemon=True).start()
        go.wait()
        """,
    "daemon thread opens and drops": """
        go = threading.Event()
        def churn():
            while True:
                make().drop()
                go.set()
        threading.Thread(target=churn, daemon=True).start()
        go.wait()
        """,
    "in a lease": """
        table = make()
        lease = table.lease(0, ["x"])
        part = lease.__enter__()
        part["x"][:] = -1
        """,
    "in a job": """
        table = make()
        parts = iter(table.job("j", inout=["x"]))
        part = next(parts)
        """,
    "sys.exit in a with": """
        table = make()
        with table.lease(0, ["x"]):
            sys.exit(0)
        """,
    "os._exit": """
        view = make()["x"].numpy()
        sys.stdout.flush()
        os._exit(0)
        """,
    "exception with a view in its traceback": """
        view = make()["x"].numpy()
        try:
            raise ValueError(view)
        except ValueError as error:
            kept = error
        """,
    "thread that is not a daemon": """
        view = make()["x"].numpy()
        main = threading.main_thread()
        def read():
            main.join()
            assert right(view)
        threading.Thread(target=read).start()
        """,
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_interpreter_ends_with_views_alive(ending: str) -> None:
    assert ends_well(script(ENDINGS[ending])) == ""
    tables_of_child_go()


@pytest.mark.parametrize("n_threads", [8])
def test_views_of_many_threads_live_and_die_at_random(n_threads: int) -> None:
    code = f"""
    import random
    failed = []
    def work(seed):
        mine = random.Random(seed)
        kept = []
        try:
            for _ in range(100):
                table = make()
                kept.append((table["x"].numpy(), table.to_pandas()))
                table.drop()
                if mine.random() < 0.5:
                    table.close()
                del table
                while len(kept) > mine.randrange(1, 6):
                    kept.pop(mine.randrange(len(kept)))
                assert all(right(v) and right(f["x"].to_numpy()) for v, f in kept)
        except BaseException as error:
            failed.append(error)
    threads = [threading.Thread(target=work, args=(i,)) for i in range({n_threads})]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not failed, failed
    """
    assert ends_well(script(code)) == ""


def test_closing_in_one_thread_while_another_waits() -> None:
    code = """
    table, go = make(), threading.Event()
    ended = []
    def wait():
        go.set()
        try:
            table.wait("x", timeout=30)
        except (ValueError, pintable.Error) as error:
            ended.append(error)
        else:
            ended.append(None)
    thread = threading.Thread(target=wait)
    other = pintable.open(table.name)
    thread.start()
    go.wait()
    table.close()
    other["x"].mark()  # wakes the waiter where the close did not
    thread.join(20)
    assert not thread.is_alive() and len(ended) == 1
    other.drop()
    """
    assert ends_well(script(code)) == ""


def test_lease_held_at_exit_is_rolled_back() -> None:
    table = pintable.from_pandas(pd.DataFrame({"x": np.arange(1000.0)}), "rolled")
    code = """
    lease = pintable.open("rolled").lease(0, ["x"])
    lease.__enter__()["x"][:] = -1
    """
    ends_well(script(code))
    with table.lease(0, ["x"], timeout=30) as part:
        assert (part["x"] == np.arange(float(part.n_rows))).all()
    table.drop()


# ---- nothing piles up ----------------------------------------------------------------------------


def n_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_descriptors_after_many_opens() -> None:
    table = pintable.from_pandas(make_frame(), "many opens")
    handle = pickle.dumps(table)
    for turn in range(201):
        opened = pintable.open("many opens")
        opened["x"].numpy()
        opened.to_pandas()
        opened.close()
        pickle.loads(handle).to_pandas()
        if turn == 0:
            before = n_fds()
    gc.collect()
    assert n_fds() == before
    table.drop()


def test_pool_memory_after_many_tables() -> None:
    frame = make_frame()

    def turn() -> None:
        table = pintable.from_pandas(frame)
        view = table["x"].numpy()
        table.drop()
        table.close()
        assert view[-1] == N_ROWS - 1

    turn()
    gc.collect()
    before, fds = stat_of(), n_fds()
    for _ in range(100):
        turn()
    gc.collect()
    # What a drop leaves behind is swept by the next request or a timer.
    after = _settled(before["used_bytes"])
    assert after["used_bytes"] == before["used_bytes"]
    assert after["tables"] == before["tables"]
    assert after["committed_bytes"] <= before["committed_bytes"] + (2 << 20)
    assert n_fds() == fds


def test_own_memory_after_many_tables() -> None:
    code = """
    def turn():
        table = make()
        table.to_pandas(), table["x"].numpy().sum()
        table.drop()
        table.close()
    def resident():
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    for _ in range(100):
        turn()
    before = resident()
    for _ in range(1000):
        turn()
    assert resident() < before + (4 << 20), (before, resident())
    """
    ends_well(script(code))


def _settled(used_bytes: int) -> dict:
    """The service's figures once it has freed what was dropped, or after a while."""
    for _ in range(100):
        stat = stat_of()
        if stat["used_bytes"] <= used_bytes:
            break
    return stat


def test_child_helper_sees_a_crash() -> None:
    ended = run_python("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert ended.status == -11
