# SPDX-License-Identifier: Apache-2.0
"""is_shared tells by memory; writeback stores what changed, and only that."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")

import frames  # noqa: E402
import pintable  # noqa: E402

Put = Callable[..., pintable.Table]


@pytest.fixture
def put() -> Iterator[Put]:
    """from_pandas, with the tables dropped at the end."""
    made: list[pintable.Table] = []

    def make(df: Any, *args: Any, **kwargs: Any) -> pintable.Table:
        made.append(pintable.from_pandas(df, *args, **kwargs))
        return made[-1]

    yield make
    for table in made:
        table.drop()
        table.close()


def _versions(table: pintable.Table, name: str) -> list[int]:
    return [table[name].version(chunk) for chunk in range(table.chunks)]


# ---- is_shared ---------------------------------------------------------------------------------


def test_is_shared_of_each_kind_of_object(put: Put) -> None:
    table = put(pd.DataFrame({"x": [1, 2], "s": ["a", "b"]}))
    df = table.to_pandas()
    assert pintable.is_shared(df) == {"x": True, "s": frames.LARGE_STRINGS}
    assert pintable.is_shared(df["x"]) is True
    assert pintable.is_shared(df["x"].to_numpy()) is True
    assert pintable.is_shared(df["s"].array) is frames.LARGE_STRINGS
    assert pintable.is_shared(df.index) is False
    assert pintable.is_shared(pd.DataFrame({"x": [1], "s": ["a"]})) == {"x": False, "s": False}
    with pytest.raises(pintable.TypeMismatch, match="list"):
        pintable.is_shared([1])


def test_what_pandas_computes_is_not_shared(put: Put) -> None:
    df = put(
        pd.DataFrame({"x": [1, 2], "s": ["a", "b"], "m": pd.array([1, None], "Int64")})
    ).to_pandas()
    assert pintable.is_shared(df + df) == {"x": False, "s": False, "m": False}
    assert pintable.is_shared(df.copy(deep=True))["x"] is False
    assert pintable.is_shared(df[df["x"] > 1])["x"] is False
    assert pintable.is_shared(df.iloc[:1])["x"] is True
    renamed = df[["x"]].rename(columns={"x": "y"})
    assert pintable.is_shared(renamed) == {"y": frames.PANDAS >= 3}  # pandas 2 copies eagerly


def test_a_column_that_was_replaced_is_not_shared(put: Put) -> None:
    df = put(pd.DataFrame({"x": [1, 2], "y": [3, 4]})).to_pandas(writable=True)
    df["x"] = df["x"] * 2
    assert pintable.is_shared(df) == {"x": False, "y": True}


def test_duplicate_labels_are_shared_if_all_are(put: Put) -> None:
    df = put(pd.DataFrame([[1, 2]], columns=["a", "a"])).to_pandas()
    assert pintable.is_shared(df) == {"a": True}
    mixed = pd.concat([df, pd.DataFrame({"a": [1]})], axis=1)
    assert pintable.is_shared(mixed) == {"a": False}


def test_no_rows_are_not_shared(put: Put) -> None:
    df = put(pd.DataFrame({"x": np.empty(0)})).to_pandas()
    assert pintable.is_shared(df) == {"x": False}


# ---- writeback ---------------------------------------------------------------------------------


def test_a_shared_column_is_marked_and_nothing_is_stored(put: Put) -> None:
    table = put(pd.DataFrame({"x": np.arange(2000), "y": 0.5}), chunk_rows=512)
    df = table.to_pandas(writable=True)
    before = _versions(table, "x")
    df.iloc[0, 0] = 5
    others = _versions(table, "y")
    df["y"] = np.full(2000, 0.5)
    assert table.writeback(df) == {"x": 0, "y": 0}
    assert all(a < b for a, b in zip(before, _versions(table, "x"), strict=True))
    assert _versions(table, "y") == others


def test_only_chunks_that_differ_are_written(put: Put) -> None:
    table = put(pd.DataFrame({"x": np.arange(2000.0), "y": 1}), chunk_rows=512)
    df = frames.copied(table.to_pandas())
    before = _versions(table, "x")
    df.loc[600, "x"] = -1.0
    df.loc[1999, "x"] = np.nan
    assert table.writeback(df) == {"x": 512 + 2000 - 3 * 512, "y": 0}
    changed = [a != b for a, b in zip(before, _versions(table, "x"), strict=True)]
    assert changed == [False, True, False, True]
    assert table["x"].numpy()[600] == -1.0 and np.isnan(table["x"].numpy()[1999])
    assert table.writeback(df) == {"x": 0, "y": 0}
    assert [a != b for a, b in zip(before, _versions(table, "x"), strict=True)] == changed


@pytest.mark.parametrize("row", frames.ROWS, ids=[row.dtype for row in frames.ROWS])
def test_every_dtype_is_written_back(row: frames.Row, put: Put) -> None:
    series = row.make()
    table = put(pd.DataFrame({"x": series}))
    same = frames.copied(table.to_pandas())
    assert table.writeback(same) == {"x": 0}
    other = same.iloc[::-1].reset_index(drop=True).copy()
    if table.schema["x"].startswith("text"):
        if row.dtype != "object: text":
            assert "text" in table.schema["x"]
        with pytest.raises(pintable.TypeMismatch, match="'x', row 0: text is fixed"):
            table.writeback(other)
        return
    symmetric = [str(v) for v in other["x"]] == [str(v) for v in same["x"]]
    assert table.writeback(other) == {"x": 0 if symmetric else len(series)}
    assert [str(v) for v in table.to_pandas()["x"]] == [str(v) for v in other["x"]]
    assert table.to_pandas()["x"].dtype == same["x"].dtype


def test_writeback_leaves_the_text_of_the_frame_as_it_is(put: Put) -> None:
    """Of an unpickled frame pandas gives its own objects, even where a copy is asked for."""
    df = frames.copied(pd.DataFrame({"x": pd.array(["a", None], pd.StringDtype("python"))}))
    table = put(df)
    for _ in range(2):
        assert table.writeback(df) == {"x": 0}
        assert df["x"].isna().tolist() == [False, True] and df["x"].array._ndarray[1] is pd.NA


def test_nulls_of_a_shared_masked_column_are_stored(put: Put) -> None:
    table = put(
        pd.DataFrame({"m": pd.array([1, 2, 3], "Int64"), "b": pd.array([True] * 3, "boolean")})
    )
    df = table.to_pandas(writable=True)
    df.loc[1, "m"] = pd.NA
    assert pintable.is_shared(df)["m"] and table["m"].null_count == 0
    assert table.writeback(df) == {"m": 3, "b": 0}
    assert table["m"].null_mask().tolist() == [False, True, False]


def test_nulls_of_shared_categories_and_times_are_stored(put: Put) -> None:
    table = put(
        pd.DataFrame({"c": pd.Categorical(["a", "b"]), "t": pd.to_datetime(["2020", None])})
    )
    df = table.to_pandas(writable=True)
    df.iloc[0, 0] = None
    df.iloc[1, 1] = pd.Timestamp("2021")
    assert table.writeback(df) == {"c": 2, "t": 2}
    assert table["c"].null_mask().tolist() == [True, False]
    assert table["t"].null_mask().tolist() == [False, False]
    assert table.to_pandas()["t"].tolist() == [pd.Timestamp("2020"), pd.Timestamp("2021")]


def test_new_categories_are_added(put: Put) -> None:
    table = put(
        pd.DataFrame({"c": pd.Categorical(["a", "b", None]), "i": pd.Categorical([1, 2, 1])})
    )
    df = frames.copied(table.to_pandas())
    df["c"] = pd.Series(["new", None, "b"], dtype=object)
    df["i"] = pd.Categorical([9, 1, None])
    assert table.writeback(df) == {"c": 3, "i": 3}
    back = table.to_pandas()
    assert back["c"].astype(object).where(back["c"].notna(), None).tolist() == ["new", None, "b"]
    assert back["i"].tolist()[:2] == [9, 1] and back["i"].isna()[2]
    assert table["c"].categories == ["a", "b", "new"] and table["i"].categories == ["1", "2", "9"]


def test_no_room_for_categories_is_said_before_anything_is_stored(put: Put) -> None:
    table = put(pd.DataFrame({"x": [1] * 200, "c": pd.Categorical(["a"] * 200)}))
    df = pd.DataFrame({"x": [2] * 200, "c": [f"new {i}" for i in range(200)]})
    with pytest.raises(pintable.TypeMismatch, match="'c': no room"):
        table.writeback(df)
    assert set(table["x"].numpy()) == {1}


REFUSED: dict[str, tuple[Any, Any, str]] = {
    "float into int": ([1, 2], [1.0, 2.5], r"row 1: a column of int64 does not hold .*2\.5"),
    "nan into int": ([1, 2], [np.nan, 2.0], r"row 0: a column of int64"),
    "too large": (np.array([1, 2], "i1"), [1, 300], r"row 1: a column of int8 does not hold .*300"),
    "negative": (np.array([1, 2], "u8"), [1, -1], r"row 1: a column of uint64"),
    "missing into int": ([1, 2], pd.array([1, None], "Int64"), "row 1: the column is not nullable"),
    "bool into int": ([1, 2], [True, False], "bool values"),
    "int into bool": ([True, False], [1, 0], "int64 values"),
    "text into int": ([1, 2], ["a", "b"], "column of numbers"),
    "int into time": (pd.to_datetime(["2020", "2021"]), [1, 2], "int64 values"),
    "zone": (pd.to_datetime(["2020", "2021"]),
             pd.to_datetime(["2020", "2021"]).tz_localize("UTC"), "zone"),
    "finer time": (np.array([1, 2], "M8[s]"), np.array([1, 1500], "M8[ms]"), "row 0: a time in ms"),
    "finer span": (np.array([1, 2], "m8[s]"), np.array([1000, 1500], "m8[ms]"),
                   "row 1: a time in ms"),
    "span into int": ([1, 2], np.array([1, 2], "m8[s]"), "another thing"),
    "large float into float32": (np.array([1, 2], "f4"), [0.5, 1e300],
                                 "row 1: a column of float32"),
    "int into category": (pd.Categorical(["a", "b"]), [1, 2], "column of categories"),
    "int categories": (pd.Categorical(["a", "b"]), pd.Categorical([1, 2]), "another type"),
    "int into text": (["a", "b"], [1, 2], "column of text"),
    "a time of day": ([datetime.date(2020, 1, 1)] * 2,
                      pd.to_datetime(["2020-01-01 00:00", "2020-01-01 12:00"]),
                      "row 1: a date has no time"),
    "longer arrays": ([np.zeros(2), np.zeros(2)], [np.zeros(3), np.zeros(3)], "another shape"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_does_not_fit_is_said_before_anything_is_stored(kind: str, put: Put) -> None:
    stored, values, text = REFUSED[kind]
    table = put(pd.DataFrame({"first": [1, 2], "x": stored}))
    before = [str(v) for v in table.to_pandas()["x"]]
    with pytest.raises(pintable.TypeMismatch, match=f"column 'x'.*{text}"):
        table.writeback(pd.DataFrame({"first": [8, 9], "x": values}))
    assert table["first"].numpy().tolist() == [1, 2]
    assert [str(v) for v in table.to_pandas()["x"]] == before


FITS: dict[str, tuple[Any, Any, list]] = {
    "whole floats into int": ([1, 2], [3.0, -(2.0**53)], [3, -(2**53)]),
    "int into float": ([0.5, 1], [3, 2**53], [3.0, 2.0**53]),
    "masked into int": ([1, 2], pd.array([3, 4], "Int8"), [3, 4]),
    "int into masked": (pd.array([1, None], "Int64"), [3, 4], [3, 4]),
    "coarser time": (np.array([1, 2], "M8[ms]"), np.array([3, "NaT"], "M8[s]"),
                     [pd.Timestamp("1970-01-01 00:00:03"), pd.NaT]),
    "coarser span": (np.array([1, 2], "m8[ns]"), np.array([3, 4], "m8[s]"),
                     [pd.Timedelta(3, "s"), pd.Timedelta(4, "s")]),
    "missing all": (pd.array([1, 2], "Int64"), [None, None], [pd.NA, pd.NA]),
    "times into dates": ([datetime.date(2020, 1, 1)] * 2, np.array(["2021-05-05", "NaT"], "M8[s]"),
                         [datetime.date(2021, 5, 5), None]),
    "other zone object": (pd.to_datetime(["2020", "2021"]).tz_localize("UTC"),
                          pd.to_datetime(["2022", "2023"]).tz_localize(datetime.UTC),
                          list(pd.to_datetime(["2022", "2023"]).tz_localize("UTC"))),
}  # fmt: skip


@pytest.mark.parametrize("kind", FITS)
def test_values_of_another_dtype_that_fit_exactly_are_stored(kind: str, put: Put) -> None:
    stored, values, expected = FITS[kind]
    table = put(pd.DataFrame({"x": stored}))
    before = table.to_pandas()["x"].dtype
    assert table.writeback(pd.DataFrame({"x": values})) == {"x": 2}
    back = table.to_pandas()["x"]
    assert [str(v) for v in back] == [str(v) for v in expected] and back.dtype == before


def test_new_columns_are_added(put: Put) -> None:
    table = put(pd.DataFrame({"x": [1, 2]}))
    df = table.to_pandas()
    df["s"] = ["a", None]
    df[("t", 1)] = pd.Categorical([1, None])
    assert table.writeback(df) == {"x": 0, "s": 2, ("t", 1): 2}
    back = table.to_pandas()
    assert back.columns.tolist() == ["x", "s", ("t", 1)]
    assert back["s"].isna().tolist() == [False, True]
    assert back[("t", 1)].cat.categories.tolist() == [1]


def test_a_frame_of_other_rows_or_something_else_is_refused(put: Put) -> None:
    table = put(pd.DataFrame({"x": [1, 2]}))
    with pytest.raises(pintable.Invalid, match="1 rows.*has 2"):
        table.writeback(pd.DataFrame({"x": [1]}))
    with pytest.raises(pintable.Invalid, match="DataFrame, not Series"):
        table.writeback(pd.Series([1, 2]))


def test_read_only_and_frozen_tables_are_refused(put: Put) -> None:
    table = put(pd.DataFrame({"x": [1, 2]}))
    with pintable.open(table.name, "r") as reader, pytest.raises(pintable.PermissionDenied):
        reader.writeback(pd.DataFrame({"x": [3, 4]}))
    table.freeze()
    with pytest.raises(pintable.Frozen):
        table.writeback(pd.DataFrame({"x": [3, 4]}))


def test_rows_in_another_order_are_not_taken_for_the_column(put: Put) -> None:
    table = put(pd.DataFrame({"x": [1, 2, 3], "s": ["a", "b", "c"], "y": [7, 8, 9]}))
    df = table.to_pandas()
    swapped = pd.DataFrame({"x": df["y"].array, "y": df["x"].array[::-1]}, copy=False)
    assert pintable.is_shared(swapped) == {"x": True, "y": True}
    assert table.writeback(swapped) == {"x": 3, "y": 3}
    assert table.to_pandas(["x", "y"]).to_numpy().tolist() == [[7, 3], [8, 2], [9, 1]]


def test_duplicate_labels_go_back_in_order(put: Put) -> None:
    table = put(pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"]))
    assert table.writeback(pd.DataFrame([[1, 9], [3, 8]], columns=["a", "a"])) == {"a": 2}
    assert table["a"].numpy().tolist() == [1, 3] and table["a_2"].numpy().tolist() == [9, 8]


def test_odd_labels_find_their_columns(put: Put) -> None:
    labels = pd.Index([1, True, float("nan"), pd.NA, None, "1", ("a", 2)], dtype=object)
    df = pd.DataFrame([range(7), range(7)], columns=labels)
    table = put(df)
    changed = frames.copied(table.to_pandas())
    changed.iloc[:, :] = 9
    assert sum(table.writeback(changed).values()) == 14  # 1 and True are one key of a dict
    assert len(table.columns) == 7
    assert table.to_pandas().to_numpy().tolist() == [[9] * 7] * 2


def test_a_failure_while_storing_puts_the_chunk_back(
    put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pintable._frame import writeback as _writeback

    table = put(pd.DataFrame({"x": np.arange(1024)}), chunk_rows=512)
    store = _writeback._store

    def fail(entry: Any, values: Any, first: int, n: int) -> None:
        store(entry, values, first, n)
        if first:
            raise KeyboardInterrupt

    monkeypatch.setattr(_writeback, "_store", fail)
    with pytest.raises(KeyboardInterrupt):
        table.writeback(pd.DataFrame({"x": np.arange(1024) + 5}))
    with table.reading() as part:
        assert part["x"].tolist() == [*range(5, 517), *range(512, 1024)]


# ---- values that are views of the table ---------------------------------------------------------

_N = 2000


def _three(put: Put) -> pintable.Table:
    values = np.arange(_N, dtype="f8")
    df = pd.DataFrame({"a": values, "b": values * 10, "i": pd.array(range(_N), dtype="Int64")})
    return put(df, chunk_rows=512)


@pytest.mark.parametrize("writable", [False, True])
def test_writeback_of_columns_that_are_views_of_each_other(put: Put, writable: bool) -> None:
    values = np.arange(_N, dtype="f8")
    table = _three(put)
    df = table.to_pandas(writable=writable)
    df["b"] = df["a"]
    df["c"] = df["a"]
    df["a"] = -1.0
    table.writeback(df)
    assert (table["a"].numpy() == -1).all()
    assert (table["b"].numpy() == values).all()
    assert (table["c"].numpy() == values).all()

    table = _three(put)
    df = table.to_pandas(writable=writable).rename(columns={"a": "b", "b": "a"})
    table.writeback(df)
    assert (table["a"].numpy() == values * 10).all()
    assert (table["b"].numpy() == values).all()

    table = _three(put)
    df = table.to_pandas(writable=writable)
    df.columns = ["b", "a", "i"]
    table.writeback(df)
    assert (table["a"].numpy() == values * 10).all()
    assert (table["b"].numpy() == values).all()


@pytest.mark.parametrize("writable", [False, True])
def test_writeback_of_rows_in_another_order(put: Put, writable: bool) -> None:
    values = np.arange(_N, dtype="f8")
    table = _three(put)
    df = table.to_pandas(writable=writable)
    table.writeback(df.iloc[::-1])
    assert (table["a"].numpy() == values[::-1]).all()
    assert (table["b"].numpy() == values[::-1] * 10).all()
    assert table["i"].to_pylist() == list(range(_N))[::-1]


def test_writeback_of_views_through_another_handle(put: Put) -> None:
    table = _three(put)
    with pintable.open(table.name, "r") as other:
        df = other.to_pandas()
        df["a"], df["b"] = df["b"], df["a"]
        table.writeback(df)
    assert (table["b"].numpy() == np.arange(_N)).all()
    assert (table["a"].numpy() == np.arange(_N) * 10).all()


def test_missing_set_in_a_writable_frame_is_missing_for_all_at_once(put: Put) -> None:
    stamps = pd.to_datetime(["2020", "2021", "2022"])
    table = put(pd.DataFrame({"c": pd.Categorical(list("abc")), "t": stamps}))
    df = table.to_pandas(writable=True)
    df.loc[1, "c"] = None
    df.loc[1, "t"] = pd.NaT
    assert pintable.is_shared(df) == {"c": True, "t": True}
    for _ in range(2):
        assert table["c"].to_pylist() == ["a", None, "c"]
        assert table["c"][1] is None and list(table["c"][:]) == ["a", None, "c"]
        assert table["t"][1] is None
        assert table.to_pandas().isna().sum().tolist() == [1, 1]
        table.writeback(df)
    assert table["c"].null_count == table["t"].null_count == 1
