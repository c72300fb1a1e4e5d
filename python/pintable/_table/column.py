# SPDX-License-Identifier: Apache-2.0
"""Columns of a table, whole or some rows of them."""

from __future__ import annotations

import operator
import weakref
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .. import _native
from .._base import checks as _checks
from .._base.errors import Busy, Frozen, OutOfRange, PermissionDenied, Torn, TypeMismatch
from .._base.types import FLOATS, Spec
from .._values.nulls import is_row
from . import fetch as _fetch
from . import handle as _handle
from .part import check_none_own, claim, read_begin

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from .._values.view import View
    from .table import Table

# Types whose values buffer is not an array of what the user sees: `numpy()` copies.
_COPIED = frozenset((_native.BOOL, _native.DATE32, _native.TEXT))

# Types whose arrays tell nulls themselves: NaT, and None among objects.
_SHOW_NULLS = frozenset((_native.TIMESTAMP, _native.DATE32, _native.TEXT))


def _refuse_bool(key: Any) -> None:
    """TypeMismatch for True and False, which are neither a row number nor a mask of rows."""
    if isinstance(key, bool) or (
        getattr(key, "ndim", None) == 0 and getattr(getattr(key, "dtype", None), "kind", "") == "b"
    ):
        raise TypeMismatch(f"{key!r} is no row: use a row number, a slice, or a mask of all rows")


class Field:
    """What a table keeps of a column that was looked up: found once, shared by its Columns."""

    __slots__ = ("_held", "_shown", "_writable", "memo", "native", "spec")

    def __init__(self, native: Any) -> None:
        self.native = native
        self.spec = Spec.of(native)
        self.memo: Any = None  # of the pandas bridge: parsed metadata
        self.forget()

    def shown(self) -> Any:
        """All rows as a View, read-only. ValueError when the table is closed."""
        if self._shown is None:
            native = self.native
            self._shown = self._view().array(native, 0, native.table.rows, False, self.spec)
        return self._shown

    def writable(self) -> Any:
        """All rows as a View, writable as the table was opened. Kept by its slices alone: while
        one of them lives the column counts as changed at any time, for devices."""
        found = None if self._writable is None else self._writable()
        if found is None:
            shown = self.shown()
            buffer = self.native.values()
            found = type(shown)(shown.shape, shown.dtype, buffer) if not buffer.readonly else shown
            self._writable = weakref.ref(found)
        return found

    def held(self) -> Any:
        """The same for chunks under a lease, whose end tells devices of what was stored."""
        if self._held is None:
            view = self._view()
            found = view.to_store(self.native, 0, self.native.table.rows, self.spec)
            self._held = found.view(view.View)
        return self._held

    def _view(self) -> Any:
        _checks.need("an array of a column", "numpy")
        from .._values import view as _view

        return _view

    def forget(self) -> None:
        """Let go of the buffers: the memory of a closed table goes when no view is left."""
        self._shown: Any = None
        self._writable: Any = None
        self._held: Any = None
        self.memo = None


