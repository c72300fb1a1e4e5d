# SPDX-License-Identifier: Apache-2.0
"""One table, many processes: tables of columns in shared memory, read and written in place.

Start with `Table.from_pandas(df)`, pass the table to worker processes (it pickles as a small
handle), or let `Table.map` do that. numpy, pandas, pyarrow and tqdm are imported when first needed.
"""

from __future__ import annotations

import sys as _sys

if _sys.platform != "linux":
    raise ImportError(f"pintable needs Linux (memfd, futex), and this is {_sys.platform}")

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from . import _native
from ._base import errors as _errors
from ._base.errors import (
    Again,
    Busy,
    Changed,
    CopyWarning,
    Corrupt,
    DeviceAhead,
    DeviceError,
    DeviceFailed,
    DeviceLost,
    Dropped,
    Error,
    Exists,
    Forked,
    Frozen,
    Interrupted,
    Invalid,
    LeaseLost,
    MapError,
    NoDevice,
    NoService,
    NotFound,
    OutOfDeviceMemory,
    OutOfMemory,
    OutOfRange,
    PermissionDenied,
    ProtocolError,
    QuotaExceeded,
    ServiceGone,
    StalePool,
    SystemFailed,
    Timeout,
    TooMany,
    TooManyFiles,
    Torn,
    TypeMismatch,
    Unsupported,
    VersionMismatch,
    WrongState,
)
from ._base.pool import drop, list_tables, rename
from ._table.column import Column
from ._table.part import Part
from ._table.rows import Slice
from ._table.table import Table, create, from_pandas, open

_native._set_errors(_errors.by_status(), Error)

__version__: str = _native.version

# Found on first use: these modules are large or need packages that need not be installed.
_LAZY = {
    "Device": "_device.device",
    "DeviceArray": "_device.array",
    "DeviceColumn": "_device.device",
    "Job": "_table.job",
    "is_shared": "_frame.shared",
    "temporary": "_table.temporary",
    "get_include": "_base.paths",
    "get_library_dir": "_base.paths",
    "get_service_path": "_base.paths",
}

if _TYPE_CHECKING:
    from ._base.paths import get_include, get_library_dir, get_service_path
    from ._device.array import DeviceArray
    from ._device.device import Device, DeviceColumn
    from ._frame.shared import is_shared
    from ._table.job import Job
    from ._table.temporary import temporary

__all__ = [
    "Again", "Busy", "Changed", "Column", "CopyWarning", "Corrupt", "Device", "DeviceAhead",
    "DeviceArray", "DeviceColumn", "DeviceError", "DeviceFailed", "DeviceLost", "Dropped", "Error",
    "Exists", "Forked", "Frozen", "Interrupted", "Invalid", "Job", "LeaseLost", "MapError",
    "NoDevice", "NoService", "NotFound", "OutOfDeviceMemory", "OutOfMemory", "OutOfRange", "Part",
    "PermissionDenied", "ProtocolError", "QuotaExceeded", "ServiceGone", "Slice", "StalePool",
    "SystemFailed", "Table", "Timeout", "TooMany", "TooManyFiles", "Torn", "TypeMismatch",
    "Unsupported", "VersionMismatch", "WrongState", "create", "drop", "from_pandas", "get_include",
    "get_library_dir", "get_service_path", "is_shared", "list_tables", "open", "rename",
    "temporary",
]  # fmt: skip


def __getattr__(name: str) -> _Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(_import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
