# SPDX-License-Identifier: Apache-2.0
"""Columns: every type written and read back, nulls, categories, and what a column refuses."""

from __future__ import annotations

import array
import datetime
import math
import zoneinfo

import pintable
import pytest

np = pytest.importorskip("numpy")

INF, NAN = float("inf"), float("nan")
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
D, DT = datetime.date, datetime.datetime
LIMITS = {
    f"{sign}int{bits}": (0 if sign else -(1 << bits - 1), (1 << bits - (not sign)) - 1)
    for sign in ("", "u")
    for bits in (8, 16, 32, 64)
}

# ---- lists there and back ----------------------------------------------------------------------

ROUND = [
    ("bool", [True, False, True]),
    ("bit", [True, False, True]),
    *[(kind, [low, high, 0]) for kind, (low, high) in LIMITS.items()],
    ("float16", [0.5, -INF, 65504.0]),
    ("float32", [0.5, INF, -1.25]),
    ("float64", [0.1, 1e308, -0.0]),
    ("date", [D(1, 1, 1), D(1970, 1, 1), D(9999, 12, 31)]),
    ("timestamp[s]", [DT(1, 1, 1), DT(1969, 12, 31, 23, 59, 59), DT(9999, 12, 31)]),
    ("timestamp[ms]", [DT(2020, 1, 1, 1, 2, 3, 4000)]),
    ("timestamp[us]", [DT(1960, 5, 6, 1, 2, 3, 456789)]),
    ("timestamp[us, UTC]", [DT(2020, 7, 1, tzinfo=datetime.UTC)]),
    ("timestamp[us, Europe/Berlin]", [DT(2020, 7, 1, 5, tzinfo=BERLIN)]),
    ("timestamp[s, +02:00]", [DT(2020, 7, 1, tzinfo=datetime.timezone(datetime.timedelta(0,
    7200)))]),
    ("binary[3]", [b"abc", b"\0\0\0", b"\xff\xfe\0"]),
    ("category", ["a", "", "é\0x", "a"]),
    ("category[int8]", ["a", "b"]),
    ("list[float32, 2]", [[0.5, 1.0], [INF, -2.0]]),
    ("list[bool, 2]", [[True, False], [False, False]]),
    ("list[int8, 3]", [[-128, 0, 127]]),
]  # fmt: skip


@pytest.mark.parametrize("kind, items", ROUND)
def test_lists_there_and_back(make, kind, items):
    t = make(kind, len(items))
    t["x"] = items
    found = t["x"].to_pylist()
    assert found == items and list(map(type, found)) == list(map(type, items))
    assert [t["x"][row] for row in range(len(items))] == items
    assert t["x"][-1] == items[-1]
    assert list(t["x"]) == items
    if not isinstance(items[0], list):
        t["x"][:] = items[0]  # one for all
        assert t["x"].to_pylist() == [items[0]] * len(items)
    for row, item in enumerate(items):
        t["x"][row] = item
    assert t["x"].to_pylist() == items


@pytest.mark.parametrize("kind, items", ROUND)
def test_lists_with_nulls(make, kind, items):
    t = make(f"{kind}?", 2 * len(items))
    mixed = [part for item in items for part in (item, None)]
    t["x"] = mixed
    assert t["x"].to_pylist() == mixed
    assert t["x"].null_count == len(items)
    assert t["x"].null_mask().tolist() == [False, True] * len(items)
    t["x"][:] = None
    assert t["x"].to_pylist() == [None] * len(mixed)
    t["x"][0:1] = items[:1]
    assert t["x"][0] == items[0] and t["x"].null_count == len(mixed) - 1


def test_nanoseconds(make):
    t = make("timestamp[ns]?", 2)
    t["x"] = [np.datetime64(1234567890123456789, "ns"), None]
    assert t["x"].numpy().view("i8").tolist() == [1234567890123456789, -(2**63)]
    pd = pytest.importorskip("pandas")
    assert t["x"].to_pylist() == [pd.Timestamp(1234567890123456789), None]
    t["x"][1] = pd.Timestamp(5)
    assert t["x"][1] == pd.Timestamp(5)
    z = make("timestamp[ns, Europe/Berlin]?", 1)
    z["x"][0] = pd.Timestamp("2020-07-01 12:00", tz="America/New_York")
    assert z["x"][0] == pd.Timestamp("2020-07-01 18:00", tz="Europe/Berlin")


