# SPDX-License-Identifier: Apache-2.0
"""Every pandas dtype there is a promise about: the rows of docs/python-dtypes.md."""

from __future__ import annotations

import datetime
import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd
from pandas.testing import assert_frame_equal, assert_series_equal

import pintable

VERSION = tuple(int(part) for part in pd.__version__.split(".")[:2])
PANDAS = VERSION[0]
HAS_PYARROW = find_spec("pyarrow") is not None
# Before pandas 2.2 its strings have 32-bit offsets, and are copies.
LARGE_STRINGS = HAS_PYARROW and VERSION >= (2, 2)
STORAGE = "pyarrow" if HAS_PYARROW else "python"  # of pandas' strings


@dataclass(frozen=True)
class Row:
    """One promise.

    dtype    : as the page spells it
    make     : a Series of it
    stored   : type of the column, without the room of text and categories
    back     : dtype that comes back, or None for the one that went in
    shared   : to_pandas() gives shared memory
    writable : to_pandas(writable=True) writes through
    """

    dtype: str
    make: Callable[[], pd.Series]
    stored: str
    back: Callable[[], Any] | None = None
    shared: bool = True
    writable: bool = True


def _series(values: Any, dtype: Any = None) -> Callable[[], pd.Series]:
    return lambda: pd.Series(values, dtype=dtype)


def _arrow(values: Any, of: Callable[[Any], Any]) -> Callable[[], pd.Series]:
    def make() -> pd.Series:
        pa = __import__("pyarrow")
        return pd.Series(values, dtype=pd.ArrowDtype(of(pa)))

    return make


def _objects(*values: Any) -> Callable[[], pd.Series]:
    def make() -> pd.Series:
        made = np.empty(len(values), dtype=object)
        made[:] = list(values) if not isinstance(values[0], np.ndarray) else None
        for i, value in enumerate(values):
            made[i] = value
        return pd.Series(made, dtype=object)

    return make


def is_partly_shared(row: Row) -> bool:
    """True for copies that share something all the same: the bytes of text, rows of lists."""
    is_text = row.stored == "text?" and not row.shared
    return is_text or row.stored.startswith("list") and not row.shared


def text_dtype() -> Any:
    """What text of object columns comes back as."""
    if PANDAS >= 3:
        return pd.StringDtype(STORAGE, na_value=np.nan)
    return pd.StringDtype(STORAGE)


def _zoned(zone: str) -> Callable[[], pd.Series]:
    return lambda: pd.Series(
        pd.to_datetime(["2020-03-01 12:00", None, "1969-12-31 23:59"]).tz_localize(zone)
    )


DAY = datetime.date(2024, 2, 29)
NUMBERS = [
    Row(dtype, _series([0, 1, 100], dtype), dtype)
    for dtype in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
] + [
    Row(dtype, _series([1.5, float("nan"), -0.0], dtype), dtype)
    for dtype in ("float16", "float32", "float64")
]
MASKED = [
    Row(dtype, _series([0, None, 100], dtype), f"{dtype.lower()}?")
    for dtype in ("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64")
] + [Row(dtype, _series([1.5, None, -2.0], dtype), f"{dtype.lower()}?")
     for dtype in ("Float32", "Float64")]  # fmt: skip
TIMES = [
    Row(f"datetime64[{unit}]", _series(np.array(["2020-01-01", "NaT", "1950"], f"M8[{unit}]")),
        f"timestamp[{unit}]?")
    for unit in ("s", "ms", "us", "ns")
] + [
    Row(f"timedelta64[{unit}]", _series(np.array([1, "NaT", -7], f"m8[{unit}]")), "int64")
    for unit in ("s", "ms", "us", "ns")
]  # fmt: skip

