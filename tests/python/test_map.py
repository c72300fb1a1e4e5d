# SPDX-License-Identifier: Apache-2.0
"""Table.map: what func gets, where results go, start methods, executors, progress."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import pytest

import map_work
import pintable
from pintable import Table

np = pytest.importorskip("numpy")

CHUNK = 512
ROWS = 8 * CHUNK - 100
METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture
def table() -> Iterator[Table]:
    table = Table.create({"x": "int64", "f": "float64"}, ROWS, chunk_rows=CHUNK)
    table["x"] = np.arange(ROWS)
    yield table
    if not table.closed and not table.dropped:
        table.drop()
    table.close()


def x_of(table: Table) -> Any:
    return table["x"].numpy()


# ---- results -----------------------------------------------------------------------------------


def test_one_out_of_inferred_type(table: Table) -> None:
    assert table.map(map_work.double, out="y", workers=2, as_="numpy") is table
    assert table["y"].dtype == "float64"
    assert (table["y"].numpy() == x_of(table) * 2).all()


def test_out_of_given_type(table: Table) -> None:
    table.map(lambda v: v["x"] % 7, out={"y": "int16?"}, workers=2, as_="numpy")
    assert table["y"].dtype == "int16?"
    assert table["y"].null_count == 0
    assert (table["y"].numpy() == x_of(table) % 7).all()


def test_out_that_exists(table: Table) -> None:
    table.map(lambda x: x / 2, columns="x", out="f", workers=2, as_="numpy")
    assert (table["f"].numpy() == x_of(table) / 2).all()


@pytest.mark.parametrize("as_dict", [True, False])
def test_several_outs(table: Table, as_dict: bool) -> None:
    def func(values: Any) -> Any:
        x = values["x"]
        return {"b": x > 5, "a": x + 1} if as_dict else (x + 1, x > 5)

    table.map(func, columns=["x"], out=["a", "b"], workers=2, as_="numpy")
    assert table.schema["a"] == "int64"
    assert table.schema["b"] == "bool"
    assert (table["a"].numpy() == x_of(table) + 1).all()
    assert (table["b"].numpy() == (x_of(table) > 5)).all()


def test_scalar_goes_to_every_row(table: Table) -> None:
    table.map(lambda x: 2.5, columns="x", out="y", workers=1, as_="numpy")
    table.map(lambda x: np.int32(7), columns="x", out="z", workers=1, as_="numpy")
    table.map(lambda x: "one", columns="x", out="c", workers=1, as_="numpy")
    assert (table["y"].numpy() == 2.5).all()
    assert (table["z"].numpy() == 7).all()
    assert set(table["c"].to_pylist()) == {"one"}


def test_text_becomes_a_category(table: Table) -> None:
    table.map(
        lambda x: [None if i % 5 == 0 else f"key {i % 700}" for i in x.tolist()],
        columns="x", out="c", workers=3, as_="numpy",
    )  # fmt: skip
    assert table["c"].dtype.startswith("category[int32")
    expected = [None if i % 5 == 0 else f"key {i % 700}" for i in range(ROWS)]
    assert table["c"].to_pylist() == expected


def test_nulls_in_results(table: Table) -> None:
    def func(x: Any) -> Any:
        return np.ma.MaskedArray(x * 3, mask=x % 4 == 0)

    table.map(func, columns="x", out="m", workers=2, as_="numpy")
    assert table["m"].nullable
    assert table["m"].to_pylist() == [None if i % 4 == 0 else i * 3 for i in range(ROWS)]


def test_lists_and_timestamps(table: Table) -> None:
    def func(values: Any) -> Any:
        x = values["x"]
        return np.stack([x, x + 1], axis=1).astype("f4"), x.astype("M8[s]")

    table.map(func, out=["v", "when"], workers=2, as_="numpy")
    assert table.schema["v"] == "list[float32, 2]"
    assert table.schema["when"].startswith("timestamp[s]")
    assert (table["v"].numpy()[:, 1] == x_of(table) + 1).all()
    assert (table["when"].numpy() == x_of(table).astype("M8[s]")).all()


def test_inout_in_place(table: Table) -> None:
    table.map(map_work.increment, inout="x", workers=3, as_="numpy")
    assert (x_of(table) == np.arange(ROWS) + 1).all()


def test_inout_replaced_and_exchanged(table: Table) -> None:
    table.add_column("z", "int64")
    table["z"] = -np.arange(ROWS)

    def exchange(values: Any) -> None:
        values["x"], values["z"] = values["z"], values["x"]

    table.map(exchange, columns=(), inout=["x", "z"], workers=2, as_="numpy")
    assert (x_of(table) == -np.arange(ROWS)).all()
    assert (table["z"].numpy() == np.arange(ROWS)).all()


def test_out_made_of_inout(table: Table) -> None:
    def func(values: Any) -> Any:
        old = values["x"]
        values["x"] = old[::-1]
        return old

    table.map(func, columns=(), inout="x", out={"old": "int64"}, workers=2, as_="numpy")
    assert (table["old"].numpy() == np.arange(ROWS)).all()
    assert (x_of(table)[:CHUNK] == np.arange(CHUNK)[::-1]).all()


def test_inout_nulls_and_codes(table: Table) -> None:
    table.add_column("n", "int32?")
    table.add_column("c", "category?")
    table["n"] = 1
    table["c"] = ["even", "odd"] * (ROWS // 2)

    def func(values: Any) -> None:
        values["n"][::2] = np.ma.masked
        codes = values["c"]
        codes[::4] = -1

    table.map(func, columns=(), inout=["n", "c"], workers=2, as_="numpy")
    assert table["n"].to_pylist()[:4] == [None, 1, None, 1]
    assert table["n"].null_count == ROWS // 2
    assert table["c"].to_pylist()[:5] == [None, "odd", "even", "odd", None]


def test_codes_without_a_category(table: Table) -> None:
    table.add_column("c", "category?")
    table["c"] = "one"

    def func(values: Any) -> None:
        values["c"][3] = 77

    with pytest.raises(pintable.Corrupt):
        table.map(func, columns=(), inout="c", workers=1, as_="numpy")
    assert set(table["c"].to_pylist()) == {"one"}


def test_func_without_results(table: Table, tmp_path: Any) -> None:
    def func(values: Any) -> None:
        (tmp_path / str(values["x"][0])).touch()

    table.map(func, workers=2, as_="numpy")
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == list(range(0, ROWS, CHUNK))


def test_columns_of_in_are_read_only(table: Table) -> None:
    def func(values: Any) -> None:
        values["x"][0] = 1

    with pytest.raises(ValueError, match="read-only"):
        table.map(func, workers=1, as_="numpy")


def test_masked_arrays_show_nulls(table: Table) -> None:
    table.add_column("n", "float64?")  # all null
    table.map(
        lambda n: int(isinstance(n, np.ma.MaskedArray) and bool(n.mask.all())),
        columns="n", out="y", workers=1, as_="numpy",
    )  # fmt: skip
    assert (table["y"].numpy() == 1).all()


def test_each_chunk_is_called_once(table: Table, tmp_path: Any) -> None:
    table.map(map_work.Note(str(tmp_path)), out={"y": "float64"}, workers=4, as_="numpy")
    firsts = sorted(int(path.name.split("-")[0]) for path in tmp_path.iterdir())
    assert firsts == list(range(0, ROWS, CHUNK))


# ---- wrong results -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("func", "error", "text"),
    [
        (lambda x: x[1:], pintable.Invalid, "511 values for 512 rows"),
        (lambda x: x / 2, pintable.TypeMismatch, "y"),
        (lambda x: [None] * len(x), pintable.TypeMismatch, "null"),
        (lambda x: ["text"] * len(x), pintable.TypeMismatch, "y"),
        (lambda x: None, pintable.Invalid, "returned None"),
        (lambda x: (i for i in x), pintable.TypeMismatch, "generator"),
        (lambda x: {"z": x}, pintable.Invalid, "lacks 'y'"),
        (lambda x: {"y": x, "z": x}, pintable.Invalid, "'z'"),
    ],
)
def test_wrong_result(table: Table, func: Any, error: type[Exception], text: str) -> None:
    table.add_column("y", "int64")
    with pytest.raises(error, match=text) as caught:
        table.map(func, columns="x", out="y", workers=1, as_="numpy")
    assert any("in rows 0..512 of table" in note for note in caught.value.__notes__)
    assert (table["y"].numpy() == 0).all()


def test_wrong_number_of_results(table: Table) -> None:
    outs = {"a": "int64", "b": "int64"}
    with pytest.raises(pintable.Invalid, match="tuple of 1"):
        table.map(lambda x: (x,), columns="x", out=outs, workers=1, as_="numpy")
    with pytest.raises(pintable.Invalid, match="a View"):
        table.map(lambda x: x, columns="x", out=outs, workers=1, as_="numpy")
    with pytest.raises(pintable.Invalid, match="names no column"):
        table.map(lambda x: x + 1, columns="x", workers=1, as_="numpy")


def test_wrong_arguments(table: Table) -> None:
    with pytest.raises(pintable.TypeMismatch, match="callable"):
        table.map("x", out="y")  # type: ignore[arg-type]
    with pytest.raises(pintable.NotFound):
        table.map(map_work.double, columns="nope", out="y")
    with pytest.raises(pintable.NotFound):
        table.map(map_work.double, inout="nope")
    with pytest.raises(pintable.Invalid, match="inout='x'"):
        table.map(map_work.double, columns="x", out="x")
    with pytest.raises(pintable.Invalid, match="twice"):
        table.map(map_work.double, columns=["x", "x"], out="y")
    with pytest.raises(pintable.Invalid, match="as_"):
        table.map(map_work.double, out="y", as_="polars")
    with pytest.raises(pintable.Invalid, match="threads"):
        table.map(map_work.double, out={"y": "int8"}, start_method="threads")
    with pytest.raises(pintable.OutOfRange):
        table.map(map_work.double, out="y", workers=0)
    with pytest.raises(pintable.TypeMismatch):
        table.map(map_work.double, out="y", workers="2")
    with pytest.raises(pintable.TypeMismatch):
        table.map(map_work.double, out=["y", 3])  # type: ignore[list-item]
    assert "y" not in table or table.schema["y"] == "int8"


def test_frozen_and_read_only(table: Table) -> None:
    with pytest.raises(pintable.PermissionDenied):
        Table.open(table.name, "r").map(map_work.double, out="y")
    table.freeze()
    with pytest.raises(pintable.Frozen):
        table.map(map_work.double, out="y")


def test_no_rows() -> None:
    with Table.create({"x": "int64"}, 0) as table:
        table.map(map_work.double, out={"y": "float64"})
        assert table.schema["y"] == "float64"
        with pytest.raises(pintable.Invalid, match="give it"):
            table.map(map_work.double, out="z")
        table.map(map_work.increment, inout="x")
        table.drop()


# ---- workers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_start_methods(table: Table, method: str) -> None:
    pytest.importorskip("cloudpickle")
    add = 3

    def closure(values: Any) -> Any:
        return values["x"] + add

    table.map(closure, out="y", workers=2, as_="numpy", start_method=method)
    assert (table["y"].numpy() == x_of(table) + 3).all()


@pytest.mark.parametrize("method", METHODS)
def test_without_cloudpickle(
    table: Table, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("cloudpickle", "joblib.externals.cloudpickle"):
        monkeypatch.setitem(sys.modules, name, None)
    table.map(map_work.double, out={"y": "float64"}, workers=2, as_="numpy", start_method=method)
    assert (table["y"].numpy() == x_of(table) * 2).all()
    if method == "fork":
        table.map(lambda x: x + 1, "x", {"z": "int64"}, workers=2, as_="numpy", start_method=method)
        assert (table["z"].numpy() == x_of(table) + 1).all()
        return
    with pytest.raises(pintable.MapError, match="install cloudpickle, or put the function into"):
        table.map(lambda x: x + 1, "x", {"z": "int64"}, as_="numpy", start_method=method)
    assert "z" not in table


def test_workers_are_other_processes(table: Table) -> None:
    import os

    table.map(map_work.pid_of_rows, out={"p": "int64"}, workers=3, as_="numpy")
    pids = set(table["p"].numpy().tolist())
    assert os.getpid() not in pids
    assert 1 <= len(pids) <= 3


def test_process_pool_executor(table: Table) -> None:
    with ProcessPoolExecutor(2) as executor:
        table.map(map_work.double, out="y", workers=executor, as_="numpy")
        table.map(map_work.increment, inout="x", workers=executor, as_="numpy")
    assert (x_of(table) == np.arange(ROWS) + 1).all()
    assert (table["y"].numpy() == np.arange(ROWS) * 2).all()


def test_thread_pool_executor(table: Table) -> None:
    seen = []
    with ThreadPoolExecutor(3) as executor:
        table.map(lambda v: seen.append(len(v["x"])), workers=executor, as_="numpy")
        table.map(map_work.increment, inout="x", workers=executor, as_="numpy")
    assert sum(seen) == ROWS
    assert (x_of(table) == np.arange(ROWS) + 1).all()


def test_joblib_executor(table: Table) -> None:
    pytest.importorskip("joblib")
    from joblib.externals.loky import get_reusable_executor

    executor = get_reusable_executor(max_workers=2)
    try:
        table.map(lambda v: v["x"] + 1, out="y", workers=executor, as_="numpy")
    finally:
        executor.shutdown(wait=True)
    assert (table["y"].numpy() == x_of(table) + 1).all()


def test_maps_in_several_threads(table: Table) -> None:
    errors: list[BaseException] = []

    def run(name: str, add: int) -> None:
        try:
            table.map(lambda v: v["x"] + add, out={name: "int64"}, workers=2, as_="numpy")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(f"y{i}", i)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    for i in range(4):
        assert (table[f"y{i}"].numpy() == x_of(table) + i).all()


def test_map_inside_a_worker(table: Table) -> None:
    inner = Table.create({"x": "int64"}, 2 * CHUNK, chunk_rows=CHUNK)

    def func(values: Any) -> Any:
        if values["x"][0] == 0:
            inner.map(map_work.increment, inout="x", workers=2, as_="numpy")
        return values["x"]

    table.map(func, out={"y": "int64"}, workers=2, as_="numpy")
    assert (inner["x"].numpy() == 1).all()
    inner.drop()


def test_leaves_no_job(table: Table) -> None:
    before = set(table.columns)
    table.map(map_work.increment, inout="x", workers=2, as_="numpy", name="named")
    assert set(table.columns) == before
    with pytest.raises(pintable.NotFound):
        table.job("named")
    table.map(map_work.increment, inout="x", workers=2, as_="numpy", name="named")
    assert (x_of(table) == np.arange(ROWS) + 2).all()


# ---- progress ----------------------------------------------------------------------------------


def test_progress_callable(table: Table) -> None:
    calls: list[tuple[int, int]] = []
    table.map(
        map_work.increment, inout="x", workers=2, as_="numpy",
        progress=lambda done, total: calls.append((done, total)),
    )  # fmt: skip
    assert calls[-1] == (ROWS, ROWS)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})


def test_progress_callable_that_raises(table: Table) -> None:
    def stop(done: int, total: int) -> None:
        raise StopAsyncIteration("enough")

    with pytest.raises(StopAsyncIteration, match="enough"):
        table.map(map_work.increment, inout="x", workers=2, as_="numpy", progress=stop)
    table.map(map_work.increment, inout="x", workers=2, as_="numpy")


def test_progress_lines(table: Table, capsys: pytest.CaptureFixture[str]) -> None:
    table.map(map_work.increment, inout="x", workers=2, as_="numpy", progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert f"{ROWS}/{ROWS} rows" in lines[-1]
    table.map(map_work.increment, inout="x", workers=2, as_="numpy", progress=False)
    table.map(map_work.increment, inout="x", workers=2, as_="numpy")
    assert capsys.readouterr().err == ""


class _Terminal:
    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


@pytest.mark.parametrize("has_tqdm", [True, False])
def test_progress_bar(table: Table, monkeypatch: pytest.MonkeyPatch, has_tqdm: bool) -> None:
    if has_tqdm:
        pytest.importorskip("tqdm")
    else:
        monkeypatch.setitem(sys.modules, "tqdm", None)
        monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    threads = threading.active_count()
    table.map(map_work.increment, inout="x", workers=2, as_="numpy")
    assert "increment" in terminal.text
    assert "100" in terminal.text
    assert terminal.text.endswith("\n")
    assert threading.active_count() == threads
