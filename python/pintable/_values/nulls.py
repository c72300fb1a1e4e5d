# SPDX-License-Identifier: Apache-2.0
"""Making rows null, with the values under null that pandas expects there."""

from __future__ import annotations

import operator
from typing import Any

from .. import _native as N
from .._base.errors import Invalid, OutOfRange, TypeMismatch
from .._base.types import BYTES, Spec

NAT = -(1 << 63)


def value_under_null(spec: Spec) -> bytes | None:
    """Bytes that a value has under null, or None where any will do."""
    if spec.type == N.TIMESTAMP:
        return NAT.to_bytes(8, "little", signed=True)
    if spec.type == N.DICT_TEXT:
        return b"\xff" * BYTES[spec.item_type]
    return None


def set_null(column: Any, spec: Spec, first: int, n_rows: int, rows: Any, is_null: bool) -> None:
    """Rows relative to first and below n_rows: an int, a slice, row numbers or a bool mask."""
    if not spec.nullable:
        raise TypeMismatch(f'column {column.name!r} is not nullable: make it "{spec}?"')
    if is_row(rows):
        wanted = [_checked(operator.index(rows), n_rows)]
    elif isinstance(rows, slice):
        start, end, step = rows.indices(n_rows)
        if step == 1 and is_null:
            _set_span(column, spec, first + start, max(0, end - start))
            return
        wanted = list(range(start, end, step))
    else:
        wanted = row_numbers(rows, n_rows)
    if not wanted:
        return
    import array

    if is_null:
        _put_under_null(column, spec, first, wanted)
    numbers = array.array("q", [first + row for row in wanted])
    column.set_null_rows(numbers, bool(is_null))


def is_row(key: Any) -> bool:
    """One row number, rather than a slice or an array of them."""
    if isinstance(key, bool) or getattr(key, "ndim", 0) != 0:
        return False
    is_bool = getattr(getattr(key, "dtype", None), "kind", "") == "b"  # numpy's
    return hasattr(key, "__index__") and not is_bool


def _checked(row: int, n_rows: int) -> int:
    found = row + n_rows if row < 0 else row
    if not 0 <= found < n_rows:
        raise OutOfRange(f"row {row}: there are {n_rows} rows here")
    return found


def row_numbers(rows: Any, n_rows: int) -> list[int]:
    """Row numbers of a mask or of a sequence of numbers."""
    items = rows.tolist() if hasattr(rows, "tolist") else rows
    try:
        items = list(items)
    except TypeError:
        items = [None]  # refused below
    if items and all(isinstance(item, bool) for item in items):
        if len(items) != n_rows:
            raise Invalid(f"a mask of {len(items)} for {n_rows} rows")
        return [row for row, holds in enumerate(items) if holds]
    try:
        return [_checked(operator.index(item), n_rows) for item in items]
    except TypeError:
        raise TypeMismatch(
            "rows must be an int, a slice, row numbers, or a bool mask of as many as rows"
        ) from None


def _set_span(column: Any, spec: Spec, first: int, n_rows: int) -> None:
    under = value_under_null(spec)
    if n_rows and under is not None:
        at = memoryview(column.store_values()).cast("B")
        at[first * len(under) : (first + n_rows) * len(under)] = under * n_rows
    if n_rows:
        column.store_null_mask(first, n_rows, b"\1" * n_rows)


def _put_under_null(column: Any, spec: Spec, first: int, rows: list[int]) -> None:
    under = value_under_null(spec)
    if under is None:
        return
    at, width = memoryview(column.store_values()).cast("B"), len(under)
    for row in rows:
        at[(first + row) * width : (first + row + 1) * width] = under
