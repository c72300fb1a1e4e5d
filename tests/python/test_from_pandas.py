# SPDX-License-Identifier: Apache-2.0
"""Frames go into tables and come out as they were; what would not is refused and leaves nothing."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")

import frames  # noqa: E402
import pintable  # noqa: E402
from pandas.testing import assert_index_equal  # noqa: E402

PAGE = Path(__file__).parents[2] / "docs" / "python-dtypes.md"
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
        if not table.closed:
            if not table.dropped:
                table.drop()
            table.close()


def _stored(table: pintable.Table, name: str) -> str:
    return re.sub(r"^(text|category\[\w+)[^?]*?(\]?)(\??)$", _without_room, table.schema[name])


def _without_room(found: re.Match[str]) -> str:
    closing = "]" if found[1].startswith("category") else ""
    return found[1] + closing + found[3]


def _expect(row: frames.Row, series: pd.Series) -> pd.Series:
    return series if row.back is None else series.astype(row.back())


ids = [row.dtype for row in frames.ROWS]


# ---- dtypes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", frames.ROWS, ids=ids)
def test_dtype_is_stored_and_comes_back_as_the_page_says(row: frames.Row, put: Put) -> None:
    series = row.make()
    table = put(pd.DataFrame({"x": series}))
    unit = getattr(series.dtype, "unit", "")
    assert _stored(table, "x") == row.stored.replace("UNIT", unit)
    back = table.to_pandas()["x"]
    frames.assert_same(back, _expect(row, series.rename("x")))
    assert pintable.is_shared(back) == row.shared


@pytest.mark.parametrize("row", [r for r in frames.ROWS if r.writable],
                         ids=[r.dtype for r in frames.ROWS if r.writable])  # fmt: skip
def test_writable_writes_through(row: frames.Row, put: Put) -> None:
    table = put(pd.DataFrame({"x": row.make()}))
    df = table.to_pandas(writable=True)
    first = df["x"].iloc[0]
    df.iloc[2, 0] = first
    assert pintable.is_shared(df) == {"x": True}
    assert table.to_pandas()["x"].iloc[2] == first


@pytest.mark.parametrize("row", frames.ROWS, ids=ids)
def test_no_rows_and_no_missing_values_keep_the_dtype(row: frames.Row, put: Put) -> None:
    series = row.make()
    if row.dtype.startswith("object: ") and row.dtype != "object: text":
        series = series[series.notna()].reset_index(drop=True)
        dtypes = [put(pd.DataFrame({"x": series})).to_pandas()["x"].dtype]
    else:
        parts = [series.iloc[:0], series[series.notna()].reset_index(drop=True)]
        dtypes = [put(pd.DataFrame({"x": part})).to_pandas()["x"].dtype for part in parts]
    assert all(dtype == _expect(row, series).dtype for dtype in dtypes)


def test_the_page_has_every_dtype_tested_here_and_no_other() -> None:
    first_table = PAGE.read_text().partition("\n## ")[0]
    lines = [line for line in first_table.splitlines() if line.startswith("| `")]
    page = {}
    for line in lines:
        cells = [cell.strip().replace("`", "") for cell in line.strip("|").split("|")]
        page[cells[0]] = cells
    tested = {row.dtype: row for row in frames.ALL_ROWS}
    only_new = {"str (pandas 3)"}
    assert set(page) - set(tested) <= only_new and set(tested) <= set(page)
    for name, row in tested.items():
        _, stored, _, shared, writable = page[name][:5]
        assert (stored, writable) == (row.stored, "yes" if row.writable else "no"), name
        if frames.LARGE_STRINGS:  # the page is about pandas 2.2 and newer
            assert shared == ("yes" if row.shared else "no"), name


def test_all_dtypes_in_one_frame(put: Put) -> None:
    df = frames.frame_of_all()
    back = put(df).to_pandas()
    assert list(back.columns) == list(df.columns)
    for row in frames.ROWS:
        frames.assert_same(back[row.dtype], _expect(row, df[row.dtype]))


def test_float_nan_is_a_value_and_na_is_a_null(put: Put) -> None:
    array = pd.arrays.FloatingArray(np.array([1.0, np.nan, 3.0]), np.array([0, 0, 1], "?"))
    masked = pd.Series(array)
    table = put(pd.DataFrame({"plain": [np.nan, 1.0, 2.0], "masked": masked}))
    assert table["plain"].null_count == 0 and table["masked"].null_count == 1
    assert np.isnan(table["plain"].numpy()[0]) and np.isnan(table["masked"].numpy()[1])
    back = table.to_pandas()["masked"].array
    assert np.isnan(back._data[1]) and back._mask.tolist() == [False, False, True]


def test_object_floats_keep_nan_apart_from_none(put: Put) -> None:
    values = pd.Series([1.5, None, float("nan")], dtype=object)
    table = put(pd.DataFrame({"x": values}))
    back = table.to_pandas()["x"].tolist()
    assert back[:2] == [1.5, None] and back[2] != back[2]
    assert table["x"].null_count == 1


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA], ids=["None", "NaN", "NA"])
def test_missing_text_stays_missing(missing: Any, put: Put) -> None:
    table = put(pd.DataFrame({"s": pd.Series(["None", missing, "nan", ""], dtype=object)}))
    assert table["s"].null_mask().tolist() == [False, True, False, False]
    back = table.to_pandas()["s"]
    assert back.isna().tolist() == [False, True, False, False]
    assert back[0] == "None" and back[2] == "nan" and back[3] == ""


class Text(str):
    """A subclass."""


def test_text_of_every_kind_of_str(put: Put) -> None:
    texts = [Text("sub"), np.str_("np"), "日本語 😀", "nul\0inside\0", "", "a" * 5000]
    table = put(pd.DataFrame({"s": pd.Series(texts, dtype=object)}))
    assert table.to_pandas(strings="object")["s"].tolist() == [str(text) for text in texts]
    assert table.to_pandas()["s"].tolist() == [str(text) for text in texts]


def test_columns_that_are_all_missing_are_text(put: Put) -> None:
    table = put(pd.DataFrame({"s": pd.Series([None, np.nan, pd.NA], dtype=object)}))
    assert table.schema["s"].startswith("text") and table["s"].null_count == 3
    assert table.to_pandas()["s"].isna().all()


def test_arrow_chunks_and_offsets_are_put_together(put: Put) -> None:
    pa = pytest.importorskip("pyarrow")
    parts = [pa.array(["x", "a", None, "bc"])[1:], pa.array([], pa.string()), pa.array(["", "ü"])]
    text = pd.Series(pd.arrays.ArrowExtensionArray(pa.chunked_array(parts)))
    bools = [pa.array([None, True, False, None])[1:], pa.array([True, False])]
    ints = [pa.array([9, 1, None, 3])[1:], pa.array([], pa.int64()), pa.array([None, 5])]
    lists = [pa.array([[0, 0], [1, 2], None, [3, 4]], pa.list_(pa.int16(), 2))[1:],
             pa.array([[5, 6], None], pa.list_(pa.int16(), 2))]  # fmt: skip
    words = [pa.array(["x", "a", None, "b"]).dictionary_encode()[1:],
             pa.array(["c", "a"]).dictionary_encode()]  # fmt: skip
    df = pd.DataFrame({"text": text})
    for name, chunks in {"bools": bools, "ints": ints, "lists": lists, "words": words}.items():
        df[name] = pd.Series(pd.arrays.ArrowExtensionArray(pa.chunked_array(chunks)))
    back = put(df).to_pandas()
    for name in df:
        assert back[name].tolist() == df[name].tolist() or all(
            (a is pd.NA and b is pd.NA) or np.array_equal(a, b)
            for a, b in zip(back[name], df[name], strict=True)
        ), name
        assert back[name].dtype == df[name].dtype


# ---- times -------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "+05:30", "-01:00", "zoneinfo", "pytz"])
def test_zones_come_back_as_the_same_zone(zone: str, put: Put) -> None:
    import zoneinfo

    name: Any = zone
    if zone == "zoneinfo":
        name = zoneinfo.ZoneInfo("America/New_York")
    elif zone == "pytz":
        name = pytest.importorskip("pytz").timezone("America/New_York")
    series = pd.Series(pd.date_range("2020-10-25", periods=4, freq="h", tz="UTC").tz_convert(name))
    back = put(pd.DataFrame({"x": series})).to_pandas()["x"]
    frames.assert_same(back, series.rename("x"))
    assert back.dtype == series.dtype


def test_nat_is_null_and_its_bytes_are_the_smallest_number(put: Put) -> None:
    table = put(pd.DataFrame({"x": pd.to_datetime(["2020-01-01", None])}))
    assert table["x"].null_mask().tolist() == [False, True]
    assert table["x"].numpy().view("i8")[1] == np.iinfo("i8").min


# ---- categories --------------------------------------------------------------------------------

CATEGORIES = {
    "text": ["b", "a", "ü"],
    "int": [3, -1, 2**40],
    "uint8": np.array([3, 200], "u1"),
    "float": [1.5, -0.1, float("inf")],
    "float32": np.array([0.1, 3], "f4"),
    "bool": [True, False],
    "datetime": pd.to_datetime(["2020-01-01 00:00:00.5", "1950-01-01 00:00:00.0"]),
    "zoned": pd.to_datetime(["2020-01-01", "1950-01-01"]).tz_localize("Europe/Berlin"),
    "timedelta": pd.to_timedelta([5, -1], unit="s"),
    "date": [datetime.date(2020, 1, 1), datetime.date(1, 1, 1)],
    "object text": pd.Index(["b", "a"], dtype=object),
    "none at all": pd.Index([], dtype=object),
    "string": pd.Index(["b", "a"], dtype="string"),
}


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("kind", CATEGORIES)
def test_categories_come_back_in_order_and_dtype(kind: str, ordered: bool, put: Put) -> None:
    dtype = pd.CategoricalDtype(CATEGORIES[kind], ordered)
    n = len(dtype.categories)
    codes = np.array([n - 1, -1, 0, 0] if n else [-1, -1, -1, -1], dtype="i1")
    series = pd.Series(pd.Categorical.from_codes(codes, dtype=dtype), name="x")
    table = put(pd.DataFrame({"x": series}))
    back = table.to_pandas()["x"]
    frames.assert_same(back, series)
    assert_index_equal(back.cat.categories, series.cat.categories, exact=True)
    assert back.cat.ordered is ordered and back.cat.codes.dtype == series.cat.codes.dtype
    assert pintable.is_shared(back)
    assert table["x"].numpy().tolist() == codes.tolist()


@pytest.mark.parametrize(("n", "code"), [(100, "int8"), (127, "int16"), (40000, "int32")])
def test_codes_are_as_wide_as_pandas_has_them(n: int, code: str, put: Put) -> None:
    series = pd.Series(pd.Categorical([f"c{i}" for i in range(n)]))
    table = put(pd.DataFrame({"x": series}))
    assert table.schema["x"].startswith(f"category[{code}")
    frames.assert_same(table.to_pandas()["x"], series.rename("x"))


def test_there_is_room_for_as_many_categories_again(put: Put) -> None:
    names = [f"c{i}" for i in range(600)]
    table = put(pd.DataFrame({"x": pd.Categorical(names)}))
    for i in range(600):
        assert table["x"].add_category(f"new {i}") == 600 + i


@pytest.mark.parametrize(
    "categories", [[1, "a"], [(1, 2)], [b"x"], [datetime.time(1)], [1.5 + 2j]], ids=repr
)
def test_categories_that_would_not_come_back_are_refused(categories: list, put: Put) -> None:
    index = pd.Index(categories, tupleize_cols=False)
    series = pd.Series(pd.Categorical.from_codes([0], dtype=pd.CategoricalDtype(index)))
    with pytest.raises(pintable.TypeMismatch, match=r"column 'x' of dtype category.*categor"):
        put(pd.DataFrame({"x": series}))


# ---- labels ------------------------------------------------------------------------------------

STAMP = pd.Timestamp("2020-01-01 00:00:00.000000001")
LABELS: dict[str, Any] = {
    "int": [3, 1],
    "bool": pd.Index([True, False]),
    "None": pd.Index([None, "a"], dtype=object),
    "tuple": pd.Index([("a", 1), ("a", None)], tupleize_cols=False),
    "mixed": pd.Index([1, "1", 1.5, None, (1, ("x",)), b"b", Decimal("1.50"), 2 + 1j],
                      dtype=object),
    "times": pd.Index([STAMP, datetime.date(2020, 1, 1), datetime.time(1, 2),
                       datetime.datetime(2020, 1, 1, 1), pd.Timedelta(5, "ms"), pd.NaT, pd.NA,
                       pd.Period("2020-01", "M"), pd.Interval(0, 1.5, "left")], dtype=object),
    "duplicate": ["a", "a", "b", "a"],
    "nan": pd.Index([1.0, float("nan"), float("inf")]),
    "long": ["x" * 300, "x" * 299 + "y", "é" * 200],
    "controls": ["a\nb", "\0", "\x7f", "\x85", ""],
    "surrogate": pd.Index(["\ud800"], dtype=object),
    "clashing": [1, "1", 2.0, "2.0", "a\n", "a_"],
    "numpy": pd.Index([np.int8(5), np.float32(0.5), np.bool_(True)], dtype=object),
    "range": pd.RangeIndex(3, 9, 2, name="r"),
    "int8": pd.Index([1, 2], dtype="i1"),
    "float": pd.Index([0.5, 1.0]),
    "string": pd.Index(["a", "b"], dtype="string"),
    "object": pd.Index(["a", "b"], dtype=object, name=("n", 1)),
    "category": pd.CategoricalIndex(["a", "b"], categories=["b", "a", "c"], ordered=True),
    "datetime": pd.date_range("2020", periods=3, freq="D", name="when"),
    "zoned": pd.date_range("2020", periods=3, tz="Europe/Berlin"),
    "timedelta": pd.to_timedelta([1, 5], unit="s"),
    "period": pd.period_range("2020-01", periods=2, freq="M"),
    "interval": pd.interval_range(0, 2),
    "multi": pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["l", None]),
    "multi of dtypes": pd.MultiIndex.from_arrays(
        [pd.to_datetime(["2020", "2021"]), pd.Categorical(["x", "y"]), [1.5, 2.5]]),
}  # fmt: skip


@pytest.mark.parametrize("kind", LABELS)
def test_column_labels_come_back(kind: str, put: Put) -> None:
    columns = LABELS[kind]
    n = len(columns)
    df = pd.DataFrame(np.arange(2 * n).reshape(2, n), columns=columns)
    back = put(df).to_pandas()
    assert_index_equal(back.columns, df.columns, exact=True)
    assert list(map(type, back.columns)) == list(map(type, df.columns))
    assert back.to_numpy().tolist() == df.to_numpy().tolist()


def test_text_labels_are_the_names_of_columns(put: Put) -> None:
    table = put(pd.DataFrame([[1, 2, 3]], columns=pd.Index([1, "1", "ü x"], dtype=object)))
    assert table.columns == ["1_2", "1", "ü x"]


def test_a_column_added_later_fits_in_behind(put: Put) -> None:
    table = put(pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("a", 2)])))
    table["new"] = [7]
    assert table.to_pandas().columns.tolist() == [("a", 1), ("a", 2), ("new", "")]
    ints = put(pd.DataFrame([[1, 2]], columns=[10, 20]))
    ints["new"] = [7]
    assert ints.to_pandas().columns.tolist() == [10, 20, "new"]


def test_a_label_that_cannot_be_kept_is_refused(put: Put) -> None:
    before = pintable.list_tables()
    with pytest.raises(pintable.TypeMismatch, match="frozenset.*label"):
        put(pd.DataFrame([[1]], columns=pd.Index([frozenset([1])], dtype=object)))
    assert pintable.list_tables() == before


# ---- row index, attrs, empty frames ------------------------------------------------------------

INDEXES: dict[str, Any] = {
    "range": pd.RangeIndex(10, 4, -2, name="r"),
    "range named tuple": pd.RangeIndex(3, name=("a", 1)),
    "int": pd.Index([5, 3, 5]),
    "named": pd.Index([1, 2, 3], name="k"),
    "named as a column": pd.Index([1, 2, 3], name="x"),
    "named by an int": pd.Index([1, 2, 3], name=0),
    "int8": pd.Index([5, 3, 5], dtype="i1"),
    "float": pd.Index([0.5, float("nan"), 1]),
    "bool": pd.Index([True, False, True]),
    "text": pd.Index(["b", "a", "ü"]),
    "object text": pd.Index(["b", None, "ü"], dtype=object),
    "string": pd.Index(["b", None, "ü"], dtype=pd.StringDtype(frames.STORAGE)),
    "masked": pd.Index([1, None, 3], dtype="Int64"),
    "category": pd.CategoricalIndex(["b", "a", "b"], categories=["b", "a", "c"]),
    "datetime": pd.date_range("2020", periods=3, freq="D", name="when"),
    "datetime without freq": pd.to_datetime(["2020-01-01", None, "2021-05-01"]),
    "zoned": pd.date_range("2020-03-28", periods=3, freq="D", tz="Europe/Berlin"),
    "timedelta": pd.timedelta_range("1s", periods=3, freq="s"),
    "dates": pd.Index([datetime.date(2020, 1, i) for i in (1, 2, 3)], dtype=object),
    "multi": pd.MultiIndex.from_tuples([("a", 1.5), ("b", 2.5), ("a", 2.5)], names=["l", None]),
    "multi, one level": pd.MultiIndex.from_arrays([[1, 2, 3]], names=["only"]),
    "multi, names twice": pd.MultiIndex.from_arrays([[1, 2, 3], [4, 5, 6]], names=["l", "l"]),
    "multi of dtypes": pd.MultiIndex.from_arrays(
        [pd.to_datetime(["2020", "2021", "2019"]), pd.Categorical(["x", "y", "x"]),
         pd.array([1, None, 2], "Int8")], names=["d", ("c", 1), "x"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", INDEXES)
def test_row_index_comes_back(kind: str, put: Put) -> None:
    df = pd.DataFrame({"x": [1, 2, 3], "y": [0.5, 1, 2]}, index=INDEXES[kind])
    table = put(df)
    back = table.to_pandas()
    frames.assert_same(back, df)
    assert back.index.dtype == df.index.dtype and type(back.index) is type(df.index)
    assert getattr(back.index, "freq", None) == getattr(df.index, "freq", None)
    if isinstance(df.index, pd.RangeIndex):
        assert (back.index.start, back.index.stop, back.index.step) == (
            df.index.start, df.index.stop, df.index.step)  # fmt: skip
    part = table[1:3].to_pandas()
    frames.assert_same(part, df.iloc[1:3], check_freq=False)


def test_attrs_that_json_gives_back_survive(put: Put) -> None:
    df = pd.DataFrame({"x": [1]})
    df.attrs = {"source": "a", "deep": {"list": [1, 2.5, None]}, "not": {1: 2}, "set": {1}}
    assert put(df).to_pandas().attrs == {"source": "a", "deep": {"list": [1, 2.5, None]}}


@pytest.mark.parametrize("df", [
    pd.DataFrame(), pd.DataFrame(index=range(3)),
    pd.DataFrame(index=pd.Index(["a", "b"], name="k")),
    pd.DataFrame({"x": []}), pd.DataFrame({"x": [1]}).iloc[:0], pd.DataFrame(columns=["a", 1]),
    pd.DataFrame(index=pd.MultiIndex.from_tuples([(1, "a")])),
], ids=["nothing", "rows only", "index only", "column only", "no rows", "labels only",
        "multi only"])  # fmt: skip
def test_empty_frames(df: pd.DataFrame, put: Put) -> None:
    table = put(df)
    back = table.to_pandas()
    assert back.shape == df.shape
    assert back.columns.tolist() == df.columns.tolist() and back.index.equals(df.index)
    assert back.index.names == df.index.names


# ---- refusing ----------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Any, str]] = {
    "period": (pd.period_range("2020", periods=2, freq="D"), r"row 0 is Period.*to_timestamp"),
    "interval": (pd.interval_range(0, 2), r"row 0 is Interval.*two columns"),
    "complex": (np.array([1j, 2]), r"row 0 is .*1j.*real"),
    "sparse": (pd.arrays.SparseArray([1, 0]), r"row 0 is 1.*to_dense"),
    "mixed": ([1, "a"], r"row 1 is 'a'.*cast"),
    "text then int": (["a", "b", 3], r"row 2 is 3.*astype\(str\)"),
    "int and float": ([1, None, 2.5], r"row 2 is 2.5.*astype\(float\)"),
    "bool and int": ([True, 1], r"row 1 is 1"),
    "decimal": ([None, Decimal("1.5")], r"row 1 is Decimal.*astype"),
    "datetimes": ([datetime.datetime(2020, 1, 1)], r"row 0.*to_datetime"),
    "dicts": ([{"a": 1}], r"row 0 is \{'a': 1\}"),
    "lists": ([None, [1, 2]], r"row 1 is \[1, 2\].*numpy.asarray"),
    "huge int": ([1, 2**64], r"row 1 is 18446744073709551616.*64 bits"),
    "low int": ([2**63, None, -1], r"row 0 is 9223372036854775808.*64 bits"),
    "bytes of two lengths": ([b"a", None, b"bc"], r"row 2 is b'bc'.*same length"),
    "empty bytes": ([b""], r"row 0 is b''.*same length"),
    "arrays of two lengths": ([np.zeros(2), np.zeros(3)], r"row 1 is array.*one length"),
    "arrays of two dtypes": ([np.zeros(2), np.zeros(2, "f4")], r"row 1 is array.*one numeric"),
    "2-D arrays": ([np.zeros((2, 2))], r"row 0 is array.*1-D"),
    "lone surrogate": (["a", None, "\ud800"], r"row 2 is .*surrogate"),
}


def _object_series(values: Any) -> Any:
    if not isinstance(values, list):
        return pd.Series(values)
    made = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        made[i] = value
    return pd.Series(made, dtype=object)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_has_no_place_is_refused_by_column_row_and_value(kind: str) -> None:
    values, text = REFUSED[kind]
    df = pd.DataFrame({"fine": 1.0, "bad one": _object_series(values)})
    before = pintable.list_tables()
    with pytest.raises(pintable.TypeMismatch, match=rf"column 'bad one' of dtype .*{text}"):
        pintable.from_pandas(df, "refused")
    assert pintable.list_tables() == before


def test_arrow_types_without_a_place_are_refused() -> None:
    pa = pytest.importorskip("pyarrow")
    for values, of in [
        ([Decimal("1.5")], pa.decimal128(5, 2)),
        ([[1]], pa.list_(pa.int64())),
        ([{"a": 1}], pa.struct([("a", pa.int64())])),
        ([1], pa.duration("s")),
        ([1], pa.date64()),
        ([b"x"], pa.binary()),
        ([[1, None]], pa.list_(pa.int64(), 2)),
        ([[True, False]], pa.list_(pa.bool_(), 2)),
    ]:
        series = pd.Series(pd.arrays.ArrowExtensionArray(pa.chunked_array([pa.array(values, of)])))
        with pytest.raises(pintable.TypeMismatch, match="column 'x' of dtype .*row 0"):
            pintable.from_pandas(pd.DataFrame({"x": series}))


def test_an_index_without_a_place_is_refused() -> None:
    df = pd.DataFrame({"x": [1, 2]}, index=pd.period_range("2020", periods=2, freq="D"))
    with pytest.raises(pintable.TypeMismatch, match="index level 0.*period"):
        pintable.from_pandas(df)


def test_something_else_than_a_frame_is_refused() -> None:
    with pytest.raises(pintable.Invalid, match="DataFrame, not Series"):
        pintable.from_pandas(pd.Series([1]))


def test_a_failure_while_filling_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from pintable._frame import from_pandas as _from_pandas

    def fail(self: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_from_pandas._Copier, "run", fail)
    before = pintable.list_tables()
    with pytest.raises(KeyboardInterrupt):
        pintable.from_pandas(pd.DataFrame({"x": [1]}), "half")
    assert pintable.list_tables() == before


# ---- if_exists ---------------------------------------------------------------------------------


def test_if_exists(put: Put) -> None:
    df = pd.DataFrame({"x": [1, 2], "s": ["a", "b"]})
    first = put(df, "same")
    with pytest.raises(pintable.Exists):
        pintable.from_pandas(df, "same")
    again = pintable.from_pandas(df.assign(x=[8, 9]), "same", "open")
    assert again.id == first.id and again["x"].numpy().tolist() == [1, 2]
    again.close()
    with pytest.raises(pintable.TypeMismatch, match="same"):
        pintable.from_pandas(df.rename(columns={"x": "z"}), "same", "open")
    with pytest.raises(pintable.TypeMismatch, match="same"):
        pintable.from_pandas(df.astype({"x": "float64"}), "same", "open")
    new = put(df.assign(x=[8, 9]), "same", "replace")
    assert new.id != first.id and first.dropped
    with pintable.open("same") as opened:
        assert opened["x"].numpy().tolist() == [8, 9]
    assert first["x"].numpy().tolist() == [1, 2]
    fresh = put(df, "other", "open")
    assert fresh.name == "other"


def test_a_name_is_made_up(put: Put) -> None:
    df = pd.DataFrame({"x": [1]})
    one, two = put(df), put(df)
    assert re.fullmatch(r"t-[0-9a-f]{12}", one.name) and one.name != two.name


# ---- copying -----------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("n_rows", [60_001, 600_001])  # copied through the caches, and past them
def test_large_blocks_of_either_order(order: str, n_rows: int, put: Put) -> None:
    block = np.arange(n_rows * 5, dtype="f8").reshape(n_rows, 5)
    df = pd.DataFrame(np.asarray(block, order=order), columns=list("abcde"))
    df["lists"] = list(np.arange(n_rows * 3, dtype="i4").reshape(n_rows, 3))
    df["text"] = [f"text {i % 777}" for i in range(n_rows)]
    back = put(df).to_pandas(strings="object")
    assert np.array_equal(back[list("abcde")].to_numpy(), block)
    assert back["lists"][n_rows - 1].tolist() == [3 * n_rows - 3, 3 * n_rows - 2, 3 * n_rows - 1]
    assert back["text"].tolist() == df["text"].tolist()


def test_no_text_and_no_rows(put: Put) -> None:
    for items in ([], [None], ["", ""], [None, ""]):
        df = pd.DataFrame({"s": pd.Series(items, dtype=object)})
        frames.assert_same(put(df).to_pandas(strings="object"), df)


def test_a_reversed_frame_and_a_big_endian_array(put: Put) -> None:
    df = pd.DataFrame({"x": np.arange(5), "s": list("abcde")})[::-1]
    back = put(df).to_pandas(strings="object")
    frames.assert_same(back, df.astype({"s": object}))
    values = np.arange(3, dtype=">i4")
    assert put(pd.DataFrame({"x": values})).to_pandas()["x"].tolist() == [0, 1, 2]


def test_the_source_stays_as_it_is(put: Put) -> None:
    df = frames.frame_of_all()
    before = df.copy(deep=True)
    put(df)
    for name in df:
        frames.assert_same(df[name], before[name])
