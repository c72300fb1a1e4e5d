# SPDX-License-Identifier: Apache-2.0
"""Device copies of a table's columns: `Table.device`, brackets on them, streams, raw handles.

What is open on a device belongs to the table (`opened.py`); `Device` and `DeviceColumn` are
made anew at every look and hold nothing themselves.

Processes: nothing here survives fork(): Forked in the child, which may open "host" again. GPU
workers are started by spawn or exec.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, SupportsIndex

from .. import _native
from .._base.errors import Exists, Invalid, TypeMismatch
from .._table.rows import RowsLike, name_list, span
from .bracket import Bracket, Stream, stays_here
from .opened import Opened

if TYPE_CHECKING:
    from .._table.column import Field
    from .._table.table import Table

_KINDS = {None: 0, "vmm": _native.COPY_VMM, "ipc": _native.COPY_IPC}
_KIND_NAMES = {number: name for name, number in _KINDS.items() if name is not None}
_NO_OFFSET = 2**64 - 1


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What a device is and can do. Sizes in bytes; budget 0: no limit."""

    name: str
    is_cuda: bool
    uuid: str
    memory: int
    free: int
    pinned: int
    budget: int
    can_vmm: bool
    can_ipc: bool
    can_map_host: bool
    driver_version: int
    ordinal: int  # of the GPU in this process, as cudaSetDevice counts; -1 for "host"


@dataclass(slots=True)
class DeviceHandle:
    """A device copy's memory for code that does not know this package. Offsets in bytes.

    kind "vmm": `fd` is a descriptor, closed by `close()` or the end of a `with` block; "ipc":
    `ipc` is a cudaIpcMemHandle_t. `generation` tells one allocation from the next.
    """

    kind: str
    uuid: str
    generation: int
    nbytes: int
    values_offset: int
    validity_offset: int | None
    fd: int | None
    ipc: bytes | None

    def close(self) -> None:
        """Close the descriptor. Twice is allowed."""
        fd, self.fd = self.fd, None
        if fd is not None:
            os.close(fd)

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        if self.fd is not None:
            raise TypeError(
                "a descriptor means nothing in another process: send it over a Unix socket "
                '(socket.send_fds), or use a copy of kind "ipc"'
            )
        return object.__reduce_ex__(self, protocol)  # super() is of the class without slots

    def __enter__(self) -> DeviceHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def device_name(device: str | bytes) -> str:
    """The library's name of a device: "host", "cuda:NUMBER" or "cuda:UUID"."""
    if isinstance(device, (bytes, bytearray)) and len(device) == 16:
        return "cuda:" + bytes(device).hex()
    if not isinstance(device, str):
        raise Invalid(f'a device is "host", "cuda:NUMBER", or a UUID, not {device!r}')
    if device == "host" or device.startswith("cuda:"):
        return device
    if device == "cuda":
        return "cuda:0"
    digits = device.removeprefix("GPU-").replace("-", "")
    if len(digits) == 32:
        with contextlib.suppress(ValueError):
            return "cuda:" + bytes.fromhex(digits).hex()
    return device  # the library says what there is


def device_of(table: Table, device: str | bytes) -> Device:
    """Table.device: opened once for a table and process."""
    name = device_name(device)
    opened = table._devices.get(name)
    if opened is None or opened.pid != os.getpid() or opened.native.closed:
        if table.closed:
            raise ValueError("the table is closed")
        opened = Opened(table._native, name)
        kept = table._devices.setdefault(name, opened)
        if kept is not opened and (kept.pid != opened.pid or kept.native.closed):
            table._devices[name] = opened
        elif kept is not opened:
            opened.close()
            opened = kept
    return Device(table, opened)


# ---- the user's side


