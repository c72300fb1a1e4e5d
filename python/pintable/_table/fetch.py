# SPDX-License-Identifier: Apache-2.0
"""What is newest on a device only, brought to the host for a lease, job or read of this process.

A process that asks for rows on the host means the newest ones. Where it has the device open it can
get them, so it does; where it has not, DeviceAhead says so, as in C. Plain looks at the host's
memory (`column.numpy()`, `to_pandas()`) ask for nothing, and fetch nothing.
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
        for opened, copy in _opened.copies_of(column):
            try:
                found |= _fetch_from(copy, column.table, chunks, until)
            except DeviceLost:  # the copy was dropped meanwhile, which has brought them
                opened.forget(column.name)
                found = True
            except ValueError:
                if not copy.closed:  # by another thread
                    raise
    return found


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


def _fetch_from(copy: Any, table: Any, chunks: list[int], until: float | None) -> bool:
    size, n_rows = table.chunk_rows, table.rows

    def bring(first: int, end: int) -> None:
        row = first * size
        copy.to_host(row, min(end * size, n_rows) - row, _left(until))

    found = False
    places = {chunk: copy.places(chunk) for chunk in chunks}
    for first, end in _runs(chunk for chunk in chunks if places[chunk] == _DEVICE):
        bring(first, end)
        found = True
    for chunk in chunks:
        if found:
            break
        if places[chunk] == _NOWHERE:  # somebody is writing it, or another device has it
            with contextlib.suppress(DeviceAhead, Busy):  # Busy: by a block of this process
                bring(chunk, chunk + 1)
                found = True
    return found


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
