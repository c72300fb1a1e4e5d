# SPDX-License-Identifier: Apache-2.0
"""What other processes and other programs leave in a table, and what pandas makes of it."""

from __future__ import annotations

import datetime
import json
import os
import re
import resource
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")

import pintable  # noqa: E402
from pintable import _native  # noqa: E402
from pintable._base import pool as _pool  # noqa: E402


# ---- metadata and bytes of others ---------------------------------------------------------------


def _foreign(make: Any, fields: list[tuple], metadata: dict[str, Any], rows: int = 4) -> Any:
    """A table as another program may have made it."""
    pool = _pool.join()
    native = pool.create(
        f"foreign-{os.getpid()}", fields, rows, metadata=json.dumps(metadata).encode()
    )
    native.publish(False)
    return make.keep(pintable.Table(native))


def _field(name: str, number: int, **more: Any) -> tuple:
    parts = dict.fromkeys(("nullable", "unit", "zone", "width", "length", "item", "data", "n",
                           "meta"), 0) | {"zone": None, "meta": None} | more  # fmt: skip
    return (name, number, *parts.values())


def test_a_huge_range_of_column_labels_is_not_made(make: Any) -> None:
    columns = {"names": [None], "dtype": "int64", "range": [0, 10**11, 1]}
    table = _foreign(make, [_field("x", _native.FLOAT64)], {"pandas": {"columns": columns}})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    data = int(re.search(r"VmData:\s+(\d+)", Path("/proc/self/status").read_text())[1]) << 10
    resource.setrlimit(resource.RLIMIT_DATA, (data + (1 << 30), hard))
    try:
        assert list(table.to_pandas().columns) == ["x"]
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 19  # KiB


def test_a_range_beyond_64_bits_is_no_index(make: Any) -> None:
    index = {"kind": "range", "range": [10**30, 10**30 + 4, 1], "names": [None]}
    table = _foreign(make, [_field("x", _native.FLOAT64)], {"pandas": {"index": index}})
    assert table.to_pandas().index.equals(pd.RangeIndex(4))


def test_deep_attrs_read_as_absent(make: Any) -> None:
    deep: Any = 1
    for _ in range(900):
        deep = [deep]
    table = _foreign(make, [_field("x", _native.FLOAT64)], {"pandas": {"attrs": {"a": deep}}})
    assert table.to_pandas().attrs == {}
    most: Any = []
    for _ in range(63):
        most = [most]
    df = pd.DataFrame({"x": [1.0]})
    df.attrs = {"deep": {"a": most}, "most": most}
    assert make.keep(pintable.from_pandas(df)).to_pandas().attrs == {"most": most}


@pytest.mark.parametrize("unit", [[1], {}, None, "D", "Y"])
def test_a_unit_that_is_none_leaves_integers(make: Any, unit: Any) -> None:
    meta = json.dumps({"as": "timedelta", "unit": unit}).encode()
    table = _foreign(make, [_field("x", _native.INT64, meta=meta)], {})
    df = table.to_pandas()
    assert df["x"].dtype == "int64"
    df["x"] = [1, 2, 3, 4]
    table.writeback(df)
    assert table["x"].to_pylist() == [1, 2, 3, 4]


@pytest.mark.parametrize("field", [
    ("x", _native.FLOAT16, 0, 0, None, 0, 0, 0, 0, 0, None),
    ("x", _native.LIST_FIXED, 0, 0, None, 0, 2, _native.FLOAT32, 0, 0, None),
])  # fmt: skip
@pytest.mark.parametrize("multi", [False, True])
def test_index_columns_that_pandas_does_not_take(make: Any, field: tuple, multi: bool) -> None:
    names = ["x", "y"] if multi else ["x"]
    index = {"kind": "columns", "columns": names, "names": names, "multi": multi}
    fields = [field, _field("y", _native.INT64), _field("z", _native.INT64)]
    table = _foreign(make, fields, {"pandas": {"index": index}})
    df = table.to_pandas()
    assert "z" in df.columns and len(df) == 4
    repr(df)
    assert len(table.slice(1, 3).to_pandas()) == 2


def test_an_unknown_time_zone_stops_its_column_only(make: Any) -> None:
    stamp = _field("t", _native.TIMESTAMP, unit=_native.SECOND, zone="Foo/Bar")
    table = _foreign(make, [stamp, _field("x", _native.INT64)], {})
    assert table.to_pandas("x")["x"].tolist() == [0] * 4
    assert table["x"].to_pandas().tolist() == [0] * 4
    with pytest.raises(pintable.Invalid, match="'t'.*'Foo/Bar'"):
        table.to_pandas()


# ---- categories that others add -----------------------------------------------------------------

_DATES = [datetime.date(2020, 1, 1), datetime.date(2021, 1, 1)]


