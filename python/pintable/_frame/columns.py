# SPDX-License-Identifier: Apache-2.0
"""One column of a table as a pandas array over shared memory.

pandas and Arrow trust codes and offsets, so these are checked each time (`validate`) before they
get them. A process that can write the pool and stores bad codes later can still do harm: a pool is
one unit of trust.

What is not zero-copy: objects, dates without Arrow, bits, masks of nulls (the values beside them
are), codes of another width than pandas has for so many categories, codes and datetimes whose nulls
a writer left with a value under them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from .. import _native
from .._base.errors import Corrupt, Invalid
from .._values import view as _view
from . import categories as _categories
from . import meta as _frame_meta
from .objects import to_objects
from .plan import DTYPES, NAT, UNITS

PANDAS = int(pd.__version__.split(".")[0])
_UNIT_NAMES = {number: name for name, number in UNITS.items()}
_INTEGERS = frozenset(n for n, dtype in DTYPES.items() if dtype.kind in "iu")
_FLOATS = frozenset(n for n, dtype in DTYPES.items() if dtype.kind == "f")
_TEXT_KINDS = ("str", "string", "object")

# Makes the array of rows [first, first + n): (first, n, writable, strings) -> array
Maker = Callable[[int, int, bool, str | None], Any]


# ---- what lies there ---------------------------------------------------------------------------


def null_mask(column: Any, first: int, n: int) -> np.ndarray:
    """True where a row of a native column is null."""
    mask = np.zeros(n, dtype="u1")
    if n and column.nullable:
        column.null_mask(first, n, mask)
    return mask.view("?")


def stored(column: Any, first: int, n: int, to_store: bool = False) -> np.ndarray:
    """Rows of a native column as plain numbers over shared memory; 2-D for lists and bytes."""
    number = column.type
    if number == _native.BINARY_FIXED:
        dtype, width = np.dtype("u1"), column.row_bytes
    elif number == _native.LIST_FIXED:
        dtype, width = DTYPES[column.item_type], column.list_length
    elif number == _native.DICT_TEXT:
        dtype, width = DTYPES[column.item_type], 1
    else:
        names = {_native.TIMESTAMP: "i8", _native.DATE32: "i4"}
        dtype, width = np.dtype(names.get(number) or DTYPES[number]), 1
    if n == 0:
        values = np.empty(0, dtype=dtype)
    else:
        buffer = column.store_values() if to_store else column.read_values()
        values = np.frombuffer(buffer, dtype, n * width, first * width * dtype.itemsize)
    return (
        values.reshape(n, width)
        if number in (_native.BINARY_FIXED, _native.LIST_FIXED)
        else (values)
    )


def bits(column: Any, first: int, n: int) -> np.ndarray:
    """Rows of a bit-packed column as bools; a copy."""
    out = np.zeros(n, dtype="u1")
    if n:
        column.get_bools(first, n, out)
    return out.view("?")


def _masked(column: Any, first: int, n: int, values: np.ndarray) -> Any:
    mask = null_mask(column, first, n)
    if values.dtype.kind == "b":
        return pd.arrays.BooleanArray(values, mask)
    if values.dtype.kind == "f":
        if values.dtype.itemsize == 2:  # pandas has no Float16
            values = values.astype("f4")
        return pd.arrays.FloatingArray(values, mask)
    return pd.arrays.IntegerArray(values, mask)


# ---- numbers and times -------------------------------------------------------------------------


def _views(column: Any) -> Callable[[int, int, bool], Any]:
    """Makes views of rows [first, first + n) of a column; the read-only one of all rows is kept.

    It keeps the table's memory, so it must go when the table is closed: it is only referred to from
    the table's own memo.
    """
    whole = None

    def view(first: int, n: int, writable: bool) -> Any:
        nonlocal whole
        if writable:  # the column counts as changed for as long as this one lives
            return _view.plain(column, first, n, True)
        if whole is None:
            whole = _view.plain(column, 0, column.table.rows, False)
        return whole[first : first + n]

    return view


def _numbers(column: Any, is_masked: bool) -> Maker:
    view = _views(column)

    def plain(first: int, n: int, writable: bool, _strings: str | None) -> Any:
        return view(first, n, writable)

    def masked(first: int, n: int, writable: bool, _strings: str | None) -> Any:
        return _masked(column, first, n, view(first, n, writable))

    return masked if is_masked else plain


def _bits(column: Any) -> Maker:
    def make(first: int, n: int, _writable: bool, _strings: str | None) -> Any:
        values = bits(column, first, n)
        return _masked(column, first, n, values) if column.nullable else values

    return make


def _ticks(column: Any, first: int, n: int, writable: bool) -> np.ndarray:
    """int64 view of a timestamp column; a corrected copy where a null has a value under it."""
    ticks = _view.plain(column, first, n, writable).view("i8")
    if n and column.nullable and column.count_null(first, n):
        mask = null_mask(column, first, n)
        wrong = mask & (ticks != NAT)
        if wrong.any():
            ticks = np.array(ticks)
            ticks[mask] = NAT
    return ticks


def zoned_array(values: np.ndarray, dtype: pd.DatetimeTZDtype) -> Any:
    """A DatetimeArray with a zone over UTC ticks, without a copy where pandas lets us."""
    try:
        array = pd.arrays.DatetimeArray._simple_new(values, dtype=dtype)  # not public, but 2 and 3
        if np.shares_memory(array.asi8, values) or not len(values):
            return array
    except (AttributeError, TypeError, AssertionError):
        pass
    index = pd.DatetimeIndex(np.array(values)).tz_localize("UTC").tz_convert(dtype.tz)
    return index.array.astype(dtype)


def _datetimes(column: Any, meta: dict[str, Any]) -> Maker:
    stored_as = np.dtype(f"M8[{_UNIT_NAMES[column.unit]}]")
    zone = column.zone
    dtype = None
    unknown: Exception | None = None
    if zone:
        kind = meta.get("tz")
        try:
            tz = _frame_meta.zone_of(zone, kind if isinstance(kind, str) else None)
            dtype = pd.DatetimeTZDtype(_UNIT_NAMES[column.unit], tz)
        except Exception as error:  # each package of time zones has its own
            unknown = error

    def make(first: int, n: int, writable: bool, _strings: str | None) -> Any:
        if unknown is not None:  # not earlier: the other columns can be read
            why = f"column {column.name!r}: time zone {zone!r} is not known here"
            raise Invalid(f"{why}; name the other columns to read them") from unknown
        ticks = _ticks(column, first, n, writable)
        values = ticks.view(stored_as)
        return values if dtype is None else zoned_array(values, dtype)

    return make


def span_unit(column: Any, meta: dict[str, Any]) -> str | None:
    """Unit of a column of time differences; None for other columns."""
    unit = meta.get("unit")
    is_span = meta.get("as") == "timedelta" and column.type == _native.INT64
    return unit if is_span and isinstance(unit, str) and unit in UNITS else None


def _timedeltas(column: Any, unit: str) -> Maker:
    def make(first: int, n: int, writable: bool, _strings: str | None) -> Any:
        values = _view.plain(column, first, n, writable).view(f"m8[{unit}]")
        if column.nullable and n and column.count_null(first, n):
            values = np.array(values)
            values[null_mask(column, first, n)] = np.timedelta64("NaT", unit)
        return values

    return make


def checked_codes(column: Any, first: int, n: int, codes: np.ndarray) -> np.ndarray:
    """Codes that pandas may have: inside the categories, -1 under null; a copy where they were not.

    A -1 that is not marked null (written through a frame) is a missing value too.

    Raises
    ------
    Corrupt
        A code is outside the categories.
    """
    if not n:
        return codes
    try:
        column.validate(first, n)
    except Corrupt:
        is_null = null_mask(column, first, n)
        if ((codes < -1) | (codes >= column.n_categories) & ~is_null).any():
            raise
    if column.nullable and column.count_null(first, n):
        mask = null_mask(column, first, n)
        if (codes[mask] != -1).any():
            codes = np.array(codes)
            codes[mask] = -1
    return codes


class _Categories:
    """The dtype of a dictionary column, made anew only when categories were added."""

    def __init__(self, column: Any, meta: dict[str, Any]) -> None:
        self._column, self._meta = column, meta
        self._ordered = meta.get("ordered") is True
        self._made: tuple[int, pd.CategoricalDtype] | None = None

    def dtype(self) -> pd.CategoricalDtype:
        """The dtype with all categories of now; call after the codes were checked."""
        made = self._made
        if made is None or made[0] != self._column.n_categories:
            texts = self._column.categories()
            index = _categories.decode(texts, self._meta)
            if not index.is_unique:
                raise Corrupt(f"column {self._column.name!r}: two categories have the same text")
            made = (len(texts), pd.CategoricalDtype(index, self._ordered))
            self._made = made
        return made[1]


def _categoricals(column: Any, meta: dict[str, Any]) -> Maker:
    categories = _Categories(column, meta)

    def make(first: int, n: int, writable: bool, _strings: str | None) -> Any:
        codes = checked_codes(column, first, n, _view.plain(column, first, n, writable))
        dtype = categories.dtype()
        return pd.Categorical.from_codes(codes, dtype=dtype, validate=False)

    return make


# ---- text --------------------------------------------------------------------------------------


def text_objects(column: Any, first: int, n: int) -> np.ndarray:
    """Rows of a text column as str, None where null; offsets are checked first."""
    if n and _frame_meta.has_pyarrow():
        from . import arrow as _frame_arrow

        return _frame_arrow.text_array(column, first, n).to_numpy(zero_copy_only=False)
    out = np.empty(n, dtype=object)
    if n:
        column.validate(first, n)
        offsets = np.frombuffer(column.offsets(), "i8", n + 1, first * 8).tolist()
        start = offsets[0]
        raw = bytes(memoryview(column.data())[start : offsets[-1]])
        for i in range(n):
            out[i] = raw[offsets[i] - start : offsets[i + 1] - start].decode()
        out[null_mask(column, first, n)] = None
    return out


def _text(column: Any, kind: str) -> Maker:
    """kind: "str" and "string" are pandas' dtypes; "object" and "" are what suits this pandas."""
    is_nan = kind == "str" or (kind != "string" and PANDAS >= 3)
    dtype = _frame_meta.string_dtype(is_nan, True)
    is_arrow = getattr(dtype, "storage", "").startswith("pyarrow")
    is_plain = not is_arrow and kind in ("object", "") and PANDAS < 3

    def make(first: int, n: int, _writable: bool, strings: str | None) -> Any:
        if strings == "object" or (strings == "as was" and kind == "object") or is_plain:
            return text_objects(column, first, n)
        if is_arrow:
            from . import arrow as _frame_arrow

            found = _frame_arrow.text_array(column, first, n)
            return _frame_arrow.to_string_array(found, dtype)
        return pd.array(text_objects(column, first, n), dtype=dtype)

    return make


