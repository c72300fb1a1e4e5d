# SPDX-License-Identifier: Apache-2.0
"""Frames over shared memory: what is shared, what is checked first, and what hostile bytes do."""

from __future__ import annotations

import ctypes
import datetime
import gc
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")

import frames  # noqa: E402
import pintable  # noqa: E402
from pintable import _native  # noqa: E402
from pintable._base import pool as _pool  # noqa: E402

NAT = np.iinfo("i8").min
Put = Callable[..., pintable.Table]


@pytest.fixture
def keep() -> Iterator[Callable[[pintable.Table], pintable.Table]]:
    """Drops and closes what it is given at the end."""
    made: list[pintable.Table] = []

    def add(table: pintable.Table) -> pintable.Table:
        made.append(table)
        return table

    yield add
    for table in made:
        if not table.closed:
            if not table.dropped:
                table.drop()
            table.close()


@pytest.fixture
def put(keep: Any) -> Put:
    """from_pandas, with the tables dropped at the end."""
    return lambda df, *args, **kwargs: keep(pintable.from_pandas(df, *args, **kwargs))


def _field(
    name: str, type_: int, nullable: bool = False, unit: int = 0, zone: str | None = None,
    width: int = 0, length: int = 0, item: int = 0, room: int = 0, n: int = 0,
    metadata: bytes | None = None,
) -> tuple:  # fmt: skip
    return (name, type_, nullable, unit, zone, width, length, item, room, n, metadata)


def _raw(keep: Any, fields: list[tuple], rows: int, metadata: bytes | None = None,
         fill: Callable[[Any], None] | None = None) -> pintable.Table:  # fmt: skip
    """A table as a program in another language would make it."""
    native = _pool.join().create("raw", fields, rows, metadata=metadata)
    if fill is not None:
        fill(native)
    native.publish()
    return keep(pintable.Table(native))


# ---- sharing -----------------------------------------------------------------------------------


def test_a_frame_is_read_only_and_shared(put: Put) -> None:
    table = put(
        pd.DataFrame({"i": [1, 2], "f": [0.5, np.nan], "t": pd.to_datetime([None, "2020"])})
    )
    df = table.to_pandas()
    assert pintable.is_shared(df) == {"i": True, "f": True, "t": True}
    for name in df:
        with pytest.raises(ValueError, match="read-only"):
            df[name].to_numpy()[0] = 0
    table["i"].numpy()[0] = 77
    assert df["i"][0] == 77


def test_writable_frames_of_two_openings_see_each_other(put: Put) -> None:
    table = put(pd.DataFrame({"x": [1, 2, 3]}))
    with pintable.open(table.name) as other:
        mine, theirs = table.to_pandas(writable=True), other.to_pandas(writable=True)
        mine.iloc[1, 0] = 20
        theirs.iloc[2, 0] = 30
        assert mine["x"].tolist() == theirs["x"].tolist() == [1, 20, 30]


def test_writable_needs_a_writable_table(put: Put) -> None:
    table = put(pd.DataFrame({"x": [1]}))
    with pintable.open(table.name, "r") as reader:
        with pytest.raises(pintable.PermissionDenied):
            reader.to_pandas(writable=True)
        assert reader.to_pandas()["x"].tolist() == [1]
    table.freeze()
    with pytest.raises(pintable.Frozen):
        table.to_pandas(writable=True)
    assert table.to_pandas()["x"].tolist() == [1]


@pytest.mark.parametrize("strings", [None, "object"])
def test_a_frame_outlives_its_table(strings: str | None) -> None:
    table = pintable.from_pandas(frames.frame_of_all())
    df = table.to_pandas(strings=strings)
    before = frames.copied(df)
    table.drop()
    table.close()
    del table
    gc.collect()
    filler = pintable.from_pandas(frames.frame_of_all().iloc[::-1])
    assert [str(v) for v in df.iloc[0]] == [str(v) for v in before.iloc[0]]
    filler.drop()
    filler.close()


