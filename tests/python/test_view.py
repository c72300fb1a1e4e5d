# SPDX-License-Identifier: Apache-2.0
"""Arrays on column buffers: no copies, plain results, a warning when one is pickled."""

from __future__ import annotations

import copy
import pickle
import warnings

import pintable
import pytest

np = pytest.importorskip("numpy")

from pintable._values.view import View  # noqa: E402  needs numpy


@pytest.fixture
def x(make):
    t = make("float64", 100)
    t["x"] = np.arange(100.0)
    return t["x"].numpy()


def test_it_is_a_view(x, make):
    t = make({"i": "int32", "l": "list[int8, 3]", "c": "category"}, 10)
    assert t["i"].numpy().ctypes.data == t["i"].numpy().ctypes.data
    t["i"].numpy()[3] = 5
    assert t["i"][3] == 5 and t[2:5]["i"].numpy()[1] == 5
    t["l"].numpy()[1, 2] = 7
    assert t["l"][1] == [0, 0, 7]
    assert t["i"].numpy().ctypes.data % 64 == 0
    assert isinstance(x, View) and isinstance(x[3:5], View) and isinstance(x.reshape(10, 10), View)


def test_writable_is_of_each_array(make):
    t = make("int64", 4)
    fixed = t["x"].numpy(writable=False)
    assert not fixed.flags.writeable and t["x"].numpy().flags.writeable
    with pytest.raises(ValueError):
        fixed[0] = 1
    loose = t["x"].numpy(writable=True)
    loose.flags.writeable = False
    assert t["x"].numpy(writable=True).flags.writeable
    loose.shape = (2, 2)
    assert t["x"].numpy().shape == (4,)


def test_an_array_of_a_table_opened_to_read_cannot_be_made_writable(make):
    name = make("int64", 4).name
    view = pintable.open(name, "r")["x"].numpy()
    with pytest.raises(ValueError):
        view.flags.writeable = True


def test_results_are_plain(x):
    results = [x + 1, -x, np.sin(x), x * x, x > 3, np.add(1, x), x @ x.reshape(-1, 1)]
    for result in results:
        assert type(result) is np.ndarray, result
    for value in (x.sum(), x.mean(), x.max(), np.add.reduce(x), x[3], x.dot(x), np.median(x)):
        assert isinstance(value, (float, np.floating)), type(value)
    assert type(np.asarray(x)) is np.ndarray and np.asarray(x).ctypes.data == x.ctypes.data
    out = np.empty(100)
    assert np.add(x, 1, out=out) is out and out[0] == 1
    assert repr(x[:2]) == "array([0., 1.])" and str(x[:2]) == "[0. 1.]"


def test_in_place_stays_in_the_table(make):
    t = make("float64", 10)
    view = t["x"].numpy()
    view += 2
    assert type(view) is View and t["x"].to_pylist() == [2.0] * 10
    np.multiply(view, 3, out=view)
    view[view > 5] = 1
    assert t["x"].to_pylist() == [1.0] * 10


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickling_warns_and_copies(x, protocol):
    with pytest.warns(pintable.CopyWarning, match="800 bytes.*handles"):
        found = pickle.loads(pickle.dumps(x, protocol))
    assert type(found) is np.ndarray and (found == x).all() and found.flags.writeable
    for part in (x[3:9], x[::7], x.reshape(10, 10).T, x.view("i8")):
        with pytest.warns(pintable.CopyWarning):
            found = pickle.loads(pickle.dumps(part, protocol))
        assert (found == part).all()


def test_the_warning_points_to_the_line_that_pickles(x):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pickle.dumps({"deep": [x]})
    assert [item.filename for item in caught] == [__file__]


def test_what_is_a_copy_already_does_not_warn(x, make):
    copies = [x.copy(), x[[1, 2]], x[x > 3], copy.copy(x), copy.deepcopy(x), x[:0],
              np.concatenate([x, x]), x + 1, x.astype("f4")]  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for array in copies:
            found = pickle.loads(pickle.dumps(array))
            assert type(found) is np.ndarray and found.tolist() == array.tolist()
    make.end()
    with pytest.warns(pintable.CopyWarning):  # the table is gone, its memory is there
        pickle.dumps(x)


def test_pickling_with_buffers_out_of_band(x):
    buffers = []
    with pytest.warns(pintable.CopyWarning):
        data = pickle.dumps(x, 5, buffer_callback=buffers.append)
    assert (pickle.loads(data, buffers=buffers) == x).all() and len(buffers) == 1


def test_a_frame_of_views_warns_too(make):
    pd = pytest.importorskip("pandas")
    t = make({"a": "float64", "b": "float64"}, 10)
    df = pd.DataFrame({"a": t["a"].numpy(), "b": t["b"].numpy()}, copy=False)
    with pytest.warns(pintable.CopyWarning):
        back = pickle.loads(pickle.dumps(df))
    assert back.equals(df)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pickle.dumps(df.copy(deep=True))
        pickle.dumps(pd.DataFrame({"a": t["a"].numpy().copy()}))


def test_views_live_as_long_as_they_are_used(make):
    t = make("int64", 1000)
    t["x"] = np.arange(1000)
    view = t["x"].numpy()[10:20]
    t.drop()
    t.close()
    del t
    assert view.sum() == sum(range(10, 20))
    view[:] = 1
    assert view.sum() == 10


def test_a_view_of_a_service_that_was_killed(service):
    t = pintable.create({"x": "int64"}, 1000, "v", address=service.folder)
    view = t["x"].numpy()
    view[:] = 3
    service.kill()
    assert view.sum() == 3000 and t["x"].numpy().sum() == 3000
    view[0] = 4
    assert t["x"][0] == 4
    with pytest.raises(pintable.ServiceGone):
        t.drop()
    t.close()
    assert view[0] == 4


def test_numpy_functions_on_columns(make):
    t = make("float64", 4)
    t["x"] = [1.0, 2.0, 3.0, 4.0]
    assert np.sum(t["x"]) == 10 and np.asarray(t["x"]).tolist() == [1, 2, 3, 4]
    assert np.array(t["x"], dtype=int).tolist() == [1, 2, 3, 4]
    copied = np.array(t["x"])
    copied[0] = 9
    assert t["x"][0] == 1