class Device:
    """A device, for one table: `t.device("cuda:0")["x"]` is the device copy of column x."""

    __slots__ = ("_opened", "_table")

    def __init__(self, table: Table, opened: Opened) -> None:
        self._table = table
        self._opened = opened

    @property
    def name(self) -> str:
        """As it was opened: "host", "cuda:0"."""
        return self._opened.name

    @property
    def is_cuda(self) -> bool:
        """True for a GPU."""
        return bool(self._opened.native.is_cuda)

    @property
    def table(self) -> Table:
        """The table whose columns it has."""
        return self._table

    def __getitem__(self, column: str) -> DeviceColumn:
        """The device copy of a column; opened when it is first used. TypeMismatch for text."""
        field = self._table._field(column)
        if field.spec.type == _native.TEXT:
            raise TypeMismatch(f"column {column!r}: text has no device copies")
        return DeviceColumn(self, column, field)

    def begin(
        self,
        columns: str | Sequence[str],
        rows: RowsLike = None,
        access: str = "r",
        stream: Any = None,
        timeout: float | None = None,
    ) -> Bracket:
        """Context manager: rows of several columns, all or none. Gives a dict of DeviceArrays.

        As `DeviceColumn.begin`, which see. Nothing is held while it waits, so two such brackets on
        the same columns do not wait for each other.
        """
        names = name_list(columns)
        if not names:
            raise Invalid("a bracket is on one column or more")
        chosen = [self[name] for name in names]
        return Bracket(self, chosen, rows, access, stream, timeout, single=False)

    def stream(self) -> Stream:
        """A stream of its own."""
        return Stream(self._opened.native)

    def info(self) -> DeviceInfo:
        """What it is and can do, and its memory now."""
        facts = self._opened.native.info()
        facts["uuid"] = facts["uuid"].hex()
        return DeviceInfo(**facts)

    def pin(self, progress: Callable[[int, int], object] | None = None) -> None:
        """Register the table's host memory, so that copies run at full speed. Counted.

        progress: called with (bytes done, bytes) between pieces of at most 1 GiB, on this thread;
        it must not use the device. Ctrl-C and what it raises stop, and nothing stays pinned.

        Raises QuotaExceeded over $PINTABLE_PIN_BYTES, DeviceFailed when the driver refuses.
        """
        self._opened.native.pin(self._table._native, progress)

    def unpin(self) -> None:
        """Once for each pin. Raises WrongState if it is not pinned."""
        self._opened.native.unpin(self._table._native)

    def close(self) -> None:
        """Close its copies in this process; arrays made of them stay valid. Opens again when
        asked for."""
        self._opened.close()

    def __reduce__(self) -> Any:
        raise stays_here("device")

    def __repr__(self) -> str:
        return f"<pintable.Device {self.name!r} of {self._table!r}>"