# ---- rows and columns --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b"), [(0, 0), (1, 2), (3, 20), (7, 17), (8, 16), (19, 20), (20, 20)]
)
def test_slices_of_every_dtype(a: int, b: int, put: Put) -> None:
    once = frames.frame_of_all()
    df = pd.concat([once] * 7, ignore_index=True).iloc[:20]
    whole = frames.copied(put(df).to_pandas())
    frames.assert_same(put(df)[a:b].to_pandas(), whole.iloc[a:b])


def test_columns_are_taken_by_name_label_and_in_the_order_asked(put: Put) -> None:
    table = put(
        pd.DataFrame([[1, 2, 3, 4]], columns=pd.Index(["a", 7, ("t", 1), "b"], dtype=object))
    )
    assert table.to_pandas(["b", "a"]).columns.tolist() == ["b", "a"]
    assert table.to_pandas(7).columns.tolist() == [7]
    assert table.to_pandas(("t", 1)).iloc[0].tolist() == [3]
    assert table.to_pandas([7, "7"]).iloc[0].tolist() == [2, 2]
    assert table.to_pandas([]).shape == (1, 0)
    for unknown in ("z", 8, None, ["a", "z"]):
        if unknown is not None:
            with pytest.raises(pintable.NotFound):
                table.to_pandas(unknown)


def test_duplicate_labels_have_a_name_each(put: Put) -> None:
    table = put(pd.DataFrame([[1, 2]], columns=["a", "a"]))
    assert table.columns == ["a", "a_2"]
    assert table.to_pandas(["a_2"]).columns.tolist() == ["a"]
    assert table.to_pandas(["a_2", "a"]).iloc[0].tolist() == [2, 1]


def test_the_index_can_be_taken_as_a_column(put: Put) -> None:
    table = put(pd.DataFrame({"x": [1, 2]}, index=pd.Index(["a", "b"], name="k")))
    df = table.to_pandas(["k"])
    assert df["k"].tolist() == ["a", "b"] and df.index.tolist() == ["a", "b"]


def test_strings_as_objects(put: Put) -> None:
    df = pd.DataFrame({"o": pd.Series(["a", None, "ü"], dtype=object),
                       "s": pd.Series(["a", None, "ü"], dtype="string")})  # fmt: skip
    back = put(df).to_pandas(strings="object")
    assert back.dtypes.tolist() == [object, object]
    assert back["o"].tolist() == back["s"].tolist() == ["a", None, "ü"]
    with pytest.raises(pintable.Invalid, match="strings"):
        put(df).to_pandas(strings="arrow")


def test_one_column_as_a_series(put: Put) -> None:
    table = put(pd.DataFrame({("a", 1): [1, 2, 3]}, index=pd.Index(["x", "y", "z"], name="k")))
    series = table[table.columns[0]].to_pandas()
    assert series.name == ("a", 1) and series.index.tolist() == ["x", "y", "z"]
    assert pintable.is_shared(series)
    writable = table[table.columns[0]].to_pandas(writable=True)
    writable.iloc[0] = 9
    assert series.tolist() == [9, 2, 3]


# ---- tables made by others ---------------------------------------------------------------------


