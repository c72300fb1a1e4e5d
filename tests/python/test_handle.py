# SPDX-License-Identifier: Apache-2.0
"""Handles: how large they are, what opens them again, and what does not."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import threading

import pintable
import pytest
from child import ends_well, private_service
from pintable._base import pool as _pool
from pintable._table import handle as _handle

np = pytest.importorskip("numpy")


def there_and_back(value):
    return pickle.loads(pickle.dumps(value))


@pytest.fixture
def t(make):
    t = make({"x": "int64", "y" * 32: "float64"}, 1000, name="n" * 32)
    t["x"] = np.arange(1000)
    return t


# ---- size and content --------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [4, 5])
def test_handles_are_small(t, protocol):
    job = t.job("j" * 32, columns="x", out="y" * 32)
    for value in (t, t[10**2 : 10**3], t["x"], t["y" * 32], t[5:900]["y" * 32], job):
        assert len(pickle.dumps(value, protocol)) < 200
    job.drop()


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_they_open_the_same_data(t, protocol):
    for value, items in ((t, None), (t[10:20], None), (t["x"], None), (t[3:5]["x"], [3, 4])):
        back = pickle.loads(pickle.dumps(value, protocol))
        assert type(back) is type(value) and len(back) == len(value)
        if items:
            assert back.to_pylist() == items
    assert there_and_back(t[10:20])["x"].to_pylist() == list(range(10, 20))
    assert there_and_back(t[10:20]).first == 10
    there_and_back(t)["x"].numpy()[0] = 77
    assert t["x"][0] == 77


def test_the_mode_travels(t):
    read = pintable.open(t.name, "r")
    assert there_and_back(t).writable and not there_and_back(read).writable
    assert not there_and_back(read["x"]).numpy().flags.writeable


def test_the_address_travels_only_when_needed(t, service):
    other = pintable.create({"x": "int8"}, 1, "n" * 32, address=service.folder)
    assert service.folder.encode() not in pickle.dumps(t) and len(_handle.args(t)) == 4
    assert service.folder.encode() in pickle.dumps(other)
    assert there_and_back(other).id == other.id and there_and_back(other).columns == ["x"]
    output = ends_well(
        "import pickle, sys; print(pickle.loads(bytes.fromhex(sys.argv[1])).columns)",
        pickle.dumps(other).hex(),
    )
    assert output == "['x']\n"


# ---- the cache ---------------------------------------------------------------------------------


def test_handles_on_one_table_share_it(t):
    a = there_and_back(t)
    b = there_and_back(t["x"])
    assert there_and_back(t) is a and b.table is a and there_and_back(t[1:2]).table is a
    assert a is not t
    reader = there_and_back(pintable.open(t.name, "r"))
    assert reader is not a
    a.close()
    again = there_and_back(t)
    assert again is not a and again["x"][1] == 1 and t["x"][1] == 1
    assert copy.copy(t).id == t.id


def test_the_cache_holds_nothing(t):
    gc.collect()
    before = len(_handle._opened)
    table = there_and_back(t)
    assert len(_handle._opened) == before + 1
    del table
    assert len(_handle._opened) == before


def test_threads_open_at_once(t):
    data = pickle.dumps(t)
    found, barrier = [], threading.Barrier(8)

    def load() -> None:
        barrier.wait()
        for _ in range(50):
            found.append(pickle.loads(data)["x"][5])

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [5] * 400


# ---- when the table is not what it was ---------------------------------------------------------


def test_after_a_rename(t):
    data = pickle.dumps(t)
    t.rename("other")
    assert pickle.loads(data).id == t.id and pickle.loads(data).name == "other"


def test_when_another_has_taken_the_name(t, make):
    data = pickle.dumps(t)
    t.rename("other")
    make("int8", 1, name="n" * 32)
    assert pickle.loads(data).id == t.id


def test_after_a_drop(t, make):
    data = pickle.dumps(t)
    kept = pickle.loads(data)
    t.drop()
    with pytest.raises(pintable.NotFound, match="was dropped"):
        pickle.loads(data)
    make("int8", 1, name="n" * 32)
    with pytest.raises(pintable.NotFound, match="was dropped"):
        pickle.loads(data)
    assert kept["x"][3] == 3


def test_after_a_freeze(t):
    data = pickle.dumps(t)
    t.freeze()
    assert not pickle.loads(data).writable


def test_another_pool_is_never_joined_silently(t):
    with private_service() as service:
        other = pintable.create({"x": "int8"}, 1, t.name, address=service.folder)
        data = pickle.dumps(other)
        service.kill()
        again = ends_well(
            """
            import pickle, sys, pintable
            pintable.create({"x": "int8"}, 1, "n" * 32)
            try:
                pickle.loads(bytes.fromhex(sys.argv[1]))
            except pintable.StalePool as error:
                print(error.name)
            """,
            data.hex(),
            env={"PINTABLE_ADDRESS": service.folder, "PINTABLE_LINGER": "0"},
        )
        assert again == "E_STALE\n"


def test_no_handle_of_what_is_not_published(t):
    pool = _pool.join()
    field = ("x", 6, False, 0, None, 0, 0, 0, 0, 0, None)
    unpublished = pintable.Table(pool.create("u", [field], 10))
    with pytest.raises(pintable.WrongState, match="not published"):
        pickle.dumps(unpublished)
    unpublished.close()


def test_handles_of_columns_that_are_not_there(t):
    with pytest.raises(pintable.NotFound):
        _handle.open_column("nothere", 0, 1, *_handle.args(t))


def test_handles_of_rows_that_are_not_there(t):
    for first, n in ((0, 1001), (-1, 5), (1000, 1), (5, -1), (2**70, 1)):
        with pytest.raises(pintable.OutOfRange):
            _handle.open_column("x", first, n, *_handle.args(t))
        with pytest.raises(pintable.OutOfRange):
            _handle.open_slice(first, n, *_handle.args(t))


# ---- other processes ---------------------------------------------------------------------------


def test_fork_goes_on_with_what_it_has(t):
    kept = there_and_back(t)
    data = pickle.dumps(t)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            session = kept._native.pool.session
            kept["x"].numpy()[0] = session
            found = pickle.loads(data)
            found["x"].numpy()[1] = found["x"][999]
            with found.lease(0, "x") as part:
                part["x"][2] = 22
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert t["x"][0] != t._native.pool.session and t["x"][0] != 0
    assert t["x"][1] == 999 and t["x"][2] == 22 and t["x"][3] == 3