class DeviceColumn:
    """The device copy of a column: shared by all processes that use the device, and kept coherent
    with the host chunk by chunk. Only stale chunks are moved."""

    __slots__ = ("_device", "_field", "_name")

    def __init__(self, device: Device, name: str, field: Field) -> None:
        self._device = device
        self._name = name
        self._field = field

    def _copy(self, write: bool = False, kind: int = 0) -> Any:
        return self._device._opened.copy(self._field.native, write, kind)

    def _any(self) -> Any:
        """A handle that is open already, if there is one, or else one to read."""
        found = self._device._opened.open_copy(self._field.native)
        return self._copy() if found is None else found

    # ---- facts

    @property
    def name(self) -> str:
        """Name of the column."""
        return self._name

    @property
    def device(self) -> Device:
        """The device."""
        return self._device

    @property
    def nbytes(self) -> int:
        """Bytes of device memory. Opens the copy."""
        return self._any().nbytes

    @property
    def kind(self) -> str:
        """How it is shared: "vmm" (by descriptor) or "ipc". Opens the copy."""
        return _KIND_NAMES[self._any().kind]

    @property
    def generation(self) -> int:
        """Number of the allocation, never used again. Opens the copy."""
        return self._any().generation

    @property
    def moved(self) -> tuple[int, int]:
        """Bytes this table object has moved (to the device, to the host). Opens nothing."""
        opened = self._device._opened
        name = self._field.native.name
        to_device, to_host = opened.moved.get(name, (0, 0))
        for write in (False, True):
            found = opened.copies.get((name, write))
            if found is not None and not found.closed:
                more = found.moved()
                to_device, to_host = to_device + more[0], to_host + more[1]
        return to_device, to_host

    def places(self, chunk: int) -> frozenset[str]:
        """Where the newest bytes of a chunk are: of {"host", "device"}, here this device. Empty:
        on another device, or torn. Opens the copy."""
        bits = self._any().places(self._device._table[self._name]._chunk(chunk))
        return frozenset(
            name for bit, name in ((1, "host"), (2, "device")) if bits & bit
        )  # fmt: skip

    # ---- life

    def open(
        self, kind: str | None = None, *, write: bool | None = None, create: bool = True
    ) -> DeviceColumn:
        """Open the copy now; makes it if nobody has.

        Parameters
        ----------
        kind : {"vmm", "ipc"}, optional
            How one that is made is shared; None: as it is there, else "vmm".
        write : bool, optional
            None: as the table was opened.
        create : bool
            False: NotFound if there is none.

        Raises Exists (one of another kind is there), QuotaExceeded, OutOfDeviceMemory.
        """
        if kind not in _KINDS:
            raise Invalid(f'kind must be "vmm" or "ipc", not {kind!r}')
        writes = self._device._table.writable if write is None else write
        if not create:
            found = self._copy(writes, _native.COPY_EXISTING)
            if kind is not None and found.kind != _KINDS[kind]:
                raise Exists(f"column {self._name!r} has a copy of kind {_KIND_NAMES[found.kind]}")
        else:
            self._copy(writes, _KINDS[kind])
        return self

    def close(self) -> None:
        """Close it in this process. The device memory stays; arrays made of it stay valid."""
        self._device._opened.forget(self._field.native.name)

    def drop(self) -> None:
        """Bring what is newer on the device to the host, and drop the copy for everybody.

        Those who have it open keep the memory until they close it. Raises Busy.
        """
        self._copy(self._device._table.writable).drop()
        self.close()

    def discard(self) -> None:
        """Drop the copy for everybody at any price, without opening it: for memory that is lost, as
        after a reset of the GPU.

        Chunks that were newest there alone are torn afterwards; blocks on it publish nothing.
        Raises NotFound if there is no copy.
        """
        self._device._opened.native.discard_copy(self._field.native)
        self.close()

    # ---- work

    def begin(
        self,
        rows: RowsLike = None,
        access: str = "r",
        stream: Any = None,
        timeout: float | None = None,
    ) -> Bracket:
        """Context manager: take rows for work on a stream. Gives a DeviceArray of them.

        Stale chunks are brought first. At the end of the block the rows are given back once the
        stream has come to that point; the block's end does not wait. With "w" or "rw" the device
        then has the newest values, and others see them. An exception gives the rows back as they
        were, from the host where it has them; otherwise they are torn. On "host" the block's own
        work is the work: the array is ready when the block begins.

        Parameters
        ----------
        rows : slice, range or (first, end), optional
            None: all. Rights are on whole chunks.
        access : {"r", "rw", "w"}
            Readers share a chunk, a writer has it alone. "w": every row, value and validity, will
            be written; nothing is brought. Rows must then be whole chunks (Invalid).
        stream : int, torch or CuPy stream, or one with __cuda_stream__, optional
            None: the default stream on a GPU.
        timeout : float, optional
            Seconds to wait for other holders; None: no limit; 0: do not wait.

        Raises
        ------
        Busy, Timeout
            Another holds a chunk; at once if that is a block of this thread.
        Torn, Frozen, PermissionDenied, DeviceFailed, OutOfDeviceMemory, QuotaExceeded
        """
        return Bracket(self._device, [self], rows, access, stream, timeout, single=True)

    def to_host(self, rows: RowsLike = None, timeout: float | None = None) -> int:
        """Bring chunks that are newer on the device to the host; bytes copied. Waits for it, and
        for work on streams that was given back. timeout: seconds; None: no limit."""
        first, n = span(rows, self._device._table.rows)
        return self._copy(self._device._table.writable).to_host(first, n, timeout) if n else 0

    def wait(self, rows: RowsLike = None, timeout: float | None = None) -> None:
        """Wait until blocks of this process on these rows that are over have come to pass: their
        streams are past the end, and other processes find what was written.

        Whether the work succeeded, the stream says. timeout: seconds; None: no limit. Raises
        Timeout. Opens nothing.
        """
        first, n = span(rows, self._device._table.rows)
        found = self._device._opened.open_copy(self._field.native)
        if n and found is not None:
            found.wait(first, n, timeout)

    def own_host(self, rows: RowsLike = None, timeout: float | None = None) -> None:
        """Before rows are stored plainly on the host (`column[a:b] = values`, not under a lease):
        bring what is newer here and take the rows off all devices."""
        first, n = span(rows, self._device._table.rows)
        if n:
            self._device._table._check_writable()
            self._copy(True).own_host(first, n, timeout)

    def handle(self) -> DeviceHandle:
        """The raw handle of its memory, for code that does not know this package. Close it.

        Reading it is safe inside brackets, one's own or those of a process that helps.
        """
        kind, uuid, generation, nbytes, values, validity, fd, ipc = self._any().export()
        is_vmm = kind == _native.COPY_VMM
        return DeviceHandle(
            _KIND_NAMES[kind], uuid.hex(), generation, nbytes, values,
            None if validity == _NO_OFFSET else validity, fd if is_vmm else None,
            None if is_vmm else ipc,
        )  # fmt: skip

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        raise TypeError(
            f"column {self._name!r} on a device is an array inside a block: see begin()"
        )

    def __reduce__(self) -> Any:
        raise stays_here("column on a device")

    def __repr__(self) -> str:
        return f"<pintable.DeviceColumn {self._name!r} on {self._device!r}>"
