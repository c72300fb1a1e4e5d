# SPDX-License-Identifier: Apache-2.0
"""What numpy, slices, row numbers and masks get of a column, and how they store into it."""

from __future__ import annotations

import contextlib
import datetime

import pintable
import pytest

np = pytest.importorskip("numpy")

D = datetime.date
NULLED = [
    ("int64?", [7, 1, 9], [7, None, 9], object),
    ("uint8?", [7, 1, 9], [7, None, 9], object),
    ("bool?", [True, True, False], [True, None, False], object),
    ("binary[2]?", [b"ab", b"cd", b"ef"], [b"ab", None, b"ef"], object),
    ("list[int8, 2]?", [[1, 2], [3, 4], [5, 6]], [[1, 2], None, [5, 6]], object),
    ("category?", ["a", "b", "c"], ["a", None, "c"], object),
]


@pytest.mark.parametrize("kind, items, shown, dtype", NULLED)
def test_numpy_functions_see_nulls(make, kind, items, shown, dtype):
    t = make(kind, 3)
    t["x"] = items
    t["x"].set_null(1)
    found = np.asarray(t["x"])
    assert found.dtype == dtype and found.tolist() == shown
    if kind == "int64?":
        with pytest.raises(TypeError):
            np.sum(t["x"])
        assert np.nansum(np.asarray(t["x"], "f8")) == 16
        assert t["x"].numpy().tolist() == items  # raw, as it says


def test_floats_and_times_show_nulls_themselves(make):
    t = make({"f": "float32?", "l": "list[float64, 2]?", "d": "date?", "t": "timestamp[s]?"}, 3)
    t["f"] = [1.0, 2.0, 3.0]
    t["l"] = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    t["d"] = [D(2020, 1, 1)] * 3
    t["t"] = [datetime.datetime(2020, 1, 1)] * 3
    for name in t:
        t[name].set_null(1)
    f = np.asarray(t["f"])
    assert f.dtype == np.float32 and np.isnan(f).tolist() == [False, True, False]
    assert np.isnan(np.asarray(t["l"])).tolist() == [[False] * 2, [True] * 2, [False] * 2]
    for name in "dt":
        assert np.isnat(np.asarray(t[name])).tolist() == [False, True, False]
        assert np.isnat(t[name][0:3]).tolist() == [False, True, False]
    assert t["f"].numpy().tolist() == [1.0, 2.0, 3.0]  # the copy it was, not the table


def test_pandas_sees_nulls(make):
    pd = pytest.importorskip("pandas")
    t = make({"i": "int64?", "c": "category?"}, 3)
    t["i"] = [7, None, 9]
    t["c"] = ["a", None, "b"]
    assert pd.Series(t["i"]).isna().tolist() == [False, True, False]
    assert pd.Series(t["c"]).fillna("-").tolist() == ["a", "-", "b"]
    frame = pd.DataFrame(dict(t))
    assert frame["i"].isna().tolist() == [False, True, False]


def test_selected_nulls_are_masked(make):
    t = make({"i": "int64?", "l": "list[int8, 2]?"}, 4)
    t["i"] = [7, None, 9, 10]
    t["l"] = [[1, 2], None, [3, 4], [5, 6]]
    for key in (slice(0, 3), [0, 1, 2], np.array([True, True, True, False])):
        found = t["i"][key]
        assert isinstance(found, np.ma.MaskedArray) and found.tolist() == [7, None, 9]
        assert t["l"][key].tolist() == [[1, 2], [None, None], [3, 4]]
    assert t["i"][::-2].tolist() == [10, None]
    with pytest.raises(ValueError):
        t["i"][0:3][0] = 1
    part = t["i"][2:4]  # no null there: the table's memory, as ever
    assert not isinstance(part, np.ma.MaskedArray)
    part[0] = 8
    assert t["i"].to_pylist() == [7, None, 8, 10]


@pytest.mark.parametrize("key", [slice(2, 5), slice(None, None, 3), slice(8, 1, -2), slice(5, 2)])
@pytest.mark.parametrize("kind", ["int16", "category", "bit", "date"])
def test_slices_are_those_of_a_list(make, kind, key):
    t = make(kind, 10)
    items = {
        "int16": list(range(10)), "category": list("abcdefghij"), "bit": [True, False] * 5,
        "date": [D(2020, 1, i + 1) for i in range(10)],
    }[kind]  # fmt: skip
    t["x"] = items
    with pytest.warns(pintable.CopyWarning) if kind == "bit" else contextlib.nullcontext():
        found = t["x"][key]
    assert found.tolist() == items[key]


def test_a_slice_of_text_decodes_its_rows_only(make, monkeypatch):
    t = make("int64", 5000)
    t["s"] = [f"text {i}" for i in range(5000)]
    from pintable._values import objects as _objects

    asked = []
    plain = _objects.to_list

    def counting(column, spec, first, n_rows):
        asked.append(n_rows)
        return plain(column, spec, first, n_rows)

    monkeypatch.setattr(_objects, "to_list", counting)
    assert t["s"][4990:4995].tolist() == [f"text {i}" for i in range(4990, 4995)]
    assert sum(asked) == 5


