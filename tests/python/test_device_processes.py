# SPDX-License-Identifier: Apache-2.0
"""Device copies on "host" and several processes; leases of a process that has the device."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from child import DEADLINE_S, ends_well, start_python, tables_of_child_go
from test_fork import forked
from test_interrupt import _ends

import pintable
from pintable._table import fetch as _fetch

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


# ---- processes ----------------------------------------------------------------------------------


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


def work_on_both_sides(t: pintable.Table, device: str, add: str, env: dict[str, str]) -> None:
    """A worker adds on the device, this process under leases, which fetch what is newest there."""
    rounds = 20
    t.device(device)["x"].open()
    t["x"] = 0
    code = DEVICE_WORKER.format(add=add)
    with start_python(code, t.name, device, str(rounds), env=env) as worker:
        assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
        for _ in range(rounds):
            for chunk in range(t.chunks):
                with t.lease(chunk, "x", timeout=DEADLINE_S) as part:
                    part["x"] += 1
        output, errors = worker.communicate(timeout=DEADLINE_S)
    assert (worker.returncode, errors) == (0, "")
    for chunk in range(t.chunks):
        with t.lease(chunk, "x") as part:
            assert (part["x"] == rounds * 1001).all()


def test_host_and_device_workers_lose_no_update(t):
    work_on_both_sides(t, "host", "c.numpy()[:] += 1000", {})


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


# ---- who has the device fetches, who has not is told ---------------------------------------------


@pytest.fixture
def ahead(t: pintable.Table, d: pintable.Device) -> pintable.Table:
    """x is twice what it was, and that is on the device alone."""
    with d["x"].begin(access="rw") as c:
        c.numpy()[:] *= 2
    d["x"].wait(timeout=DEADLINE_S)
    assert [d["x"].places(chunk) for chunk in range(t.chunks)] == [{"device"}] * t.chunks
    assert t["x"][1] == 1
    return t


DOUBLED = [2 * i for i in range(ROWS)]


def test_a_lease_fetches_its_chunk_and_no_other(ahead, d):
    with ahead.lease(1, "x") as part:
        assert part["x"].tolist() == DOUBLED[CHUNK : 2 * CHUNK]
    assert [d["x"].places(chunk) for chunk in range(3)] == [{"device"}, {"host"}, {"device"}]
    assert d["x"].moved[1] == 8 * CHUNK
    with ahead.lease(0, "x", timeout=0) as part:
        assert part["x"][1] == 2
    with pytest.raises(ZeroDivisionError), ahead.lease(2, "x") as part:
        part["x"][:] = 0
        raise ZeroDivisionError
    assert ahead["x"][ROWS - 1] == 2 * (ROWS - 1)  # undone to what was fetched


def test_a_lease_that_rewrites_fetches_nothing(ahead, d):
    with ahead.lease(0, "x", inout=False) as part:
        part["x"][:] = 7
    assert d["x"].moved[1] == 0 and d["x"].places(0) == {"host"}


def test_another_table_object_of_the_process_fetches_too(ahead):
    with pintable.open(ahead.name) as other, other.lease(1, "x") as part:
        assert part["x"][0] == 2 * CHUNK


def test_a_job_fetches_what_it_reads(ahead, d):
    ahead.add_column("z", "int64")
    seen = []
    for part in ahead.job("copy", columns="x", out="z"):
        part["z"][:] = part["x"]
        seen.append(part.chunk)
    assert sorted(seen) == [0, 1, 2] and ahead["z"].numpy().tolist() == DOUBLED
    assert d["x"].moved[1] == 8 * ROWS
    with d["z"].begin(access="rw") as c:
        c.numpy()[:] = -1
    for part in ahead.job("rewrite", out="z"):
        part["z"][:] = 5
    assert d["z"].moved[1] == 0 and (ahead["z"].numpy() == 5).all()


def test_a_job_waits_for_blocks_that_are_over(t, d):
    """A block's end does not wait, so its chunks are held for a moment more: by this process, whose
    own chunks a job does not wait for."""
    for i in range(50):
        with d["x"].begin(access="rw") as c:
            c.numpy()[:] = i
        seen = [part.chunk for part in t.job(f"j{i}", inout="x")]
        assert sorted(seen) == [0, 1, 2]
        assert (t["x"].numpy() == i).all()


def test_reads_and_stores_wait_for_blocks_that_are_over(t, d):
    """The same: the rows look as before, or held, until the block has given them back."""
    for i in range(50):
        with d["x"].begin(access="rw") as c:
            c.numpy()[:] = i
        with t.reading(columns="x") as part:
            assert (part["x"] == i).all()
        with d["x"].begin(access="rw") as c:
            c.numpy()[:] = -i
        t["x"][0] = 5
        t["x"][[1, CHUNK]] = 6
        assert np.asarray(t["x"])[[0, 1, 2, CHUNK, CHUNK + 1]].tolist() == [5, 6, -i, 6, -i]
        with d["y"].begin(access="rw") as c:
            c.numpy()[:] = i
        t["y"].set_null(0)
        t["y"].mark()
        with d["y"].begin() as c:
            assert c.numpy()[1] == i and c.validity.numpy()[0] == 254
        t["y"].mark(0, 1)  # it brought the rows, and held them for that


def test_map_waits_for_blocks_that_are_over(t, d):
    for i in range(5):
        with d["x"].begin(access="rw") as c:
            c.numpy()[:] = i
        t.map(lambda x: x + 0.5, "x", out="y", workers=1, as_="numpy")
        assert (np.asarray(t["y"]) == i + 0.5).all()


@pytest.mark.parametrize("workers", [1, 2])
def test_map_fetches_for_its_workers(ahead, workers):
    ahead.map(lambda x: x + 1, "x", out={"z": "int64"}, workers=workers, as_="numpy")
    assert ahead["z"].numpy().tolist() == [x + 1 for x in DOUBLED]


def test_a_copy_that_was_not_opened_here_is_opened_to_fetch(ahead):
    with pintable.open(ahead.name) as other:
        other.device("host")
        d = ahead.device("host")
        ahead._devices.clear()  # all that this process had open
        d.close()
        del d
        with other.lease(1, "x") as part:
            assert part["x"][0] == 2 * CHUNK


def test_reading_fetches(ahead):
    with ahead.reading(slice(0, CHUNK + 1), "x") as part:
        assert part["x"].tolist() == DOUBLED[: CHUNK + 1]


def test_storing_some_rows_keeps_the_newest_of_the_others(ahead, d):
    ahead["x"][0:2] = 9
    assert np.asarray(ahead["x"])[:4].tolist() == [9, 9, 4, 6] and d["x"].places(0) == {"host"}
    ahead["x"][[CHUNK, CHUNK + 2]] = 8
    assert np.asarray(ahead["x"])[CHUNK : CHUNK + 3].tolist() == [8, DOUBLED[CHUNK + 1], 8]
    assert d["x"].places(2) == {"device"}


@pytest.mark.parametrize(
    ("outcome", "found"),
    [(None, True), (pintable.DeviceAhead("elsewhere"), False), (pintable.Busy("here"), False)],
)
def test_a_chunk_that_is_being_written_is_waited_for(t, outcome, found):
    """Between the refusal and the look at it: then the newest bytes are in no place."""
    asked = []

    class Copy:
        def places(self, chunk: int) -> int:
            return 0 if chunk == 2 else 1

        def to_host(self, *rows: object) -> None:
            asked.append(rows)
            if outcome is not None:
                raise outcome

    chunks = [0, 1, 2]
    assert _fetch._fetch_from(Copy(), t._native, chunks, None) is found
    assert asked == [(2 * CHUNK, ROWS - 2 * CHUNK, None)]


def test_a_plain_look_fetches_nothing(ahead, d):
    looks = [ahead["x"].numpy(writable=False), np.asarray(ahead["x"])]
    if "pandas" in sys.modules:
        looks += [ahead.to_pandas()["x"], ahead["x"].to_pandas()]
    assert [look[1] for look in looks] == [1] * len(looks) and ahead["x"][1] == 1
    assert d["x"].moved[1] == 0


def stored_in_a_frame(t: pintable.Table) -> None:
    pytest.importorskip("pandas")
    t.to_pandas(writable=True)["x"].array._ndarray[0] = -1


def stored_in_a_series(t: pintable.Table) -> None:
    pytest.importorskip("pandas")
    t["x"].to_pandas(writable=True).array._ndarray[0] = -1


@pytest.mark.parametrize(
    "store",
    [
        lambda t: t["x"].numpy().__setitem__(0, -1),
        lambda t: t["x"].numpy(writable=True).__setitem__(0, -1),
        lambda t: t["x"][:].__setitem__(0, -1),
        lambda t: t[0:ROWS]["x"].numpy().__setitem__(0, -1),
        stored_in_a_frame,
        stored_in_a_series,
    ],
)
def test_stores_at_any_time_are_beside_the_newest_rows(t, d, store):
    """Also when the block has only just ended and is not published yet."""
    with d["x"].begin(access="rw") as c:
        c.numpy()[:] *= 2
    store(t)
    with d["x"].begin(timeout=DEADLINE_S) as c:
        assert c.numpy().tolist() == [-1, *DOUBLED[1:]]
    assert np.asarray(t["x"]).tolist() == [-1, *DOUBLED[1:]]


def test_only_the_chunks_of_a_writable_array_are_fetched(ahead, d):
    view = ahead[CHUNK : CHUNK + 1]["x"].numpy()
    assert view.tolist() == DOUBLED[CHUNK : CHUNK + 1] and d["x"].moved[1] == 8 * CHUNK
    assert [d["x"].places(chunk) for chunk in range(3)] == [{"device"}, {"host"}, {"device"}]
    assert ahead["x"].numpy().tolist() == DOUBLED and d["x"].moved[1] == 8 * ROWS


def test_the_extension_lists_chunks_that_are_ahead(t, d):
    """All in one call; neither what somebody holds, nor what is torn, nor what is on both."""
    column = t["x"]._native
    assert column.device_ahead(0, 3) == []
    with d["x"].begin((CHUNK, ROWS), "rw") as c:
        c.numpy()[:] = 1
        assert column.device_ahead(0, 3) == []
    d["x"].wait(timeout=DEADLINE_S)
    for first, n, found in ((0, 3, [1, 2]), (0, 2, [1]), (2, 1, [2]), (0, 1, []), (3, 0, [])):
        assert column.device_ahead(first, n) == found
    with pytest.raises(ZeroDivisionError), d["x"].begin((CHUNK, 2 * CHUNK), "rw"):
        raise ZeroDivisionError
    with pytest.raises(pintable.Torn):
        column.read_begin(1)
    assert column.device_ahead(0, 3) == [2]
    d["x"].to_host((2 * CHUNK, ROWS))
    assert column.device_ahead(0, 3) == []
    for wrong in ((0, 4), (3, 1), (2**64 - 1, 2)):
        with pytest.raises(pintable.OutOfRange):
            column.device_ahead(*wrong)
    with pytest.raises(TypeError):
        column.device_ahead(0)
    t["x"].recover(1)
    t.close()
    with pytest.raises(ValueError):
        column.device_ahead(0, 3)


def test_a_writable_array_does_not_wait_for_others(t, d):
    """Nor does it mind a block of its own thread, or a torn chunk: the bytes are as they are."""
    with d["x"].begin((0, CHUNK), "rw") as c:
        c.numpy()[:] = 7
        assert t["x"].numpy()[0] == 0
        with ThreadPoolExecutor(1) as other:
            assert other.submit(lambda: t["x"].numpy()[0]).result(DEADLINE_S) == 0
    with pytest.raises(ZeroDivisionError), d["x"].begin((0, CHUNK), "rw", timeout=DEADLINE_S):
        raise ZeroDivisionError
    assert t["x"].numpy()[0] == 0
    t["x"].recover(0)
    assert t["x"].numpy()[0] == 0


@pytest.mark.parametrize(
    "use",
    [
        't.lease(0, "x").__enter__()',
        't.lease(0, "x", timeout=0).__enter__()',
        't.job("j", inout="x").next()',
        't.reading(columns="x").__enter__()',
        't.map(len, "x", out={"z": "int64"}, workers=1, as_="numpy")',
        't["x"][5] = 1',
        't["x"][[5, 7]] = 1',
    ],
)
def test_a_process_without_the_device_is_told(ahead, use):
    code = f"""
    import sys, pintable
    t = pintable.open(sys.argv[1])
    try:
        {use}
    except pintable.DeviceAhead as error:
        print(error)
    """
    assert "newest on" in ends_well(code, ahead.name)


def test_a_lease_waits_for_a_block_no_longer_than_it_is_told(t, d):
    with d["x"].begin(access="rw") as c, ThreadPoolExecutor(1) as other:
        c.numpy()[:] = 5
        with pytest.raises(pintable.Timeout):
            other.submit(t.lease(0, "x", timeout=0.05).__enter__).result()
    with t.lease(0, "x", timeout=DEADLINE_S) as part:
        assert (part["x"] == 5).all()


def test_a_thread_is_not_left_waiting_for_its_own_block(t, d):
    with d["x"].begin(slice(0, 5), access="rw"):
        with pytest.raises(pintable.Busy, match="this thread .* in a block on device 'host'"):
            t.lease(0, "x").__enter__()
        with pytest.raises(pintable.Busy, match="this thread"):
            t["x"] = 0
        with pytest.raises(pintable.Busy, match="this thread"):
            t.map(abs, "y", out="x", workers=1, as_="numpy")
        with t.lease(0, "y"), t.lease(1, "x"):
            pass
    with d["x"].begin(), t.lease(1, "x"):  # readers on the device do not keep the host out
        pass
    with t.lease(0, "x", timeout=DEADLINE_S):
        pass
