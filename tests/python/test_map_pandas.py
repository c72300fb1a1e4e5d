# SPDX-License-Identifier: Apache-2.0
"""Table.map with frames: what func gets, what it may return, index and labels, missing values."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import map_work
import pintable
from pintable import Table

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")

CHUNK = 512
ROWS = 4 * CHUNK - 100


def frame() -> Any:
    rng = np.random.default_rng(7)
    return pd.DataFrame(
        {
            "x": np.arange(ROWS),
            "f": rng.normal(size=ROWS),
            "n": pd.array([None if i % 3 == 0 else i for i in range(ROWS)], dtype="Int64"),
            "s": [f"name {i % 10}" for i in range(ROWS)],
            "c": pd.Categorical([("low", "high")[i % 2] for i in range(ROWS)]),
        },
        index=pd.Index([f"row {i}" for i in range(ROWS)], name="key"),
    )


def same(got: Any, expected: Any) -> None:
    """Labels, index, missing values and values agree, and dtypes but for the text column's."""
    assert list(got.columns) == list(expected.columns)
    assert got.index.equals(expected.index) and got.index.names == expected.index.names
    for label in expected.columns:
        assert label == "s" or got[label].dtype == expected[label].dtype
        assert (got[label].isna() == expected[label].isna()).all()
        assert (got[label].dropna().astype(object) == expected[label].dropna().astype(object)).all()


@pytest.fixture
def df() -> Any:
    return frame()


@pytest.fixture
def table(df: Any) -> Iterator[Table]:
    table = Table.from_pandas(df, chunk_rows=CHUNK)
    yield table
    if not table.closed and not table.dropped:
        table.drop()
    table.close()


def test_frame_is_the_chunk(table: Table, df: Any) -> None:
    def func(part: Any) -> Any:
        first = int(part["x"].iloc[0])
        same(part, df.iloc[first : first + CHUNK])
        return part["x"] + part["f"]

    table.map(func, out="y", workers=2)
    got = table.to_pandas()
    assert list(got.columns) == [*df.columns, "y"]
    assert (got["y"] == df["x"] + df["f"]).all()
    same(got[df.columns.tolist()], df)


def test_one_name_gives_a_series(table: Table, df: Any) -> None:
    def func(series: Any) -> Any:
        assert type(series) is pd.Series and series.name == "f"
        assert series.index.name == "key"
        return series.abs()

    table.map(func, columns="f", out="y", workers=2)
    assert (table["y"].numpy() == df["f"].abs().to_numpy()).all()


def test_columns_choose_and_order(table: Table) -> None:
    def func(part: Any) -> Any:
        assert list(part.columns) == ["s", "x"]
        return part["x"]

    table.map(func, columns=["s", "x"], out="y", workers=1)


def test_text_result_is_a_category(table: Table, df: Any) -> None:
    table.map(lambda s: s.str.upper().where(s != "name 3"), columns="s", out="u", workers=2)
    assert table["u"].dtype.startswith("category")
    expected = [None if s == "name 3" else s.upper() for s in df["s"]]
    assert table["u"].to_pylist() == expected
    found = table.to_pandas()["u"]
    assert isinstance(found.dtype, pd.CategoricalDtype)
    assert [None if pd.isna(v) else v for v in found] == expected


def test_categorical_result(table: Table) -> None:
    def func(part: Any) -> Any:  # categories differ from chunk to chunk
        return pd.Categorical([f"k{v // 100}" if v % 7 else None for v in part["x"]])

    table.map(func, out="k", workers=2)
    assert table["k"].to_pylist() == [f"k{v // 100}" if v % 7 else None for v in range(ROWS)]


def test_masked_result(table: Table, df: Any) -> None:
    table.map(lambda n: n * 2, columns="n", out="m", workers=2)
    assert table["m"].dtype == "int64?"
    found = table.to_pandas()["m"]
    assert found.dtype == "Int64"
    assert (found.isna() == df["n"].isna()).all()
    assert (found.dropna() == df["n"].dropna() * 2).all()


