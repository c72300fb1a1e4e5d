# SPDX-License-Identifier: Apache-2.0
"""With nothing but the standard library: what works, and what says that it needs numpy or pandas.

Scripts run in an interpreter in which the others cannot be imported, whether installed or not.
"""

from __future__ import annotations

import textwrap

from child import ends_well

PRELUDE = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("numpy", "pandas", "pyarrow", "tqdm", "cloudpickle", "joblib"):
            raise ImportError(f"No module named {name!r} (hidden)", name=name)

sys.meta_path.insert(0, Hidden())
import datetime, pickle
import pintable
"""


def bare(code: str) -> str:
    return ends_well(PRELUDE + textwrap.dedent(code))


def test_import_needs_nothing() -> None:
    loaded = bare("print(sorted(set(sys.modules) & {'numpy', 'pandas', 'pyarrow', 'tqdm'}))")
    assert loaded == "[]\n"


def test_import_loads_what_tables_are_made_of_and_no_more() -> None:
    loaded = bare("print(*sorted(name for name in sys.modules if name.startswith('pintable.')))")
    within = {name.removeprefix("pintable.").partition(".")[0] for name in loaded.split()}
    assert within == {"_base", "_native", "_table", "_values"}
    late = ("cast", "infer", "objects", "store", "view")  # large, and not for every program
    assert not {f"pintable._values.{name}" for name in late} & set(loaded.split())


def test_values_of_every_type() -> None:
    bare(
        """
        items = {
            "bool": True, "bit": True, "int8": -128, "uint64": 2**64 - 1, "float16": 0.5,
            "float32": 0.25, "float64": 0.1, "date": datetime.date(2020, 1, 2),
            "timestamp[us]": datetime.datetime(2020, 1, 1, 1, 2, 3, 4), "binary[2]": b"ab",
            "category": "é", "list[float64, 2]": [1.0, 2.0], "list[bool, 2]": [True, False],
        }
        t = pintable.create({kind: kind + "?" for kind in items}, 600)
        for kind, item in items.items():
            column = t[kind]
            t[kind] = [item, None] * 300
            assert column.to_pylist() == [item, None] * 300, kind
            assert column.null_count == 300 and column[0] == item and column[1] is None
            column[1:3] = [item, None]
            column[-1] = item
            column.set_null(0)
            assert column[0] is None and column[1] == item == column[-1], kind
        t["timestamp[us]"].set_null([1, 3])
        for bad in ("int8", "float64", "date", "binary[2]", "category", "bit"):
            try:
                t[bad] = [object()] * 600
            except pintable.TypeMismatch as error:
                assert "row 0" in str(error), error
            else:
                raise AssertionError(bad)
        t.drop()
        """
    )


def test_nanoseconds_are_numbers() -> None:
    bare(
        """
        t = pintable.create({"x": "timestamp[ns]?"}, 2)
        t["x"][0] = datetime.datetime(1970, 1, 1, 0, 0, 0, 1)
        assert t["x"].to_pylist() == [1000, None]
        t.drop()
        """
    )


def test_leases_reading_and_handles() -> None:
    bare(
        """
        t = pintable.create({"x": "int64", "c": "category"}, 1000, chunk_rows=512)
        with t.lease(1, ["x", "c"]) as part:
            part["x"] = range(488)
            part["c"] = "word"
            assert part.to_pylist("x")[:3] == [0, 1, 2]
        with t.reading((512, 514), "c") as part:
            assert part.to_pylist("c") == ["word", "word"]
        back = pickle.loads(pickle.dumps(t[512:515]["x"]))
        assert back.to_pylist() == [0, 1, 2]
        t.drop()
        """
    )


def test_added_columns() -> None:
    bare(
        """
        t = pintable.create({"x": "int64"}, 4)
        t["i"], t["f"], t["w"] = [1, 2, 3, 4], [1, 0.5, None, 2], "word"
        t["s"] = ["é", None, "", "end"]
        t["l"] = [[1, 2], [3, 4], None, [5, 6]]
        assert t["s"].to_pylist() == ["é", None, "", "end"]
        assert t["f"].to_pylist() == [1.0, 0.5, None, 2.0] and t["w"][3] == "word"
        assert t["l"].to_pylist() == [[1, 2], [3, 4], None, [5, 6]]
        assert t.schema["s"] == "text[5]?" and t.schema["l"] == "list[int64, 2]?"
        t.drop()
        """
    )


def test_what_needs_numpy_or_pandas_says_so() -> None:
    bare(
        """
        t = pintable.create({"x": "int64?"}, 4)
        for use, name in (
            (t["x"].numpy, "numpy"), (t["x"].null_mask, "numpy"), (t.to_pandas, "numpy"),
            (lambda: t["x"][0:2], "numpy"), (lambda: pintable.from_pandas(None), "numpy"),
        ):
            try:
                use()
            except ImportError as error:
                assert error.name in (name, "pandas"), error
            else:
                raise AssertionError(name)
        try:
            pintable.create({"x": "<i8"}, 1)
        except pintable.Invalid as error:
            assert "'<i8' is not known" in str(error), error
        t.drop()
        """
    )


def test_what_needs_more_says_so() -> None:
    bare(
        """
        t = pintable.create({"x": "int64?"}, 3)
        for call, what in (
            (lambda: t.to_pandas(), "to_pandas()"), (lambda: t.head(), "to_pandas()"),
            (lambda: t["x"].to_pandas(), "to_pandas()"), (lambda: t["x"][0:2], "several rows"),
            (lambda: t["x"].numpy(), "an array"), (lambda: t["x"].null_mask(), "null_mask()"),
            (lambda: t.map(abs, inout="x"), "map()"), (lambda: t.writeback(None), "writeback()"),
            (lambda: pintable.from_pandas(None), "from_pandas()"),
        ):
            try:
                call()
            except ImportError as error:
                assert what in str(error) and 'pip install "pintable[pandas]"' in str(error), error
            else:
                raise AssertionError(what)
        assert t._repr_html_() is None
        t["x"][[0, 2]] = [5, None]
        t["x"][[False, True, False]] = 6
        t["y"] = t["x"]
        assert t["x"].to_pylist() == t["y"].to_pylist() == [5, 6, None]
        t.drop()
        """
    )