def test_copy_false_never_copies(make):
    t = make({"x": "float64", "c": "category", "d": "date", "i": "int64?"}, 3)
    t["c"] = ["a", "b", "c"]
    t["i"] = [1, None, 3]
    if np.lib.NumpyVersion(np.__version__) < "2.0.0":
        pytest.skip("copy=False means something else in numpy 1")
    found = np.array(t["x"], copy=False)
    assert np.shares_memory(found, t["x"].numpy()) and not found.flags.writeable
    for name, dtype in (("x", "f4"), ("c", None), ("d", None), ("i", None)):
        with pytest.raises(ValueError):
            np.array(t[name], dtype=dtype, copy=False)
    copied = np.array(t["x"], copy=True)
    assert not np.shares_memory(copied, t["x"].numpy()) and copied.flags.writeable


# ---- storing -----------------------------------------------------------------------------------

STORED = [
    ("int64?", [10, None, 30]),
    ("float32", [0.5, 1.5, 2.5]),
    ("bit?", [True, None, False]),
    ("binary[2]", [b"xy", b"zw", b"uv"]),
    ("category?", ["p", None, "q"]),
    ("list[int8, 2]?", [[1, 2], None, [3, 4]]),
    ("timestamp[s]?", [datetime.datetime(2020, 1, 1), None, datetime.datetime(1960, 1, 1)]),
]


def one_for_each(item):
    return [item, item] if isinstance(item, list) else item


@pytest.mark.parametrize("kind, items", STORED)
def test_row_numbers_and_masks_store(make, kind, items):
    t = make(kind, 1200, chunk_rows=512)
    t["x"] = [items[0]] * 1200
    want = [items[0]] * 1200
    before = [t["x"].version(chunk) for chunk in range(3)]
    t["x"][[1100, 3, -90]] = items
    want[1100], want[3], want[-90] = items
    assert t["x"].to_pylist() == want
    after = [t["x"].version(chunk) for chunk in range(3)]
    assert [a != b for a, b in zip(before, after, strict=True)] == [True, False, True]
    mask = np.zeros(1200, bool)
    mask[[0, 511, 512]] = True
    t["x"][mask] = items
    want[0], want[511], want[512] = items
    assert t["x"].to_pylist() == want
    t["x"][np.array([7, 9])] = one_for_each(items[2])
    want[7] = want[9] = items[2]
    assert t["x"].to_pylist() == want
    t["x"][[5, 5]] = [items[0], items[2]]  # the last counts
    want[5] = items[2]
    assert t["x"].to_pylist() == want
    t["x"][[]] = []
    assert t["x"].to_pylist() == want


def test_rows_stored_from_the_column_itself(make):
    t = make("int64", 4)
    t["x"] = [1, 2, 3, 4]
    t["x"][[0, 1, 2, 3]] = t["x"].numpy()[::-1]
    assert t["x"].to_pylist() == [4, 3, 2, 1]


def test_bools_are_no_rows(make):
    t = make("int64", 3)
    for key in (True, False, np.True_, np.array(True)):
        with pytest.raises(pintable.TypeMismatch):
            t["x"][key]
        with pytest.raises(pintable.TypeMismatch):
            t["x"][key] = 5
    for key in (1.5, [0.5], "a", [[0]]):
        with pytest.raises(pintable.TypeMismatch):
            t["x"][key] = 5
    with pytest.raises(pintable.Invalid):
        t["x"][[True, False]] = 5
    with pytest.raises(pintable.OutOfRange):
        t["x"][[0, 3]] = 5
    with pytest.raises(pintable.Invalid):
        t["x"][[0, 1]] = [1, 2, 3]
    assert t["x"].to_pylist() == [0, 0, 0]


def test_a_column_stores_its_nulls_elsewhere(make):
    zone = "timestamp[ms, Europe/Berlin]?"
    t = make({"i": "int64?", "f": "float64?", "b": "bit?", "z": zone, "c": "category?"}, 3)
    stamp = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    t["i"], t["f"], t["b"] = [1, None, 3], [1.0, None, 3.0], [True, None, False]
    t["z"], t["c"] = [stamp, None, stamp], ["a", None, "b"]
    for name in "ifbzc":
        t[name + "2"] = t[name]
        assert t[name + "2"].to_pylist() == t[name].to_pylist()
        if name != "c":
            assert t[name + "2"].dtype == t[name].dtype
            t[name] = t[name + "2"][:] if name == "i" else t[name + "2"]
            assert t[name].to_pylist() == t[name + "2"].to_pylist()


@pytest.mark.parametrize("kind", ["float64", "int16?", "binary[3]", "list[float32, 2]"])
def test_a_column_stored_reversed_into_itself(make, kind):
    n = 2000
    t = make(kind, n, chunk_rows=512)
    items = {
        "float64": [float(i) for i in range(n)], "int16?": list(range(n)),
        "binary[3]": [b"%03d" % (i % 1000) for i in range(n)],
        "list[float32, 2]": [[float(i), -float(i)] for i in range(n)],
    }[kind]  # fmt: skip
    t["x"] = items
    t["x"] = t["x"].numpy()[::-1]
    assert t["x"].to_pylist() == items[::-1]