def test_every_type_without_metadata(keep: Any) -> None:
    table = keep(pintable.Table.create({
        "bool": "bool", "bool?": "bool?", "bit": "bit", "bit?": "bit?", "i": "int16",
        "i?": "uint32?", "h": "float16", "h?": "float16?", "f": "float32", "f?": "float64?",
        "d": "date", "d?": "date?", "t": "timestamp[ms]", "z?": "timestamp[us, Europe/Berlin]?",
        "b": "binary[2]?", "text": "text[10]?", "c": "category[int8]?", "wide": "category?",
        "l": "list[int8, 2]", "l?": "list[float64, 3]?",
    }, 3))  # fmt: skip
    never_written = table.to_pandas()  # null, with neither NaT nor -1 under it: copies
    assert never_written[["z?", "c"]].isna().all(axis=None)
    table["z?"][:] = pd.to_datetime(["2020"] * 3).tz_localize("UTC")
    table["c"][:] = table["wide"][:] = ["a", "b", None]
    df = table.to_pandas()
    assert isinstance(df.index, pd.RangeIndex) and df.columns.tolist() == table.columns
    dtypes = {name: str(dtype) for name, dtype in df.dtypes.items()}
    text = {"str", "string", "string[pyarrow]"}
    assert dtypes.pop("text") in text
    assert dtypes == {
        "bool": "bool", "bool?": "boolean", "bit": "bool", "bit?": "boolean", "i": "int16",
        "i?": "UInt32", "h": "float16", "h?": "Float32", "f": "float32", "f?": "Float64",
        "d": "datetime64[s]", "d?": "datetime64[s]", "t": "datetime64[ms]",
        "z?": "datetime64[us, Europe/Berlin]", "b": "object", "c": "category", "wide": "category",
        "l": "fixed_size_list<item: int8>[2][pyarrow]" if frames.HAS_PYARROW else "object",
        "l?": "fixed_size_list<item: double>[3][pyarrow]" if frames.HAS_PYARROW else "object",
    }  # fmt: skip
    shared = {name for name, is_shared in pintable.is_shared(df).items() if is_shared}
    copied = {"bit", "bit?", "h?", "d", "d?", "b", "wide"}
    copied |= set() if frames.HAS_PYARROW else {"l", "l?"}
    assert shared == set(table.columns) - copied - (set() if frames.LARGE_STRINGS else {"text"})
    nullable = [name for name in table.columns if table[name].nullable]
    for name in nullable:
        table[name].set_null(1)
    nulls = table.to_pandas()[nullable].isna()
    assert nulls.iloc[1].all()


def test_dates_in_a_frame_without_metadata(keep: Any) -> None:
    table = keep(pintable.Table.create({"d": "date?"}, 3))
    table["d"][:] = [datetime.date(1969, 12, 31), None, datetime.date(2024, 2, 29)]
    assert table.to_pandas()["d"].tolist() == [
        pd.Timestamp("1969-12-31"), pd.NaT, pd.Timestamp("2024-02-29")]  # fmt: skip


def test_values_under_null_are_corrected_in_a_copy(put: Put) -> None:
    df = pd.DataFrame({"t": pd.to_datetime(["2020-01-01"] * 3),
                       "z": pd.to_datetime(["2020-01-01"] * 3).tz_localize("UTC"),
                       "c": pd.Categorical(["a", "b", "a"])})  # fmt: skip
    table = put(df)
    for name in df:
        native = table[name]._native
        native.set_null(1, True)  # a writer that leaves the value as it was
        back = table.to_pandas()[name]
        assert back.isna().tolist() == [False, True, False], name
        assert not pintable.is_shared(back)
        assert pintable.is_shared(table[2:].to_pandas()[name])
        assert pintable.is_shared(table.to_pandas([n for n in df if n != name]))


def test_missing_written_into_a_frame_is_missing(put: Put) -> None:
    table = put(
        pd.DataFrame({"t": pd.to_datetime(["2020", "2021"]), "c": pd.Categorical(["a", "b"])})
    )
    df = table.to_pandas(writable=True)
    df.iloc[0, 0] = pd.NaT
    df.iloc[0, 1] = None
    again = table.to_pandas()
    assert again.isna().to_numpy().tolist() == [[True, True], [False, False]]
    assert pintable.is_shared(again) == {"t": True, "c": True}


@pytest.mark.parametrize("code", [2, 127, -2])
def test_codes_outside_the_categories_never_reach_pandas(code: int, put: Put) -> None:
    table = put(pd.DataFrame({"c": pd.Categorical(["a", "b", None])}))
    for row in (0, 2):
        codes = table["c"].numpy()
        before = codes[row]
        codes[row] = code
        if row == 0 or code < -1:
            with pytest.raises(pintable.Corrupt, match="'c'"):
                table.to_pandas()
        else:
            assert table.to_pandas()["c"].tolist() == ["a", "b", np.nan] or (
                table.to_pandas()["c"].isna().tolist() == [False, False, True]
            )
        codes[row] = before
    assert pintable.is_shared(table.to_pandas()["c"])


