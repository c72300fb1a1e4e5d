# SPDX-License-Identifier: Apache-2.0
"""numpy arrays on column buffers. Needs numpy; imported when the first array is asked for.

An array keeps the buffer it lies in alive, and with it the table's memory: it stays valid after
close and drop of the table, and after the death of the service.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any, SupportsIndex

import numpy as np

from .. import _native as N
from .._base import pool as _pool
from .._base.errors import CopyWarning, PermissionDenied, TypeMismatch, Unsupported
from .._base.types import Spec

_IS_NUMPY_1 = np.__version__.startswith("1.")
_byte_bounds: Any = getattr(np if _IS_NUMPY_1 else np.lib.array_utils, "byte_bounds")  # noqa: B009


class View(np.ndarray):
    """An array in a table's memory: an ndarray but that pickling it warns that it copies.

    Results of computations are plain arrays. A View that is a copy after all (of a selection, say)
    behaves as one: what counts is where the memory lies.
    """

    __slots__ = ()

    def __array_wrap__(
        self, array: np.ndarray, context: Any = None, return_scalar: bool = False
    ) -> Any:
        if array is self:
            return self
        plain = np.asarray(array)
        # numpy 1 does not say return_scalar and leaves the conversion to this method.
        if plain.ndim == 0 and (return_scalar or _IS_NUMPY_1):
            return plain[()]
        return plain

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        if is_shared(self):
            warn_copy(f"pickling {self.nbytes} bytes of a table copies them")
        return np.asarray(self).__reduce_ex__(protocol)

    def __reduce__(self) -> Any:
        return self.__reduce_ex__(2)

    def __repr__(self) -> str:
        return repr(np.asarray(self))


def is_shared(array: np.ndarray) -> bool:
    """Does any of the array's memory lie in a pool this process has joined?"""
    if array.size == 0:
        return False
    low, high = _byte_bounds(array)
    return _pool.contains(low, high - low)


def warn_copy(what: str) -> None:
    """CopyWarning at the line of the user's that led here, pickle's own frames left out."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and _is_between(frame.f_globals.get("__name__", "")):
        frame, level = frame.f_back, level + 1
    warnings.warn(
        f"{what}: pass the table, a slice or a column instead (they travel as handles)",
        CopyWarning,
        stacklevel=level,
    )


_BETWEEN = frozenset(
    "pintable pickle multiprocessing copyreg pandas joblib cloudpickle concurrent".split()
)


def _is_between(module: str) -> bool:
    return module.partition(".")[0] in _BETWEEN


def array(
    column: Any, first: int, n_rows: int, writable: bool | None = None, spec: Spec | None = None
) -> View:
    """`plain` as a View, which warns when it is pickled."""
    return plain(column, first, n_rows, writable, spec).view(View)


def plain(
    column: Any, first: int, n_rows: int, writable: bool | None = None, spec: Spec | None = None
) -> np.ndarray:
    """Rows [first, first + n_rows) of a native column's values, without a copy.

    Shape (n_rows,), for lists (n_rows, list_length). Timestamps are datetime64, dates int32 days,
    categories codes. writable None: as the table was opened. While a writable one lives the column
    counts as changed at any time, for devices. TypeMismatch for bits and text, PermissionDenied
    when it cannot be writable.
    """
    buffer = column.read_values() if writable is False else column.values()
    found = _rows(column, buffer, first, n_rows, spec)
    if writable and not found.flags.writeable:
        raise PermissionDenied(f"column {column.name!r} cannot be written: the table is read-only")
    return found


def to_store(column: Any, first: int, n_rows: int, spec: Spec | None = None) -> np.ndarray:
    """`plain` for who stores under a lease, or marks the rows at once: devices learn by that."""
    return _rows(column, column.store_values(), first, n_rows, spec)


def _rows(column: Any, buffer: Any, first: int, n_rows: int, spec: Spec | None) -> np.ndarray:
    spec = Spec.of(column) if spec is None else spec
    dtype = spec.dtype()
    width = spec.list_length or 1
    if n_rows == 0:
        found = np.empty(0, dtype)
        found.flags.writeable = not buffer.readonly
    else:
        found = np.frombuffer(buffer, dtype, n_rows * width, first * width * dtype.itemsize)
    return found.reshape(n_rows, width) if spec.list_length else found


def null_mask(column: Any, first: int, n_rows: int) -> np.ndarray:
    """True where rows are null; a new bool array."""
    mask = np.zeros(n_rows, np.bool_)
    if column.nullable and n_rows:
        column.null_mask(first, n_rows, mask.view(np.uint8))
    return mask


def values(column: Any, first: int, n_rows: int, spec: Spec) -> np.ndarray:
    """What `Column.numpy` gives for types whose buffer is not an array of items: a read-only
    copy."""
    if spec.type == N.BOOL:
        found = bits(column, first, n_rows)
        warn_copy(f"column {column.name!r} has one bit a value, so its array is a copy")
    elif spec.type == N.DATE32:
        found = array(column, first, n_rows, False, spec).astype("M8[D]").view(np.ndarray)
        if column.nullable:
            found[null_mask(column, first, n_rows)] = np.datetime64("NaT", "D")
    elif spec.type == N.TEXT:
        found = objects(column, first, n_rows, spec)
    else:
        raise Unsupported(f"a {spec} column has no numpy form")
    found.flags.writeable = False
    return found


def bits(column: Any, first: int, n_rows: int) -> np.ndarray:
    """Rows of a column of one-bit bools; a new bool array."""
    found = np.empty(n_rows, np.bool_)
    column.get_bools(first, n_rows, found.view(np.uint8))
    return found


def objects(column: Any, first: int, n_rows: int, spec: Spec) -> np.ndarray:
    """Python objects of rows of any column, None where null."""
    from . import objects as _objects

    found = np.empty(n_rows, object)
    # Not found[:] = list: rows that are lists themselves would be spread.
    for i, item in enumerate(_objects.to_list(column, spec, first, n_rows)):
        found[i] = item
    return found


def check_numpy_form(column: Any, spec: Spec, writable: bool | None) -> None:
    """Refuse to give a writable copy: what is written into it would be lost."""
    if writable:
        raise TypeMismatch(
            f"column {column.name!r} ({spec}) has no writable array: use column[a:b] = values"
        )
