# SPDX-License-Identifier: Apache-2.0
"""Arrays of numpy dtypes and of pandas, checked against a column's type. Needs numpy."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np

from .. import _native as N
from .._base import types as _types
from .._base.errors import TypeMismatch
from .._base.types import FLOATS, INTEGERS, UNIT_NAME, Spec


class Coded:
    """Codes of a pandas categorical (negative: null) and the texts of its categories."""

    __slots__ = ("codes", "dtype", "texts")

    def __init__(self, codes: np.ndarray, texts: list[str]) -> None:
        self.codes, self.texts, self.dtype = codes, texts, np.dtype(object)

    def __len__(self) -> int:
        return len(self.codes)

    def used(self) -> list[int]:
        """Those categories that a row has: a chunk of a table need not bring in the others."""
        if not self.texts:
            return []
        counts = np.bincount(self.codes[self.codes >= 0], minlength=len(self.texts))
        return np.flatnonzero(counts).tolist()

    def translate(self, used: list[int], codes: list[int], dtype: np.dtype) -> np.ndarray:
        """The rows in the codes of the column, -1 where null."""
        table = np.full(len(self.texts) + 1, -1, dtype)  # the last is that of code -1
        table[used] = codes
        return table[self.codes]


def from_pandas(values: Any) -> tuple[Any, np.ndarray | None] | None:
    """(array, null mask or None) of a Series, Index or pandas array; None for Python objects.

    Times with a zone come as `Zoned`, categoricals of text as `Coded`.
    """
    import pandas as pd

    array = values.array if isinstance(values, (pd.Series, pd.Index)) else values
    dtype = array.dtype
    if isinstance(array, (pd.arrays.IntegerArray, pd.arrays.FloatingArray, pd.arrays.BooleanArray)):
        mask = array.isna()
        plain = array.to_numpy(dtype.numpy_dtype, na_value=dtype.numpy_dtype.type(0))
        return plain, mask if mask.any() else None
    if isinstance(array, pd.Categorical):
        texts = array.categories.tolist()
        if all(isinstance(text, str) for text in texts):
            codes = np.asarray(array.codes)
            nulls = codes < 0
            return Coded(codes, texts), nulls if nulls.any() else None
        return from_pandas(pd.Series(array.to_numpy()))
    if isinstance(dtype, pd.DatetimeTZDtype):
        return Zoned(array.asi8.view(f"M8[{dtype.unit}]")), None
    if isinstance(dtype, np.dtype):
        plain = np.asarray(array)
        return None if plain.dtype.kind in "OUT" else (plain, None)
    numpy_dtype = getattr(dtype, "numpy_dtype", None)  # of Arrow-backed numbers
    if isinstance(numpy_dtype, np.dtype) and numpy_dtype.kind in "biuf":
        mask = array.isna()
        plain = array.to_numpy(numpy_dtype, na_value=numpy_dtype.type(0))
        return plain, mask if mask.any() else None
    return None


class Zoned:
    """datetime64 values that are points in time: UTC, for a column with a zone."""

    __slots__ = ("array", "dtype")

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.dtype = array, array.dtype

    def __len__(self) -> int:
        return len(self.array)


def _refuse(column: Any, spec: Spec, row: int, value: Any, why: str) -> TypeMismatch:
    return TypeMismatch(
        f"column {column.name!r}, row {row}: {value!r} does not go into {spec}: {why}"
    )


def cast(
    column: Any, spec: Spec, array: Any, nulls: np.ndarray | None, first: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """The array in a form that copies into the column's dtype without loss, and its null mask.

    Values under null are anything in the source; in the result they are what the column has there.
    Raises TypeMismatch, naming the first row in the way.
    """
    is_zoned = isinstance(array, Zoned)
    if is_zoned:
        array = array.array
    elif isinstance(array, Coded):
        raise TypeMismatch(f"column {column.name!r}: a categorical of text does not go into {spec}")
    want_dims = 2 if spec.list_length else 1
    if array.ndim != want_dims or (spec.list_length and array.shape[1] != spec.list_length):
        raise TypeMismatch(
            f"column {column.name!r}: an array of shape {array.shape} does not go into {spec}"
        )
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if spec.type in (N.TIMESTAMP, N.DATE32):
        if array.dtype.kind == "M":
            if is_zoned != (spec.zone is not None) and (is_zoned or spec.type == N.DATE32):
                raise TypeMismatch(
                    f"column {column.name!r}: times with a zone do not go into {spec}"
                )
            nat = np.isnat(array)
            if nat.any():
                nulls = nat if nulls is None else nulls | nat
    if nulls is not None and not spec.nullable and nulls.any():
        row = int(nulls.argmax())
        raise TypeMismatch(
            f"column {column.name!r}, row {first + row}: null, but the column is not nullable: "
            f'fill it, or make the column "{spec}?"'
        )
    return _checked(column, spec, array, nulls, first), nulls


def _checked(
    column: Any, spec: Spec, array: np.ndarray, nulls: np.ndarray | None, first: int
) -> np.ndarray:
    kind = array.dtype.kind
    type_ = spec.item_type if spec.list_length else spec.type
    if type_ in (N.BOOL, N.BOOL8) and kind == "b":
        return array
    if type_ in INTEGERS and kind in "biu":
        return _integers(column, spec, np.dtype(_types.CODE[type_]), array, nulls, first)
    if type_ in FLOATS and kind in "biuf":
        return _floats(column, spec, np.dtype(_types.CODE[type_]), array, nulls, first)
    if spec.type == N.TIMESTAMP and kind == "M":
        return _times(column, spec, UNIT_NAME[spec.unit], array, nulls, first)
    if spec.type == N.DATE32 and kind == "M":
        days = _times(column, spec, "D", array, nulls, first).view("i8")
        days = np.where(np.isnat(days.view("M8[D]")), 0, days)
        return _integers(column, spec, np.dtype("i4"), days, nulls, first)
    if spec.type == N.INT64 and kind == "m":
        unit = _timedelta_unit(column)
        if unit is not None:
            return _times(column, spec, unit, array, None, first).view("i8")
    if spec.type == N.BINARY_FIXED and (
        (kind == "V" and array.dtype.itemsize == spec.width_bytes)
        or (kind == "S" and array.dtype.itemsize <= spec.width_bytes)
    ):  # fmt: skip
        return array.astype(f"S{spec.width_bytes}") if kind == "S" else array
    shown = array[:1].tolist()
    raise TypeMismatch(
        f"column {column.name!r}, row {first}: {array.dtype} values"
        + (f" ({shown[0]!r})" if shown else "")
        + f" do not go into {spec}"
    )


def _where_bad(bad: np.ndarray) -> int:
    return int(bad.any(axis=1).argmax() if bad.ndim == 2 else bad.argmax())


def _blank(array: np.ndarray, nulls: np.ndarray | None) -> np.ndarray:
    """The array with zero under null, so that what is there cannot be in the way."""
    if nulls is None or not nulls.any():
        return array
    found = array.copy()
    found[nulls] = 0
    return found


def _integers(
    column: Any, spec: Spec, dtype: np.dtype, array: np.ndarray, nulls: Any, first: int
) -> np.ndarray:
    if np.can_cast(array.dtype, dtype, "safe") or array.size == 0:
        return array
    array = _blank(array, nulls)
    limits = np.iinfo(dtype)
    low, high = int(array.min()), int(array.max())
    if low < limits.min or high > limits.max:
        # Compared with Python ints: numpy refuses limits its dtype does not hold.
        bad = np.zeros(array.shape, np.bool_)
        if low < limits.min:
            bad |= array < array.dtype.type(limits.min)
        if high > limits.max:
            bad |= array > array.dtype.type(limits.max)
        row = _where_bad(bad)
        value = array[row].tolist()
        raise _refuse(column, spec, first + row, value, "out of range")
    return array


def _floats(
    column: Any, spec: Spec, dtype: np.dtype, array: np.ndarray, nulls: Any, first: int
) -> np.ndarray:
    if np.can_cast(array.dtype, dtype, "safe") or array.size == 0:
        return array
    array = _blank(array, nulls)
    with np.errstate(over="ignore"):
        found = array.astype(dtype)
    bad = np.isinf(found)
    if bad.any():
        bad &= ~np.isinf(array) if array.dtype.kind == "f" else True
        if bad.any():
            row = _where_bad(bad)
            raise _refuse(column, spec, first + row, array[row].tolist(), "out of range")
    return found


def _times(
    column: Any, spec: Spec, unit: str, array: np.ndarray, nulls: Any, first: int
) -> np.ndarray:
    """datetime64 or timedelta64 in another unit; refused unless each value comes back equal."""
    dtype = np.dtype(f"{array.dtype.kind}8[{unit}]")
    if array.dtype == dtype:
        return array
    if nulls is not None and nulls.any():
        array = np.where(nulls, np.array("NaT", array.dtype), array)  # whatever is there now
    try:
        found = array.astype(dtype)
        back = found.astype(array.dtype)
        bad = (back != array) & ~np.isnat(array)
        row = _where_bad(bad) if bad.any() else None
    except OverflowError:  # from numpy 2.5 on; before, values out of range come back as others
        row = _first_overflow(array, dtype)
    if row is not None:
        raise _refuse(column, spec, first + row, array[row], "finer than the unit, or out of range")
    return found


def _first_overflow(array: np.ndarray, dtype: np.dtype) -> int:
    """Row of the first value that cannot be cast; there is one."""
    low, high = 0, len(array)  # all before low can, one below high cannot
    while high - low > 1:
        middle = (low + high) // 2
        try:
            array[low:middle].astype(dtype)
        except OverflowError:
            high = middle
        else:
            low = middle
    return low


def _timedelta_unit(column: Any) -> str | None:
    """Unit of a column that holds timedeltas as integers, as its metadata say."""
    try:
        found = json.loads(column.metadata or b"{}")
        dtype = np.dtype(found["dtype"])
        return np.datetime_data(dtype)[0] if dtype.kind == "m" else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def spec_for(array: Any, nulls: np.ndarray | None, label: Any) -> Spec:
    """Spec of a new column for an array and its mask. Raises TypeMismatch."""
    if array.dtype.kind == "m" and array.ndim == 1:
        unit = np.datetime_data(array.dtype)[0]
        if unit in _types.UNITS:
            kept = {"dtype": str(array.dtype), "as": "timedelta", "unit": unit}
            return Spec(N.INT64, metadata=json.dumps(kept).encode())
    try:
        dtype = array.dtype if array.dtype.isnative else array.dtype.newbyteorder("=")
        if array.ndim == 2 and array.shape[1]:
            dtype = np.dtype((dtype, (array.shape[1],)))
        elif array.ndim != 1:
            raise TypeMismatch(f"an array of shape {array.shape} is no column")
        spec = _types.from_dtype(dtype)
    except TypeMismatch as error:
        raise TypeMismatch(f"column {label!r}: {error}") from None
    nullable = nulls is not None or array.dtype.kind == "M"
    return replace(spec, nullable=nullable)