# ---- objects and Arrow -------------------------------------------------------------------------


def _objects(column: Any) -> Maker:
    def make(first: int, n: int, _writable: bool, _strings: str | None) -> Any:
        mask = null_mask(column, first, n) if column.nullable else None
        if column.type == _native.LIST_FIXED:  # rows of the view, which warn when pickled
            return to_objects(_view.array(column, first, n, False), mask, column.type)
        return to_objects(stored(column, first, n), mask, column.type)

    return make


def _dates(column: Any) -> Maker:
    def make(first: int, n: int, _writable: bool, _strings: str | None) -> Any:
        days = stored(column, first, n).astype("i8").view("M8[D]").astype("M8[s]")
        if column.nullable:
            days[null_mask(column, first, n)] = np.datetime64("NaT", "D")
        return days

    return make


def _arrow(column: Any, meta: dict[str, Any]) -> Maker:
    from . import arrow as _frame_arrow

    def make(first: int, n: int, _writable: bool, _strings: str | None) -> Any:
        return _frame_arrow.to_arrow_array(_frame_arrow.array(column, first, n, meta))

    return make


def _default(column: Any, meta: dict[str, Any]) -> Maker:
    """What a type becomes when no metadata say more."""
    number = column.type
    if number in _INTEGERS or number in _FLOATS or number == _native.BOOL8:
        return _numbers(column, bool(column.nullable))
    if number == _native.BOOL:
        return _bits(column)
    if number == _native.TIMESTAMP:
        return _datetimes(column, meta)
    if number == _native.DATE32:
        return _dates(column)
    if number == _native.TEXT:
        return _text(column, "")
    if number == _native.DICT_TEXT:
        return _categoricals(column, meta)
    if number == _native.LIST_FIXED and _frame_meta.has_pyarrow():
        return _arrow(column, meta)
    return _objects(column)


def maker(column: Any, meta: dict[str, Any]) -> Maker:
    """How a native column is given to pandas; metadata that do not fit its type are ignored."""
    kind, number = meta.get("as"), column.type
    if kind == "arrow" and _frame_meta.has_pyarrow():
        return _arrow(column, meta)
    if number == _native.TEXT and kind in _TEXT_KINDS:
        return _text(column, str(kind))
    unit = span_unit(column, meta)
    if unit is not None:
        return _timedeltas(column, unit)
    is_object = number in DTYPES or number in (
        _native.DATE32, _native.BINARY_FIXED, _native.LIST_FIXED,
    )  # fmt: skip
    if kind == "object" and is_object:
        return _objects(column)
    return _default(column, meta)