class Column:
    """A column of a table, or rows [first, first + n) of one; row numbers are relative to them.

    Reading does not wait for writers: see `Table.reading` and `Table.lease`. Pickles as a handle.
    """

    __slots__ = ("_field", "_first", "_n", "_native", "_table")

    def __init__(self, table: Table, field: Field, first: int, n_rows: int) -> None:
        self._table = table
        self._field = field
        self._native = field.native
        self._first = first
        self._n = n_rows

    # ---- facts

    @property
    def name(self) -> str:
        """Name of the column."""
        return self._native.name

    @property
    def table(self) -> Table:
        """The table it belongs to."""
        return self._table

    @property
    def dtype(self) -> str:
        """Type, as `create` takes it ("int64?")."""
        return str(self._field.spec)

    @property
    def nullable(self) -> bool:
        """True when rows can be null."""
        return self._field.spec.nullable

    def __len__(self) -> int:
        return self._n

    # ---- reading

    def numpy(self, *, writable: bool | None = None) -> View:
        """The values as a numpy array, without a copy where numpy has the type.

        Shape (rows,), for lists (rows, length). Timestamps are datetime64, NaT where null;
        categories are codes, -1 where null; other nulls are told by `null_mask()` alone, the value
        under them means nothing. Copies, read-only: dates (datetime64[D]), text (str objects, None
        where null), and one-bit bools, with a CopyWarning. The array stays valid after close and
        drop.

        Parameters
        ----------
        writable : bool, optional
            None: as the table was opened. What is written is in the table at once; `mark` the rows
            afterwards, or write under a lease. Rows that are newest on a device that this process
            has open are brought first, and while a writable array outside a lease lives, device
            copies of the column are brought up to date at every block that reads.
        """
        field = self._field
        if field.spec.type in _COPIED:
            return self._copied(writable)
        table = self._native.table
        if writable is False or table.frozen:
            if writable:
                raise Frozen(f"table {self._table.name!r} is frozen")
            whole = field.shown()
        else:
            if table.writable:
                _fetch.fetch_for_stores(self._native, self._first, self._n)
            whole = field.writable()
        found = whole[self._first : self._first + self._n]
        if writable and not found.flags.writeable:
            raise PermissionDenied(
                f'table {self._table.name!r} was opened to read: open it with "r+"'
            )
        return found

    def _held(self) -> Any:
        """`numpy(writable=True)` of rows under a lease that the caller has."""
        return self._field.held()[self._first : self._first + self._n]

    def _copied(self, writable: bool | None) -> Any:
        _checks.need("an array of a column", "numpy")
        from .._values import view as _view

        spec = self._field.spec
        _view.check_numpy_form(self._native, spec, writable)
        return _view.values(self._native, self._first, self._n, spec)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """What numpy functions see: a read-only view where no row is null and numpy has the type.

        Else a copy in which nulls show: NaN in floats, NaT in times, and None in an object array of
        all other types. Categories are text. ValueError for copy=False where it needs a copy.
        """
        import numpy as np

        found = self._shown()
        is_copy = found is None
        if found is None:
            found = self._with_nulls()
        plain = found if dtype is None else found.astype(dtype, copy=False)
        is_copy = is_copy or plain is not found
        if copy is False and (is_copy or self._field.spec.type in _COPIED):
            raise ValueError(f"column {self.name!r}: an array of it is a copy, and copy=False")
        return plain.copy() if copy and not is_copy else np.asarray(plain)

    def _shown(self) -> Any:
        """`numpy()`, read-only, or None when there are rows it does not show as users know them."""
        spec = self._field.spec
        if spec.type == _native.DICT_TEXT or (spec.type not in _SHOW_NULLS and self.null_count):
            return None
        return self.numpy(writable=False)

    def _with_nulls(self) -> np.ndarray:
        """A copy: floats with NaN, others Python objects with None."""
        from .._values import view as _view

        spec = self._field.spec
        if (spec.item_type or spec.type) in FLOATS:
            found = _view.plain(self._native, self._first, self._n, False, spec).copy()
            found[self.null_mask()] = float("nan")
            return found
        return _view.objects(self._native, self._first, self._n, spec)

    def _values_and_nulls(self) -> tuple[Any, Any] | None:
        """(array, null mask or None) for storing them elsewhere; None: as Python objects."""
        spec = self._field.spec
        if spec.type in (_native.DICT_TEXT, _native.TEXT):
            return None
        try:
            from .._values import cast as _cast
            from .._values import view as _view
        except ImportError:  # no numpy
            return None
        nulls = self.null_mask() if self.null_count else None
        if spec.type == _native.BOOL:
            found = _view.bits(self._native, self._first, self._n)
        elif spec.type == _native.DATE32:
            found = self.numpy(writable=False)
        else:
            found = _view.plain(self._native, self._first, self._n, False, spec)
        return (_cast.Zoned(found) if spec.zone else found), nulls

    def null_mask(self) -> np.ndarray:
        """True where null: a bool array, a copy."""
        _checks.need("null_mask()", "numpy")
        from .._values import view as _view

        return _view.null_mask(self._native, self._first, self._n)

    @property
    def null_count(self) -> int:
        """Number of nulls."""
        if not self.nullable:
            return 0
        return self._native.count_null(self._first, self._n)

    def to_pylist(self) -> list[Any]:
        """The values as Python objects, None where null. Does not need numpy.

        Categories are text; dates datetime.date; timestamps datetime.datetime, those in nanoseconds
        pandas.Timestamp, numpy.datetime64 or int, whichever is installed; binary bytes; lists
        lists.
        """
        from .._values import objects as _objects

        return _objects.to_list(self._native, self._field.spec, self._first, self._n)

    def to_pandas(self, *, writable: bool = False) -> pd.Series:
        """The values as a Series, as in `Table.to_pandas`."""
        _checks.need("to_pandas()", "numpy", "pandas")
        from .._frame import to_pandas as _to_pandas

        return _to_pandas.series(self._table, self.name, self._first, self._n, writable=writable)

    def _row(self, row: Any) -> int:
        row = operator.index(row)
        found = row + self._n if row < 0 else row
        if not 0 <= found < self._n:
            raise IndexError(f"row {row}: column {self.name!r} has {self._n} rows here")
        return self._first + found

    def __getitem__(self, key: Any) -> Any:
        """One value as a Python object (None where null), or an array of those a slice, mask or
        array of row numbers selects.

        The array is as `numpy()` gives it, with categories as text; where some of it is null and
        the values do not show that themselves, a read-only masked array.
        """
        from .._values import objects as _objects

        if is_row(key):
            return _objects.to_list(self._native, self._field.spec, self._row(key), 1)[0]
        _refuse_bool(key)
        _checks.need(f"{self.name!r}: reading several rows", "numpy")
        if not isinstance(key, slice):
            return self._array(False)[key]  # a copy of the rows
        # Only the rows asked for: text is decoded one by one.
        taken = range(*key.indices(self._n))
        low, high = (min(taken), max(taken) + 1) if taken else (0, 0)
        found = Column(self._table, self._field, self._first + low, high - low)._array()
        return found if taken.step == 1 else found[:: taken.step]

    def _array(self, writable: bool | None = None) -> Any:
        spec = self._field.spec
        if spec.type == _native.DICT_TEXT:
            from .._values import view as _view

            return _view.objects(self._native, self._first, self._n, spec)
        if spec.type in _SHOW_NULLS or not self.null_count:
            return self.numpy(writable=writable)
        import numpy as np

        found = self.numpy(writable=False)  # a value stored under null would stay null
        mask = self.null_mask()
        if found.ndim == 2:
            mask = np.repeat(mask[:, None], found.shape[1], axis=1)
        return np.ma.MaskedArray(np.asarray(found), mask=mask, copy=False)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.to_pylist())

    # ---- writing

    def __setitem__(self, key: Any, value: Any) -> None:
        """Store values (or one for all) into one row, rows a:b, or those that a bool mask or row
        numbers select, nulls too, and mark them.

        The rows must be the caller's own: use a lease where others may write them. Raises
        TypeMismatch before anything is stored if the type does not hold the values.
        """
        from .._values import store as _store

        _refuse_bool(key)
        if isinstance(key, slice):
            from .rows import span

            first, n = span(key, self._n)
            first += self._first
        elif is_row(key):
            first, n = self._row(key), 1
            value = _store.One(value)
        else:
            self._store_rows(key, value)
            return
        self._check_writable()
        prepared = _store.prepare(self._native, value, n, self._field.spec)
        if n:
            self._fetch(first, first + n - 1)
            prepared.put(self._native, first)
            self._native.mark(first, n)

    def _fetch(self, first: int, last: int) -> None:
        """Rows that are about to be stored beside others of their chunks, from the devices that
        this process has open. DeviceAhead if they are on another."""
        _fetch.wait_for_blocks(self._native)
        size = self._native.table.chunk_rows
        for chunk in range(first // size, last // size + 1):
            with suppress(Busy, Torn):  # which mark() will say
                read_begin(self._native, chunk)

    def _store_rows(self, key: Any, value: Any) -> None:
        from .._values import nulls as _nulls
        from .._values import store as _store

        rows = [self._first + row for row in _nulls.row_numbers(key, self._n)]
        self._check_writable()
        prepared = _store.prepare(self._native, value, len(rows), self._field.spec)
        if not rows:
            return
        prepared.detach(self._native)
        self._fetch(min(rows), max(rows))
        prepared.put_rows(self._native, rows)
        size = self._native.table.chunk_rows
        for row in {row // size: row for row in rows}.values():
            self._native.mark(row, 1)  # the whole chunk of that row

    def _check_writable(self) -> None:
        self._table._check_writable()
        if self._field.spec.type == _native.TEXT:
            raise TypeMismatch(
                f"column {self.name!r}: text is fixed once published; "
                "add a new column, or use a category"
            )

    def _store_leased(self, values: Any) -> None:
        """Store into all rows, chunk by chunk, each under a lease with undo."""
        from .._values import store as _store

        self._check_writable()
        native = self._native
        chunks = self._table._native.chunks
        check_none_own([native], chunks)
        prepared = _store.prepare(native, values, self._n, self._field.spec)
        if chunks > 1:
            prepared.detach(native)
        for chunk in range(chunks):
            lease = claim([native], chunk, _native.INOUT)
            try:
                prepared.put(native, lease.first, lease.first, lease.n_rows)
            except BaseException:
                lease.abandon()
                raise
            lease.commit()

    def set_null(self, rows: Any, is_null: bool = True) -> None:
        """Make rows null, or not null. Does not mark them, but brings them from a device of this
        process first.

        Values under null keep their bytes, but timestamps become NaT and category codes -1, as
        pandas has them.

        Parameters
        ----------
        rows : int, slice, array of row numbers, or bool mask of as many as rows

        Raises TypeMismatch if the column is not nullable, OutOfRange.
        """
        from .._values import nulls as _nulls

        self._table._check_writable()
        _fetch.fetch_for_stores(self._native, self._first, self._n)
        _nulls.set_null(self._native, self._field.spec, self._first, self._n, rows, is_null)

    def mark(self, a: int = 0, b: int | None = None) -> None:
        """Tell others that rows a..b stored plainly have changed. Raises Busy if one is leased."""
        first, n = self._rows(a, b)
        if n:
            _fetch.wait_for_blocks(self._native)
            self._native.mark(first, n)

    def _rows(self, a: int, b: int | None) -> tuple[int, int]:
        end = self._n if b is None else operator.index(b)
        first = operator.index(a)
        if not 0 <= first <= end <= self._n:
            raise OutOfRange(f"rows {first} to {end} are not inside the {self._n} rows there are")
        return self._first + first, end - first

    # ---- categories

    @property
    def categories(self) -> list[str]:
        """Texts of a category column; code i means text i."""
        self._check_category()
        return self._native.categories()

    def add_category(self, text: str) -> int:
        """Code of a text, added if it is not there yet.

        Raises OutOfRange if there is no room; TypeMismatch where a frame's categories are numbers,
        times or dates and the text is not written as one ("01" for an int).
        """
        self._check_category()
        from .._values import store as _store

        _checks.text(text, "a category")
        return _store.add_category(self._native, text, _store.category_dtype(self._native))

    def _check_category(self) -> None:
        if self._field.spec.type != _native.DICT_TEXT:
            raise TypeMismatch(f"column {self.name!r} is {self.dtype}, not a category")

    # ---- chunks (of the table, whatever rows this is)

    def version(self, chunk: int = 0) -> int:
        """Version of a chunk: moves on at every claim, commit and mark."""
        return self._native.version(self._chunk(chunk))

    def wait(self, chunk: int = 0, version: int | None = None, timeout: float | None = None) -> int:
        """Wait until a chunk's version is another than the one seen (None: than now); gives it.

        timeout: seconds; None: no limit. Raises Timeout.
        """
        chunk = self._chunk(chunk)
        timeout = _checks.timeout(timeout)
        seen = self._native.version(chunk) if version is None else version
        return self._native.wait(chunk, seen, timeout)

    def recover(self, chunk: int) -> None:
        """Accept the bytes of a torn chunk as they are. Raises WrongState if it is not torn."""
        self._native.recover(self._chunk(chunk))

    def _chunk(self, chunk: int) -> int:
        chunk = _checks.integer(chunk, "a chunk")
        if not 0 <= chunk < self._native.table.chunks:
            raise OutOfRange(
                f"chunk {chunk}: table {self._table.name!r} has {self._native.table.chunks}"
            )
        return chunk

    # ---- handles

    def __reduce__(self) -> tuple[Any, ...]:
        return _handle.open_column, (
            self.name, self._first, self._n, *_handle.args(self._table),
        )  # fmt: skip

    def __repr__(self) -> str:
        if self._table.closed:
            return "<pintable.Column of a closed table>"
        return f"<pintable.Column {self.name!r} {self.dtype}: {self._n} rows of {self._table!r}>"
