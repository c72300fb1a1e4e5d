# SPDX-License-Identifier: Apache-2.0
"""Tables: made, opened, listed, renamed, dropped, closed; their rows; added columns."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap

import pintable
import pytest
from child import DEADLINE_S, ends_well, python_env

np = pytest.importorskip("numpy")

# ---- make and open -----------------------------------------------------------------------------


def test_create_reads_as_zero_null_and_empty(make):
    t = make({"i": "int32", "n": "int32?", "s": "text[10]", "c": "category?", "b": "bit"}, 5)
    assert t["i"].to_pylist() == [0] * 5
    assert t["n"].to_pylist() == [None] * 5 and t["n"].null_count == 5
    assert t["s"].to_pylist() == [""] * 5
    assert t["c"].to_pylist() == [None] * 5
    assert t["b"].to_pylist() == [False] * 5


def test_facts(make):
    t = make({"x": "float64", "y": "int8?"}, 1000, name="facts", chunk_rows=512)
    assert (t.name, t.rows, len(t), t.chunk_rows, t.chunks) == ("facts", 1000, 1000, 512, 2)
    assert t.columns == ["x", "y"] == list(t)
    assert t.schema == {"x": "float64", "y": "int8?"}
    assert "x" in t and "z" not in t and 3 not in t
    assert not t.frozen and not t.dropped and t.writable and not t.closed
    assert t.nbytes >= 1000 * 9
    assert t.id > 0 and t.address
    assert repr(t).startswith("<pintable.Table 'facts': 1000 rows x 2 columns")


def test_create_without_a_name_makes_one(make):
    a, b = make(), make()
    assert a.name != b.name and a.name.startswith("t-") and len(a.name) == 14


def test_schema_may_be_pairs_and_keeps_their_order(make):
    assert make([("b", "int8"), ("a", "int8")]).columns == ["b", "a"]


@pytest.mark.parametrize("schema", [{}, [], ["x"], [("x",)], [(1, "int8")], {"x": 3}])
def test_bad_schemas(schema):
    with pytest.raises(pintable.Invalid):
        pintable.create(schema, 10)


@pytest.mark.parametrize("name", ["", "a/b", "n" * 256, "a\nb", "a\0b", "\ud800"])
def test_bad_names(name):
    with pytest.raises(ValueError):
        pintable.create({"x": "int8"}, 10, name)


@pytest.mark.parametrize("name", ["", "n" * 256, "a\nb", "a\0b", "\ud800"])
def test_bad_column_names(name):
    with pytest.raises(ValueError):
        pintable.create({name: "int8"}, 10)


def test_a_name_that_is_not_text():
    with pytest.raises(TypeError):
        pintable.create({"x": "int8"}, 10, 7)
    with pytest.raises(TypeError):
        pintable.open(7)


def test_the_same_column_twice():
    with pytest.raises((pintable.Invalid, pintable.Exists)):
        pintable.create([("x", "int8"), ("x", "int8")], 10)


@pytest.mark.parametrize("rows", [-1, 2**48 + 1, 2**63, 2**64, 1.5, "3", None])
def test_bad_numbers_of_rows(rows):
    with pytest.raises((ValueError, TypeError, OverflowError)):
        pintable.create({"x": "int8"}, rows)


def test_more_rows_than_the_budget_allows():
    with pytest.raises(pintable.QuotaExceeded) as caught:
        pintable.create({"x": "float64"}, 2**40)
    assert isinstance(caught.value, MemoryError)


@pytest.mark.parametrize("chunk_rows", [1, 500, 513, -1])
def test_bad_chunk_rows(chunk_rows):
    with pytest.raises(ValueError):
        pintable.create({"x": "int8"}, 10, chunk_rows=chunk_rows)


def test_no_rows(make):
    t = make({"x": "float64", "s": "text[1]", "c": "category", "l": "list[int8, 2]", "b": "bit",
              "d": "date"}, 0)  # fmt: skip
    assert len(t) == 0 and t.chunks == 0
    for name in t:
        assert t[name].to_pylist() == []
    assert t["x"].numpy().shape == (0,) and t["l"].numpy().shape == (0, 2)
    assert t["s"].numpy().shape == t["d"].numpy().shape == (0,)
    t["x"] = []
    t["x"] = np.empty(0)
    t["c"] = []
    with t.reading() as part:
        assert len(part) == 0


def test_if_exists(make):
    first = make("int8", 3, name="e")
    with pytest.raises(pintable.Exists):
        pintable.create({"x": "int8"}, 3, "e")
    again = pintable.create({"x": "int8"}, 3, "e", "open")
    assert again.id == first.id
    other = pintable.create({"x": "int64"}, 4, "e", "replace")
    make.keep(other)
    assert first.dropped and not other.dropped
    assert pintable.open("e").id == other.id
    with pytest.raises(ValueError):
        pintable.create({"x": "int8"}, 3, "e", "perhaps")


@pytest.mark.parametrize("schema, rows", [({"x": "int8"}, 4), ({"x": "int16"}, 3),
                                          ({"y": "int8"}, 3), ({"x": "int8?"}, 3)])  # fmt: skip
def test_open_of_a_table_that_is_another(make, schema, rows):
    make("int8", 3, name="e")
    with pytest.raises(pintable.TypeMismatch, match="'e' exists"):
        pintable.create(schema, rows, "e", "open")


def test_open_creates_where_there_is_none(make):
    assert make("int8", 3, name="e", if_exists="open").rows == 3


def test_two_processes_create_or_open_the_same(make):
    code = """
    import pintable, sys
    t = pintable.create({"x": "int64"}, 100, "both", "open")
    print(t.id, flush=True)
    sys.stdin.read()
    """
    children = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], env=python_env(),
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]  # fmt: skip
    ids = {child.stdout.readline() for child in children}
    make.keep(pintable.open("both"))
    for child in children:
        child.communicate(timeout=DEADLINE_S)
        assert child.returncode == 0
    assert len(ids) == 1 and ids.pop().strip()


def test_keep_outlives_its_maker(make):
    code = "import pintable; pintable.create({'x': 'int8'}, 3, 'kept', keep=True)"
    subprocess.run([sys.executable, "-c", code], env=python_env(), check=True)
    make.keep(pintable.open("kept"))


def test_open(make):
    t = make("int64", 4, name="o")
    t["x"] = [1, 2, 3, 4]
    with pintable.open("o", "r") as read, pintable.open("o") as write:
        assert read.id == write.id == t.id and read is not write
        assert not read.writable and write.writable
        write["x"].numpy()[0] = 9
        assert read["x"][0] == 9
    with pytest.raises(ValueError):
        pintable.open("o", "w")
    with pytest.raises(pintable.NotFound, match="nothere"):
        pintable.open("nothere")


def test_reading_only_is_kept(make):
    make({"x": "int64?", "c": "category?"}, 4, name="o")
    t = pintable.open("o", "r")
    assert not t["x"].numpy().flags.writeable
    for write in (
        lambda: t["x"].numpy(writable=True),
        lambda: t.__setitem__("x", [1, 2, 3, 4]),
        lambda: t["x"].__setitem__(slice(None), 1),
        lambda: t["x"].set_null(0),
        lambda: t["x"].mark(),
        lambda: t["c"].add_category("a"),
        lambda: t.add_column("y", "int8"),
        lambda: t.__setitem__("y", 1.5),
        lambda: t.lease(0, "x").__enter__(),
        lambda: t.job("j", out="x"),
    ):
        with pytest.raises(pintable.PermissionDenied):
            write()
    assert t["x"].null_count == 4


def test_list_rename_drop(make):
    t = make(name="b")
    make(name="a")
    assert pintable.list_tables() == ["a", "b"]
    t.rename("c")
    assert t.name == "c" and pintable.list_tables() == ["a", "c"]
    with pytest.raises(pintable.Exists):
        t.rename("a")
    pintable.rename("c", "d")
    assert t.name == "d"
    t.drop()
    assert t.dropped and pintable.list_tables() == ["a"]
    with pytest.raises(pintable.Dropped):
        t.drop()
    with pytest.raises(pintable.Dropped):
        t.rename("z")
    with pytest.raises(pintable.NotFound):
        pintable.drop("d")
    assert t["x"][0] == 0.0 and "dropped" in repr(t)


def test_drop_of_a_replaced_table_spares_the_new_one(make):
    old = make(name="r")
    make.keep(pintable.create({"x": "int8"}, 1, "r", "replace"))
    with pytest.raises(pintable.Dropped):
        old.drop()
    assert pintable.list_tables() == ["r"]


def test_freeze(make):
    t = make("int64?", 4, name="f")
    view = t["x"].numpy()
    assert view.flags.writeable
    t.freeze()
    assert t.frozen and not t.writable and "frozen" in repr(t)
    assert not t["x"].numpy().flags.writeable
    for write in (
        lambda: t["x"].numpy(writable=True),
        lambda: t.__setitem__("x", [1, 2, 3, 4]),
        lambda: t["x"].__setitem__(0, 1),
        lambda: t["x"].set_null(0, False),
        lambda: t.lease(0, "x").__enter__(),
        lambda: t.add_column("y", "int8"),
        lambda: t["x"].mark(),
        lambda: pintable.open("f"),
    ):
        with pytest.raises(pintable.Frozen):
            write()
    assert pintable.open("f", "r")["x"].to_pylist() == [None] * 4


def test_address_of_another_service(service):
    t = pintable.create({"x": "float64"}, 10, "n", address=service.folder)
    assert pintable.list_tables() == []
    assert pintable.list_tables(address=service.folder) == ["n"]
    assert pintable.open("n", address=service.folder).id == t.id
    with pytest.raises(pintable.NotFound):
        pintable.open("n")
    pintable.rename("n", "m", address=service.folder)
    pintable.drop("m", address=service.folder)
    assert t.dropped


def test_a_private_service_starts_by_itself(tmp_path):
    import tempfile

    with tempfile.TemporaryDirectory(prefix="pt-", dir="/tmp") as folder:
        output = ends_well(
            """
            import pintable
            t = pintable.create({"x": "int8"}, 3, "p")
            print(pintable.list_tables(), t.address)
            """,
            env={"PINTABLE_ADDRESS": folder, "PINTABLE_LINGER": "0"},
        )
        assert output.startswith(f"['p'] {folder}")


def test_no_service_can_be_started(monkeypatch):
    with pytest.raises(pintable.NoService) as caught:
        pintable.list_tables(address="/nonexistent/folder/of/nobody")
    assert isinstance(caught.value, ConnectionError) and caught.value.name == "E_NO_SERVICE"


# ---- close -------------------------------------------------------------------------------------


def test_use_after_close(make):
    t = make({"x": "int64?", "c": "category?", "s": "text[1]"}, 4)
    column, text, piece, view = t["x"], t["s"], t[1:3], t["x"].numpy()
    t.close()
    t.close()
    assert t.closed and "closed" in repr(t) and "closed" in repr(column)
    for use in (
        lambda: t.name, lambda: len(t), lambda: t.columns, lambda: t["x"], lambda: t[0:1],
        lambda: column.numpy(), lambda: column[0], lambda: column.to_pylist(),
        lambda: column.null_mask(), lambda: column.null_count, lambda: column.mark(),
        lambda: column.__setitem__(0, 1), lambda: column.set_null(0), lambda: text.numpy(),
        lambda: piece["x"], lambda: column.version(), lambda: t.freeze(), lambda: t.drop(),
        lambda: t.lease(0, "x").__enter__(), lambda: t.reading().__enter__(),
        lambda: t.__setitem__("x", 1), lambda: t.__reduce__(), lambda: column.__reduce__(),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="closed"):
            use()
    assert view.tolist() == [0] * 4  # memory stays while a view is there


def test_with_closes(make):
    with make() as t:
        assert not t.closed
    assert t.closed


def test_a_forgotten_table_is_closed(make):
    name = make(rows=1000).name
    t = pintable.open(name)
    column = t["x"].numpy()
    fields = t._fields["x"]
    native = t._native
    del t
    assert not native.closed  # the view and these hold it
    assert column[0] == 0 and fields.spec.nullable is False
    gc.disable()
    try:
        import weakref

        t = pintable.open(name)
        t["x"].numpy(), t["x"][0]
        gone = weakref.ref(t)
        del t
        assert gone() is None  # no cycle: its memory does not wait for the collector
    finally:
        gc.enable()


# ---- rows and columns --------------------------------------------------------------------------


def test_slices(make):
    t = make("int64", 10)
    t["x"] = range(10)
    s = t[2:7]
    assert isinstance(s, pintable.Slice)
    assert (s.first, s.rows, len(s), s.columns) == (2, 5, 5, ["x"])
    assert s["x"].to_pylist() == [2, 3, 4, 5, 6] == s["x"].numpy().tolist()
    assert s[1:3]["x"].to_pylist() == [3, 4] == s.slice(1, 3)["x"].to_pylist()
    assert t[-3:]["x"].to_pylist() == [7, 8, 9]
    assert t[8:100]["x"].to_pylist() == [8, 9]
    assert len(t[7:3]) == 0
    assert s.table is t and s.schema == t.schema and "x" in s
    s["x"] = 0
    assert t["x"].to_pylist() == [0, 1, 0, 0, 0, 0, 0, 7, 8, 9]
    assert repr(s).startswith("<pintable.Slice rows 2..7 of")


def test_bad_indexes(make):
    t = make()
    for key in (0, 1.5, None, ["x"], ("x",)):
        with pytest.raises(TypeError):
            t[key]
    with pytest.raises(pintable.NotFound, match="no column 'y'"):
        t["y"]
    with pytest.raises(LookupError):
        t["y"]
    with pytest.raises(ValueError, match="step"):
        t[::2]
    with pytest.raises(TypeError):
        t[0] = 1


# ---- added columns -----------------------------------------------------------------------------


def test_add_columns(make):
    t = make("float64", 1000)
    other = pintable.open(t.name)
    t["i"] = np.arange(1000, dtype="i4")
    t["f"] = [float(i) for i in range(1000)]
    t["s"] = ["é", None] * 500
    t["k"] = 7
    t["w"] = "word"
    t["e"] = np.ones((1000, 3), "f4")
    assert t.schema == {
        "x": "float64", "i": "int32", "f": "float64", "s": "text[1000]?", "k": "int64",
        "w": "category[int32]", "e": "list[float32, 3]",
    }  # fmt: skip
    assert other.columns == t.columns  # opened before
    assert other["i"][999] == 999 and other["s"][0] == "é" and other["s"][1] is None
    assert other["w"].to_pylist() == ["word"] * 1000 and other["k"].numpy().sum() == 7000
    assert other["e"][5] == [1.0, 1.0, 1.0]


def test_add_column_reads_as_empty(make):
    t = make("float64", 100)
    column = t.add_column("n", "int16?")
    assert column.name == "n" and column.null_count == 100
    assert t.add_column("z", np.dtype("u1")).to_pylist() == [0] * 100
    with pytest.raises(pintable.Exists):
        t.add_column("z", "int8")


def test_adding_refuses(make):
    t = make("float64", 100)
    for values in ([1, 2, 3], np.zeros(99), [1] * 101):
        with pytest.raises(pintable.Invalid, match="100 rows"):
            t["new"] = values
    for values in ([1, "a"] * 50, [object()] * 100, [None] * 100, np.zeros(100, "c16"),
                   {"a": 1}, {1, 2}, [[1, 2], [1]] * 50, np.zeros((100, 2, 2)), None):  # fmt: skip
        with pytest.raises(pintable.TypeMismatch, match="new|column"):
            t["new"] = values
    for name in ("", "a\nb", "n" * 256):
        with pytest.raises((pintable.Invalid, pintable.OutOfRange)):
            t[name] = 1
    with pytest.raises(TypeError):
        t[3] = 1
    assert t.columns == ["x"] and pintable.list_tables() == [t.name]


def test_columns_added_by_others_are_seen(make):
    t = make("float64", 3, name="grow")
    assert "y" not in t
    ends_well("import pintable; pintable.open('grow')['y'] = [1, 2, 3]")
    assert "y" in t and t["y"].to_pylist() == [1, 2, 3]


# ---- storing in whole columns ------------------------------------------------------------------


def test_set_item_stores_chunk_by_chunk_and_moves_versions(make):
    t = make("int64", 1500, chunk_rows=512)
    before = [t["x"].version(chunk) for chunk in range(3)]
    t["x"] = np.arange(1500)
    assert t["x"].numpy().tolist() == list(range(1500))
    assert all(t["x"].version(chunk) > seen for chunk, seen in enumerate(before))
    t["x"] = 4
    assert set(t["x"].to_pylist()) == {4}


def test_a_refused_store_changes_nothing(make):
    t = make("int8", 1000, chunk_rows=512)
    version = t["x"].version()
    with pytest.raises(pintable.TypeMismatch, match="row 999"):
        t["x"] = np.r_[np.zeros(999, int), 128]
    with pytest.raises(pintable.Invalid):
        t["x"] = [1, 2]
    assert t["x"].version() == version and set(t["x"].to_pylist()) == {0}


def test_text_is_fixed_once_published(make):
    t = make("text[10]", 2)
    with pytest.raises(pintable.TypeMismatch, match="fixed"):
        t["x"] = ["a", "b"]
    with pytest.raises(pintable.TypeMismatch, match="fixed"):
        t["x"][0] = "a"


def test_wait(make):
    import threading

    t = make("int64", 10)
    seen = t["x"].version()
    with pytest.raises(pintable.Timeout) as caught:
        t.wait("x", timeout=0.01)
    assert isinstance(caught.value, TimeoutError)
    thread = threading.Thread(target=lambda: t["x"].__setitem__(0, 5))
    thread.start()
    assert t.wait("x", 0, seen, timeout=DEADLINE_S) > seen
    thread.join()
    with pytest.raises(ValueError):
        t.wait("x", 1)


def test_environment_is_that_of_the_tests():
    assert os.environ["PINTABLE_ADDRESS"].startswith("/tmp/pt-")
