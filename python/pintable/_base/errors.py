# SPDX-License-Identifier: Apache-2.0
"""Exceptions: one class for each status of the C library, under `Error`.

Every one carries `.status` (the number in pintable/status.h), `.name` ("E_BUSY") and `.errno` (of
the system call behind it, or 0). They pickle, notes included, so that a worker's error arrives
whole.
"""

from __future__ import annotations

from typing import Any


class CopyWarning(UserWarning):
    """Data of a table were copied where the caller may have expected to share them."""


class Error(Exception):
    """Base of all errors of this package; itself raised for a status that has no class."""

    status: int = 0
    name: str = "unknown status"
    errno: int

    def __init__(self, message: str = "", status: int | None = None, errno: int = 0) -> None:
        # Not OSError.__init__: it would read the arguments as (errno, strerror, filename).
        Exception.__init__(self, message)
        if status is not None and status != type(self).status:
            self.status = status
            self.name = _NAMES.get(status, Error.name)
        self.errno = errno

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""

    def __reduce__(self) -> tuple[Any, ...]:
        state = {key: value for key, value in self.__dict__.items() if key != "errno"}
        return type(self), (str(self), self.status, self.errno), state


class Invalid(Error, ValueError):
    """An argument is not valid."""

    status, name = -1, "E_INVALID"


class OutOfRange(Error, ValueError):
    """A value is outside its range or limit."""

    status, name = -2, "E_RANGE"


class NotFound(Error, LookupError):
    """No such table, column, job or pool."""

    status, name = -3, "E_NOT_FOUND"


class Exists(Error):
    """The name is taken."""

    status, name = -4, "E_EXISTS"


class PermissionDenied(Error, PermissionError):  # type: ignore[misc]  # errno is an int
    """Not permitted: read-only handle or pool, or another user's table."""

    status, name = -5, "E_PERMISSION"


class TypeMismatch(Error, TypeError):
    """The type of a column does not allow this, or does not hold these values."""

    status, name = -6, "E_TYPE"


class Busy(Error):
    """A chunk is leased to another holder."""

    status, name = -7, "E_BUSY"


class Timeout(Error, TimeoutError):  # type: ignore[misc]  # errno is an int
    """The time given was not enough."""

    status, name = -8, "E_TIMEOUT"


class Changed(Error):
    """The data changed while they were read: read again."""

    status, name = -9, "E_CHANGED"


class Frozen(Error):
    """The table is frozen."""

    status, name = -10, "E_FROZEN"


class Unsupported(Error, NotImplementedError):
    """Not supported here."""

    status, name = -11, "E_UNSUPPORTED"


class OutOfMemory(Error, MemoryError):
    """The machine refused the memory."""

    status, name = -80, "E_NO_MEMORY"


class QuotaExceeded(OutOfMemory):
    """The byte budget of the pool or of the user does not allow it."""

    status, name = -12, "E_QUOTA"


class WrongState(Error):
    """Not possible in this state."""

    status, name = -13, "E_STATE"


class TooMany(Error):
    """Too many of a thing."""

    status, name = -14, "E_LIMIT"


class Interrupted(Error):
    """Interrupted by a signal."""

    status, name = -15, "E_INTERRUPTED"


class Torn(Error):
    """A writer died inside this chunk and its bytes cannot be trusted; see `Column.recover`."""

    status, name = -20, "E_TORN"


class Dropped(Error):
    """The table was dropped."""

    status, name = -21, "E_DROPPED"


class Corrupt(Error):
    """Shared memory holds a value that cannot be."""

    status, name = -22, "E_CORRUPT"


class LeaseLost(Error):
    """The lease is not held any more."""

    status, name = -23, "E_LEASE_LOST"


class ServiceGone(Error, ConnectionError):  # type: ignore[misc]  # errno is an int
    """The service is gone; mapped data stay usable."""

    status, name = -40, "E_GONE"


class ProtocolError(ServiceGone):
    """The service sent something that is not the protocol."""

    status, name = -41, "E_PROTOCOL"


class VersionMismatch(ServiceGone):
    """Library and service speak different versions."""

    status, name = -42, "E_VERSION"


class NoService(ServiceGone):
    """No service runs at this address."""

    status, name = -43, "E_NO_SERVICE"


class StalePool(ServiceGone):
    """The pool a handle belongs to is not the one at this address (any more)."""

    status, name = -44, "E_STALE"


class DeviceError(Error):
    """A device, its driver or a device copy; one of the classes below."""


class NoDevice(DeviceError, LookupError):
    """No such device, or no driver that can use it."""

    status, name = -60, "E_NO_DEVICE"


class DeviceFailed(DeviceError):
    """The device's driver refused or failed a call; says which."""

    status, name = -61, "E_DEVICE"


class OutOfDeviceMemory(DeviceError, MemoryError):
    """The device is out of memory."""

    status, name = -62, "E_DEVICE_MEMORY"


class DeviceAhead(DeviceError):
    """The newest data are on a device that this process has not open: one that has it brings them,
    `table.device(...)[column].to_host()`."""

    status, name = -63, "E_DEVICE_AHEAD"


class DeviceLost(DeviceError):
    """The device, its context or the device copy is lost; what the host has is not."""

    status, name = -64, "E_DEVICE_LOST"


class SystemFailed(Error, OSError):  # type: ignore[misc]  # errno is an int
    """A system call failed; see `.errno`."""

    status, name = -81, "E_SYSTEM"


class Forked(Error):
    """The handle belongs to the process before fork()."""

    status, name = -82, "E_FORKED"


class TooManyFiles(Error):
    """Out of file descriptors."""

    status, name = -83, "E_FD_LIMIT"


class Again(Error):
    """This process itself holds the only chunks left of a job: finish them first."""

    status, name = 2, "AGAIN"


class MapError(Error):
    """A chunk of `Table.map` could not be done and there is no exception of the function to raise.

    Attributes
    ----------
    rows : range
        The rows concerned.
    """

    rows: range = range(0)


_CLASSES: tuple[type[Error], ...] = (
    Invalid, OutOfRange, NotFound, Exists, PermissionDenied, TypeMismatch, Busy, Timeout, Changed,
    Frozen, Unsupported, OutOfMemory, QuotaExceeded, WrongState, TooMany, Interrupted, Torn,
    Dropped, Corrupt, LeaseLost, ServiceGone, ProtocolError, VersionMismatch, NoService, StalePool,
    NoDevice, DeviceFailed, OutOfDeviceMemory, DeviceAhead, DeviceLost, SystemFailed, Forked,
    TooManyFiles, Again,
)  # fmt: skip
_NAMES: dict[int, str] = {cls.status: cls.name for cls in _CLASSES}


def by_status() -> dict[int, type[Error]]:
    """Class of each status number, for the extension module."""
    return {cls.status: cls for cls in _CLASSES}
