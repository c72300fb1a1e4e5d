# SPDX-License-Identifier: Apache-2.0
"""Storing values in a column, and planning the column that values need.

`prepare` works out everything that can be refused before a byte is stored; `Prepared.put` then
stores into rows that the caller may write. It takes no lease and marks nothing.

A column holds values if they come back equal: integers in range, timestamps that are whole units.
Floats may lose precision, but not become infinite; integers may become floats. Nothing else is
converted.
"""

from __future__ import annotations

import array
import itertools
import sys
from collections.abc import Callable, Sequence
from typing import Any

from .. import _native as N
from .._base import types as _types
from .._base.errors import Invalid, TypeMismatch
from .._base.types import BYTES, Spec

# Texts of category columns -> codes. Categories are only ever appended, so an entry stays true; a
# table's id is never used again in its pool. Emptied when full. Without a lock, which a fork in
# another thread could leave taken: each step is one operation on a dict, and two threads that find
# out the same code write the same entry.
_CODES_KEPT = 64
_codes_of: dict[tuple[bytes, int, int], dict[str | None, int]] = {}


class One:
    """A value for each of the rows, though it may look like several (a list, an array)."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Prepared:
    """Values in the column's own form, ready to be stored.

    values: numpy array that casts to the column's dtype exactly, or bytes. nulls: one byte a row,
    or None for no nulls. is_one: both are those of one row, and each of n_rows gets them.
    """

    __slots__ = ("is_one", "n_rows", "nulls", "spec", "values")

    def __init__(self, spec: Spec, values: Any, nulls: Any, n_rows: int, is_one: bool) -> None:
        self.spec, self.values, self.nulls = spec, values, nulls
        self.n_rows, self.is_one = n_rows, is_one

    def put(self, column: Any, first: int, skip: int = 0, n_rows: int | None = None) -> None:
        """Store n_rows values, from the one at skip on (None: all behind it), into rows from
        first."""
        spec = self.spec
        width = spec.list_length * BYTES[spec.item_type] if spec.list_length else _width(spec)
        n_rows = self.n_rows - skip if n_rows is None else n_rows
        if n_rows == 0:
            return
        values, nulls = self.values, self.nulls
        if self.is_one:
            values = bytes(values) * n_rows
            nulls = None if nulls is None else bytes(nulls) * n_rows
        else:
            values = self._rows(skip, n_rows, width)
            nulls = None if nulls is None else nulls[skip : skip + n_rows]
        if spec.type == N.BOOL:
            column.store_bools(first, n_rows, _bytes_of(values))
        elif isinstance(values, (bytes, bytearray, memoryview)):
            at = memoryview(column.store_values())
            at[first * width : (first + n_rows) * width] = values
        else:
            self._copy(column, first, values)
        if spec.nullable:
            mask = bytes(n_rows) if nulls is None else _bytes_of(nulls)
            column.store_null_mask(first, n_rows, mask)

    def detach(self, column: Any) -> None:
        """Copy values that lie in the column's memory, before storing in more than one step: an
        early step would change what a later one stores."""
        numpy = sys.modules.get("numpy")
        if numpy is None or not isinstance(self.values, numpy.ndarray) or not self.values.size:
            return
        if self.spec.type == N.BOOL:
            return  # as bytes they are a copy already
        stored = numpy.frombuffer(column.read_values(), numpy.uint8)
        if numpy.may_share_memory(self.values, stored):
            self.values = self.values.copy()

    def put_rows(self, column: Any, rows: Sequence[int]) -> None:
        """Store into rows of these numbers, one value each; of equal ones the last counts."""
        numpy = sys.modules.get("numpy")
        if numpy is not None and self.spec.type != N.BOOL:
            self._scatter(column, numpy.asarray(rows, numpy.int64))
            return
        at = 0
        while at < len(rows):
            end = at + 1
            while end < len(rows) and rows[end] == rows[end - 1] + 1:
                end += 1
            self.put(column, rows[at], 0 if self.is_one else at, end - at)
            at = end

    def _scatter(self, column: Any, rows: Any) -> None:
        import numpy as np

        from . import view as _view

        spec, values, nulls = self.spec, self.values, self.nulls
        target = _view.to_store(column, 0, column.table.rows, spec)
        if not isinstance(values, np.ndarray):
            values = np.frombuffer(values, target.dtype).reshape(-1, *target.shape[1:])
        elif target.dtype.kind == "V":
            values = np.ascontiguousarray(values).view(target.dtype).reshape(-1)
        if not self.is_one:
            # Of equal row numbers numpy does not say which value it keeps: the last, here.
            last = len(rows) - 1 - np.unique(rows[::-1], return_index=True)[1]
            rows, values = rows[last], values[last]
            nulls = None if nulls is None else np.frombuffer(_bytes_of(nulls), np.uint8)[last]
        with np.errstate(over="ignore", invalid="ignore"):
            target[rows] = values.astype(target.dtype, copy=False)
        if not spec.nullable:
            return
        is_null = np.zeros(len(rows), np.bool_)
        if nulls is not None:
            is_null[:] = np.frombuffer(_bytes_of(nulls), np.uint8) != 0
        for state in (False, True):
            wanted = np.ascontiguousarray(rows[is_null == state])
            if len(wanted):
                column.set_null_rows(wanted, state)

    def _rows(self, skip: int, n_rows: int, width: int) -> Any:
        if isinstance(self.values, (bytes, bytearray)):
            return memoryview(self.values)[skip * width : (skip + n_rows) * width]
        return self.values[skip : skip + n_rows]

    def _copy(self, column: Any, first: int, values: Any) -> None:
        import numpy as np

        from . import view as _view

        target = _view.to_store(column, first, len(values), self.spec)
        if target.dtype.kind == "V":
            values = np.ascontiguousarray(values).view(target.dtype).reshape(target.shape)
        # prepare() has made sure that this loses nothing but precision.
        with np.errstate(over="ignore", invalid="ignore"):
            np.copyto(target, values, casting="unsafe")


def _width(spec: Spec) -> int:
    if spec.type == N.BOOL:
        return 1  # as it travels
    if spec.type == N.BINARY_FIXED:
        return spec.width_bytes
    return BYTES[spec.item_type if spec.type == N.DICT_TEXT else spec.type]


def _bytes_of(values: Any) -> Any:
    """One byte a row, of bytes or an array of bools."""
    if isinstance(values, (bytes, bytearray, memoryview)):
        return values
    import numpy as np

    return np.ascontiguousarray(values, np.bool_).view(np.uint8)


def store(column: Any, first: int, n_rows: int, values: Any) -> None:
    """Store values and nulls into rows [first, first + n_rows), which the caller may write.

    No lease, no mark. Raises TypeMismatch or Invalid before anything is stored.
    """
    prepare(column, values, n_rows, None, first).put(column, first, 0, n_rows)


def prepare(
    column: Any, values: Any, n_rows: int, spec: Spec | None = None, first: int = 0
) -> Prepared:
    """Values, or one for all, in the form of a native column that has n_rows rows for them.

    first: number of the first row, for messages. Raises TypeMismatch when the column's type does
    not hold them (names the row), Invalid when there are not n_rows.
    """
    spec = Spec.of(column) if spec is None else spec
    if spec.type == N.TEXT:
        raise TypeMismatch(
            f"column {column.name!r}: text is fixed once published; add a new column, "
            "or use a category"
        )
    from . import objects as _objects

    def codes(texts: list[str]) -> list[int]:
        return codes_of(column, texts)

    found, is_one = _sequence(values, spec)
    if is_one:
        one, nulls = _objects.encode(column, spec, [found], first, codes)
        return Prepared(spec, one, nulls, n_rows, True)
    typed = _typed(found)
    if typed is not None:
        from . import cast as _cast

        values, mask = typed
        _check_length(column, len(values), n_rows)
        if spec.type != N.DICT_TEXT:
            values, mask = _cast.cast(column, spec, values, mask, first)
            return Prepared(spec, values, mask, n_rows, False)
        coded = _category_codes(column, spec, values, mask, first)
        if coded is not None:
            return coded
        found = values.tolist()
    _check_length(column, len(found), n_rows)
    items, nulls = _objects.encode(column, spec, found, first, codes)
    return Prepared(spec, items, nulls, n_rows, False)


def _check_length(column: Any, n_values: int, n_rows: int) -> None:
    if n_values != n_rows:
        raise Invalid(f"column {column.name!r}: {n_values} values for {n_rows} rows")


# ---- what values are ---------------------------------------------------------------------------


def _sequence(values: Any, spec: Spec | None) -> tuple[Any, bool]:
    """(values that have a length, False) or (the one value for all rows, True)."""
    if isinstance(values, One):
        return values.value, True
    if isinstance(values, (str, bytes, bytearray)) or values is None:
        return values, True
    n_dims = getattr(values, "ndim", None)
    if n_dims == 0:
        is_array = hasattr(values, "dtype") and hasattr(values, "strides")
        return (values[()] if is_array else values), True
    if spec is not None and spec.list_length and n_dims == 1 and values.dtype.kind in "biuf":
        return values, True  # one list for all rows
    is_frame = n_dims is not None and hasattr(values, "columns")
    if is_frame or isinstance(values, (set, frozenset, dict)):
        raise TypeMismatch(f"values of a column are not a {type(values).__name__}")
    if hasattr(values, "__len__"):
        return values, False
    if hasattr(values, "__iter__"):
        return list(values), False
    return values, True


def _typed(values: Any) -> tuple[Any, Any] | None:
    """(array of a numpy dtype, null mask or None), or None when these are Python objects."""
    from .._table.column import Column

    if isinstance(values, Column):
        return values._values_and_nulls()
    numpy = sys.modules.get("numpy")
    pandas = sys.modules.get("pandas")
    if pandas is not None and is_pandas(values):
        from . import cast as _cast

        return _cast.from_pandas(values)
    if numpy is None and not isinstance(values, (list, tuple, range)):
        if not hasattr(values, "__array_interface__") and not hasattr(values, "__array__"):
            return None
        import numpy
    if numpy is None or isinstance(values, (list, tuple, range)):
        return None
    if isinstance(values, numpy.ma.MaskedArray):
        mask = numpy.ma.getmaskarray(values)
        if mask.ndim == 2:
            mask = mask.all(axis=1)
        return (values.data, mask) if values.dtype.kind != "O" else None
    array = values
    if not isinstance(values, numpy.ndarray):
        if not hasattr(values, "__array__") and not hasattr(values, "__array_interface__"):
            try:
                memoryview(values)
            except TypeError:
                return None
        array = numpy.asarray(values)
    return None if array.dtype.kind in "OUT" else (array, None)


def is_pandas(values: Any) -> bool:
    """A Series, Index or pandas array."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(
        values, (pandas.Series, pandas.Index, pandas.api.extensions.ExtensionArray)
    )


