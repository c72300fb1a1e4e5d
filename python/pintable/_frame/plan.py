# SPDX-License-Identifier: Apache-2.0
"""How one pandas array is stored: the type of the column, its metadata, and what goes into it.

A plan is made for each column before anything is created, so that a column that cannot be stored
fails early and leaves nothing behind. The type never depends on the values, but for object columns,
which have no other type than that of their values. docs/python-dtypes.md has the table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from .. import _native
from .._base.errors import TypeMismatch
from . import categories as _categories
from . import meta as _frame_meta

NUMERIC = {
    "b1": _native.BOOL8, "i1": _native.INT8, "i2": _native.INT16, "i4": _native.INT32,
    "i8": _native.INT64, "u1": _native.UINT8, "u2": _native.UINT16, "u4": _native.UINT32,
    "u8": _native.UINT64, "f2": _native.FLOAT16, "f4": _native.FLOAT32, "f8": _native.FLOAT64,
}  # fmt: skip
DTYPES = {number: np.dtype(code) for code, number in NUMERIC.items()}
CODES = {1: _native.INT8, 2: _native.INT16, 4: _native.INT32}
UNITS = {
    "s": _native.SECOND, "ms": _native.MILLISECOND, "us": _native.MICROSECOND,
    "ns": _native.NANOSECOND,
}  # fmt: skip
NAT = np.iinfo(np.int64).min
MISSING_TEXT = (pd.NA,)  # beside None and NaN, which are always taken for missing

Copy = Callable[[np.ndarray, np.ndarray], None]


@dataclass(slots=True)
class Plan:
    """What a column is created with and filled from.

    pieces : arrays of the stored dtype, one after the other; 2-D for lists and fixed-size bytes
    mask   : True where null, or None for no nulls; only for nullable columns
    text   : encoded text or Arrow chunks of a text column, instead of pieces
    """

    type: int
    n_rows: int
    meta: dict[str, Any]
    nullable: bool = False
    unit: int = 0
    zone: str | None = None
    width_bytes: int = 0
    list_length: int = 0
    item_type: int = 0
    data_bytes: int = 0
    n_categories: int = 0
    pieces: list[np.ndarray] = field(default_factory=list)
    mask: np.ndarray | None = None
    under_null: int | None = None
    text: Any = None
    categories: list[str] | None = None

    def native(self, name: str) -> tuple:
        """The field of a native schema."""
        raw = _frame_meta.dump(self.meta) if self.meta else None
        return (
            name, self.type, self.nullable, self.unit, self.zone, self.width_bytes,
            self.list_length, self.item_type, self.data_bytes, self.n_categories, raw,
        )  # fmt: skip

    def stored_dtype(self) -> np.dtype:
        """numpy dtype of an item in the values buffer."""
        if self.type == _native.DICT_TEXT or self.type == _native.LIST_FIXED:
            return DTYPES[self.item_type]
        if self.type == _native.DATE32:
            return np.dtype("i4")
        if self.type == _native.TIMESTAMP:
            return np.dtype("i8")
        if self.type == _native.BINARY_FIXED:
            return np.dtype("u1")
        return DTYPES[self.type]

    def fill(self, column: Any, copy: Copy = np.copyto) -> None:
        """Write everything into a column of an unpublished table with the planned field.

        `copy` may put the copying of fixed-width values off; sources stay alive with the plan.
        """
        if self.type == _native.TEXT:
            self.text.fill(column, copy)
            return
        _fill_validity(column, self.n_rows, self.mask)
        if self.categories is not None:
            column.put_categories(*_categories.buffers(self.categories))
        if self.type == _native.BOOL:
            values = np.concatenate(self.pieces) if self.pieces else np.empty(0, "?")
            column.store_bools(0, self.n_rows, np.ascontiguousarray(values).view("u1"))
            return
        target = np.frombuffer(column.store_values(), dtype=self.stored_dtype())
        row = 0
        for piece in self.pieces:
            items = piece.size // max(len(piece), 1)
            part = target[row * items : (row + len(piece)) * items].reshape(piece.shape)
            if self.mask is not None and self.under_null is not None:
                np.copyto(part, piece)
                part[self.mask[row : row + len(piece)]] = self.under_null
            else:
                copy(part, piece)
            row += len(piece)


def _fill_validity(column: Any, n_rows: int, mask: np.ndarray | None) -> None:
    validity = column.validity()
    if validity is None:
        return
    if mask is None or not mask.any():
        np.frombuffer(validity, dtype="u1")[:] = 0xFF  # the table is not published: all is ours
    else:
        column.store_null_mask(0, n_rows, np.ascontiguousarray(mask).view("u1"))


# ---- refusing ----------------------------------------------------------------------------------


def _where(label: Any, dtype: Any) -> str:
    return f"column {label!r} of dtype {dtype}"


def refuse(label: Any, dtype: Any, values: Any, row: int | None, why: str) -> TypeMismatch:
    """The error for a column that cannot be stored; `values` may be empty."""
    place = ""
    if row is None and len(values):
        row = 0
    if row is not None:
        value = values[row]
        shown = repr(value.item() if isinstance(value, np.generic) else value)
        shown = " ".join(shown[:80].split()) + ("..." if len(shown) > 80 else "")
        place = f": row {row} is {shown}"
    return TypeMismatch(f"{_where(label, dtype)}{place}: {why}")


_ADVICE = {
    "Period": "a period cannot be stored: convert it with .dt.to_timestamp()",
    "Interval": "an interval cannot be stored: use two columns, left and right",
    "Sparse": "sparse values cannot be stored: convert with .sparse.to_dense()",
    "complex": "complex numbers cannot be stored: use two columns, .real and .imag",
}


def _refuse_dtype(values: Any, label: Any) -> TypeMismatch:
    text = str(values.dtype)
    advice = next((why for what, why in _ADVICE.items() if text.lower().startswith(what.lower())),
                  "it cannot be stored: cast it with .astype() to a dtype that can")  # fmt: skip
    return refuse(label, text, values, None, advice)


# ---- numbers, times, categories ----------------------------------------------------------------


def _meta(kind: str, dtype: Any, **more: Any) -> dict[str, Any]:
    return {"dtype": str(dtype), "as": kind, **more}


def _plan_numpy(values: np.ndarray, label: Any) -> Plan:
    dtype = values.dtype
    code = dtype.kind + str(dtype.itemsize)
    n = len(values)
    if code in NUMERIC:
        return Plan(NUMERIC[code], n, _meta("numpy", dtype), pieces=[values])
    unit = np.datetime_data(dtype)[0] if dtype.kind in "mM" else None
    if dtype.kind == "M" and unit in UNITS:
        return _plan_datetime(values.view("i8"), unit, None, _meta("datetime", dtype))
    if dtype.kind == "m" and unit in UNITS:
        meta = _meta("timedelta", dtype, unit=unit)
        return Plan(_native.INT64, n, meta, pieces=[values.view("i8")])
    if dtype.kind == "O":
        from .objects import plan_objects

        return plan_objects(values, label)
    raise _refuse_dtype(values, label)


def _plan_datetime(ticks: np.ndarray, unit: str, zone: str | None, meta: dict[str, Any]) -> Plan:
    mask = ticks == NAT
    return Plan(
        _native.TIMESTAMP, len(ticks), meta, True, UNITS[unit], zone, pieces=[ticks],
        mask=mask if mask.any() else None,
    )  # fmt: skip


def _plan_zoned(array: Any, label: Any) -> Plan:
    dtype = array.dtype
    text, kind = _frame_meta.zone_text(dtype.tz), _frame_meta.zone_kind(dtype.tz)
    try:
        back = pd.DatetimeTZDtype(dtype.unit, _frame_meta.zone_of(text, kind))
    except Exception:  # each package of time zones has its own way to say no
        back = None
    if back != dtype or len(text.encode()) > 63:
        why = f"its time zone cannot be named (it reads {text!r}): convert with .dt.tz_convert()"
        raise refuse(label, dtype, array, None, why)
    return _plan_datetime(array.asi8, dtype.unit, text, _meta("datetime", dtype, tz=kind))


def _plan_masked(array: Any, _label: Any) -> Plan:
    values, mask = array._data, array._mask
    code = values.dtype.kind + str(values.dtype.itemsize)
    meta = _meta("masked", array.dtype)
    return Plan(NUMERIC[code], len(values), meta, True, pieces=[values], mask=mask)


def plan_codes(
    codes: np.ndarray, texts: list[str], meta: dict[str, Any], mask: np.ndarray | None = None
) -> Plan:
    """A dictionary column of codes (int8, 16 or 32; below 0: null) and the texts they stand for."""
    if mask is None:
        mask = codes < 0
    n_bytes = sum(len(text.encode()) for text in texts)
    entries, room_bytes = _categories.room(len(texts), n_bytes, codes.dtype.itemsize)
    return Plan(
        _native.DICT_TEXT, len(codes), meta, True, item_type=CODES[codes.dtype.itemsize],
        data_bytes=room_bytes, n_categories=entries, pieces=[codes],
        mask=mask if mask.any() else None, under_null=-1, categories=texts,
    )  # fmt: skip


def _plan_categorical(array: Any, label: Any) -> Plan:
    where = _where(label, "category")
    texts, kept = _categories.encode(array.categories, where)
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        raise TypeMismatch(f"{where}: a category has a lone surrogate, which is not text") from None
    codes = np.asarray(array.codes)
    if codes.dtype.itemsize not in CODES:
        raise TypeMismatch(f"{where}: too many categories ({len(texts)}) for 32-bit codes")
    meta = _meta("category", "category", ordered=bool(array.ordered), **kept)
    return plan_codes(codes, texts, meta)


# ---- text --------------------------------------------------------------------------------------


@dataclass(slots=True)
class EncodedText:
    """Buffers of a text column: int64 offsets, validity bits, UTF-8."""

    offsets: bytearray
    validity: bytearray
    text: bytearray

    def fill(self, column: Any, copy: Copy = np.copyto) -> None:
        """Write all of it into an unpublished column, which must be nullable."""
        if not self.validity:
            return  # no rows
        for target, source in (
            (column.offsets(), self.offsets),
            (column.validity(), self.validity),
            (column.data(), self.text),
        ):
            found = np.frombuffer(source, "u1")
            copy(np.frombuffer(target, "u1")[: len(found)], found)


def plan_text_objects(objects: np.ndarray, label: Any, dtype: Any, kind: str) -> Plan:
    """A text column of a 1-D array of str and missing values, encoded into private memory.

    Raises
    ------
    TypeMismatch
        Something is neither text nor missing, or has lone surrogates; names the row.
    """
    try:
        *buffers, _ = _native.encode_text(objects, MISSING_TEXT)
    except (TypeError, UnicodeError, ValueError) as error:
        row = getattr(error, "row", None)
        if isinstance(error, (UnicodeError, ValueError)):
            why = "it has a lone surrogate, which is not text"
        else:
            why = "a column of text has text and missing values only: cast it with .astype(str)"
        raise refuse(label, dtype, objects, row, why) from None
    text = EncodedText(*buffers)
    return Plan(
        _native.TEXT, len(objects), _meta(kind, dtype), True, data_bytes=max(len(text.text), 1),
        text=text,
    )  # fmt: skip


def _plan_string(array: Any, label: Any) -> Plan:
    dtype = array.dtype
    kind = "str" if _frame_meta.is_nan(dtype.na_value) else "string"
    if dtype.storage.startswith("pyarrow"):
        from .arrow import plan_text_arrow

        return plan_text_arrow(array.__arrow_array__(), label, dtype, _meta(kind, dtype))
    return plan_text_objects(array.to_numpy(dtype=object), label, dtype, kind)


# ---- all ---------------------------------------------------------------------------------------


def plan(values: Any, label: Any) -> Plan:
    """How a Series, Index or pandas array is stored.

    Raises
    ------
    TypeMismatch
        It cannot be; the message names column, dtype, the first row in the way, and what to do.
    """
    dtype = values.dtype
    if isinstance(dtype, np.dtype):
        return _plan_numpy(values.to_numpy(), label)
    array = values.array if isinstance(values, (pd.Series, pd.Index)) else values
    if isinstance(array, pd.Categorical):
        return _plan_categorical(array, label)
    if isinstance(dtype, pd.DatetimeTZDtype):
        return _plan_zoned(array, label)
    masked = (pd.arrays.IntegerArray, pd.arrays.FloatingArray, pd.arrays.BooleanArray)
    if isinstance(array, masked):
        return _plan_masked(array, label)
    if isinstance(dtype, pd.StringDtype):
        return _plan_string(array, label)
    if isinstance(dtype, pd.ArrowDtype):
        from .arrow import plan_arrow

        return plan_arrow(array, label)
    raise _refuse_dtype(array, label)
