# SPDX-License-Identifier: Apache-2.0
"""fork() with tables, views and leases open: the child goes on as a session of its own."""

from __future__ import annotations

import gc
import os
import sys
import traceback
from collections.abc import Callable

import pintable
import pytest
from child import ends_well, stat_of, tables_of_child_go

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")

N_ROWS = 2_000


def forked(body: Callable[[], object]) -> int:
    """Run body in a forked child that ends as an interpreter does; its exit status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            body()
            gc.collect()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def table():
    made = pintable.from_pandas(pd.DataFrame({"x": np.arange(float(N_ROWS)), "y": 0.0}))
    yield made
    made.drop()


def test_child_reads_and_writes_inherited_views(table: pintable.Table) -> None:
    view, frame = table["x"].numpy(), table.to_pandas(writable=True)

    def body() -> None:
        assert view[-1] == N_ROWS - 1
        view[0] = 42
        frame.loc[1, "y"] = 43

    assert forked(body) == 0
    assert table["x"].numpy()[0] == 42
    assert table["y"].numpy()[1] == 43


def test_child_uses_inherited_table(table: pintable.Table) -> None:
    def body() -> None:
        assert table["x"].numpy()[5] == 5
        with table.lease(0, ["y"]) as part:
            part["y"][:] = 1
        table["z"] = np.ones(N_ROWS)
        other = pintable.from_pandas(pd.DataFrame({"a": [1]}))
        other.drop()

    assert forked(body) == 0
    assert (table["y"].numpy()[: table.chunk_rows] == 1).all()
    assert (table["z"].numpy() == 1).all()


def test_child_is_a_session_of_its_own(table: pintable.Table) -> None:
    read_end, write_end = os.pipe()
    mine = table._native.pool.session

    def body() -> None:
        table["x"].mark()
        os.write(write_end, str(table._native.pool.session).encode())

    assert forked(body) == 0
    os.close(write_end)
    theirs = int(os.read(read_end, 100))
    os.close(read_end)
    assert theirs != mine
    assert table._native.pool.session == mine


def test_child_drops_everything_and_the_parent_goes_on(table: pintable.Table) -> None:
    view = table["x"].numpy()
    handles = [pintable.open(table.name) for _ in range(3)]

    def body() -> None:
        nonlocal view
        view = None
        for handle in handles:
            handle.close()
        handles.clear()
        table.close()
        gc.collect()

    before = stat_of()["used_bytes"]
    assert forked(body) == 0
    assert view[-1] == N_ROWS - 1
    assert all(handle["x"].numpy()[-1] == N_ROWS - 1 for handle in handles)
    assert stat_of()["used_bytes"] == before


def test_views_of_the_parent_outlive_child_and_drop() -> None:
    made = pintable.from_pandas(pd.DataFrame({"x": np.arange(float(N_ROWS))}))
    view = made["x"].numpy()
    assert forked(made.close) == 0
    made.drop()
    made.close()
    for _ in range(5):  # would be given the memory if nobody held it
        pintable.from_pandas(pd.DataFrame({"x": np.full(N_ROWS, -1.0)})).drop()
    assert view[-1] == N_ROWS - 1


def test_child_outlives_its_parent() -> None:
    code = """
    import os, sys, time
    import numpy as np, pintable
    table = pintable.create({"x": "int64"}, 1000)
    view = table["x"].numpy()
    view[:] = 7
    read_end, write_end = os.pipe()
    parent = os.getpid()
    if os.fork() > 0:
        os._exit(0)
    os.close(write_end)
    while os.getppid() == parent:
        time.sleep(0.001)
    assert (view == 7).all()
    print(pintable.create({"y": "int64"}, 10)["y"].numpy().sum(), flush=True)
    """
    assert ends_well(code) == "0\n"
    tables_of_child_go()


def test_lease_is_not_inherited(table: pintable.Table) -> None:
    with table.lease(0, ["x"]) as part:

        def body() -> None:
            with pytest.raises((pintable.Error, ValueError)):
                table.lease(0, ["x"], timeout=0).__enter__()

        assert forked(body) == 0
        part["x"][0] = 11
    assert table["x"].numpy()[0] == 11


def test_lease_of_a_dead_child_comes_back(table: pintable.Table) -> None:
    def body() -> None:
        with table.lease(0, ["x"]) as part:
            part["x"][:] = -1
            os.kill(os.getpid(), 9)

    assert forked(body) == -9
    with table.lease(0, ["x"], timeout=30) as part:
        assert (part["x"] == np.arange(part.n_rows)).all()


def test_fork_while_threads_use_the_pool(table: pintable.Table) -> None:
    code = """
    import os, threading
    import numpy as np, pintable
    stop = threading.Event()
    table = pintable.create({"x": "int64"}, 100_000)
    def churn():
        while not stop.is_set():
            other = pintable.open(table.name)
            other["x"].numpy().sum()
            other.close()
            pintable.create({"y": "int64"}, 10).drop()
    threads = [threading.Thread(target=churn) for _ in range(3)]
    [thread.start() for thread in threads]
    statuses = []
    for i in range(20):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                table["x"].numpy()[i] = i + 1
                table["x"].mark()
                pintable.create({"y": "int64"}, 10).drop()
                status = 0
            finally:
                os._exit(status)
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    stop.set()
    [thread.join() for thread in threads]
    assert statuses == [0] * 20, statuses
    assert table["x"].numpy()[:20].tolist() == list(range(1, 21))
    table.drop()
    """
    ends_well(code)


def test_grandchildren(table: pintable.Table) -> None:
    view = table["x"].numpy()

    def body() -> None:
        def inner() -> None:
            view[2] = 5
            with table.lease(0, ["y"]) as part:
                part["y"][:] = 6

        assert forked(inner) == 0
        view[3] = 7

    assert forked(body) == 0
    assert view[2:4].tolist() == [5, 7]
    assert table["y"].numpy()[0] == 6
