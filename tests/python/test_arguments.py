# SPDX-License-Identifier: Apache-2.0
"""Arguments that are wrong raise errors of the library; names and labels of all kinds are found."""

from __future__ import annotations

import math

import pintable
import pytest

pd = pytest.importorskip("pandas")
np = pytest.importorskip("numpy")

WRONG = [
    (lambda t: pintable.create({"x": "int8"}, -1), pintable.OutOfRange),
    (lambda t: pintable.create({"x": "int8"}, 1.5), pintable.TypeMismatch),
    (lambda t: pintable.create({"x": "int8"}, True), pintable.TypeMismatch),
    (lambda t: pintable.create(5, 1), pintable.Invalid),
    (lambda t: pintable.create("x", 1), pintable.Invalid),
    (lambda t: pintable.open(5), pintable.TypeMismatch),
    (lambda t: pintable.drop(5), pintable.TypeMismatch),
    (lambda t: pintable.rename(t.name, None), pintable.TypeMismatch),
    (lambda t: t.rename(5), pintable.TypeMismatch),
    (lambda t: t.wait("x", timeout=-1), pintable.OutOfRange),
    (lambda t: t.wait("x", timeout=math.nan), pintable.OutOfRange),
    (lambda t: t["x"].wait(timeout="1"), pintable.TypeMismatch),
    (lambda t: t["x"].version("a"), pintable.TypeMismatch),
    (lambda t: t["x"].set_null(1.5), pintable.TypeMismatch),
    (lambda t: t["x"].set_null([1.5]), pintable.TypeMismatch),
    (lambda t: t["c"].add_category(5), pintable.TypeMismatch),
    (lambda t: t.lease("a", "x"), pintable.TypeMismatch),
    (lambda t: t.lease(1.5, "x"), pintable.TypeMismatch),
    (lambda t: t.lease(0, 5), pintable.TypeMismatch),
    (lambda t: t.lease(0, "x", timeout=-1), pintable.OutOfRange),
    (lambda t: t.job("j", inout="x").next(timeout=-1), pintable.OutOfRange),
    (lambda t: t.job("j", inout="x").wait("a"), pintable.TypeMismatch),
    (lambda t: t.job(5, inout="x"), pintable.TypeMismatch),
    (lambda t: t.map(abs, out=5), pintable.TypeMismatch),
    (lambda t: t.map(abs, columns=5), pintable.TypeMismatch),
    (lambda t: t.map(abs, inout="x", progress="yes"), pintable.TypeMismatch),
    (lambda t: t.map(abs, inout="x", name=5), pintable.TypeMismatch),
    (lambda t: t.head("a"), pintable.TypeMismatch),
]


@pytest.mark.parametrize("call, error", WRONG)
def test_wrong_arguments_raise_errors_of_the_library(make, call, error):
    t = make({"x": "int64?", "c": "category"}, 10)
    with pytest.raises(error) as caught:
        call(t)
    assert isinstance(caught.value, pintable.Error)
    assert t["x"].to_pylist() == [None] * 10


@pytest.mark.parametrize(
    "args",
    [("n", b"p", 1, True), ("n", b"p" * 16, "1", True), ("n", "p", 1, True), (None,) * 4],
)
def test_handles_of_others_are_checked(args):
    with pytest.raises(pintable.Error):
        pintable._table.handle.open_table(*args)


def test_labels_that_are_no_names_are_found(make):
    frame = pd.DataFrame([[1, 2, 3]])
    frame.columns = pd.Index(["a\0b", "\ud800", "x\ny"], dtype=object)
    t = make.keep(pintable.from_pandas(frame))
    assert [t[label][0] for label in frame.columns] == [1, 2, 3]
    for label in frame.columns:
        assert label in t
    for label in ("c\0d", "\ud801", "", "a" * 1000):
        assert label not in t
        with pytest.raises(pintable.NotFound):
            t[label]


def test_frames_of_pandas_spellings_can_be_created(make):
    kinds = [
        "string", "str", "datetime64[ns, UTC]", "datetime64[s]",
        pd.DatetimeTZDtype("us", "Europe/Berlin"), pd.StringDtype(),
    ]  # fmt: skip
    t = make(dict(zip("abcdef", kinds, strict=True)), 2)
    assert list(t.schema.values()) == [
        t.schema["a"], t.schema["a"], "timestamp[ns, UTC]", "timestamp[s]",
        "timestamp[us, Europe/Berlin]", t.schema["a"],
    ]  # fmt: skip
    t["a"] = ["x", None]
    assert t["a"].to_pylist() == ["x", None] and t["b"].to_pylist() == [None, None]


# ---- what notebooks and users look at ------------------------------------------------------------


def test_looking_at_a_table(make):
    frame = pd.DataFrame({"x": range(9), "<b>": range(9)}, index=list("abcdefghi"))
    t = make.keep(pintable.from_pandas(frame))
    assert t.shape == (9, 3) and t[2:4].shape == (2, 3)
    assert t.keys() == t.columns == t._ipython_key_completions_()
    assert dict(t)["x"].to_pylist() == list(range(9))
    pd.testing.assert_frame_equal(t.head(), frame.head())
    pd.testing.assert_frame_equal(t.head(-7), frame.head(-7))
    pd.testing.assert_frame_equal(t[3:].head(2), frame[3:].head(2))
    shown = t._repr_html_()
    assert "<table" in shown and "9 rows" in shown and "<b>" not in shown
    with pytest.raises(pintable.TypeMismatch, match=r"to_pandas\(columns="):
        t[["x"]]
    t.close()
    assert t._repr_html_() is None