@pytest.mark.parametrize(("categories", "bad", "good"), [
    ([1, 2], ["01", "+1", " 3", "1_0", "x", "", "9" * 30], "7"),
    (np.array([1, 2], "u1"), ["256", "-1"], "255"),
    ([0.5, 1.5], ["nan", "0.50", "5e-1", "Infinity", "1"], "2.0"),
    (_DATES, ["20200101", "2020-W01-3", "x"], "2022-01-01"),
    ([True], ["true", "1"], "False"),
    (pd.to_datetime(["2020", "2021"]), ["x", "01", "-9223372036854775808"], "0"),
])  # fmt: skip
def test_texts_that_are_no_category_of_the_dtype(
    make: Any, categories: Any, bad: list[str], good: str
) -> None:
    df = pd.DataFrame({"c": pd.Categorical(categories)})
    dtype = df["c"].dtype.categories.dtype
    table = make.keep(pintable.from_pandas(df))
    for text in bad:
        with pytest.raises(pintable.TypeMismatch, match="is not how a category"):
            table["c"].add_category(text)
        with pytest.raises(pintable.TypeMismatch, match="is not how a category"):
            table["c"][0] = text
    table["c"].add_category(good)
    found = table.to_pandas()["c"].dtype.categories
    assert found.dtype == dtype and len(found) == len(df) + 1
    for text in bad:  # a program in another language does not ask
        other = make.keep(pintable.from_pandas(df))
        other["c"]._native.add_category(text)
        column = other.to_pandas()["c"]
        assert list(column.cat.categories) == other["c"].categories
        assert column.tolist() == other["c"].categories[:-1]


def test_an_empty_category_column_starts_with_nulls(make: Any) -> None:
    table = make({"c": "category", "x": "int64"}, 3)
    table.add_column("d", "category[int8]")
    for name in "cd":
        assert table[name].nullable and table[name].null_count == 3
        assert table[name][0] is None and table[name].to_pylist() == [None] * 3
        assert table.to_pandas()[name].isna().all()
        table[name].add_category("a")
        assert table[name].to_pylist() == [None] * 3
    table["c"][1] = "b"
    assert table.to_pandas()["c"].tolist()[1] == "b"
    with pintable.create({"c": "category"}, 3, name="starts", if_exists="open") as again:
        make.keep(again)
        pintable.create({"c": "category"}, 3, name="starts", if_exists="open").close()


def test_categories_of_dates_keep_their_frequency(make: Any) -> None:
    days = pd.date_range("2020-01-01", periods=3, freq="D")
    zoned = pd.date_range("2020-01-01", periods=3, freq="h", tz="Europe/Berlin")
    df = pd.DataFrame({"d": pd.Categorical(days), "z": pd.Categorical(zoned)})
    table = make.keep(pintable.from_pandas(df))
    back = table.to_pandas()
    assert back["d"].cat.categories.freq == days.freq
    assert back["z"].cat.categories.freq == zoned.freq
    pd.testing.assert_frame_equal(back, df)
    wide = pd.DataFrame([[1, 2, 3]], columns=pd.CategoricalIndex(days))
    back = make.keep(pintable.from_pandas(wide)).to_pandas()
    assert back.columns.categories.freq == days.freq
    later = str(pd.Timestamp("2021-05-05").as_unit(days.unit).asm8.view("i8"))
    table["d"].add_category(later)  # no frequency has it
    found = table.to_pandas()["d"].cat.categories
    assert found.freq is None and found[3] == pd.Timestamp("2021-05-05")


# ---- a Series is stored by its index ------------------------------------------------------------


def test_a_series_is_put_into_the_order_of_the_rows(make: Any) -> None:
    values = np.arange(5.0)
    table = make.keep(pintable.from_pandas(pd.DataFrame({"a": values})))
    backwards = pd.Series(values)[::-1]
    table["b"] = backwards
    assert table["b"].to_pylist() == values.tolist()
    table["a"] = -backwards
    assert table["a"].to_pylist() == (-values).tolist()
    table["c"] = backwards.to_numpy()
    assert table["c"].to_pylist() == values[::-1].tolist()
    table["c"] = backwards.reset_index(drop=True)
    assert table["c"].to_pylist() == values[::-1].tolist()
    for bad in (pd.Series(values, index=list("abcde")), pd.Series(values, index=[0, 0, 1, 2, 3])):
        with pytest.raises(pintable.Invalid, match="'d': its index is not that of the table"):
            table["d"] = bad
        with pytest.raises(pintable.Invalid, match="'a': its index is not that of the table"):
            table["a"] = bad
    assert "d" not in table

    named = pd.DataFrame({"a": values}, index=list("abcde"))
    table = make.keep(pintable.from_pandas(named))
    table["a"] = pd.Series(values, index=list("edcba"))
    assert table["a"].to_pylist() == values[::-1].tolist()
    table["a"] = pd.Series(values)  # no labels of its own
    assert table["a"].to_pylist() == values.tolist()

    table = make({"a": "float64"}, 5)  # not of a frame: no labels to go by
    table["a"] = backwards
    assert table["a"].to_pylist() == values[::-1].tolist()