def test_nan_is_a_value_in_float_columns_and_null_in_others(make):
    t = make({"f": "float64?", "i": "int64?", "c": "category?"}, 2)
    t["f"] = [NAN, None]
    assert math.isnan(t["f"][0]) and t["f"][1] is None and t["f"].null_count == 1
    t["i"] = [NAN, 5]
    assert t["i"].to_pylist() == [None, 5]
    t["c"] = [NAN, "a"]
    assert t["c"].to_pylist() == [None, "a"]
    t["f"] = np.array([NAN, 1.0])
    assert t["f"].null_count == 0 and math.isnan(t["f"].numpy()[0])


REFUSED = [
    *[(kind, value) for kind, (low, high) in LIMITS.items() for value in (low - 1, high + 1)],
    ("int64", 1.0), ("int64", "1"), ("int64", 1j), ("int64", b"1"), ("int64", []),
    ("int64", object()),
    ("float64", "1.0"), ("float64", 1j), ("float64", 10**400), ("float32", 1e39),
    ("float16", 70000),
    ("bool", 1), ("bool", 0), ("bit", 0), ("bool", "True"), ("bit", 2), ("bit", 0.0),
    ("date", 5), ("date", "2020-01-01"), ("date", DT(2020, 1, 1, 1)),
    ("timestamp[s]", DT(2020, 1, 1, 0, 0, 0, 1)), ("timestamp[s]", 5),
    ("timestamp[s]", D(2020, 1, 1)),
    ("timestamp[s]", DT(2020, 1, 1, tzinfo=BERLIN)), ("timestamp[s, UTC]", DT(2020, 1, 1)),
    ("timestamp[ns]", DT(1600, 1, 1)), ("timestamp[us]", np.datetime64(1, "ns")),
    ("binary[3]", b"ab"), ("binary[3]", "abc"), ("binary[3]", 3), ("binary[3]", b"abcd"),
    ("category", 1), ("category", b"a"), ("category", "\ud800"), ("category", ["a"]),
    ("list[float32, 2]", [1.0]), ("list[float32, 2]", [1, 2, 3]), ("list[float32, 2]", ["a", "b"]),
    ("list[float32, 2]", "ab"), ("list[int8, 2]", [1, 128]), ("list[float32, 2]", 1.0),
    ("list[float32, 2]", [1.0, None]),
]  # fmt: skip


@pytest.mark.parametrize("kind, value", REFUSED)
def test_refused(make, kind, value):
    t = make(f"{kind}?", 5)
    good = {"b": True, "c": "a", "l": [0, 0]}.get(kind[0])
    with pytest.raises((pintable.TypeMismatch, UnicodeError)):
        t["x"][3] = value
    with pytest.raises((pintable.TypeMismatch, UnicodeError)) as caught:
        t["x"] = [good if kind[:2] != "bi" or kind == "bit" else None] * 4 + [value]
    if isinstance(caught.value, pintable.TypeMismatch):
        assert "row" in str(caught.value) and "'x'" in str(caught.value)
    assert t["x"].null_count == 5  # nothing was stored


@pytest.mark.parametrize("kind, items", [row for row in ROUND if "category" not in row[0]])
def test_null_into_a_column_that_is_not_nullable(make, kind, items):
    t = make(kind, 3)
    with pytest.raises(pintable.TypeMismatch, match="row 1.*not nullable"):
        t["x"] = [items[0], None, items[0]]
    with pytest.raises(pintable.TypeMismatch, match="not nullable"):
        t["x"].set_null(0)


# ---- arrays ------------------------------------------------------------------------------------

NUMBERS = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
"float16",
           "float32", "float64"]  # fmt: skip


@pytest.mark.parametrize("source", NUMBERS)
@pytest.mark.parametrize("target", NUMBERS)
def test_arrays_of_numbers_go_in_where_they_are_held(make, source, target):
    t = make(f"{target}?", 4)
    values = np.array([0, 1, 1, 0], source)
    kinds = np.dtype(source).kind, np.dtype(target).kind
    goes = kinds[0] == "b" or kinds[1] == "f" or kinds[0] in "iu" and kinds[1] in "iu"
    if kinds[1] == "b":
        goes = kinds[0] == "b"
    if goes:
        t["x"] = values
        assert t["x"].numpy().tolist() == values.astype(target).tolist()
        assert t["x"].null_count == 0
    else:
        with pytest.raises(pintable.TypeMismatch, match="do not go into"):
            t["x"] = values
        assert t["x"].null_count == 4