# ---- categories --------------------------------------------------------------------------------


def codes_of(column: Any, texts: Sequence[str | None]) -> list[int]:
    """Code of each text, added where it is new; -1 for None."""
    table = column.table
    key = (table.pool.id, table.id, column.index)
    known = _codes_of.get(key)
    if known is None:
        if len(_codes_of) >= _CODES_KEPT:
            _codes_of.clear()
        known = _codes_of[key] = {None: -1}
    try:
        return [known[text] for text in texts]
    except KeyError:
        pass
    kept = category_dtype(column)
    found = []
    for text in texts:
        code = known.get(text)
        if code is None:
            plain = str.__str__(text)  # type: ignore[arg-type]
            code = known[text] = add_category(column, plain, kept)
        found.append(code)
    return found


def category_dtype(column: Any) -> dict[str, Any] | None:
    """Metadata of a category column whose categories are no text to pandas; None for others."""
    if not column.metadata:
        return None
    from .._frame import meta as _frame_meta

    kept = _frame_meta.load(column.metadata)
    return kept if kept.get("how") is not None else None


def add_category(column: Any, text: str, kept: dict[str, Any] | None) -> int:
    """Code of a text, added if it is new. kept: what `category_dtype` gives of the column.

    Raises TypeMismatch for a text that the other categories' dtype would not come back with:
    frames would then have text for all of them.
    """
    if kept is not None:
        try:
            from .._frame import categories as _categories
        except ImportError:  # no pandas here to ask; reading checks it too
            pass
        else:
            if not _categories.is_of_dtype(text, kept):
                raise TypeMismatch(
                    f"column {column.name!r}: {text!r} is not how a category of "
                    f"{kept.get('categories')} is written (see Column.categories)"
                )
    return column.add_category(text)