def test_datetime_result(table: Table) -> None:
    def func(x: Any) -> Any:
        return pd.to_datetime(x, unit="s").where(x % 2 == 0)

    table.map(func, columns="x", out="when", workers=2)
    found = table.to_pandas()["when"]
    assert found.isna().sum() == ROWS // 2
    assert found.iloc[100] == pd.Timestamp(100, unit="s")


def test_frame_of_results(table: Table, df: Any) -> None:
    def func(part: Any) -> Any:
        part = part.copy()
        part["a"] = part["x"] * 2
        part["b"] = part["f"] > 0
        return part

    table.map(func, out=["b", "a"], workers=2)
    assert (table["a"].numpy() == np.arange(ROWS) * 2).all()
    assert (table["b"].numpy() == (df["f"] > 0).to_numpy()).all()
    with pytest.raises(pintable.Invalid, match="no column 'z'"):
        table.map(lambda part: part.assign(a=1), out={"a": "int64", "z": "int64"}, workers=1)


def test_result_in_another_order_is_aligned(table: Table, df: Any) -> None:
    table.map(lambda part: part["f"].sort_values(), columns=["f"], out="y", workers=2)
    assert (table["y"].numpy() == df["f"].to_numpy()).all()


def test_result_without_labels_is_taken_as_it_stands(table: Table) -> None:
    table.map(lambda part: pd.Series(part["x"].to_numpy() * 3), columns=["x"], out="y", workers=2)
    assert (table["y"].numpy() == np.arange(ROWS) * 3).all()


def test_result_with_other_labels_is_refused(table: Table) -> None:
    def func(part: Any) -> Any:
        return pd.Series(range(len(part)), index=range(5, 5 + len(part)))

    with pytest.raises(pintable.Invalid, match="not the index of the chunk"):
        table.map(func, columns=["x"], out={"y": "int64"}, workers=1)


def test_inout_changes_are_stored_however_made(table: Table, df: Any) -> None:
    def func(part: Any) -> None:
        part["x"] += 1  # a new array under pandas 3
        part.loc[part["f"] < 0, "f"] = 0.0
        part["n"] = part["n"].fillna(-1)
        part["c"] = ["low"] * len(part)

    table.map(func, columns=(), inout=["x", "f", "n", "c"], workers=2)
    assert (table["x"].numpy() == np.arange(ROWS) + 1).all()
    assert (table["f"].numpy() == df["f"].clip(lower=0).to_numpy()).all()
    assert table["n"].null_count == 0
    assert table["n"].to_pylist() == [-1 if i % 3 == 0 else i for i in range(ROWS)]
    assert set(table["c"].to_pylist()) == {"low"}


def test_inout_exchanged(table: Table, df: Any) -> None:
    table.add_column("z", "int64")

    def func(part: Any) -> Any:
        part["x"], part["z"] = part["z"], part["x"]
        return part["z"] + 1

    table.map(func, columns=(), inout=["x", "z"], out="y", workers=2)
    assert (table["x"].numpy() == 0).all()
    assert (table["z"].numpy() == np.arange(ROWS)).all()
    assert (table["y"].numpy() == np.arange(ROWS) + 1).all()


def test_inout_survives_a_death(table: Table, tmp_path: Path) -> None:
    def func(part: Any) -> Any:
        at = int(part["x"].iloc[0])
        part["x"] += 1
        if at == CHUNK and map_work.first_time(f"{tmp_path}/died"):
            os.kill(os.getpid(), signal.SIGKILL)
        return part["x"] * 2

    table.map(func, columns=(), inout="x", out={"y": "int64"}, workers=2)
    assert (table["x"].numpy() == np.arange(ROWS) + 1).all()
    assert (table["y"].numpy() == (np.arange(ROWS) + 1) * 2).all()