@pytest.mark.parametrize("target", LIMITS)
@pytest.mark.parametrize("source", ["int64", "uint64", "int8"])
def test_ranges_are_checked(make, source, target):
    (low, high), (least, most) = LIMITS[target], LIMITS[source]
    t = make(f"{target}?", 3)
    for value, holds in ((max(low, least), True), (min(high, most), True),
                         (low - 1, False), (high + 1, False)):  # fmt: skip
        if not least <= value <= most:
            continue
        values = np.array([1, 1, value], source)
        if holds:
            t["x"] = values
            assert t["x"][2] == value
        else:
            with pytest.raises(pintable.TypeMismatch, match=f"row 2: {value} .*out of range"):
                t["x"] = values
            masked = np.ma.MaskedArray(values, [False, False, True])
            t["x"] = masked  # what lies under null is not stored
            assert t["x"].to_pylist() == [1, 1, None]


def test_floats_that_do_not_fit(make):
    t = make("float32", 3)
    t["x"] = np.array([INF, NAN, 1.1])  # precision may be lost
    assert t["x"].numpy()[0] == INF and np.isnan(t["x"].numpy()[1])
    with pytest.raises(pintable.TypeMismatch, match="row 1"):
        t["x"] = np.array([1, 1e300, 2])
    half = make("float16", 1)
    with pytest.raises(pintable.TypeMismatch):
        half["x"] = np.array([70000])


def test_arrays_of_times(make):
    t = make(
        {"s": "timestamp[s]?", "n": "timestamp[ns]?", "d": "date?", "z": "timestamp[us, UTC]"}, 3
    )
    days = np.array(["2020-01-01", "NaT", "1950-05-05"], "M8[D]")
    for name in ("s", "n", "d"):
        t[name] = days
        assert t[name].null_mask().tolist() == [False, True, False]
        assert t[name].numpy().astype("M8[D]").tolist() == days.tolist()
    t["z"] = np.array([1, 2, 3], "M8[us]")  # numpy has no zones: UTC
    assert t["z"][0] == DT(1970, 1, 1, 0, 0, 0, 1, tzinfo=datetime.UTC)
    with pytest.raises(pintable.TypeMismatch, match="not nullable"):
        t["z"] = np.array([1, "NaT", 3], "M8[us]")
    with pytest.raises(pintable.TypeMismatch, match="row 2.*finer"):
        t["s"] = np.array([0, 1000, 1001], "M8[ms]")
    with pytest.raises(pintable.TypeMismatch, match="row 2.*out of range"):
        t["n"] = np.array([0, 1, 10**12], "M8[s]")
    with pytest.raises(pintable.TypeMismatch, match="row 0"):
        t["d"] = np.array([1, 0, 0], "M8[s]")
    with pytest.raises(pintable.TypeMismatch, match="range"):
        t["d"] = np.array([0, 0, 2**40], "M8[D]")
    for values in (np.zeros(3), np.zeros(3, int), np.zeros(3, "m8[s]")):
        for name in ("s", "d"):
            with pytest.raises(pintable.TypeMismatch):
                t[name] = values


def test_arrays_of_bytes_and_lists(make):
    t = make({"b": "binary[3]", "l": "list[float32, 2]?"}, 2)
    t["b"] = np.array([b"abc", b"de"], "S3")
    assert t["b"].to_pylist() == [b"abc", b"de\0"]
    t["b"] = np.array([b"xyz", b"\0\0\0"], "V3")
    assert t["b"].to_pylist() == [b"xyz", b"\0\0\0"] and t["b"].numpy().dtype == "V3"
    with pytest.raises(pintable.TypeMismatch):
        t["b"] = np.array([b"abcd", b"x"], "S4")
    t["l"] = [[1, 2], None]
    assert t["l"].to_pylist() == [[1.0, 2.0], None] and t["l"].numpy().shape == (2, 2)
    t["l"] = np.arange(4).reshape(2, 2)
    assert t["l"].numpy().tolist() == [[0, 1], [2, 3]] and t["l"].null_count == 0
    t["l"] = np.array([7.0, 8.0], "f4")  # one list for all rows
    assert t["l"].to_pylist() == [[7, 8], [7, 8]]
    t["l"][1] = np.array([9.0, 9.0])
    assert t["l"].to_pylist() == [[7, 8], [9, 9]]
    t["l"] = np.ma.MaskedArray([[1, 2], [3, 4]], [[False, False], [True, True]])
    assert t["l"].to_pylist() == [[1, 2], None]
    for values in (np.zeros((2, 3)), np.zeros((2, 2, 1)), np.zeros((2, 1))):
        with pytest.raises(pintable.TypeMismatch, match="shape"):
            t["l"] = values
    with pytest.raises(pintable.TypeMismatch):
        t["l"] = np.full((2, 2), 1e300)
    with pytest.raises(pintable.TypeMismatch, match="shape"):
        make("float64", 4)["x"] = np.zeros((4, 1))


