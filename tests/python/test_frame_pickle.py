# SPDX-License-Identifier: Apache-2.0
"""Frames hold plain arrays, and still warn when a pickle copies the table's memory."""

from __future__ import annotations

import copy
import copyreg
import io
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")

import frames  # noqa: E402
import pintable  # noqa: E402
from pintable._frame import pickling as _pickling  # noqa: E402
from pintable._values import view as _view  # noqa: E402

Put = Callable[..., pintable.Table]
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
STRING = pd.StringDtype(frames.STORAGE)


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


@pytest.fixture
def quiet() -> Iterator[None]:
    """Any warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def _mixed() -> pd.DataFrame:
    return pd.DataFrame({
        "i": [1, 2, 3], "f": [0.5, np.nan, 2.0], "m": pd.array([1, None, 3], "Int64"),
        "c": pd.Categorical(["a", None, "b"]), "t": pd.to_datetime(["2020", None, "2021"]),
        "s": pd.Series(["a", None, "ü"], dtype=STRING), "o": [b"a", b"b", None],
    })  # fmt: skip


# ---- plain arrays ------------------------------------------------------------------------------


@pytest.mark.parametrize("row", frames.ROWS, ids=[row.dtype for row in frames.ROWS])
@pytest.mark.parametrize("writable", [False, True])
def test_every_array_of_a_frame_is_plain(row: frames.Row, writable: bool, put: Put) -> None:
    series = row.make().iloc[:3]
    index = pd.Index([0.5, 1.5, 2.5], name="k")
    table = put(pd.DataFrame({"x": series.array, "y": series.array}, index=index))
    found = [
        table.to_pandas(writable=writable),
        table[1:].to_pandas(writable=writable),
        table["x"].to_pandas(writable=writable),
    ]
    for obj in found:
        arrays = frames.arrays_in(obj)
        assert any(pintable.is_shared(array) for array in arrays)  # the index at least
        assert {type(array) for array in arrays} == {np.ndarray}


def test_the_array_of_a_column_still_warns(put: Put) -> None:
    column = put(pd.DataFrame({"x": [1, 2]}))["x"].numpy()
    assert type(column) is _view.View
    with pytest.warns(pintable.CopyWarning):
        assert type(pickle.loads(pickle.dumps(column))) is np.ndarray


# ---- every pickler -----------------------------------------------------------------------------


def _python_pickler(obj: Any) -> Any:
    file = io.BytesIO()
    pickle._Pickler(file).dump(obj)  # type: ignore[attr-defined]
    return pickle.loads(file.getvalue())


def _cloudpickle(obj: Any) -> Any:
    return pickle.loads(pytest.importorskip("cloudpickle").dumps(obj))


def _joblib(obj: Any) -> Any:
    joblib = pytest.importorskip("joblib")
    file = io.BytesIO()
    joblib.dump(obj, file)
    file.seek(0)
    return joblib.load(file)


def _loky(obj: Any) -> Any:
    loky = pytest.importorskip("joblib.externals.loky.backend.reduction")
    return pickle.loads(bytes(loky.dumps(obj)))


def _to_pickle(obj: Any) -> Any:
    file = io.BytesIO()
    obj.to_pickle(file)
    file.seek(0)
    return pd.read_pickle(file)


def _out_of_band(obj: Any) -> Any:
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(obj, 5, buffer_callback=buffers.append)
    assert buffers
    return pickle.loads(data, buffers=[bytes(buffer.raw()) for buffer in buffers])


PICKLERS: dict[str, Callable[[Any], Any]] = {
    **{f"protocol {n}": lambda obj, n=n: pickle.loads(pickle.dumps(obj, n)) for n in PROTOCOLS},
    "python": _python_pickler,
    "multiprocessing": lambda obj: pickle.loads(ForkingPickler.dumps(obj)),
    "cloudpickle": _cloudpickle, "joblib": _joblib, "loky": _loky, "to_pickle": _to_pickle,
    "out of band": _out_of_band,
}  # fmt: skip


@pytest.mark.parametrize("how", PICKLERS)
@pytest.mark.parametrize("is_frame", [True, False], ids=["frame", "series"])
def test_every_pickler_warns_once_and_copies(how: str, is_frame: bool, put: Put) -> None:
    table = put(_mixed())
    obj = table.to_pandas() if is_frame else table["f"].to_pandas()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        back = PICKLERS[how](obj)
    assert [warning.category for warning in caught] == [pintable.CopyWarning]
    if how not in ("cloudpickle", "loky"):  # loky's own module may be between
        assert caught[0].filename == __file__
    assert not np.any(list(pintable.is_shared(back).values()) if is_frame
                      else pintable.is_shared(back))  # fmt: skip
    frames.assert_same(back, obj)


@pytest.mark.parametrize("row", frames.ROWS, ids=[row.dtype for row in frames.ROWS])
def test_a_shared_column_of_every_dtype_warns(row: frames.Row, put: Put) -> None:
    df = put(pd.DataFrame({"x": row.make()})).to_pandas()
    if row.shared:
        for obj in (df, df["x"]):
            with pytest.warns(pintable.CopyWarning):
                back = pickle.loads(pickle.dumps(obj))
            frames.assert_same(back, obj)
            assert not any(pintable.is_shared(array) for array in frames.arrays_in(back))
        assert pintable.is_shared(back) is False
    elif not frames.is_partly_shared(row):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pickle.loads(pickle.dumps(df))


def test_the_warning_says_how_much(put: Put) -> None:
    df = put(pd.DataFrame({"x": np.zeros(1000), "y": np.zeros(1000, "i1")})).to_pandas()
    with pytest.warns(pintable.CopyWarning, match="copies 9000 bytes"):
        pickle.dumps(df)
    df["x"] = df["x"] + 1
    with pytest.warns(pintable.CopyWarning, match="copies 1000 bytes"):
        pickle.dumps(df)


def test_what_pandas_makes_of_a_frame_warns_as_long_as_it_shares(put: Put) -> None:
    df = put(pd.DataFrame({"x": [1, 2], "s": pd.array(["a", "b"], STRING)})).to_pandas()
    for obj in (df.iloc[:1], df["x"].iloc[1:], {"k": [df]}):
        with pytest.warns(pintable.CopyWarning):
            pickle.dumps(obj)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for obj in (df[["x"]] + 1, df[["x"]].copy(), df.iloc[:0], df["x"].sum(), df.dtypes):
            pickle.dumps(obj)


def test_a_shared_index_warns(put: Put) -> None:
    index = pd.Index([0.5, 1.5], name="k")
    table = put(pd.DataFrame({"b": [b"ab", b"cd"]}, index=index))
    df = table.to_pandas()
    assert pintable.is_shared(df) == {"b": False} and pintable.is_shared(df.index)
    with pytest.warns(pintable.CopyWarning, match="copies 16 bytes"):
        back = pickle.loads(pickle.dumps(df))
    assert not pintable.is_shared(back.index)
    frames.assert_same(back, df)


def test_a_series_of_a_column_array_warns_once(put: Put) -> None:
    table = put(pd.DataFrame({"x": [1, 2]}))
    table.to_pandas()
    array = table["x"].numpy()
    for values in (array, pd.arrays.IntegerArray(array, np.zeros(2, "?"))):
        series = pd.Series(values, copy=False)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            pickle.dumps(series)
        assert [warning.category for warning in caught] == [pintable.CopyWarning]


def test_copies_that_are_asked_for_do_not_warn(put: Put, quiet: None) -> None:
    df = put(_mixed()).to_pandas()
    for obj in (df, df["i"]):
        for made in (copy.copy(obj), copy.deepcopy(obj), obj.copy(), copy.deepcopy([obj])[0]):
            assert type(made) is type(obj)
            frames.assert_same(made, obj)
    assert pintable.is_shared(copy.copy(df["i"])) is (frames.PANDAS >= 3)  # before, it is deep
    assert pintable.is_shared(copy.deepcopy(df))["i"] is False


def test_hashing_copies_nothing_and_sees_equal_frames(put: Put, quiet: None) -> None:
    joblib = pytest.importorskip("joblib")
    df = pd.DataFrame({"x": [1.5, 2.5]})
    shared = put(df).to_pandas()
    assert joblib.hash(shared["x"]) == joblib.hash(df["x"].copy())
    assert joblib.hash(shared) == joblib.hash(frames.copied(shared))


# ---- frames of others --------------------------------------------------------------------------


def test_frames_of_others_are_pickled_as_ever(put: Put, quiet: None) -> None:
    put(pd.DataFrame({"x": [1]})).to_pandas()
    classes = {type(pd.DataFrame()._mgr), type(pd.Series(dtype="i1")._mgr)}
    assert all(copyreg.dispatch_table[cls] is _pickling._reduce for cls in classes)
    df = frames.frame_of_all().set_index(pd.MultiIndex.from_product([[1], list("abc")]))
    objects = [df, df.iloc[:0], pd.DataFrame({"x": [1, 2], "y": [3, 4]}).iloc[::-1], pd.DataFrame(),
               df.iloc[:, 0], pd.Series([1, 2], index=[0.5, 1])]  # fmt: skip
    hooked = [[pickle.dumps(obj, protocol) for obj in objects] for protocol in PROTOCOLS]
    with pytest.MonkeyPatch.context() as patch:
        for cls in classes:
            patch.delitem(copyreg.dispatch_table, cls)
        plain = [[pickle.dumps(obj, protocol) for obj in objects] for protocol in PROTOCOLS]
    for protocol in PROTOCOLS:
        for obj, ours, theirs in zip(objects, hooked[protocol], plain[protocol], strict=True):
            if protocol >= 2 or isinstance(obj, pd.DataFrame):
                assert ours == theirs
            else:  # a reducer is not told the protocol: old ones are spelt otherwise
                frames.assert_same(pickle.loads(ours), pickle.loads(theirs))


def test_looking_makes_no_rows_of_a_range(put: Put) -> None:
    put(pd.DataFrame({"x": [1]})).to_pandas()
    df = pd.DataFrame({"x": np.zeros(10)})
    pickle.dumps(df)
    assert "_data" not in df.index._cache


def test_a_manager_that_is_not_understood_is_pickled(
    put: Put, monkeypatch: pytest.MonkeyPatch, quiet: None
) -> None:
    df = put(pd.DataFrame({"x": [1, 2]})).to_pandas()
    monkeypatch.setattr(_pickling, "_is_in", None)
    frames.assert_same(pickle.loads(pickle.dumps(df)), df)


OTHERS_REDUCER = """
import copyreg, pickle, sys, warnings
import pandas as pd, pintable
warnings.simplefilter("error")
copyreg.pickle(type(pd.DataFrame()._mgr), lambda manager: (print, ("theirs",)))
with pintable.open(sys.argv[1]) as table:
    df = table.to_pandas()
    print(type(df._mgr) is pickle.loads(pickle.dumps(df._mgr)))
    try:
        pickle.dumps(df["x"])
    except pintable.CopyWarning:
        print("warned")
"""


def test_a_reducer_of_another_package_stays(put: Put) -> None:
    table = put(pd.DataFrame({"x": [1, 2]}))
    command = [sys.executable, "-c", OTHERS_REDUCER, table.name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "theirs\nFalse\nwarned\n", done.stderr


def test_a_pickle_is_read_without_this_package(put: Put, tmp_path: Path) -> None:
    df = put(_mixed()).to_pandas(writable=True)
    file = tmp_path / "df"
    with pytest.warns(pintable.CopyWarning):
        df.to_pickle(file)
    code = f"""if True:
        import sys
        sys.modules["pintable"] = None
        import pandas as pd
        df = pd.read_pickle({str(file)!r})
        df.loc[0, "i"] = 7
        print(df["i"].tolist())"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          timeout=60, check=False)  # fmt: skip
    assert done.stdout == "[7, 2, 3]\n", done.stderr
