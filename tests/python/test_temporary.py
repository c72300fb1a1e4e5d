# SPDX-License-Identifier: Apache-2.0
"""`temporary`: the table is gone after the block, however that ends."""

from __future__ import annotations

import os

import pintable
import pytest

pd = pytest.importorskip("pandas")


def test_the_table_is_dropped_and_views_stay():
    frame = pd.DataFrame({"x": [1.0, 2.0]}, index=["a", "b"])
    with pintable.temporary(frame, name="brief") as t:
        assert pintable.list_tables() == ["brief"]
        view = t["x"].numpy()
        back = t.to_pandas()
    assert t.closed and pintable.list_tables() == []
    assert view.tolist() == [1.0, 2.0]
    pd.testing.assert_frame_equal(back, frame)


def test_the_exception_of_the_body_wins():
    with pytest.raises(ZeroDivisionError), pintable.temporary(pd.DataFrame({"x": [1]})):
        1 / 0
    assert pintable.list_tables() == []


@pytest.mark.parametrize("act", ["drop", "close", "rename", "freeze"])
def test_the_body_may_end_the_table_itself(act):
    with pintable.temporary(pd.DataFrame({"x": [1]})) as t:
        getattr(t, act)(*(["other"] if act == "rename" else []))
    assert pintable.list_tables() == []


def test_a_child_of_the_block_leaves_it():
    block = pintable.temporary(pd.DataFrame({"x": [1]}))
    t = block.__enter__()
    name = t.name
    child = os.fork()
    if child == 0:
        status = 1
        try:
            block.__exit__(None, None, None)
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert pintable.list_tables() == [name] and not t.dropped
    block.__exit__(None, None, None)
    assert pintable.list_tables() == []


def test_a_taken_name_is_refused():
    frame = pd.DataFrame({"x": [1]})
    with pintable.temporary(frame, name="taken"):
        with pytest.raises(pintable.Exists), pintable.temporary(frame, name="taken"):
            pass
        assert pintable.list_tables() == ["taken"]