def test_other_things_with_values(make):
    t = make("int64", 3)
    for values in (range(3), (0, 1, 2), array.array("b", [0, 1, 2]), memoryview(b"\0\1\2"),
                   iter([0, 1, 2]), np.arange(6)[::2] // 2, np.arange(3)[::-1][::-1],
                   np.arange(3, dtype=">i8"), np.array([0, 1, 2], object)):  # fmt: skip
        t["x"] = -1
        t["x"] = values
        assert t["x"].to_pylist() == [0, 1, 2]
    t["x"] = np.int8(4)
    t["x"][1] = np.array(5)
    assert t["x"].to_pylist() == [4, 5, 4]
    for values in ({0, 1, 2}, {0: 1, 1: 2, 2: 3}):
        with pytest.raises(pintable.TypeMismatch):
            t["x"] = values
    for values in ([1, 2], np.zeros(4, int), range(0)):
        with pytest.raises(pintable.Invalid, match="for 3 rows"):
            t["x"] = values


def test_strings_of_numpy_are_text(make):
    t = make("category", 2)
    t["x"] = np.array(["é", "ab"])
    assert t["x"].to_pylist() == ["é", "ab"]
    t["x"] = np.str_("word")
    assert t["x"].to_pylist() == ["word", "word"]
    with pytest.raises(pintable.TypeMismatch):
        t["x"] = np.array([1, 2])
    with pytest.raises(pintable.TypeMismatch):
        make("int64", 1)["x"] = np.array(["1"])


# ---- pandas ------------------------------------------------------------------------------------


def test_values_of_pandas(make):
    pd = pytest.importorskip("pandas")
    t = make({"i": "int64?", "f": "float32?", "b": "bool?", "bit": "bit?", "c": "category?",
              "s": "timestamp[us]?", "z": "timestamp[us, Europe/Berlin]?", "n": "int16"},
              3)  # fmt: skip
    t["i"] = pd.Series([1, None, 3], dtype="Int32", index=[5, 6, 7])
    assert t["i"].to_pylist() == [1, None, 3]
    t["f"] = pd.array([1.5, None, 2], dtype="Float64")
    assert t["f"].to_pylist() == [1.5, None, 2.0]
    for name in ("b", "bit"):
        t[name] = pd.array([True, None, False], dtype="boolean")
        assert t[name].to_pylist() == [True, None, False]
    t["c"] = pd.Categorical(["b", None, "a"], categories=["unused", "a", "b"])
    assert t["c"].to_pylist() == ["b", None, "a"]
    assert "unused" not in t["c"].categories
    assert t["c"].numpy()[1] == -1
    t["c"] = pd.Series(["x", None, "b"])
    assert t["c"].to_pylist() == ["x", None, "b"]
    t["c"] = pd.Index(["p", "q", "r"])
    assert t["c"].to_pylist() == ["p", "q", "r"]
    t["c"] = pd.array(["s", pd.NA, "t"], dtype="string")
    assert t["c"].to_pylist() == ["s", None, "t"]
    times = pd.Series(pd.to_datetime(["2020-01-01", None, "2021-01-01"]))
    t["s"] = times
    assert t["s"].null_mask().tolist() == [False, True, False]
    t["z"] = times.dt.tz_localize("America/New_York")
    assert t["z"][0] == DT(2020, 1, 1, 6, tzinfo=BERLIN)
    with pytest.raises(pintable.TypeMismatch, match="zone"):
        t["s"] = times.dt.tz_localize("UTC")
    t["i"] = [1, pd.NA, pd.NaT]
    assert t["i"].to_pylist() == [1, None, None]
    with pytest.raises(pintable.TypeMismatch, match="row 1.*not nullable"):
        t["n"] = pd.array([1, None, 3], dtype="Int64")
    with pytest.raises(pintable.TypeMismatch, match="row 2"):
        t["n"] = pd.array([1, 2, 40000], dtype="Int64")
    with pytest.raises(pintable.TypeMismatch):
        t["n"] = pd.Series(["a", "b", "c"])
    with pytest.raises(pintable.TypeMismatch):
        t["n"] = pd.DataFrame({"a": [1, 2, 3]})
    t["n"] = pd.Categorical([3, 1, 2])
    assert t["n"].to_pylist() == [3, 1, 2]


