# SPDX-License-Identifier: Apache-2.0
# The public names, those found on first use too; their types are in the modules themselves.

from ._column import Column as Column
from ._device import Device as Device
from ._device import DeviceColumn as DeviceColumn
from ._device_array import DeviceArray as DeviceArray
from ._errors import (
    Again as Again,
    Busy as Busy,
    Changed as Changed,
    CopyWarning as CopyWarning,
    Corrupt as Corrupt,
    DeviceAhead as DeviceAhead,
    DeviceError as DeviceError,
    DeviceFailed as DeviceFailed,
    DeviceLost as DeviceLost,
    Dropped as Dropped,
    Error as Error,
    Exists as Exists,
    Forked as Forked,
    Frozen as Frozen,
    Interrupted as Interrupted,
    Invalid as Invalid,
    LeaseLost as LeaseLost,
    MapError as MapError,
    NoDevice as NoDevice,
    NoService as NoService,
    NotFound as NotFound,
    OutOfDeviceMemory as OutOfDeviceMemory,
    OutOfMemory as OutOfMemory,
    OutOfRange as OutOfRange,
    PermissionDenied as PermissionDenied,
    ProtocolError as ProtocolError,
    QuotaExceeded as QuotaExceeded,
    ServiceGone as ServiceGone,
    StalePool as StalePool,
    SystemFailed as SystemFailed,
    Timeout as Timeout,
    TooMany as TooMany,
    TooManyFiles as TooManyFiles,
    Torn as Torn,
    TypeMismatch as TypeMismatch,
    Unsupported as Unsupported,
    VersionMismatch as VersionMismatch,
    WrongState as WrongState,
)
from ._job import Job as Job
from ._part import Part as Part
from ._paths import get_include as get_include
from ._paths import get_library_dir as get_library_dir
from ._paths import get_service_path as get_service_path
from ._pool import drop as drop
from ._pool import list_tables as list_tables
from ._pool import rename as rename
from ._rows import Slice as Slice
from ._shared import is_shared as is_shared
from ._table import Table as Table
from ._table import create as create
from ._table import from_pandas as from_pandas
from ._table import open as open
from ._temporary import temporary as temporary

__version__: str

__all__ = [
    "Again", "Busy", "Changed", "Column", "CopyWarning", "Corrupt", "Device", "DeviceAhead",
    "DeviceArray", "DeviceColumn", "DeviceError", "DeviceFailed", "DeviceLost", "Dropped",
    "Error", "Exists", "Forked", "Frozen", "Interrupted", "Invalid", "Job", "LeaseLost",
    "MapError", "NoDevice", "NoService", "NotFound", "OutOfDeviceMemory", "OutOfMemory",
    "OutOfRange", "Part", "PermissionDenied", "ProtocolError", "QuotaExceeded", "ServiceGone",
    "Slice", "StalePool", "SystemFailed", "Table", "Timeout", "TooMany", "TooManyFiles",
    "Torn", "TypeMismatch", "Unsupported", "VersionMismatch", "WrongState", "create", "drop",
    "from_pandas", "get_include", "get_library_dir", "get_service_path", "is_shared",
    "list_tables", "open", "rename",
    "temporary",
]  # fmt: skip
