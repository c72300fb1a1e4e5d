# SPDX-License-Identifier: Apache-2.0
"""Tables, columns, slices and jobs in other processes: they travel as handles, and open there."""

from __future__ import annotations

import multiprocessing as mp
import os
import pickle
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import pintable
import pytest
import work
from child import DEADLINE_S, ends_well, private_service

np = pytest.importorskip("numpy")

N_ROWS = 3_000
SUM = N_ROWS * (N_ROWS - 1) / 2
METHODS = ["spawn", "forkserver", "fork"]
HANDLE_BYTES = 200
LONG_NAME = "n" * 32


def make(name: str | None = None) -> pintable.Table:
    table = pintable.create({"x": "float64", "y": "float64"}, N_ROWS, name, chunk_rows=512)
    table["x"].numpy()[:] = np.arange(float(N_ROWS))
    return table


@pytest.fixture
def table() -> Iterator[pintable.Table]:
    made = make()
    yield made
    made.drop()


# ---- ways to send --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_pool(table: pintable.Table, method: str) -> None:
    y = table["y"].numpy()
    with mp.get_context(method).Pool(2) as pool:
        pid, total = pool.apply(work.pid_and_sum, (table,))
        assert (pid != os.getpid(), total) == (True, SUM)
        assert pool.apply(work.fill_table, (table, 1.0)) == N_ROWS
        assert (y == 1).all()
        assert pool.apply(work.fill_column, (table["y"], 2.0)) == N_ROWS
        assert (y == 2).all()
        assert pool.apply(work.fill_slice, (table[10:20], 3.0)) == 10
        assert (y[10:20] == 3).all() and (y[:10] == 2).all() and (y[20:] == 2).all()
        assert pool.apply(work.fill_slice, (table[10:20].slice(2, 4), 4.0)) == 2
        assert (y[12:14] == 4).all() and (y[14:20] == 3).all()


@pytest.mark.parametrize("method", METHODS)
def test_job_is_shared_out(table: pintable.Table, method: str) -> None:
    job = table.job("add", inout=["y"])
    with mp.get_context(method).Pool(3) as pool:
        rows = pool.map(work.increment_by_job, [job] * 3, chunksize=1)
    assert sum(rows) == N_ROWS
    assert (table["y"].numpy() == 1).all()
    assert job.progress().n_done == table.chunks
    job.drop()


@pytest.mark.parametrize("method", METHODS)
def test_concurrent_futures(table: pintable.Table, method: str) -> None:
    with ProcessPoolExecutor(2, mp_context=mp.get_context(method)) as executor:
        pieces = [table[first : first + 500] for first in range(0, N_ROWS, 500)]
        rows = list(executor.map(work.fill_slice, pieces, range(6)))
    assert rows == [500] * 6
    assert table["y"].numpy()[::500].tolist() == list(range(6))


def test_joblib(table: pintable.Table) -> None:
    joblib = pytest.importorskip("joblib")
    pieces = [table[first : first + 1000] for first in range(0, N_ROWS, 1000)]
    calls = [joblib.delayed(work.fill_slice)(piece, i) for i, piece in enumerate(pieces)]
    assert joblib.Parallel(n_jobs=2)(calls) == [1000] * 3
    assert table["y"].numpy()[::1000].tolist() == [0, 1, 2]


def test_closure_over_a_table(table: pintable.Table) -> None:
    """The table is not an argument here, it is inside the function that is sent."""
    joblib = pytest.importorskip("joblib")
    calls = [joblib.delayed(lambda: float(table["x"].numpy().sum()))() for _ in range(2)]
    assert joblib.Parallel(n_jobs=2)(calls) == [SUM] * 2
    with mp.get_context("spawn").Pool(1) as pool:
        assert pool.map(partial(work.fill_table, table), [8.0]) == [N_ROWS]


