# SPDX-License-Identifier: Apache-2.0
"""Handles: what tables, slices, columns and jobs pickle as, and how these are opened again.

A handle names a table and says which pool and which table of that name it means; no data travel.
Opening one in a process that has joined the pool sends no message. A pool that was replaced is
never joined silently in its stead: StalePool.

A process keeps one open table for all handles it receives on the same table while any is in use:
they share one Table object, and closing it closes it for all of them.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from .._base import pool as _pool
from .._base.errors import Frozen, NotFound, OutOfRange, StalePool, WrongState

if TYPE_CHECKING:
    from .column import Column
    from .rows import Slice
    from .table import Table

# (pool id, table id, writable) -> Table opened from a handle.
_opened: weakref.WeakValueDictionary[tuple[bytes, int, bool], Table] = weakref.WeakValueDictionary()

Args = tuple[Any, ...]


def args(table: Table) -> Args:
    """Arguments of `open_table` for a table; small, plain and picklable.

    Raises WrongState for a table that is not published, ValueError for a closed one.
    """
    native = table._native
    pool = native.pool
    if not native.published:
        raise WrongState(f"table {native.name!r} is not published: nobody else can open it")
    address = _pool.handle_address(pool)
    found = (native.name, pool.id, native.id, bool(native.writable))
    return found if address is None else (*found, address)


def open_table(
    name: str, pool_id: bytes, table_id: int, writable: bool, address: str | None = None
) -> Table:
    """The table a handle means, from the process's cache or opened now.

    Raises StalePool when another pool serves that address, NotFound when the table was dropped.
    """
    key = (pool_id, table_id, writable)
    table = _opened.get(key)
    if table is not None and not table.closed and not table.dropped:
        return table
    from .table import Table

    pool = _pool.join(address, write=writable)
    if pool.id != pool_id:
        raise StalePool(
            f"the handle of table {name!r} belongs to another pool than the one at {pool.address}"
        )
    try:
        native = _open_native(pool, name, table_id, writable)
    except Frozen:  # frozen since the handle was made
        native = _open_native(pool, name, table_id, False)
    table = Table(native)
    _opened[key] = table
    return table


def _open_native(pool: Any, name: str, table_id: int, writable: bool) -> Any:
    try:
        native = pool.open(name, writable)
        if native.id == table_id:
            return native
        native.close()  # another table has taken the name
    except NotFound:
        pass
    try:
        return pool.open_id(table_id, writable)
    except NotFound:
        raise NotFound(f"table {name!r} of this handle was dropped") from None


def open_slice(first: int, n_rows: int, *found: Any) -> Slice:
    """The slice of n_rows rows from first of the table of a handle."""
    from .rows import Slice

    return Slice(_with_rows(first, n_rows, found), first, n_rows)


def open_column(name: str, first: int, n_rows: int, *found: Any) -> Column:
    """The column of a handle, rows [first, first + n_rows) of it."""
    return _with_rows(first, n_rows, found)._column(name, first, n_rows)


def _with_rows(first: int, n_rows: int, found: Args) -> Table:
    """The table of a handle, once it is known to have these rows: handles may be made by others."""
    table = open_table(*found)
    if not 0 <= first <= first + n_rows <= table.rows:
        raise OutOfRange(f"a handle of rows {first} to {first + n_rows} of {table!r}")
    return table