def test_wrong_results_are_stored_nowhere(table: Table) -> None:
    def func(part: Any) -> Any:
        part["x"] = -1
        return part["f"]

    with pytest.raises(pintable.TypeMismatch) as caught:
        table.map(func, columns=["f"], inout="x", out={"y": "int64"}, workers=1)
    assert "column 'y'" in "".join(caught.value.__notes__) + str(caught.value)
    assert (table["x"].numpy() == np.arange(ROWS)).all()


def test_columns_of_in_are_read_only(table: Table) -> None:
    def func(part: Any) -> Any:
        assert not part["f"].to_numpy().flags.writeable
        return 1

    table.map(func, out={"y": "int64"}, workers=1)


def test_missing_inout_column(table: Table) -> None:
    def func(part: Any) -> None:
        del part["x"]

    with pytest.raises(pintable.Invalid, match="column 'x' is not in the frame any more"):
        table.map(func, columns=["f"], inout="x", workers=1)


def test_trial_run_changes_nothing(table: Table, tmp_path: Path) -> None:
    def func(part: Any) -> Any:
        part["x"] += 1
        return part["x"].astype("float32")

    table.map(func, columns=["f"], inout="x", out="y", workers=2)
    assert table["y"].dtype == "float32"
    assert (table["x"].numpy() == np.arange(ROWS) + 1).all()


def test_trial_run_that_fails_says_so(table: Table) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        table.map(lambda part: 1 / 0, out="y", workers=1)
    assert "tried to find the type of the new columns" in caught.value.__notes__[0]
    assert "y" not in table
    with pytest.raises(pintable.TypeMismatch) as mismatch:
        table.map(lambda part: pd.NA, out={"y": None}, workers=1)
    assert "out={'y': ...}" in mismatch.value.__notes__[0]
    assert "y" not in table


def test_new_columns_stay_after_a_failure(table: Table) -> None:
    def func(part: Any) -> Any:
        if part["x"].iloc[0] >= 2 * CHUNK:
            raise ValueError("late")
        return part["x"]

    with pytest.raises(ValueError, match="late") as caught:
        table.map(func, out="y", workers=1)
    assert caught.value.__notes__[-1] == "new column y stays, with the results so far"
    assert (table["y"].numpy()[: 2 * CHUNK] == np.arange(2 * CHUNK)).all()


def test_labels_that_are_no_names() -> None:
    df = pd.DataFrame(np.arange(2.0 * ROWS).reshape(ROWS, 2), columns=[10, ("a", 1)])
    with Table.from_pandas(df, chunk_rows=CHUNK) as table:

        def func(part: Any) -> Any:
            assert list(part.columns) == [10, ("a", 1)]
            return part[10] + part[("a", 1)]

        table.map(func, columns=[10, ("a", 1)], out="y", workers=1)
        assert (table["y"].numpy() == df.sum(axis=1).to_numpy()).all()
        table.drop()


def test_equal_labels() -> None:
    df = pd.DataFrame(np.arange(2.0 * ROWS).reshape(ROWS, 2), columns=["a", "a"])
    with Table.from_pandas(df, chunk_rows=CHUNK) as table:
        table.map(lambda part: part.iloc[:, 1], out="y", workers=1)
        assert (table["y"].numpy() == df.iloc[:, 1].to_numpy()).all()
        with pytest.raises(pintable.Invalid, match='as_="numpy"'):
            table.map(lambda part: None, columns=(), inout=table.columns[:2], workers=1)
        table.drop()


def test_default_is_pandas_and_all_columns(table: Table) -> None:
    table.map(lambda part: part.shape[1] + isinstance(part, pd.DataFrame), out="k", workers=1)
    assert (table["k"].numpy() == 6).all()
    table.map(lambda part: part.shape[1], out="k", workers=1)  # not the out column itself
    assert (table["k"].numpy() == 5).all()
