# SPDX-License-Identifier: Apache-2.0
"""Parts: the rows one may work on now, under a lease, as a chunk of a job, or while reading.

Lifecycle: a Part is open until its lease, chunk or reading ends; afterwards it refuses everything,
and the writable arrays it gave out are made read-only (arrays derived from them are not reached:
they must not be written any more).
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from .. import _native
from .._base import checks as _checks
from .._base.errors import Busy, NotFound, PermissionDenied, TypeMismatch, WrongState
from . import fetch as _fetch

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from .._values.view import View
    from .column import Field
    from .table import Table


# Chunks that parts of this process hold to write: (pool, table, column, chunk) -> the part. Who
# asks for a chunk of its own thread would wait for itself for ever. Without a lock: each step is
# one operation on the mapping, and a thread looks only for what it entered itself. An entry whose
# part has ended means nothing, and goes with the part.
_held: weakref.WeakValueDictionary[tuple[bytes, int, int, int], Part]
_held = weakref.WeakValueDictionary()


def _key(column: Any, chunk: int) -> tuple[bytes, int, int, int]:
    table = column.table
    return table.pool.id, table.id, column.index, chunk


def check_not_own(column: Any, chunk: int) -> None:
    """Busy if this thread holds the chunk of the native column: waiting for it would never end."""
    if _fetch.is_possible:
        _fetch.check_no_block(column, range(chunk, chunk + 1))
    if _held:
        _check_not_held(column, chunk)


def _check_not_held(column: Any, chunk: int) -> None:
    part = _held.get(_key(column, chunk))
    if part is not None and part._is_open and part._holder == _me():
        raise Busy(f"this thread holds chunk {chunk} of column {column.name!r} already")


def check_none_own(columns: Iterable[Any], chunks: int) -> None:
    """The same for all chunks of some native columns."""
    for column in columns:
        if _fetch.is_possible:
            _fetch.check_no_block(column, range(chunks))
        for chunk in range(chunks if _held else 0):
            _check_not_held(column, chunk)


def claim(columns: Sequence[Any], chunk: int, use: int, timeout: float | None = None) -> Any:
    """Claim a chunk of native columns of one table; gives the native lease.

    What is newest on a device of this process is brought first. Raises Busy for a chunk that this
    thread holds, and what the table's claim raises.
    """
    for column in columns:
        check_not_own(column, chunk)
    table = columns[0].table
    if not _fetch.is_possible:
        return table.claim(columns, chunk, use, timeout)
    return _fetch.retrying(
        columns, (chunk,), timeout, lambda left: table.claim(columns, chunk, use, left)
    )


def _me() -> tuple[int, int]:
    return os.getpid(), threading.get_ident()


class Part:
    """Rows [first, first + n_rows) of a table. Row numbers and arrays are relative to them."""

    __slots__ = (
        "__weakref__", "_arrays", "_columns", "_finish", "_first", "_holder", "_is_open", "_n_rows",
        "_table", "_writable", "chunk",
    )  # fmt: skip

    def __init__(
        self,
        table: Table,
        first: int,
        n_rows: int,
        *,
        chunk: int | None = None,
        columns: Sequence[str] | None = None,
        writable: Iterable[str] = (),
        finish: Callable[[Part, str | None], None] | None = None,
    ) -> None:
        """columns: those of the part, None for all of the table; writable: those of them that may
        be written; finish: called by `done()` with None and by `fail(text)` with the text."""
        self._table = table
        self._first = first
        self._n_rows = n_rows
        self.chunk = chunk
        self._columns = None if columns is None else tuple(columns)
        self._writable = frozenset(writable)
        self._finish = finish
        self._arrays: dict[str, Any] = {}
        self._is_open = True
        self._holder = _me() if self._writable else None
        if chunk is not None:
            for name in self._writable:
                _held[_key(table._field(name).native, chunk)] = self

    # ---- facts

    @property
    def table(self) -> Table:
        """The table these rows are of."""
        return self._table

    @property
    def first(self) -> int:
        """First row in the table."""
        return self._first

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self._n_rows

    @property
    def rows(self) -> range:
        """The rows in the table."""
        return range(self._first, self._first + self._n_rows)

    @property
    def columns(self) -> list[str]:
        """Names of the columns of this part."""
        return self._table.columns if self._columns is None else list(self._columns)

    def __len__(self) -> int:
        return self._n_rows

    def __contains__(self, name: object) -> bool:
        return name in self._table if self._columns is None else name in self._columns

    def __repr__(self) -> str:
        state = "" if self._is_open else ", ended"
        return f"<pintable.Part rows {self._first}..{self._first + self._n_rows}{state}>"

    # ---- values

    def _check_open(self) -> None:
        if not self._is_open:
            raise WrongState(
                f"rows {self._first} to {self._first + self._n_rows} are not held any more"
            )

    def _field(self, name: str) -> Field:
        self._check_open()
        if self._columns is not None and name not in self._columns:
            raise NotFound(f"column {name!r} is not one of this part: {list(self._columns)}")
        return self._table._field(name)

    def __getitem__(self, name: str) -> View:
        """Values of a column as numpy, as `Column.numpy` gives them: writable only if declared
        so."""
        self._check_open()
        found = self._arrays.get(name)
        if found is None:
            _checks.need("reading a part as arrays", "numpy")
            from .column import Column

            column = Column(self._table, self._field(name), self._first, self._n_rows)
            # Copies (text, dates, bits) cannot be written in place; storing into them can be done.
            is_view = column._field.spec.type not in (
                _native.BOOL, _native.DATE32, _native.TEXT,
            )  # fmt: skip
            is_ours = name in self._writable and is_view
            found = column._held() if is_ours else column.numpy(writable=False)
            self._arrays[name] = found
        return found

    def __setitem__(self, name: str, values: Any) -> None:
        """Store values (or one for all rows), nulls too; text goes into a category column as
        categories. Raises TypeMismatch before anything is stored, naming rows of the table."""
        from .._values import store as _store

        field = self._writable_field(name)
        array = self._arrays.get(name)
        if array is values and array is not None and array.flags.writeable:
            return  # part["x"] += 1: the array is the storage
        prepared = _store.prepare(field.native, values, self._n_rows, field.spec, self._first)
        prepared.put(field.native, self._first)
        if array is not None and not array.flags.writeable:
            del self._arrays[name]  # a copy of what was there before

    def _writable_field(self, name: str) -> Field:
        field = self._field(name)
        if name not in self._writable:
            raise PermissionDenied(
                f"column {name!r} was not declared to be written here: {sorted(self._writable)}"
            )
        return field

    def native(self, name: str) -> Any:
        """The native column, for the modules of this package."""
        return self._field(name).native

    def null_mask(self, name: str) -> np.ndarray:
        """True where a column is null: a bool array, a copy."""
        from .._values import view as _view

        return _view.null_mask(self._field(name).native, self._first, self._n_rows)

    def set_null(self, name: str, rows: Any, is_null: bool = True) -> None:
        """Make rows of this part null or not; see `Column.set_null`."""
        from .._values import nulls as _nulls

        field = self._writable_field(name)
        _nulls.set_null(field.native, field.spec, self._first, self._n_rows, rows, is_null)

    def to_pylist(self, name: str) -> list[Any]:
        """Values of a column as Python objects, None where null."""
        from .._values import objects as _objects

        field = self._field(name)
        return _objects.to_list(field.native, field.spec, self._first, self._n_rows)

    def to_pandas(self, columns: str | Sequence[Any] | None = None) -> pd.DataFrame:
        """A read-only frame of the rows with their part of the index; valid while the part is
        open."""
        self._check_open()
        _checks.need("to_pandas()", "numpy", "pandas")
        from .._frame import to_pandas as _to_pandas

        names = columns if columns is not None or self._columns is None else list(self._columns)
        return _to_pandas.to_pandas(self._table, self._first, self._n_rows, names)

    # ---- the end

    def done(self) -> None:
        """In a job: the rows are done; the part ends. Otherwise that is the end of its block."""
        self._end_by_caller(None)

    def fail(self, text: str = "") -> None:
        """In a job: the rows could not be done, another may try; the part ends."""
        self._end_by_caller(text)

    def _end_by_caller(self, text: str | None) -> None:
        self._check_open()
        if self._finish is None:
            raise WrongState("this part is no chunk of a job: it ends with its block")
        self._close()
        self._finish(self, text)

    def _close(self) -> None:
        """Refuse everything from now on; writable arrays given out become read-only."""
        self._is_open = False
        arrays, self._arrays = self._arrays, {}
        for array in arrays.values():
            array.flags.writeable = False


class Leased:
    """Context manager of `Table.lease`."""

    __slots__ = ("_chunk", "_lease", "_names", "_part", "_table", "_timeout", "_use")

    def __init__(
        self, table: Table, chunk: int, names: list[str], inout: bool, timeout: float | None
    ) -> None:
        self._table, self._chunk, self._names = table, chunk, names
        self._timeout = _checks.timeout(timeout)
        self._use = _native.INOUT if inout else _native.OUT
        self._part: Part | None = None
        self._lease: Any = None

    def __enter__(self) -> Part:
        if self._lease is not None:
            raise WrongState("a lease is entered once: ask the table for another")
        table = self._table
        table._check_writable()
        columns = [table._field(name).native for name in self._names]
        if not columns:
            raise TypeMismatch("a lease is on one column or more")
        self._lease = lease = claim(columns, self._chunk, self._use, self._timeout)
        self._part = Part(table, lease.first, lease.n_rows, chunk=self._chunk, writable=self._names)
        return self._part

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        assert self._part is not None
        self._part._close()
        if kind is None:
            self._lease.commit()
        elif self._lease.held:
            self._lease.abandon()


def read_begin(column: Any, chunk: int) -> int:
    """Stamp of a chunk of a native column, for `read_end`; fetched first where that is needed."""
    return _fetch.retrying(
        [column], (chunk,), None, lambda left: column.read_begin(chunk)
    )  # fmt: skip


class Reading:
    """Context manager of `Rows.reading`."""

    __slots__ = ("_first", "_n_rows", "_names", "_part", "_stamps", "_table")

    def __init__(self, table: Table, first: int, n_rows: int, names: list[str]) -> None:
        self._table, self._first, self._n_rows, self._names = table, first, n_rows, names
        self._part: Part | None = None
        self._stamps: list[tuple[Any, int, int]] = []

    def __enter__(self) -> Part:
        table = self._table
        chunk_rows = table.chunk_rows
        chunks = range(0)
        if self._n_rows:
            last = (self._first + self._n_rows - 1) // chunk_rows
            chunks = range(self._first // chunk_rows, last + 1)
        columns = [table._field(name).native for name in self._names]
        for column in columns:
            _fetch.wait_for_blocks(column)
        self._stamps = [
            (column, chunk, read_begin(column, chunk)) for column in columns for chunk in chunks
        ]
        self._part = Part(table, self._first, self._n_rows, columns=self._names)
        return self._part

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        assert self._part is not None
        self._part._close()
        stamps, self._stamps = self._stamps, []
        if kind is None:
            for column, chunk, stamp in stamps:
                column.read_end(chunk, stamp)
