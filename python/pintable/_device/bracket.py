# SPDX-License-Identifier: Apache-2.0
"""Brackets on device copies, and the streams they are on.

A bracket holds rows of one column or several from the begin of its block to the end; the native
part of it, which gives the rows back if the block is never left, is `_native.DeviceBracket`.
"""

from __future__ import annotations

import contextlib
import ctypes
import operator
import threading
from typing import TYPE_CHECKING, Any

from .. import _native
from .._base.errors import DeviceLost, Error, Invalid, TypeMismatch, WrongState
from .._base.types import Spec
from .._table.rows import RowsLike, span
from .array import DeviceArray, canonical, layout

if TYPE_CHECKING:
    from .device import Device, DeviceColumn
    from .opened import Opened

_ACCESS = {"r": _native.READ, "w": _native.WRITE, "rw": _native.READ | _native.WRITE}


def stays_here(what: str) -> TypeError:
    """For pickle: what it is of, travels."""
    return TypeError(
        f"a {what} belongs to this process: pass the table, and ask it for the device there"
    )


class Stream:
    """A stream of ours, made by `Device.stream`: work on it runs in order.

    `ptr` is its number, on a GPU a CUstream: `cupy.cuda.ExternalStream(s.ptr)`,
    `torch.cuda.ExternalStream(s.ptr)`. Destroyed when forgotten, after its work.
    """

    __slots__ = ("__weakref__", "_device", "ptr")

    def __init__(self, device: Any) -> None:
        self._device: Any = None
        self.ptr: int = device.stream_create()
        self._device = device

    def wait(self) -> None:
        """Wait for all work enqueued so far. Raises DeviceFailed if it failed."""
        self._device.stream_wait(self.ptr)

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.ptr

    def __reduce__(self) -> Any:
        raise stays_here("stream")

    def __del__(self) -> None:
        device, self._device = self._device, None
        if device is not None:
            device.stream_destroy(self.ptr)


def _number_in(stream: Any) -> Any:
    """What an object says its number is: the protocol first, then attributes of older packages."""
    protocol = getattr(stream, "__cuda_stream__", None)
    if protocol is not None:
        version, found = protocol() if callable(protocol) else protocol
        if version != 0:
            raise Invalid(f"version {version!r} of __cuda_stream__ is not known here")
        return found
    for name in ("cuda_stream", "ptr", "native_handle"):
        found = getattr(stream, name, None)
        if found is not None:
            return found
    handle = getattr(stream, "handle", None)  # numba's own
    if isinstance(handle, ctypes.c_void_p):
        return handle.value or 0
    return stream


def stream_number(stream: Any) -> int:
    """The number of a stream: an int, torch's or CuPy's object, or one with __cuda_stream__."""
    try:
        number = operator.index(_number_in(stream))
    except (TypeError, RuntimeError):  # RuntimeError: native_handle of a torch.Stream of CPUs
        raise TypeMismatch(
            "a stream is a number, or an object of torch, CuPy, numba or with __cuda_stream__, not "
            f"{stream!r}"
        ) from None
    if number < 0:
        raise Invalid(f"stream {number}: numbers of streams are not negative")
    return number


