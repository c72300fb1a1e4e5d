# SPDX-License-Identifier: Apache-2.0
"""Table.map when things go wrong: exceptions, deaths, Ctrl-C, going on with a job, notebooks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import map_work
import pintable
from map_work import Die, DieOnce, Note, NotMine, Raise
from pintable import Table

np = pytest.importorskip("numpy")

CHUNK = 512
ROWS = 8 * CHUNK - 100
DEADLINE_S = 60  # for what must happen; only a hang takes that long


@pytest.fixture
def table() -> Iterator[Table]:
    table = Table.create({"x": "int64", "y": "float64"}, ROWS, chunk_rows=CHUNK)
    table["x"] = np.arange(ROWS)
    yield table
    if not table.closed and not table.dropped:
        table.drop()
    table.close()


def x_of(table: Table) -> Any:
    return table["x"].numpy()


# ---- exceptions --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_exception_is_raised_with_its_rows(table: Table, method: str) -> None:
    with pytest.raises(KeyError) as caught:
        table.map(
            Raise((2 * CHUNK,), KeyError, ("absent",)), columns=["x"], out="y", workers=2,
            as_="numpy", start_method=method,
        )  # fmt: skip
    error = caught.value
    assert type(error) is KeyError
    assert error.args == ("absent",)
    assert error.__notes__ == [f"in rows 1024..1536 of table {table.name!r}"]
    text = "".join(traceback.format_exception(error))
    assert "map_work.py" in text  # the worker's traceback
    assert "raise self.error(*self.args)" in text
    assert text.index("map_work.py") < text.index("the direct cause")


def test_lowest_rows_win(table: Table) -> None:
    at = tuple(range(0, ROWS, CHUNK))
    with pytest.raises(ValueError) as caught:
        table.map(Raise(at), columns=["x"], out="y", workers=1, as_="numpy")
    assert "rows 0..512 " in caught.value.__notes__[0]


def test_exception_is_not_tried_again_and_stops_the_others(table: Table, tmp_path: Path) -> None:
    def func(values: Any) -> None:
        Note(str(tmp_path))(values)
        raise ValueError("at once")

    with pytest.raises(ValueError, match="at once"):
        table.map(func, workers=2, as_="numpy")
    firsts = [path.name.split("-")[0] for path in tmp_path.iterdir()]
    assert len(firsts) == len(set(firsts)) <= 2


def test_results_of_other_chunks_stay(table: Table) -> None:
    with pytest.raises(ValueError):
        table.map(Raise((ROWS - 1,)), columns=["x"], out="y", workers=1, as_="numpy")
    n = 7 * CHUNK
    assert (table["y"].numpy()[:n] == np.arange(n) * 2).all()
    with pytest.raises(pintable.Torn), table.reading((n, ROWS), "y"):
        pass
    table.map(map_work.double, columns=["x"], out="y", workers=1, as_="numpy")
    with table.reading(columns="y") as part:
        assert (part["y"] == np.arange(ROWS) * 2).all()


def test_exception_puts_inout_back(table: Table) -> None:
    def func(values: Any) -> None:
        at = int(values["x"][0])
        values["x"][:] = -1
        if at == 3 * CHUNK:
            raise ValueError

    with pytest.raises(ValueError):
        table.map(func, inout="x", workers=1, as_="numpy")
    x = x_of(table)
    assert (x[: 3 * CHUNK] == -1).all()
    assert (x[3 * CHUNK :] == np.arange(3 * CHUNK, ROWS)).all()


def test_exception_that_does_not_come_back(table: Table) -> None:
    with pytest.raises(pintable.MapError, match="NotMine: 1 and 2") as caught:
        table.map(Raise((0,), NotMine, (1, 2)), columns=["x"], out="y", workers=1, as_="numpy")
    assert caught.value.rows == range(512)
    assert "NotMine" in str(caught.value.__cause__)


def test_exit_of_func_is_no_exit_of_the_caller(table: Table) -> None:
    with pytest.raises(pintable.MapError, match="SystemExit"):
        table.map(Raise((0,), SystemExit, (3,)), columns=["x"], out="y", workers=1, as_="numpy")


def test_error_of_ours_keeps_its_class_and_notes(table: Table) -> None:
    with pytest.raises(pintable.Invalid, match="511 values for 512 rows") as caught:
        table.map(lambda x: x[1:], columns="x", out="y", workers=1, as_="numpy")
    assert caught.value.name == "E_INVALID"
    assert "in rows 0..512 of table" in caught.value.__notes__[-1]


@pytest.mark.parametrize("kind", [ProcessPoolExecutor, ThreadPoolExecutor])
def test_exception_in_an_executor(table: Table, kind: Any) -> None:
    with kind(2) as executor, pytest.raises(ValueError, match="this is it") as caught:
        table.map(Raise((CHUNK,)), columns=["x"], out="y", workers=executor, as_="numpy")
    assert "rows 512..1024 " in caught.value.__notes__[0]


def test_function_that_cannot_be_sent(table: Table) -> None:
    lock = threading.Lock()  # has no pickled form
    with pytest.raises(pintable.MapError, match="cannot be sent"):
        table.map(lambda x: lock, "x", "y", workers=1, as_="numpy", start_method="spawn")
    table.map(lambda x: x + lock.locked(), "x", "y", workers=1, as_="numpy", start_method="fork")
    assert (table["y"].numpy() == np.arange(ROWS)).all()


# ---- deaths ------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_killed_worker_is_undone_and_replaced(
    table: Table, tmp_path: Path, workers: int, method: str
) -> None:
    table.map(
        DieOnce(str(tmp_path), 3 * CHUNK), inout="x", columns=(), workers=workers, as_="numpy",
        start_method=method,
    )  # fmt: skip
    assert (tmp_path / "died").exists()
    assert (x_of(table) == np.arange(ROWS) + 1000).all()


def test_killed_worker_with_out_columns(table: Table, tmp_path: Path) -> None:
    def func(x: Any) -> Any:
        if x[0] == 0 and map_work.first_time(f"{tmp_path}/died"):
            os.kill(os.getpid(), signal.SIGKILL)
        return x * 2.0

    table.map(func, columns="x", out="y", workers=2, as_="numpy")
    with table.reading(columns="y") as part:  # none is torn
        assert (part["y"] == np.arange(ROWS) * 2).all()


def test_many_deaths(table: Table, tmp_path: Path) -> None:
    def func(values: Any) -> None:
        x = values["x"]
        at = int(x[0])
        x[: len(x) // 2] += 1000
        if map_work.first_time(f"{tmp_path}/{at}-1") or map_work.first_time(f"{tmp_path}/{at}-2"):
            os.kill(os.getpid(), signal.SIGKILL)
        x[len(x) // 2 :] += 1000

    table.map(func, columns=(), inout="x", workers=4, as_="numpy")
    assert len(list(tmp_path.iterdir())) == 16
    assert (x_of(table) == np.arange(ROWS) + 1000).all()


@pytest.mark.parametrize(
    ("die", "text"),
    [
        ({}, "killed by SIGKILL"),
        ({"signal": signal.SIGTERM}, "killed by SIGTERM"),
        ({"status": 3}, "ended with status 3"),
        ({"status": 0}, "ended with status 0"),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_chunk_that_kills_is_given_up(
    table: Table, die: dict[str, Any], text: str, workers: int
) -> None:
    at = 2 * CHUNK
    with pytest.raises(pintable.MapError, match=text) as caught:
        table.map(
            Die(at, **die), columns=(), inout="x", workers=workers,
            as_="numpy",
        )  # fmt: skip
    assert caught.value.rows == range(at, at + CHUNK)
    assert "rows 1024..1536" in str(caught.value)
    assert (x_of(table)[at : at + CHUNK] == np.arange(at, at + CHUNK)).all()
    others = np.delete(x_of(table), np.s_[at : at + CHUNK])
    assert ((others >= 1000) | (others < ROWS)).all()


def test_workers_that_never_start(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a spawned interpreter cannot import what it needs: dead before taking a chunk."""
    from pintable._map import worker as _worker

    monkeypatch.setattr(_worker, "main", _exit_at_once)
    start = time.monotonic()
    with pytest.raises(pintable.MapError, match="3 workers in a row died .* status 9"):
        table.map(map_work.double, columns=["x"], out="y", workers=4, as_="numpy",
                  start_method="fork")  # fmt: skip
    assert time.monotonic() - start < DEADLINE_S