def test_values_of_arrow_backed_pandas(make):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    t = make({"i": "int64?", "c": "category?"}, 3)
    t["i"] = pd.array([1, None, 3], dtype="int32[pyarrow]")
    assert t["i"].to_pylist() == [1, None, 3]
    t["c"] = pd.array(["a", None, "é"], dtype="string[pyarrow]")
    assert t["c"].to_pylist() == ["a", None, "é"]


# ---- reading -----------------------------------------------------------------------------------


def test_indexing(make):
    t = make({"i": "int64?", "c": "category?", "s": "text[1]"}, 5)
    t["i"], t["c"] = [0, 1, 2, 3, None], ["a", "b", None, "a", "b"]
    assert t["i"][1:3].tolist() == [1, 2] and t["i"][1:3].base is not None
    assert t["i"][np.array([3, 0])].tolist() == [3, 0]
    assert t["i"][np.array([True, False, False, False, False])].tolist() == [0]
    assert t["c"][1:3].tolist() == ["b", None] and t["c"][[0, 4]].tolist() == ["a", "b"]
    assert t["i"][np.int64(2)] == 2 and t["i"][-1] is None
    piece = t[2:4]["i"]
    assert len(piece) == 2 and piece[0] == 2 and piece[-1] == 3
    for row in (5, -6, 10**30):
        with pytest.raises((IndexError, OverflowError)):
            t["i"][row]
        with pytest.raises((IndexError, OverflowError)):
            t["i"][row] = 1
    with pytest.raises(IndexError):
        piece[2]
    with pytest.raises((TypeError, IndexError)):
        t["i"]["a"]
    with pytest.raises((TypeError, ValueError)):
        t["i"][::2] = 1


def test_facts(make):
    t = make({"x": "int64?", "y": "float64"}, 3)
    assert (t["x"].name, t["x"].dtype, t["x"].nullable, len(t["x"])) == ("x", "int64?", True, 3)
    assert not t["y"].nullable and t["y"].null_count == 0
    assert t["y"].null_mask().tolist() == [False] * 3
    assert t["x"].table is t and "int64?" in repr(t["x"])
    assert np.asarray(t["y"]).tolist() == [0.0] * 3 and (np.asarray(t["y"], "i4") == 0).all()


def test_dates_and_bits_and_text_are_copies(make):
    t = make({"d": "date?", "b": "bit?"}, 2)
    t["d"] = [D(2020, 1, 2), None]
    days = t["d"].numpy()
    assert days.dtype == "M8[D]" and str(days[0]) == "2020-01-02" and np.isnat(days[1])
    t["b"] = [True, None]
    with pytest.warns(pintable.CopyWarning, match="one bit"):
        bits = t["b"].numpy()
    assert bits.tolist() == [True, False] and bits.dtype == bool
    for copied in (days, bits):
        assert not copied.flags.writeable
    for name in ("d", "b"):
        with pytest.raises(pintable.TypeMismatch, match="no writable array"):
            t[name].numpy(writable=True)


# ---- nulls -------------------------------------------------------------------------------------


def test_set_null(make):
    t = make({"i": "int64?", "f": "float64?", "s": "timestamp[s]?", "c": "category?"}, 6)
    for name, value in (("i", 7), ("f", 7.5), ("s", DT(2020, 1, 1)), ("c", "a")):
        column = t[name]
        column[:] = value
        column.set_null(0)
        column.set_null(-1)
        column.set_null(slice(1, 3))
        assert column.null_mask().tolist() == [True, True, True, False, False, True]
        column.set_null(slice(None), False)
        assert column.null_count == 0
        column.set_null([1, 3])
        column.set_null(np.array([4]))
        column.set_null(slice(None, None, 5))
        assert column.null_mask().tolist() == [True, True, False, True, True, True]
        column.set_null(np.arange(6) < 6, False)
        column.set_null([True, False] * 3)
        assert column.null_mask().tolist() == [True, False] * 3
        t[2:4][name].set_null(slice(None))
        assert column.null_mask().tolist() == [True, False, True, True, True, False]
    assert t["i"].numpy().tolist() == [7] * 6  # bytes are kept
    assert t["f"].numpy().tolist() == [7.5] * 6
    assert np.isnat(t["s"].numpy()[[0, 2]]).all() and t["c"].numpy()[[0, 2]].tolist() == [-1, -1]