@pytest.mark.parametrize("method", METHODS)
def test_pipe(table: pintable.Table, method: str) -> None:
    context = mp.get_context(method)
    mine, theirs = context.Pipe()
    # Under fork the child has my end too: only closing it there would end its loop by itself.
    process = context.Process(target=work.serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    mine.send(table)
    assert mine.poll(DEADLINE_S) and mine.recv() == N_ROWS
    assert (table["y"].numpy() == 5).all()
    mine.close()
    if method == "fork":
        process.terminate()
    process.join(DEADLINE_S)
    assert process.exitcode == (-signal.SIGTERM if method == "fork" else 0)


@pytest.mark.parametrize("method", METHODS)
def test_queue_there_and_back(table: pintable.Table, method: str) -> None:
    context = mp.get_context(method)
    inbox, outbox = context.Queue(), context.Queue()
    process = context.Process(target=work.take_and_give, args=(inbox, outbox))
    process.start()
    inbox.put(table)
    piece = outbox.get(timeout=DEADLINE_S)
    inbox.put(None)
    process.join(DEADLINE_S)
    assert process.exitcode == 0
    assert len(piece) == N_ROWS // 2
    assert (piece["y"].numpy() == 6).all()


@pytest.mark.torch
@pytest.mark.parametrize("method", METHODS)
def test_torch_data_loader(table: pintable.Table, method: str) -> None:
    data = pytest.importorskip("torch.utils.data")
    from torch_rows import Rows

    loader = data.DataLoader(
        Rows(table), batch_size=64, num_workers=2, multiprocessing_context=method
    )
    assert sum(float(batch.sum()) for batch in loader) == SUM


# ---- what travels --------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [4, 5])
def test_handles_are_small(protocol: int) -> None:
    table = make(LONG_NAME)
    job = table.job("standardise", inout=["y"])
    for thing in (table, table["x"], table[1000:2000], job):
        size = len(pickle.dumps(thing, protocol))
        assert size < HANDLE_BYTES, (type(thing), size)
    job.drop()
    table.drop()


def test_handle_of_another_address_names_it() -> None:
    """A child with another default address still finds the pool that the handle is of."""
    code = """
    import pickle, sys
    print(pickle.loads(bytes.fromhex(sys.argv[1]))["x"].numpy()[0])
    """
    with private_service() as service:
        table = pintable.create({"x": "float64"}, 10, address=service.folder)
        table["x"].numpy()[:] = 3
        handle = pickle.dumps(table)
        assert ends_well(code, handle.hex()) == "3.0\n"


def test_read_only_stays_read_only(table: pintable.Table) -> None:
    reader = pintable.open(table.name, "r")
    with mp.get_context("spawn").Pool(1) as pool:
        assert pool.apply(work.try_to_write, (reader,)) != "none"
        assert pool.apply(work.try_to_write, (table,)) == "none"
    assert table["x"].numpy()[0] == -1


def test_handle_finds_a_renamed_table(table: pintable.Table) -> None:
    with mp.get_context("spawn").Pool(1) as pool:
        handle = pickle.dumps(table)
        table.rename("another-name")
        assert pool.apply(work.name_of_error, (handle,)) == "none"


def test_handle_of_a_dropped_table() -> None:
    table = make("gone")
    handle = pickle.dumps(table)
    table.drop()
    table.close()
    del table
    again = make("gone")  # the same name, another table: the handle is not of that one
    assert work.name_of_error(handle) == "NotFound"
    with mp.get_context("spawn").Pool(1) as pool:
        assert pool.apply(work.name_of_error, (handle,)) == "NotFound"
    again.drop()


def test_handle_in_a_process_with_another_service(table: pintable.Table) -> None:
    code = """
    import sys, work
    print(work.name_of_error(bytes.fromhex(sys.argv[1])))
    """
    handle = pickle.dumps(table).hex()
    with private_service() as service:
        assert ends_well(code, handle, env=service.env) == "StalePool\n"


# ---- who lives how long --------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_worker_builds_a_table_and_exits_before_it_is_opened(method: str) -> None:
    context = mp.get_context(method)
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=work.build_and_leave, args=(theirs, N_ROWS))
    process.start()
    theirs.close()
    assert mine.poll(DEADLINE_S)
    handle = mine.recv_bytes()  # not opened
    process.join(DEADLINE_S)
    assert process.exitcode == 0
    table = pickle.loads(handle)
    assert work.pid_and_sum(table) == (os.getpid(), SUM)
    table.drop()


@pytest.mark.parametrize("method", METHODS)
def test_tables_returned_by_a_pool_that_is_gone(method: str) -> None:
    with mp.get_context(method).Pool(2) as pool:
        tables = pool.map(work.build, [100, 200, 300])
        pool.close()
        pool.join()
    assert [table["x"].numpy()[-1] for table in tables] == [100, 200, 300]
    for table in tables:
        table.drop()


@pytest.mark.parametrize("method", METHODS)
def test_many_workers_open_at_once(table: pintable.Table, method: str) -> None:
    n_workers = 20
    context = mp.get_context(method)
    shared = context.Barrier(n_workers)
    handle = pickle.dumps(table)
    with context.Pool(n_workers, work.set_barrier, (shared,)) as pool:
        sums = pool.map(work.open_together, [handle] * n_workers, chunksize=1)
    assert sums == [SUM] * n_workers


def test_worker_killed_in_a_lease(table: pintable.Table) -> None:
    context = mp.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=work.overwrite_and_hang, args=(table, theirs))
    process.start()
    assert mine.poll(DEADLINE_S) and mine.recv() == "held"
    with pytest.raises((pintable.Timeout, pintable.Busy)):
        table.lease(0, ["y"], timeout=0).__enter__()
    assert table["y"].numpy()[0] == -1  # half written
    process.kill()
    process.join()
    with table.lease(0, ["y"], timeout=DEADLINE_S) as part:
        assert (part["y"] == 0).all()