def _exit_at_once(*args: Any) -> None:
    os._exit(9)


def test_dead_worker_of_an_executor(table: Table, tmp_path: Path) -> None:
    with ProcessPoolExecutor(2) as executor:
        with pytest.raises(pintable.MapError, match="executor died"):
            table.map(
                DieOnce(str(tmp_path), 0), columns=(), inout="x", workers=executor, as_="numpy"
            )
    added = x_of(table) - np.arange(ROWS)
    for first in range(0, ROWS, CHUNK):  # no chunk is half changed
        assert set(added[first : first + CHUNK].tolist()) in ({0}, {1000})


# ---- going on with a job -----------------------------------------------------------------------


def test_named_job_goes_on_where_it_failed(table: Table, tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        table.map(
            Raise((2 * CHUNK,)), columns=["x"], out="y", workers=1, as_="numpy", name="again"
        )
    job = table.job("again", columns="x", out="y")
    assert job.progress()[:3] == (8, 2, 1)
    assert job.failed()[0][0] == range(2 * CHUNK, 3 * CHUNK)
    assert "this is it" in job.failed()[0][1]
    with pytest.raises(ValueError):  # the one that failed, and now another one
        table.map(
            Raise((2 * CHUNK, 5 * CHUNK)), columns=["x"], out="y", workers=1, as_="numpy",
            name="again",
        )  # fmt: skip
    table.map(Note(str(tmp_path)), columns=["x"], out="y", workers=2, as_="numpy", name="again")
    firsts = sorted(int(path.name.split("-")[0]) for path in tmp_path.iterdir())
    assert firsts == [2 * CHUNK, 5 * CHUNK, 6 * CHUNK, 7 * CHUNK]
    assert (table["y"].numpy() == np.arange(ROWS) * 2).all()
    with table.reading(columns="y"):
        pass
    for name in ("again", "again~1"):
        with pytest.raises(pintable.NotFound):
            table.job(name)


def test_named_inout_job_adds_once(table: Table) -> None:
    def make(*bad: int) -> Any:
        def func(values: Any) -> None:
            at = int(values["x"][0]) % 1000000
            values["x"] += 1000000
            if at // CHUNK in bad:
                raise ValueError(bad)

        return func

    for bad in ((1,), (1, 4), (1, 4), (4,), (4,)):  # the third fails in the second job
        with pytest.raises(ValueError):
            table.map(make(*bad), columns=(), inout="x", workers=1, as_="numpy", name="add")
    assert ((x_of(table) >= 1000000).sum()) == ROWS - CHUNK
    table.map(make(), columns=(), inout="x", workers=2, as_="numpy", name="add")
    assert (x_of(table) == np.arange(ROWS) + 1000000).all()


def test_named_job_of_other_columns(table: Table) -> None:
    with pytest.raises(ValueError):
        table.map(Raise((0,)), columns=["x"], out="y", workers=1, as_="numpy", name="again")
    with pytest.raises(pintable.Exists):
        table.map(map_work.increment, columns=(), inout="x", as_="numpy", name="again")


# ---- Ctrl-C and the end of the parent ----------------------------------------------------------


def _start(code: str, table: Table, *arguments: str) -> subprocess.Popen[str]:
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), table.name, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip


_SLOW = """
    import os, signal, sys, time
    import pintable
    table = pintable.open(sys.argv[1])

    def func(values):
        values["x"][:100] = -5
        os.write(1, b"%d\\n" % os.getpid())  # in one piece
        time.sleep(600)

    try:
        table.map(func, columns=(), inout="x", workers=2, as_="numpy", start_method=sys.argv[2],
                  name=sys.argv[3] if len(sys.argv) > 3 else None)
    except KeyboardInterrupt:
        import multiprocessing
        assert multiprocessing.active_children() == []
        x = table["x"].numpy()
        assert (x == range(len(x))).all(), "old bytes are back when map has ended"
        print("interrupted", flush=True)
        raise
"""


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def _wait_dead(pids: list[int]) -> None:
    until = time.monotonic() + DEADLINE_S
    while any(_is_alive(pid) for pid in pids):
        assert time.monotonic() < until, f"{pids} live on"
        time.sleep(0.01)  # polling: the processes are no children of ours


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("is_group", [True, False])
def test_ctrl_c(table: Table, method: str, is_group: bool) -> None:
    if method != "fork":
        pytest.importorskip("cloudpickle")
    process = _start(_SLOW, table, method)
    assert process.stdout is not None
    pids = [int(process.stdout.readline()) for _ in range(2)]
    if is_group:  # as a terminal does it
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=DEADLINE_S)
    assert output == "interrupted\n", errors
    assert process.returncode == -signal.SIGINT
    assert errors.count("KeyboardInterrupt") == 1, errors  # the workers say nothing
    _wait_dead(pids)
    assert (x_of(table) == np.arange(ROWS)).all()
    table.map(map_work.increment, columns=(), inout="x", workers=2, as_="numpy")
    assert (x_of(table) == np.arange(ROWS) + 1).all()