def test_set_null_refuses(make):
    t = make({"x": "int8?", "y": "int8"}, 3)
    for rows in (3, -4, [0, 5], np.array([9])):
        with pytest.raises(pintable.OutOfRange):
            t["x"].set_null(rows)
    with pytest.raises(pintable.Invalid, match="mask of 2"):
        t["x"].set_null([True, False])
    for rows in ("a", 1.5, [0.5], None):
        with pytest.raises(TypeError):
            t["x"].set_null(rows)
    with pytest.raises(pintable.TypeMismatch, match="not nullable"):
        t["y"].set_null(0)
    assert t["x"].null_count == 3


def test_nulls_at_the_edges_of_bytes(make):
    rng = np.random.default_rng(7)
    t = make("int16?", 1000)
    truth = np.ones(1000, bool)
    for _ in range(50):
        a, b = sorted(rng.integers(0, 1001, 2))
        mask = rng.random(b - a) < 0.5
        t["x"][a:b] = np.ma.MaskedArray(np.ones(b - a, int), mask)
        truth[a:b] = mask
        assert t["x"].null_mask().tolist() == truth.tolist()
    assert t["x"].null_count == truth.sum()


# ---- categories --------------------------------------------------------------------------------


def test_categories(make):
    t = make("category[int8]?", 3)
    column = t["x"]
    assert column.categories == []
    assert column.add_category("a") == 0 == column.add_category("a")
    assert column.add_category("b") == 1
    column[:] = ["b", None, "c"]
    assert column.categories == ["a", "b", "c"]
    assert column.numpy().tolist() == [1, -1, 2] and column.numpy().dtype == np.int8
    column.numpy()[0] = 0
    assert column[0] == "a"
    with pytest.raises(TypeError):
        column.add_category(3)


def test_categories_without_room(make):
    t = make("category[int8, 3, 4]?", 4)
    t["x"] = ["aa", "b", "c", "b"]
    with pytest.raises(pintable.OutOfRange):
        t["x"][0] = "d"
    with pytest.raises(pintable.OutOfRange):
        make("category[int8, 3, 4]", 1)["x"].add_category("aaaaa")
    assert t["x"].to_pylist() == ["aa", "b", "c", "b"]


def test_codes_that_cannot_be(make):
    t = make("category?", 20)
    t["x"] = "a"
    t["x"].numpy()[3] = 7
    for read in (lambda: t["x"][3], lambda: t["x"].to_pylist()):
        with pytest.raises(pintable.Corrupt):
            read()
    t["x"].set_null(3)
    assert t["x"][3] is None


def test_not_a_category(make):
    t = make()
    with pytest.raises(pintable.TypeMismatch, match="not a category"):
        t["x"].categories
    with pytest.raises(pintable.TypeMismatch, match="not a category"):
        t["x"].add_category("a")


# ---- versions ----------------------------------------------------------------------------------


def test_mark_and_version(make):
    t = make("int64", 1500, chunk_rows=512)
    seen = [t["x"].version(chunk) for chunk in range(3)]
    t["x"].numpy()[600] = 1
    t["x"].mark(600, 601)
    assert [t["x"].version(chunk) > seen[chunk] for chunk in range(3)] == [False, True, False]
    t["x"].mark(3, 3)
    t[1100:1200]["x"].mark()
    assert t["x"].version(2) > seen[2] and t["x"].version(0) == seen[0]
    for a, b in ((-1, 3), (0, 1501), (5, 4)):
        with pytest.raises(pintable.OutOfRange):
            t["x"].mark(a, b)
    for chunk in (-1, 3):
        with pytest.raises(pintable.OutOfRange):
            t["x"].version(chunk)
    with pytest.raises(pintable.WrongState):
        t["x"].recover(0)


def test_store_in_a_leased_chunk_is_noticed(make):
    t = make("int64", 10)
    with t.lease(0, "x"), pytest.raises(pintable.Busy):
        t["x"][0] = 1


def test_more_category_columns_than_are_remembered(make):
    names = [f"c{i}" for i in range(100)]
    t = make(dict.fromkeys(names, "category[int8, 4, 16]"), 2)
    for _ in range(2):
        for name in names:
            t[name] = [name, "b"]
    assert all(t[name].to_pylist() == [name, "b"] for name in names)
