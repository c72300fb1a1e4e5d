# SPDX-License-Identifier: Apache-2.0
"""Type specifications: what is accepted, how it is written back, what it is in numpy."""

from __future__ import annotations

import pintable
import pytest
from pintable._base.types import Spec

np = pytest.importorskip("numpy")

CANONICAL = [
    "bool", "bit", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64", "date", "timestamp[s]", "timestamp[ms]", "timestamp[us]",
    "timestamp[ns]", "timestamp[us, Europe/Berlin]", "timestamp[ns, +05:30]", "binary[1]",
    "binary[1048576]", "text[1]", "text[0]", "list[float32, 768]", "list[bool, 1]",
    "category[int8, 5, 100]", "category[int32, 1000, 100000]",
]  # fmt: skip


@pytest.mark.parametrize("text", [*CANONICAL, *(f"{text}?" for text in CANONICAL)])
def test_canonical_texts_are_their_own(text):
    spec = Spec.parse(text)
    assert str(spec) == text and spec.nullable == text.endswith("?")
    assert Spec.parse(spec) is spec


@pytest.mark.parametrize("text", [t for t in CANONICAL if t != "text[0]"])
def test_a_table_has_the_type_it_was_created_with(make, text):
    for spec in (text, f"{text}?"):
        t = make(spec, 3)
        found = Spec.parse(t.schema["x"])
        assert found.same_shape(Spec.parse(spec).empty()) and t["x"].dtype == t.schema["x"]
        if not text.startswith("category"):
            assert t.schema["x"] == spec


SAME = [
    (bool, "bool"), (int, "int64"), (float, "float64"), ("?", "bool"), ("i4", "int32"),
    ("<u2", "uint16"), ("=f8", "float64"), ("M8[ns]", "timestamp[ns]"),
    ("datetime64[us]", "timestamp[us]"), ("M8[D]", "date"), ("S5", "binary[5]"),
    ("V7", "binary[7]"),
    (" int64 ? ", "int64?"), ("timestamp[ us ,UTC ]", "timestamp[us, UTC]"),
    ("list[int8,2]", "list[int8, 2]"),
    ("Int64", "int64?"), ("UInt8", "uint8?"), ("Float32", "float32?"), ("boolean", "bool?"),
    ("??", "bool?"),
    ("category", "category[int32, 65536, 4194304]"),
    ("category[int8]", "category[int8, 128, 8192]"),
]  # fmt: skip


@pytest.mark.parametrize("given, text", SAME)
def test_other_ways_to_say_it(given, text):
    assert str(Spec.parse(given)) == text


def test_numpy_dtypes():
    for code in "?bhiqBHIQefd":
        assert Spec.parse(np.dtype(code)).dtype() == np.dtype(code)
    assert Spec.parse(np.float32) == Spec.parse("float32")
    assert str(Spec.parse(np.dtype(("f4", (768,))))) == "list[float32, 768]"
    assert Spec.parse("timestamp[ms]").dtype() == "M8[ms]"
    assert Spec.parse("date").dtype() == "i4" and Spec.parse("category[int16]").dtype() == "i2"
    assert Spec.parse("binary[3]").dtype() == "V3" and Spec.parse("list[uint8, 4]").dtype() == "u1"
    for text in ("text[3]", "bit"):
        with pytest.raises(pintable.TypeMismatch):
            Spec.parse(text).dtype()


def test_pandas_dtypes():
    pd = pytest.importorskip("pandas")
    assert str(Spec.parse(pd.Int16Dtype())) == "int16?"
    assert str(Spec.parse(pd.BooleanDtype())) == "bool?"


@pytest.mark.parametrize("bad", [
    "", "integer", "int128", "int64[3]", "timestamp", "timestamp[m]", "timestamp[]",
    "timestamp[us, UTC, x]", "text", "text[]", "text[-1]", "text[a]", "text[1.5]", "text[١]",
    "binary", "binary[1, 2]", "category[]x", "category[float32]", "category[int8, 3]",
    "category[int64]", "list[float32]", "list[text, 3]", "list[bit, 3]", "list[float32, x]",
    "list[list[int8, 2], 2]", "int64 int64", "int64]", "[int64", None, 3, object(), [], str, bytes,
    list,
])  # fmt: skip
def test_bad_specs(bad):
    with pytest.raises((pintable.Invalid, pintable.TypeMismatch)):
        Spec.parse(bad)


@pytest.mark.parametrize("bad", ["c16", "O", "U5", "m8[ns]", "M8[Y]", "g", ">i4", "S", "V",
                                 "i4,f8"])  # fmt: skip
def test_numpy_dtypes_that_no_column_has(bad):
    with pytest.raises((pintable.TypeMismatch, pintable.Invalid)):
        Spec.parse(np.dtype(bad))


@pytest.mark.parametrize("spec", ["text[9223372036854775807]", "binary[0]", "binary[1048577]",
                                  "list[int8, 0]", "list[int8, 1048577]", "category[int8, 129, 10]",
                                  "timestamp[s, Nowhere\n/X]",
                                  f"timestamp[s, {'z' * 64}]"])  # fmt: skip
def test_limits_of_the_library(spec):
    with pytest.raises(pintable.Error):
        pintable.create({"x": spec}, 10)