@pytest.mark.parametrize("strings", [None, "object"])
@pytest.mark.parametrize("offsets", [[0, 9, 3, 3], [0, -1, 3, 3], [0, 1, 2, 1 << 60], [5, 1, 2, 3]])
def test_impossible_offsets_never_reach_arrow(
    offsets: list[int], strings: str | None, put: Put
) -> None:
    table = put(pd.DataFrame({"s": ["a", "b", "c"]}))
    # Past the library, as a broken writer would: it gives offsets out read-only.
    shared = (ctypes.c_int64 * 4).from_address(table["s"]._native.offsets().address)
    shared[:] = offsets
    with pytest.raises(pintable.Corrupt, match="'s'"):
        table.to_pandas(strings=strings)
    shared[:] = [0, 1, 2, 3]
    assert table.to_pandas()["s"].tolist() == ["a", "b", "c"]


def test_categories_that_are_added_are_in_the_next_frame(put: Put) -> None:
    table = put(
        pd.DataFrame({"c": pd.Categorical([30, 10, None]), "s": pd.Categorical(["a", "a", "b"])})
    )
    before = table.to_pandas()
    code = table["s"].add_category("new")
    table["s"].numpy()[0] = code
    table["c"].numpy()[0] = table["c"].add_category("77")
    after = table.to_pandas()
    assert after["s"].tolist() == ["new", "a", "b"] and after["c"].tolist()[:2] == [77, 10]
    assert after["c"].cat.categories.dtype == "int64"
    assert before["s"].cat.categories.tolist() == ["a", "b"]
    table["c"]._native.add_category("no number")  # a program in another language does not ask
    assert table.to_pandas()["c"].cat.categories.tolist() == ["10", "30", "77", "no number"]


# ---- hostile metadata --------------------------------------------------------------------------


def _pandas(**found: Any) -> bytes:
    return json.dumps({"pandas": found}).encode()


JUNK: list[bytes] = [
    b"", b"\xff\xfe", b"[]", b"3", b"null", b"{", b"[" * 100_000, b'{"pandas": 3}', b"9" * 5000,
    _pandas(index=3, columns=[], attrs=[]),
    _pandas(index={"kind": "range", "range": [0, 10**30, 1], "names": [None]}),
    _pandas(index={"kind": "range", "range": [0, 5, 0], "names": [None]}),
    _pandas(index={"kind": "range", "range": "abc", "names": [[1]]}),
    _pandas(index={"kind": "columns", "columns": ["no"], "names": ["k"]}),
    _pandas(index={"kind": "columns", "columns": [["x"]], "names": ["k"]}),
    _pandas(columns={"names": 3, "levels": 4}),
    _pandas(columns={"names": [None], "dtype": "M8[ns"}),
    _pandas(columns={"names": [None], "dtype": "category", "categories": [1]}),
    _pandas(columns={"names": ["a", "b"], "levels": [3, {"dtype": 4}]}),
    _pandas(columns={"names": [{"t": "numpy", "d": "O", "v": 1}]}),
]  # fmt: skip


@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: junk[:60].decode("latin1"))
def test_table_metadata_of_others_give_a_plain_frame(junk: bytes, keep: Any) -> None:
    table = _raw(keep, [_field("x", _native.INT64)], 3, metadata=junk or None)
    df = table.to_pandas()
    assert df["x"].tolist() == [0, 0, 0] or df.iloc[:, 0].tolist() == [0, 0, 0]
    assert df.index.tolist() == [0, 1, 2]


