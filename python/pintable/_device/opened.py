# SPDX-License-Identifier: Apache-2.0
"""What is open on devices in this process, and that it is settled and closed in time.

Lifecycle: what is open belongs to a table object, and closes with it. At the end of the interpreter
what blocks have written is waited for; the handles are left to the end of the process.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import weakref
from typing import Any, TypeVar

from .. import _native
from .._base.errors import Error, NotFound
from .._table import fetch as _fetch
from .bracket import Bracket, Stream

T = TypeVar("T")

_ALL_ROWS = 2**64 - 1
_SETTLE_S = 10.0  # for the last work on streams when a copy is closed or the interpreter ends


class Opened:
    """A device and the copies on it that are open for one table."""

    def __init__(self, table: Any, name: str) -> None:
        """table: native."""
        self.pid = os.getpid()
        self.name = name
        self.table_key = _table_key(table)
        self.copies: dict[tuple[str, bool], Any] = {}  # (column, writable)
        self.moved: dict[str, tuple[int, int]] = {}  # by handles that are closed
        self.blocks: weakref.WeakSet[Bracket] = weakref.WeakSet()  # that write
        self._stream: Stream | None = None
        self.native = _native.Device(table.pool, name)
        _all_opened.add(self)
        _fetch.is_possible = True

    def stream(self) -> Stream | int:
        """For a bracket without one: ours on "host", the default stream on a GPU."""
        if self.native.is_cuda:
            return 0
        found = self._stream
        if found is None:
            found = self._stream = Stream(self.native)
        return found

    def copy(self, column: Any, write: bool, kind: int = 0) -> Any:
        """The native copy of a native column, opened when first needed."""
        key = (column.name, write)
        found = self.copies.get(key)
        if found is not None and not found.closed:
            if kind in (0, _native.COPY_EXISTING, found.kind):
                return found
        access = _native.READ | _native.WRITE if write else _native.READ
        made = self.native.open_copy(column, access, kind)
        kept = self.copies.setdefault(key, made)
        if kept is not made and kept.closed:
            self.copies[key] = kept = made
        if kept is not made:  # another thread was faster
            made.close()
        return kept

    def open_copy(self, column: Any) -> Any:
        """A native copy of a native column that is open already, or None."""
        for write in (True, False):
            found = self.copies.get((column.name, write))
            if found is not None and not found.closed:
                return found
        return None

    def existing_copy(self, column: Any) -> Any:
        """The same, opened if there is one; None if there is none."""
        found = self.open_copy(column)
        if found is None:
            try:
                found = self.copy(column, False, _native.COPY_EXISTING)
            except NotFound:
                pass
            except ValueError:
                if not self.native.closed:  # by another thread
                    raise
        return found

    def forget(self, name: str) -> None:
        """Close the handles of a column; open brackets and arrays keep theirs."""
        for write in (False, True):
            found = self.copies.pop((name, write), None)
            if found is not None:
                if not found.closed:
                    _settle(found)
                to_device, to_host = found.moved()
                before = self.moved.get(name, (0, 0))
                self.moved[name] = before[0] + to_device, before[1] + to_host
                found.close()

    def close(self) -> None:
        for name, _ in list(self.copies):
            self.forget(name)
        self._stream = None
        self.native.close()

    def __del__(self) -> None:
        # Forgotten with its table: arrays may live on, and nobody else would wait at exit. What is
        # left when the interpreter ends, or in a forked child, is not closed.
        if hasattr(self, "native") and self.pid == os.getpid() and not sys.is_finalizing():
            self.close()

    def settle(self) -> None:
        """Wait until what was written is published: the library's thread that does it ends with
        the process."""
        for copy in list(self.copies.values()):
            _settle(copy)

    def ordinal(self) -> int:
        """The number by which this process knows the GPU."""
        return int(self.native.info()["ordinal"])


def _settle(copy: Any) -> None:
    with contextlib.suppress(Error, ValueError):  # ValueError: closed by another thread
        copy.wait(0, _ALL_ROWS, _SETTLE_S)


_all_opened: weakref.WeakSet[Opened] = weakref.WeakSet()


def all_of(items: weakref.WeakSet[T]) -> list[T]:
    """What is in a set that other threads add to."""
    while True:
        try:
            return list(items)
        except RuntimeError:  # changed while it was gone through
            continue


def _of_this_process() -> list[Opened]:
    return [opened for opened in all_of(_all_opened) if opened.pid == os.getpid()]


def _table_key(table: Any) -> tuple[bytes, int]:
    return table.pool.id, table.id


def opened_for(table: Any) -> list[Opened]:
    """The devices that this process has open for a native table."""
    key = _table_key(table)
    return [
        opened
        for opened in _of_this_process()
        if opened.table_key == key and not opened.native.closed
    ]


def copies_of(column: Any) -> list[tuple[Opened, Any]]:
    """The native copies of a native column on devices that this process has open."""
    found = [(opened, opened.existing_copy(column)) for opened in opened_for(column.table)]
    return [(opened, copy) for opened, copy in found if copy is not None]


def _at_exit() -> None:
    for opened in _of_this_process():
        opened.settle()


# Runs before the extension's own, which was registered first: from then on nothing is closed.
atexit.register(_at_exit)