def _category_codes(column: Any, spec: Spec, array: Any, nulls: Any, first: int) -> Prepared | None:
    """Codes for a pandas categorical, whose own codes and texts came as `cast.Coded`; else
    None."""
    from . import cast as _cast

    if not isinstance(array, _cast.Coded):
        if array.dtype.kind in "biufmM":
            raise TypeMismatch(
                f"column {column.name!r}, row {first}: {array.dtype} values do not go into {spec}: "
                "it takes text"
            )
        return None
    used = array.used()
    table = codes_of(column, [array.texts[i] for i in used])
    codes = array.translate(used, table, spec.dtype())
    if nulls is not None and not spec.nullable:
        row = first + int(nulls.argmax())
        raise TypeMismatch(
            f'column {column.name!r}, row {row}: null, but the column is not nullable: "{spec}?"'
        )
    return Prepared(spec, codes, nulls, len(codes), False)


# ---- columns that are still to be made ---------------------------------------------------------

Filler = Callable[[Any], None]


def plan(values: Any, label: Any, rows: int | None = None) -> tuple[Spec, int, Filler]:
    """(Spec, number of rows, filler) of a new column for values.

    rows: how many there are to be when values is one value for all of them. The filler writes all
    buffers of the column, which is fresh, unpublished and not initialised. Raises TypeMismatch for
    values that have no column type.
    """
    found, is_one = _sequence(values, None)
    if is_one:
        if rows is None:
            raise Invalid(f"column {label!r}: one value, but the number of rows is not known")
        spec = _infer([found], label)
        if spec.type == N.TEXT:
            spec = _types.category(data_bytes=None, nullable=spec.nullable)
        return spec, rows, _filler(spec, One(found), rows)
    if is_pandas(found):
        from .._frame import from_pandas as _from_pandas

        return _from_pandas.plan_series(found, label)
    typed = _typed(found)
    if typed is not None:
        from .._table.column import Column
        from . import cast as _cast

        spec = found._field.spec if isinstance(found, Column) else _cast.spec_for(*typed, label)
        return spec, len(typed[0]), _filler(spec, found, len(typed[0]))
    items = found.tolist() if hasattr(found, "tolist") else list(found)
    spec = _infer(items, label)
    if spec.type == N.TEXT:
        return spec, len(items), lambda column: _fill_text(column, items)
    return spec, len(items), _filler(spec, items, len(items))


def _filler(spec: Spec, values: Any, n_rows: int) -> Filler:
    def fill(column: Any) -> None:
        prepare(column, values, n_rows, spec).put(column, 0, 0, n_rows)

    return fill


def _infer(items: list[Any], label: Any) -> Spec:
    from . import infer

    return infer.spec_of(items, label)


def _fill_text(column: Any, items: list[Any]) -> None:
    """Fill a text column of a table that nobody else sees yet."""
    from . import objects as _objects

    mask = bytearray(map(_objects.missing_test(True), items))
    parts = [b"" if null else item.encode() for item, null in zip(items, mask, strict=True)]
    ends = itertools.accumulate(map(len, parts), initial=0)
    memoryview(column.offsets()).cast("q")[: len(parts) + 1] = array.array("q", ends)
    text = b"".join(parts)
    memoryview(column.data())[: len(text)] = text
    if column.nullable and items:
        column.store_null_mask(0, len(items), mask)
