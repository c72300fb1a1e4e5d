# SPDX-License-Identifier: Apache-2.0
"""Plans for object columns, whose type is that of their values: text, numbers, dates, arrays.

Values of one kind, with missing ones (None, NaN, NA) between them, are stored; anything mixed is
refused with the first row that is in the way. All but text comes back as the objects it was.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from .. import _native
from .plan import NUMERIC, Plan, _meta, plan_text_objects, refuse

_ADVICE = {
    "datetime": "convert the column with pd.to_datetime()",
    "datetime64": "convert the column with pd.to_datetime()",
    "timedelta": "convert the column with pd.to_timedelta()",
    "timedelta64": "convert the column with pd.to_timedelta()",
    "decimal": "a Decimal cannot be stored: cast with .astype(float) or .astype(str)",
    "complex": "complex numbers cannot be stored: use two columns, real and imaginary",
    "mixed-integer-float": "int and float are mixed: cast with .astype(float)",
    "mixed-integer": "values of several types are mixed: cast with .astype() to one type",
    "mixed": "values of several types are mixed: cast with .astype() to one type",
}


def _first_present(values: np.ndarray) -> Any:
    for value in values:
        is_nan = isinstance(value, float) and value != value
        if value is not None and value is not pd.NA and value is not pd.NaT and not is_nan:
            return value
    return None


def _stored(n: int, dense: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """All rows of which `dense` are those that are there; zero elsewhere."""
    if not mask.any():
        return dense
    values = np.zeros((n, *dense.shape[1:]), dtype=dense.dtype)
    values[~mask] = dense
    return values


def _row_of(mask: np.ndarray, position: int) -> int:
    return int(np.flatnonzero(~mask)[position])


def _integers(values: np.ndarray, dense: np.ndarray, mask: np.ndarray, label: Any) -> np.ndarray:
    for dtype in ("i8", "u8"):
        try:
            if dtype == "u8" and min(dense) < 0:
                break
            return dense.astype(dtype)
        except OverflowError:
            continue
    limits = (-(2**63), 2**63 if min(dense) < 0 else 2**64)
    bad = next(i for i, item in enumerate(dense) if not limits[0] <= item < limits[1])
    raise refuse(label, "object", values, _row_of(mask, bad), "it does not fit 64 bits")


def _bytes(values: np.ndarray, dense: np.ndarray, mask: np.ndarray, label: Any) -> np.ndarray:
    width = len(dense[0])
    bad = next((i for i, item in enumerate(dense) if len(item) != width or not item), None)
    if bad is not None:
        why = "bytes are stored when all have the same length, 1 or more"
        raise refuse(label, "object", values, _row_of(mask, bad), why)
    return np.frombuffer(b"".join(dense), dtype="u1").reshape(len(dense), width)


def _arrays(values: np.ndarray, dense: np.ndarray, mask: np.ndarray, label: Any) -> np.ndarray:
    first = dense[0]
    for i, item in enumerate(dense):
        if (
            not isinstance(item, np.ndarray)
            or item.dtype != first.dtype
            or item.shape != first.shape
            or item.ndim != 1
            or item.dtype.kind not in "iuf"
            or item.dtype.kind + str(item.dtype.itemsize) not in NUMERIC
            or not item.size
        ):
            why = "arrays are stored when all are 1-D, of one numeric dtype and one length"
            raise refuse(label, "object", values, _row_of(mask, i), why)
    return np.stack(list(dense))


def _plan(type_: int, values: np.ndarray, mask: np.ndarray, **more: Any) -> Plan:
    meta = _meta("object", "object")
    return Plan(type_, len(values), meta, True, pieces=[values], mask=mask, **more)


def _float_mask(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Only None and NA are null among floats; a NaN is a value."""
    null = mask.copy()
    for row in np.flatnonzero(mask):
        null[row] = not isinstance(values[row], (float, np.floating))
    return null


def _mixed_row(dense: np.ndarray, mask: np.ndarray) -> int:
    first = type(dense[0])
    odd = next((i for i, item in enumerate(dense) if type(item) is not first), 0)
    return _row_of(mask, odd)


def plan_objects(values: np.ndarray, label: Any) -> Plan:
    """How a 1-D object array is stored.

    Raises
    ------
    TypeMismatch
        Mixed values, or values of a type that has no column type; names the first such row.
    """
    first = _first_present(values)
    if first is None or isinstance(first, str):
        return plan_text_objects(values, label, "object", "object")
    mask = np.asarray(pd.isna(values))
    dense = values[~mask]
    kind = pd.api.types.infer_dtype(dense, skipna=False)
    n = len(values)
    if kind == "boolean":
        return _plan(_native.BOOL8, _stored(n, dense.astype("?"), mask), mask)
    if kind == "integer":
        numbers = _integers(values, dense, mask, label)
        type_ = NUMERIC[numbers.dtype.kind + "8"]
        return _plan(type_, _stored(n, numbers, mask), mask)
    if kind == "floating":
        null = _float_mask(values, mask)
        numbers = values[~null].astype("f8")
        return _plan(_native.FLOAT64, _stored(n, numbers, null), null)
    if kind == "date":
        days = np.array(list(dense), dtype="M8[D]").view("i8").astype("i4")
        return _plan(_native.DATE32, _stored(n, days, mask), mask)
    if kind == "bytes":
        rows = _bytes(values, dense, mask, label)
        return _plan(_native.BINARY_FIXED, _stored(n, rows, mask), mask, width_bytes=rows.shape[1])
    if kind == "mixed" and isinstance(dense[0], np.ndarray):
        return _plan_lists(_arrays(values, dense, mask, label), mask)
    if kind == "mixed" and isinstance(dense[0], (list, tuple)):
        why = "a list cannot be stored: make arrays of one length, .map(numpy.asarray)"
        raise refuse(label, "object", values, _row_of(mask, 0), why)
    why = _ADVICE.get(kind, "it cannot be stored: cast with .astype()")
    raise refuse(label, "object", values, _mixed_row(dense, mask), why)


def _plan_lists(rows: np.ndarray, mask: np.ndarray) -> Plan:
    type_ = NUMERIC[rows.dtype.kind + str(rows.dtype.itemsize)]
    return _plan(
        _native.LIST_FIXED, _stored(len(mask), rows, mask), mask, list_length=rows.shape[1],
        item_type=type_,
    )  # fmt: skip


def to_objects(values: np.ndarray, mask: np.ndarray | None, type_: int) -> np.ndarray:
    """Objects of a stored column, None where null: what `plan_objects` was given.

    `values` is the stored array; rows of lists become views of it.
    """
    n = len(values)
    out = np.empty(n, dtype=object)
    if type_ == _native.LIST_FIXED:
        for i in range(n):
            out[i] = values[i]
    elif type_ == _native.BINARY_FIXED:
        raw, width = values.tobytes(), values.shape[1]
        out[:] = [raw[i * width : (i + 1) * width] for i in range(n)]
    elif type_ == _native.DATE32:
        out[:] = values.astype("i8").view("M8[D]").astype(object)
    elif type_ == _native.BOOL8:
        out[:] = (values.view("u1") != 0).tolist()
    else:
        out[:] = values.tolist()
    if mask is not None:
        out[mask] = None
    return out
