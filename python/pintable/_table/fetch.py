# SPDX-License-Identifier: Apache-2.0
"""What is newest on a device only, brought to the host for a lease, job or read of this process.

A process that asks for rows on the host means the newest ones. Where it has the device open it can
get them, so it does; where it has not, DeviceAhead says so, as in C. Arrays that are stored to at
any time are of the newest rows too, as stores beside them would be lost. Plain looks at the host's
memory (`np.asarray(column)`, `to_pandas()`) ask for nothing, and fetch nothing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from .._base.errors import Busy, DeviceAhead, DeviceLost

T = TypeVar("T")

_NOWHERE, _DEVICE = 0, 2  # of DeviceCopy.places(): there and not on the host
_TRIES = 3

# Set when a device is opened in this process; without one, nothing here costs anything.
is_possible = False


def retrying(
    columns: Sequence[Any],
    chunks: Iterable[int],
    timeout: float | None,
    take: Callable[[float | None], T],
) -> T:
    """take(seconds), again when it was refused because chunks of native columns are on a device.

    Raises DeviceAhead where no device of this process has them; what `take` and fetching raise.
    """
    if not is_possible:
        return take(timeout)
    until = None if timeout is None else time.monotonic() + timeout
    n_in_vain = 0
    while True:
        try:
            return take(_left(until))
        except DeviceAhead:
            # Again after nothing was found: another process may have brought it in between.
            n_in_vain = 0 if fetch(columns, chunks, _left(until)) else n_in_vain + 1
            if n_in_vain == _TRIES:
                raise


def fetch(columns: Iterable[Any], chunks: Iterable[int], timeout: float | None = None) -> bool:
    """Bring chunks of native columns that are on this process's devices only. False: none was.

    timeout: seconds to wait for others that hold one. Raises Timeout.
    """
    if not is_possible:
        return False
    from .._device import opened as _opened

    until = None if timeout is None else time.monotonic() + timeout
    chunks = list(chunks)
    found = False
    for column in columns:
        wait_for_blocks(column, _left(until))
        for opened, copy in _opened.copies_of(column):
            args = copy, column.table, chunks, until
            fetched = _unless_gone(opened, column, copy, _fetch_from, *args)
            found |= fetched is not False
    return found


def wait_for_blocks(column: Any, timeout: float | None = None) -> None:
    """Wait until blocks of this process on a native column that are over have given back rows.
    Their end does not wait, and until then the rows are held, or look as they were before.
    """
    if not is_possible:
        return
    from .._device import opened as _opened

    for opened in _opened.opened_for(column.table):
        copy = opened.open_copy(column)
        if copy is not None:
            args = 0, column.table.rows, timeout
            _unless_gone(opened, column, copy, copy.wait, *args)


def fetch_for_stores(column: Any, first: int, n_rows: int) -> None:
    """Before rows of a native column are given out to be stored to at any time: bring chunks that
    are newest on this process's devices. Stores on the host would be lost when they come later.

    Waits for blocks of this process that are over, for nobody else: chunks that are in somebody's
    hands, torn, or newest elsewhere stay as they are.
    """
    if not is_possible or not n_rows:
        return
    from .._device import opened as _opened

    wait_for_blocks(column)
    size = column.table.chunk_rows
    first_chunk, last_chunk = first // size, (first + n_rows - 1) // size
    ahead = column.device_ahead(first_chunk, last_chunk - first_chunk + 1)
    for one, copy in _opened.copies_of(column) if ahead else ():
        _unless_gone(one, column, copy, _bring_all, copy, column.table, ahead, None)


def _unless_gone(opened: Any, column: Any, copy: Any, do: Callable[..., T], *args: Any) -> T | None:
    """do(*args) with a copy; None if it was closed, or dropped, which brings all it had."""
    try:
        return do(*args)
    except DeviceLost:
        opened.forget(column.name)
    except ValueError:
        if not copy.closed:  # by another thread
            raise
    return None


def check_no_block(column: Any, chunks: range) -> None:
    """Busy if this thread has chunks of a native column in a block to write: waiting for it would
    never end."""
    from .._device import opened as _opened

    size = column.table.chunk_rows
    for opened in _opened.opened_for(column.table):
        for block in _opened.all_of(opened.blocks):
            if block._keeps_out(column.name, chunks.start * size, chunks.stop * size):
                raise Busy(
                    f"this thread holds rows of column {column.name!r} in a block on device "
                    f"{opened.name!r}"
                )


def settle(table: Any) -> bool:
    """Wait until blocks of this process that are over have given rows of the native table back.
    False: it has no device open."""
    if not is_possible:
        return False
    from .._device import opened as _opened

    opened = _opened.opened_for(table)
    for one in opened:
        one.settle()
    return bool(opened)


def _left(until: float | None) -> float | None:
    return None if until is None else max(0.0, until - time.monotonic())


def _bring(copy: Any, table: Any, first: int, end: int, until: float | None) -> None:
    """Chunks [first, end) to the host."""
    row = first * table.chunk_rows
    copy.to_host(row, min(end * table.chunk_rows, table.rows) - row, _left(until))


def _bring_all(copy: Any, table: Any, chunks: Iterable[int], until: float | None) -> bool:
    """Those of the chunks that are newest on the copy's device alone. False: none was."""
    found = False
    for first, end in _runs([chunk for chunk in chunks if copy.places(chunk) == _DEVICE]):
        _bring(copy, table, first, end, until)
        found = True
    return found


def _fetch_from(copy: Any, table: Any, chunks: list[int], until: float | None) -> bool:
    nowhere = [chunk for chunk in chunks if copy.places(chunk) == _NOWHERE]
    if _bring_all(copy, table, chunks, until):
        return True
    for chunk in nowhere:  # somebody is writing it, or another device has it
        with contextlib.suppress(DeviceAhead, Busy):  # Busy: by a block of this process
            _bring(copy, table, chunk, chunk + 1, until)
            return True
    return False


def _runs(chunks: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Neighbours together: (first, end)."""
    first = end = -1
    for chunk in chunks:
        if chunk != end:
            if end > first:
                yield first, end
            first = chunk
        end = chunk + 1
    if end > first:
        yield first, end