ROWS = [
    Row("bool", _series([True, False, True]), "bool"),
    *NUMBERS,
    *MASKED,
    Row("boolean", _series([True, None, False], "boolean"), "bool?"),
    *TIMES,
    Row("datetime64[unit, zone]", _zoned("Europe/Berlin"), "timestamp[UNIT, Europe/Berlin]?"),
    Row("category (of text)", _series(["a", None, "b"], "category"), "category[int8]?"),
    Row("category (of numbers, times, dates)", _series(pd.Categorical([30, 10, 30, None])),
        "category[int8]?"),
    Row("object: text", lambda: pd.Series(["a", None, "ü\0"], dtype=object), "text?", text_dtype,
        LARGE_STRINGS, False),
    Row("string", _series(["a", None, "ü"], "string"), "text?", lambda: pd.StringDtype(STORAGE),
        LARGE_STRINGS, False),
    Row("string[pyarrow]", _series(["a", None, "ü"], "string[pyarrow]"), "text?", None,
        LARGE_STRINGS, False),
    Row("object: bool", _objects(True, None, False), "bool?", None, False, False),
    Row("object: int", _objects(1, None, -(2**62)), "int64?", None, False, False),
    Row("object: float", _objects(1.5, None, 2.5), "float64?", None, False, False),
    Row("object: date", _objects(DAY, None, DAY), "date?", None, False, False),
    Row("object: bytes of one length", _objects(b"ab", None, b"\0\xff"), "binary[2]?", None, False,
        False),
    Row("object: 1-D arrays of one length", _objects(np.float32([1, 2]), None, np.float32([3, 4])),
        "list[float32, 2]?", None, False, False),
    Row("int64[pyarrow] and the other numbers", _arrow([1, None, 3], lambda pa: pa.int64()),
        "int64?", None, True, False),
    Row("bool[pyarrow]", _arrow([True, None, False], lambda pa: pa.bool_()), "bit?", None, True,
        False),
    Row("large_string[pyarrow]", _arrow(["a", None, "ü"], lambda pa: pa.large_string()), "text?",
        None, True, False),
    Row("string[pyarrow] of ArrowDtype", _arrow(["a", None, "ü"], lambda pa: pa.string()), "text?",
        None, False, False),
    Row("dictionary[pyarrow]", _arrow(["a", None, "b"], lambda pa: pa.dictionary(
        pa.int32(), pa.string())), "category[int32]?", None, True, False),
    Row("timestamp[pyarrow]", _arrow([1, None, -3], lambda pa: pa.timestamp("ms", "UTC")),
        "timestamp[ms, UTC]?", None, True, False),
    Row("date32[pyarrow]", _arrow([DAY, None, DAY], lambda pa: pa.date32()), "date?", None, True,
        False),
    Row("fixed_size_binary[pyarrow]", _arrow([b"ab", None, b"cd"], lambda pa: pa.binary(2)),
        "binary[2]?", None, True, False),
    Row("fixed_size_list[pyarrow]", _arrow([[1, 2], None, [5, 6]], lambda pa: pa.list_(
        pa.float32(), 2)), "list[float32, 2]?", None, True, False),
]  # fmt: skip
if PANDAS >= 3:
    ROWS.append(Row("str (pandas 3)", _series(["a", None, "ü"], "str"), "text?", None,
                    LARGE_STRINGS, False))  # fmt: skip
ALL_ROWS = ROWS
if not HAS_PYARROW:
    ROWS = [row for row in ROWS if "pyarrow" not in row.dtype]


def frame_of_all() -> pd.DataFrame:
    """A frame with a column of each promise that pandas itself can compare, three rows long."""
    return pd.DataFrame({row.dtype: row.make().iloc[:3].reset_index(drop=True) for row in ROWS})


def copied(df: pd.DataFrame) -> pd.DataFrame:
    """The same frame without shared memory, and writable, by way of a pickle."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pintable.CopyWarning)
        return pickle.loads(pickle.dumps(df, 4))


def assert_same(ours: Any, theirs: Any, **more: Any) -> None:
    """Frames or Series are equal by pandas' own comparison, whichever comes first."""
    check = assert_frame_equal if isinstance(theirs, pd.DataFrame) else assert_series_equal
    check(ours, theirs, **more)
    check(theirs, ours, **more)


def arrays_in(obj: Any) -> list[np.ndarray]:
    """Every numpy array that holds values of a frame, Series or Index, or is beside them."""
    if isinstance(obj, pd.DataFrame):
        found = [array for i in range(obj.shape[1]) for array in arrays_in(obj.iloc[:, i])]
        blocks = [block.values for block in obj._mgr.blocks]
        return found + [block for block in blocks if isinstance(block, np.ndarray)]
    if isinstance(obj, pd.MultiIndex):
        return []
    array = obj._values if isinstance(obj, (pd.Series, pd.Index)) else obj
    beside = arrays_in(obj.index) if isinstance(obj, pd.Series) else []
    if hasattr(array, "_pa_array"):
        return beside
    parts = [array, *(getattr(array, name, None) for name in ("_data", "_mask", "_ndarray"))]
    return beside + [part for part in parts if isinstance(part, np.ndarray)]