class Bracket:
    """Context manager of `DeviceColumn.begin` and `Device.begin`; entered once."""

    __slots__ = (
        "__weakref__", "_access", "_arrays", "_chosen", "_device", "_first", "_foreign", "_held",
        "_holder", "_keep", "_n", "_single", "_stream", "_timeout",
    )  # fmt: skip

    def __init__(
        self,
        device: Device,
        chosen: list[DeviceColumn],
        rows: RowsLike,
        access: str,
        stream: Any,
        timeout: float | None,
        *,
        single: bool,
    ) -> None:
        if access not in _ACCESS:
            raise Invalid(f'access must be "r", "w" or "rw", not {access!r}')
        table = device._table
        first, n = span(rows, table.rows)
        if access == "w":
            end, size = first + n, table.chunk_rows
            if first % size or (end % size and end != table.rows):
                raise Invalid(
                    f'access "w" rewrites whole chunks of {size} rows: rows {first} to {end} are '
                    'not; use "rw"'
                )
        self._access = _ACCESS[access]
        self._chosen = sorted(chosen, key=lambda column: column._field.native.index)
        self._device, self._first, self._n, self._timeout = device, first, n, timeout
        self._keep = stream  # its object, for as long as the bracket
        self._stream = None if stream is None else stream_number(stream)
        self._single = single
        self._held: Any = None  # the native bracket
        self._holder = 0  # the thread that entered
        self._foreign: set[int] = set()  # streams of consumers
        self._arrays: dict[str, DeviceArray] | None = None

    @property
    def _writes(self) -> bool:
        return bool(self._access & _native.WRITE)

    def __reduce__(self) -> Any:
        raise stays_here("block on a device")

    def __enter__(self) -> Any:
        if self._arrays is not None:
            raise WrongState("a bracket is entered once: begin another")
        self._arrays = {}
        opened = self._device._opened
        if self._writes:
            self._device._table._check_writable()
        if self._stream is None:
            self._keep = opened.stream()
            self._stream = stream_number(self._keep)
        try:
            copies = self._take(opened)
            for column, copy in zip(self._chosen, copies, strict=True):
                self._arrays[column._name] = self._array(opened, copy, column._field.spec)
            if not opened.native.is_cuda:
                opened.native.stream_wait(self._stream)  # the block runs here, not on the stream
        except BaseException:
            with contextlib.suppress(Error):
                self._over(publishes=self._access != _native.WRITE)
            raise
        return self._arrays[self._chosen[0]._name] if self._single else dict(self._arrays)

    def _take(self, opened: Opened) -> tuple[Any, ...]:
        """Take the rows of all columns or of none. Copies that were dropped by another are opened
        again, once."""
        natives = [column._field.native for column in self._chosen]
        open_before = [column.name for column in natives if opened.open_copy(column) is not None]
        while True:
            copies = tuple(opened.copy(column, self._writes) for column in natives)
            if not self._n:
                return copies
            try:
                self._held = opened.native.begin(
                    copies, self._first, self._n, self._access, self._stream, self._timeout
                )
                if self._writes:
                    self._holder = threading.get_ident()
                    opened.blocks.add(self)
                return copies
            except DeviceLost:
                if not open_before:
                    raise
                for name in open_before:
                    opened.forget(name)
                open_before = []

    def _array(self, opened: Opened, copy: Any, spec: Spec) -> DeviceArray:
        begin, shape, typestr = layout(spec, self._first, self._n)
        n_bytes = int(typestr[2:])
        for size in shape:
            n_bytes *= size
        read_only = not self._writes
        memory = copy.memory(begin, n_bytes, read_only=read_only)
        validity = None
        if spec.nullable:
            first_byte = self._first // 8
            end_byte = (self._first + self._n + 7) // 8 if self._n else first_byte
            validity = copy.memory(
                first_byte, end_byte - first_byte, validity=True, read_only=read_only
            )
        return DeviceArray(
            opened.native, memory, validity, spec, self._first, self._n, self._stream or 0,
            opened.ordinal, self._consumed_on,
        )  # fmt: skip

    def _consumed_on(self, stream: int) -> None:
        """A consumer works on another stream: it starts behind ours, and we end behind it."""
        ours = self._stream or 0
        if stream != canonical(ours):
            self._device._opened.native.stream_wait(ours)
            self._foreign.add(stream)

    def _keeps_out(self, column: str, first: int, end: int) -> bool:
        """Whether this thread writes in these rows in this block, and so would wait for itself."""
        return (
            self._held is not None
            and self._holder == threading.get_ident()
            and self._first < end
            and first < self._first + self._n
            and any(chosen._field.native.name == column for chosen in self._chosen)
        )

    def _over(self, publishes: bool) -> None:
        """Give the rows back. Before anything was written they are as good as ever, but for "w",
        which brought nothing."""
        assert self._arrays is not None
        for array in self._arrays.values():
            array._close()
        self._arrays.clear()
        held, self._held = self._held, None
        self._device._opened.blocks.discard(self)
        try:
            if held is not None and publishes:
                held.end()
            elif held is not None:
                held.cancel()
        finally:
            self._keep = None

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        failed: BaseException | None = None
        try:
            for stream in self._foreign:
                self._device._opened.native.stream_wait(stream)
        except BaseException as error:  # what was written is not known: as a failed stream
            failed = error
        try:
            self._over(publishes=kind is None and failed is None)
        except BaseException as error:
            failed = failed or error
        if failed is not None and kind is None:
            raise failed
