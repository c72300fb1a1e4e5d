# SPDX-License-Identifier: Apache-2.0
"""The pools of this process: joined on first use, kept until the process ends.

The library gives every joiner of one address in a process the same mapping and session. The last
pool of each address is kept here, so that a process does not leave and join again between two
tables, and so that an address in shared memory can be told from a private one.

Threads: any. Processes: a forked child keeps the entries; the library makes it a session of its
own.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from .. import _native
from . import checks as _checks
from .errors import PermissionDenied

Address = str | os.PathLike[str] | None

# (address, read only) -> native Pool joined last; replaced when another pool serves that address.
_joined: dict[tuple[str | None, bool], Any] = {}
# Pools that were joined without an address; their handles need not carry one.
_default_ids: set[bytes] = set()

# Modules that methods import when they are first used, by what these need.
_LATE = {
    None: (
        "_table.handle", "_table.job", "_table.part",
        "_values.infer", "_values.nulls", "_values.objects", "_values.store",
    ),
    "numpy": ("_values.cast", "_values.view"),
    "pandas": (
        "_frame.from_pandas", "_frame.pickling", "_frame.shared", "_frame.to_pandas",
        "_frame.writeback",
    ),
}  # fmt: skip


def join(address: Address = None, *, write: bool = True) -> Any:
    """The native Pool at an address (None: $PINTABLE_ADDRESS, else the user's own).

    With write=False a pool that this user may only read is joined read-only. Starts a private
    service when none runs. Raises NoService, PermissionDenied, VersionMismatch.
    """
    path = None if address is None else os.fspath(address)
    try:
        return _join(path, False)
    except PermissionDenied:
        if write:
            raise
        return _join(path, True)


def _join(path: str | None, read_only: bool) -> Any:
    # A join of a joined address is a look-up in the library, which knows whether the service that
    # answered then is still the one: so it is asked each time.
    pool = _native.Pool(path, read_only=read_only)
    key = (path, read_only)
    kept = _joined.get(key)
    if kept is None or kept.id != pool.id:
        _import_late()
        _joined[key] = pool
        if path is None:
            _default_ids.add(pool.id)
        return pool
    return kept


def _import_late() -> None:
    """Import now what methods would import later, as far as the packages it needs are there.

    Later other threads may be running, and a module's lock that one of them holds at a fork stays
    locked in the child for ever.
    """
    for package, modules in _LATE.items():
        if package is None or package in sys.modules:
            for module in modules:
                importlib.import_module(f"pintable.{module}")


def handle_address(pool: Any) -> str | None:
    """What a handle must say of where its pool is: nothing when it is the default one."""
    return None if pool.id in _default_ids else pool.address


def contains(address: int, n_bytes: int) -> bool:
    """Does all of [address, address + n_bytes) lie in the column memory of a joined pool?"""
    return any(pool.contains(address, n_bytes) for pool in list(_joined.values()))


def list_tables(*, address: Address = None) -> list[str]:
    """Names of the published tables of a pool, sorted."""
    return sorted(join(address, write=False).tables())


def drop(name: str, *, address: Address = None) -> None:
    """Drop a table by name. Processes that have it open keep its data until they close it.

    Raises NotFound, or PermissionDenied for another user's table.
    """
    join(address).drop(_checks.text(name, "a table name"))


def rename(old: str, new: str, *, address: Address = None) -> None:
    """Give a table another name. Raises NotFound, or Exists if a live table has the new one."""
    names = [_checks.text(name, "a table name") for name in (old, new)]
    join(address).rename(*names)
