# SPDX-License-Identifier: Apache-2.0
# The public names, those found on first use too; their types are in the modules themselves.

from ._base.errors import (
    Again as Again,
)
from ._base.errors import (
    Busy as Busy,
)
from ._base.errors import (
    Changed as Changed,
)
from ._base.errors import (
    CopyWarning as CopyWarning,
)
from ._base.errors import (
    Corrupt as Corrupt,
)
from ._base.errors import (
    DeviceAhead as DeviceAhead,
)
from ._base.errors import (
    DeviceError as DeviceError,
)
from ._base.errors import (
    DeviceFailed as DeviceFailed,
)
from ._base.errors import (
    DeviceLost as DeviceLost,
)
from ._base.errors import (
    Dropped as Dropped,
)
from ._base.errors import (
    Error as Error,
)
from ._base.errors import (
    Exists as Exists,
)
from ._base.errors import (
    Forked as Forked,
)
from ._base.errors import (
    Frozen as Frozen,
)
from ._base.errors import (
    Interrupted as Interrupted,
)
from ._base.errors import (
    Invalid as Invalid,
)
from ._base.errors import (
    LeaseLost as LeaseLost,
)
from ._base.errors import (
    MapError as MapError,
)
from ._base.errors import (
    NoDevice as NoDevice,
)
from ._base.errors import (
    NoService as NoService,
)
from ._base.errors import (
    NotFound as NotFound,
)
from ._base.errors import (
    OutOfDeviceMemory as OutOfDeviceMemory,
)
from ._base.errors import (
    OutOfMemory as OutOfMemory,
)
from ._base.errors import (
    OutOfRange as OutOfRange,
)
from ._base.errors import (
    PermissionDenied as PermissionDenied,
)
from ._base.errors import (
    ProtocolError as ProtocolError,
)
from ._base.errors import (
    QuotaExceeded as QuotaExceeded,
)
from ._base.errors import (
    ServiceGone as ServiceGone,
)
from ._base.errors import (
    StalePool as StalePool,
)
from ._base.errors import (
    SystemFailed as SystemFailed,
)
from ._base.errors import (
    Timeout as Timeout,
)
from ._base.errors import (
    TooMany as TooMany,
)
from ._base.errors import (
    TooManyFiles as TooManyFiles,
)
from ._base.errors import (
    Torn as Torn,
)
from ._base.errors import (
    TypeMismatch as TypeMismatch,
)
from ._base.errors import (
    Unsupported as Unsupported,
)
from ._base.errors import (
    VersionMismatch as VersionMismatch,
)
from ._base.errors import (
    WrongState as WrongState,
)
from ._base.paths import get_include as get_include
from ._base.paths import get_library_dir as get_library_dir
from ._base.paths import get_service_path as get_service_path
from ._base.pool import drop as drop
from ._base.pool import list_tables as list_tables
from ._base.pool import rename as rename
from ._device.array import DeviceArray as DeviceArray
from ._device.device import Device as Device
from ._device.device import DeviceColumn as DeviceColumn
from ._frame.shared import is_shared as is_shared
from ._table.column import Column as Column
from ._table.job import Job as Job
from ._table.part import Part as Part
from ._table.rows import Slice as Slice
from ._table.table import Table as Table
from ._table.table import create as create
from ._table.table import from_pandas as from_pandas
from ._table.table import open as open
from ._table.temporary import temporary as temporary

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