def test_ctrl_c_with_an_executor(table: Table) -> None:
    code = """
        import os, sys, time
        from concurrent.futures import ProcessPoolExecutor
        import pintable
        import map_work
        table = pintable.open(sys.argv[1])
        try:
            with ProcessPoolExecutor(2) as executor:
                table.map(map_work.half_then_sleep, columns=(), inout="x", workers=executor,
                          as_="numpy")
        except KeyboardInterrupt:
            x = table["x"].numpy()
            assert (x == range(len(x))).all(), "old bytes are back when map has ended"
            print("interrupted", flush=True)
            raise
    """
    process = _start(code, table)
    assert process.stdout is not None
    for _ in range(2):
        process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=DEADLINE_S)
    assert output == "interrupted\n", errors
    table.map(map_work.increment, columns=(), inout="x", workers=2, as_="numpy")
    assert (x_of(table) == np.arange(ROWS) + 1).all()


def test_ctrl_c_keeps_a_named_job(table: Table) -> None:
    process = _start(_SLOW, table, "fork", "kept")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=DEADLINE_S)
    assert table.job("kept").progress().n_chunks == 8
    table.map(map_work.increment, columns=(), inout="x", workers=2, as_="numpy", name="kept")
    assert (x_of(table) == np.arange(ROWS) + 1).all()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_end_with_their_parent(table: Table, method: str) -> None:
    if method != "fork":
        pytest.importorskip("cloudpickle")
    process = _start(_SLOW, table, method)
    assert process.stdout is not None
    pids = [int(process.stdout.readline()) for _ in range(2)]
    process.kill()
    process.communicate(timeout=DEADLINE_S)
    _wait_dead(pids)
    table.map(map_work.increment, columns=(), inout="x", workers=2, as_="numpy")
    assert (x_of(table) == np.arange(ROWS) + 1).all()


# ---- notebooks and interactive sessions --------------------------------------------------------

_TYPED = """\
import sys, pintable
table = pintable.open({name!r})
{hide}
def func(values):
    return values["x"] * 2.0

try:
    _ = table.map(func, columns=["x"], out="y", workers=2, as_="numpy", start_method={method!r})
except BaseException as error:
    print(type(error).__name__, error)

print("end", table["y"].numpy()[-1] == 2.0 * (table.rows - 1))
"""
_HIDE = """
sys.modules["cloudpickle"] = None
sys.modules["joblib.externals.cloudpickle"] = None
"""


def _interactive(table: Table, method: str, flags: list[str], hide: str = "") -> str:
    path = os.pathsep.join(entry for entry in sys.path if entry)
    code = _TYPED.format(name=table.name, method=method, hide=hide)
    ended = subprocess.run(
        [sys.executable, *flags] + ([code] if flags == ["-c"] else []), input=code,
        capture_output=True, text=True, timeout=DEADLINE_S, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("flags", [["-i", "-q"], ["-c"], ["-"]])
def test_function_typed_in(table: Table, method: str, flags: list[str]) -> None:
    if method != "fork":
        pytest.importorskip("cloudpickle")
    assert _interactive(table, method, flags) == "end True\n"


@pytest.mark.parametrize("flags", [["-i", "-q"], ["-c"]])
def test_function_typed_in_without_cloudpickle(table: Table, flags: list[str]) -> None:
    text = _interactive(table, "spawn", flags, _HIDE)
    assert text.startswith("MapError map: the function cannot be loaded in a worker process: Attr")
    assert "install cloudpickle, or put the function into a module" in text
    assert text.endswith("end False\n")
    assert _interactive(table, "fork", flags, _HIDE) == "end True\n"


def test_exception_class_typed_in_comes_back(table: Table) -> None:
    pytest.importorskip("cloudpickle")
    code = """
        import sys, pintable
        table = pintable.open(sys.argv[1])

        class Mine(Exception):
            pass

        def func(values):
            raise Mine("hello", 3)

        try:
            table.map(func, columns=["x"], out="y", workers=2, as_="numpy", start_method="spawn")
        except Mine as error:
            print(error.args, error.__notes__[0][:11])
    """
    output, errors = _start(code, table).communicate(timeout=DEADLINE_S)
    assert output == "('hello', 3) in rows 0..\n", errors


def test_script_without_main_guard(table: Table, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"import pintable\n"
        f"table = pintable.open({table.name!r})\n"
        f"def func(values):\n    return values['x'] * 2.0\n"
        f"table.map(func, columns=['x'], out='y', workers=2, as_='numpy', start_method='spawn')\n"
    )
    path = os.pathsep.join(entry for entry in sys.path if entry)
    ended = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=DEADLINE_S,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert ended.returncode == 1
    assert "3 workers in a row died before they took a chunk" in ended.stderr
    assert 'if __name__ == "__main__"' in ended.stderr.splitlines()[-1]
