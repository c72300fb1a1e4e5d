# SPDX-License-Identifier: Apache-2.0
"""Rows of a device copy while they are held: what array packages make their arrays of.

Lifecycle: usable inside the bracket's block; afterwards everything raises WrongState. Arrays made
meanwhile keep the device memory open, so a late use of one cannot crash, but what it finds there
means nothing: others write to it. The DeviceArray itself keeps it only if it was asked for
`__cuda_array_interface__`, whose consumers refer to the object and not to the memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import _native as N
from .._base.errors import Unsupported, WrongState
from .._base.types import CODE, Spec

if TYPE_CHECKING:
    import numpy as np

_KDL_CPU, _KDL_CUDA = 1, 2
_DL_INT, _DL_UINT, _DL_FLOAT, _DL_BOOL = 0, 1, 2, 6
_DL_CODE = {"i": _DL_INT, "u": _DL_UINT, "f": _DL_FLOAT, "b": _DL_BOOL}

_TYPESTR = {  # of struct's codes; every machine this runs on is little-endian
    "?": "|b1", "b": "|i1", "h": "<i2", "i": "<i4", "q": "<i8", "B": "|u1", "H": "<u2", "I": "<u4",
    "Q": "<u8", "e": "<f2", "f": "<f4", "d": "<f8",
}  # fmt: skip

BYTES = Spec(N.UINT8)


def layout(spec: Spec, first: int, n_rows: int) -> tuple[int, tuple[int, ...], str]:
    """(first byte, shape, type string) of rows in a values buffer.

    Type strings are numpy's: "<f8". Timestamps are int64, dates int32 days, categories codes,
    binary rows of uint8, bits the bytes that hold them.
    """
    if spec.type == N.BOOL:
        begin, end = first // 8, (first + n_rows + 7) // 8
        return begin, ((end - begin) if n_rows else 0,), "|u1"
    if spec.type == N.TIMESTAMP:
        return first * 8, (n_rows,), "<i8"
    if spec.type == N.BINARY_FIXED:
        return first * spec.width_bytes, (n_rows, spec.width_bytes), "|u1"
    text = _TYPESTR[CODE[spec.item_type or spec.type]]
    width = spec.list_length or 1
    shape = (n_rows, width) if spec.list_length else (n_rows,)
    return first * width * int(text[2:]), shape, text


class DeviceArray:
    """Rows of a device copy, held by a bracket. Made by `DeviceColumn.begin`.

    Takes part in `__cuda_array_interface__` (GPUs) and DLPack, so `torch.from_dlpack(c)`,
    `cupy.asarray(c)` and the like work without a copy; on "host" there is `numpy()`.

    Threads: any, inside the block.
    """

    __slots__ = (
        "__weakref__", "_device", "_device_id", "_first", "_given", "_is_open", "_is_referred",
        "_memory", "_n_rows", "_nbytes", "_on_stream", "_readonly", "_shape", "_spec", "_stream",
        "_typestr", "_validity",
    )  # fmt: skip

    def __init__(
        self,
        device: Any,
        memory: Any,
        validity: Any,
        spec: Spec,
        first: int,
        n_rows: int,
        stream: int,
        device_id: Callable[[], int],
        on_stream: Callable[[int], None],
    ) -> None:
        """memory and validity: native; on_stream: called with a consumer's stream that differs."""
        self._device = device
        self._memory = memory  # None when the block is over and nobody refers to it through us
        self._nbytes: int = memory.nbytes
        self._readonly: bool = memory.readonly
        self._is_referred = False
        self._spec = spec
        self._first = first
        self._n_rows = n_rows
        self._stream = stream
        self._device_id = device_id
        self._on_stream = on_stream
        self._is_open = True
        self._given: list[Any] = []  # numpy arrays: read-only once the block is over
        _, self._shape, self._typestr = layout(spec, first, n_rows)
        self._validity: DeviceArray | None = None
        if validity is not None:
            begin, end = first // 8, (first + n_rows + 7) // 8
            self._validity = DeviceArray(
                device, validity, None, BYTES, begin, end - begin if n_rows else 0, stream,
                device_id, on_stream,
            )  # fmt: skip

    def __reduce__(self) -> Any:
        raise TypeError(
            "an array on a device belongs to its block: pass the table, or a copy of it"
        )

    def _check_open(self) -> None:
        if not self._is_open:
            raise WrongState("these rows are not held on the device any more: their block is over")

    def _close(self) -> None:
        self._is_open = False
        given, self._given = self._given, []
        for array in given:
            array.flags.writeable = False
        if not self._is_referred:
            self._memory = None
        # The bracket refers to us; and what is open on the device closes with its table.
        self._on_stream = self._device_id = _not_held
        if self._validity is not None:
            self._validity._close()

    # ---- facts

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows,), or (rows, width) for lists and binary; (bytes,) for bits."""
        return self._shape

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self._shape)

    @property
    def dtype(self) -> str:
        """Type of an item as numpy writes it, "<f8". Timestamps "<i8", dates "<i4", codes ints."""
        return self._typestr

    @property
    def nbytes(self) -> int:
        """Bytes of these rows."""
        return self._nbytes

    @property
    def readonly(self) -> bool:
        """True when the bracket is one to read."""
        return self._readonly

    @property
    def rows(self) -> range:
        """The rows in the table."""
        return range(self._first, self._first + self._n_rows)

    def __len__(self) -> int:
        return self._shape[0]

    @property
    def address(self) -> int:
        """Device address of the first item; on "host" one of this process."""
        self._check_open()
        return self._memory.address

    @property
    def stream(self) -> int:
        """The stream of the bracket: work enqueued there finds and leaves the rows in order."""
        return self._stream

    @property
    def validity(self) -> DeviceArray | None:
        """The bitmap of these rows as bytes (1: there, 0: null), or None if not nullable.

        The first row is bit `bit_offset` of the first byte.
        """
        self._check_open()
        return self._validity

    @property
    def validity_address(self) -> int | None:
        """Device address of the byte with the first row's validity bit, or None."""
        found = self.validity
        return None if found is None else found.address

    @property
    def bit_offset(self) -> int:
        """Bit of the first row in the first byte, of validity and of bit columns."""
        return self._first % 8

    # ---- on "host"

    def numpy(self) -> np.ndarray:
        """The rows as a numpy array on the device memory. "host" only; Unsupported on a GPU.

        Read-only in a bracket to read, and, as far as it was not derived from, after the block.
        """
        self._check_open()
        if self._device.is_cuda:
            raise Unsupported("memory of a GPU is no numpy array: use DLPack, or to_host()")
        import numpy as np

        dtype = np.dtype(self._typestr)
        n = 1
        for size in self._shape:
            n *= size
        if n == 0:
            found = np.empty(self._shape, dtype)
            found.flags.writeable = not self.readonly
        else:
            found = np.frombuffer(self._memory, dtype, n).reshape(self._shape)
        if self._spec.type == N.TIMESTAMP:
            found = found.view(self._spec.dtype())
        if found.flags.writeable:
            self._given.append(found)
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """`numpy.asarray(c)`: as `numpy()`. TypeError on a GPU, whose memory numpy cannot reach."""
        if self._device.is_cuda:
            raise TypeError(
                "rows on a GPU do not become a numpy array by themselves: cupy.asarray(c) or "
                "torch.from_dlpack(c) has them there; to_host() brings them to the table"
            )
        found = self.numpy()
        if dtype is not None and found.dtype != dtype:
            if copy is False:
                raise ValueError(f"a copy is needed to make {dtype} of {found.dtype}")
            return found.astype(dtype)
        return found.copy() if copy else found

    def memoryview(self) -> memoryview:
        """The bytes of the rows. "host" only: BufferError on a GPU. Does not need numpy."""
        self._check_open()
        return memoryview(self._memory)

    # ---- protocols

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3. Its stream is the bracket's: work must be enqueued there, or behind it and
        be over before the block is."""
        if not self._device.is_cuda:
            raise AttributeError("__cuda_array_interface__: this is not memory of a GPU")
        self._check_open()
        self._is_referred = True
        return {
            "shape": self._shape,
            "typestr": self._typestr,
            "data": (self._memory.address if self._nbytes else 0, self.readonly),
            "strides": None,
            "stream": canonical(self._stream),
            "version": 3,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        """(kDLCUDA, ordinal in this process), or (kDLCPU, 0) on "host"."""
        self._check_open()
        if self._device.is_cuda:
            return _KDL_CUDA, self._device_id()
        return _KDL_CPU, 0

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """A DLPack capsule, versioned where the consumer takes it.

        stream: the consumer's; one that is not the bracket's is served too: this call waits for
        the bracket's stream, the end of the block for the consumer's. -1: neither.
        copy: True makes one, on "host" alone.

        Raises BufferError for another device and for a copy on a GPU, and on "host" for rows that
        may only be read if the consumer's DLPack has no way to say so.
        """
        self._check_open()
        here = self.__dlpack_device__()
        if dl_device is not None and tuple(dl_device) != here:
            raise BufferError(f"the rows are on DLPack device {here}, not {tuple(dl_device)}")
        versioned = max_version is not None and max_version[0] >= 1
        if self._device.is_cuda:
            if copy:
                raise BufferError("memory of a GPU is not copied here: let the consumer copy")
            if stream is None or stream >= 0:
                self._on_stream(canonical(stream or 0))
            elif stream != -1:
                raise ValueError(f"stream {stream}: None, a stream's number, or -1 for no order")
        elif stream is not None:
            raise BufferError('device "host" has no streams for DLPack: stream must be None')
        elif self.readonly and not versioned and not copy:
            raise BufferError(
                "rows held to read cannot be passed in DLPack before 1.0, which has no read-only "
                'flag: use access="rw", copy=True, or numpy()'
            )
        kind, bits = self._typestr[1], 8 * int(self._typestr[2:])
        return self._memory.dlpack(
            _DL_CODE[kind], bits, self._shape, here[1], versioned, copy=bool(copy)
        )

    def __repr__(self) -> str:
        state = "" if self._is_open else ", not held any more"
        return f"<pintable.DeviceArray {self._typestr} {self._shape}{state}>"


def _not_held(*_: int) -> Any:
    """In the place of the bracket's functions when the block is over; nothing calls it then."""


def canonical(stream: int) -> int:
    """The legacy default stream has two numbers in CUDA, 0 and 1; protocols use 1."""
    return stream or 1