COLUMN_JUNK: list[dict] = [
    {"label": {"t": "numpy", "d": "O8", "v": 1}}, {"label": {"t": "tuple", "v": 3}},
    {"label": [1, 2]}, {"label": {"t": "os.system", "v": "true"}},
    {"label": {"t": "decimal", "v": "x"}},
    {"label": {"t": "timestamp", "v": 1, "u": "D", "z": None}},
    {"as": "object"}, {"as": "category"}, {"as": "timedelta"}, {"as": "timedelta", "unit": "Y"},
    {"as": "datetime", "tz": 3}, {"as": "arrow"}, {"as": "arrow", "item": 3, "arrow": []},
    {"as": "str"}, {"as": []}, {"dtype": "object"}, {"of": {"dtype": "int64"}, "how": "int"},
    {"of": {"dtype": "O"}, "how": "int"}, {"of": 3, "how": "date", "ordered": "yes"},
    {"of": {"dtype": "zoned"}, "how": "ticks"}, {"hidden": "no"},
]  # fmt: skip


@pytest.mark.parametrize("junk", COLUMN_JUNK, ids=json.dumps)
def test_column_metadata_of_others_never_decide_what_bytes_mean(junk: dict, keep: Any) -> None:
    raw = json.dumps(junk).encode()
    fields = [
        _field("i", _native.INT64, metadata=raw), _field("n", _native.INT64, True, metadata=raw),
        _field("b", _native.BOOL8, metadata=raw), _field("bit", _native.BOOL, True, metadata=raw),
        _field("t", _native.TIMESTAMP, True, _native.SECOND, "UTC", metadata=raw),
        _field("d", _native.DATE32, metadata=raw),
        _field("w", _native.BINARY_FIXED, width=3, metadata=raw),
        _field("s", _native.TEXT, room=1, metadata=raw),
        _field("c", _native.DICT_TEXT, True, item=_native.INT8, room=10, n=4, metadata=raw),
        _field("l", _native.LIST_FIXED, length=2, item=_native.INT16, metadata=raw),
    ]  # fmt: skip

    def fill(native: Any) -> None:
        native.column("c").put_categories(np.array([0, 1, 2], "i8"), b"xy")

    table = _raw(keep, fields, 2, fill=fill)
    df = table.to_pandas()
    assert df.shape == (2, 10)
    assert "os.system" not in str(df.columns)
    assert [str(value) for value in df.iloc[0]]
    repr(df)


def test_an_unknown_zone_is_an_error_that_names_the_column(keep: Any) -> None:
    fields = [_field("t", _native.TIMESTAMP, True, _native.SECOND, "Mars/Olympus")]
    table = _raw(keep, fields, 1)
    with pytest.raises(pintable.Invalid, match="'t'.*Mars/Olympus"):
        table.to_pandas()
    assert len(table["t"].numpy()) == 1


# ---- without pyarrow ---------------------------------------------------------------------------

WITHOUT_PYARROW = """
import sys
sys.modules["pyarrow"] = None
import pandas as pd, numpy as np, pintable
table = pintable.open(sys.argv[1])
df = table.to_pandas()
assert df["s"].isna().tolist() == [False, True, False], df
assert df["s"].tolist()[0] == "a" and df["s"].tolist()[2] == "日本", df
assert table[2:].to_pandas()["s"].tolist() == ["日本"]
assert table.to_pandas(strings="object")["s"].tolist() == ["a", None, "日本"]
assert [list(row) for row in df["l"]] == [[1, 2], [3, 4], [5, 6]]
assert df["c"].tolist()[:2] == ["x", "y"]
shared = pintable.is_shared(df)
assert shared == {"s": False, "l": False, "c": True, "i": True}, shared
mine = pintable.from_pandas(df[["s", "i"]])
assert mine.to_pandas(strings="object")["s"].tolist() == ["a", None, "日本"]
mine.drop()
print("ok", "pyarrow" in str(df["s"].dtype))
"""


def test_without_pyarrow_text_is_copied(put: Put) -> None:
    df = pd.DataFrame({"s": pd.Series(["a", None, "日本"], dtype=object),
                       "l": [np.array([1, 2]), np.array([3, 4]), np.array([5, 6])],
                       "c": pd.Categorical(["x", "y", None]), "i": [1, 2, 3]})  # fmt: skip
    table = put(df)
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT_PYARROW, table.name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "ok False\n", done.stderr
