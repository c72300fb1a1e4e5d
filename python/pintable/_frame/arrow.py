# SPDX-License-Identifier: Apache-2.0
"""Columns backed by Arrow: their buffers into shared memory, and shared memory as Arrow arrays.

Imported only where pyarrow is present. Out, an array is built over the table's own buffers
(validity bitmap, values, offsets, text), with no copy; text offsets are validated before Arrow sees
them, since Arrow trusts them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from .. import _native
from .plan import (
    NAT,
    NUMERIC,
    UNITS,
    Copy,
    Plan,
    _meta,
    plan_codes,
    refuse,
)  # fmt: skip

_UNIT_NAMES = {number: name for name, number in UNITS.items()}
_TYPES = {
    _native.INT8: pa.int8(), _native.INT16: pa.int16(), _native.INT32: pa.int32(),
    _native.INT64: pa.int64(), _native.UINT8: pa.uint8(), _native.UINT16: pa.uint16(),
    _native.UINT32: pa.uint32(), _native.UINT64: pa.uint64(), _native.FLOAT16: pa.float16(),
    _native.FLOAT32: pa.float32(), _native.FLOAT64: pa.float64(), _native.BOOL: pa.bool_(),
    _native.DATE32: pa.date32(),
}  # fmt: skip

_OFFSET_MAX = 2**31 - 1  # bytes of text that 32-bit offsets reach

# ---- in: chunks of numpy views -----------------------------------------------------------------


def _chunks(array: Any) -> list[pa.Array]:
    return array.chunks if isinstance(array, pa.ChunkedArray) else [array]


def _mask_of(chunks: list[pa.Array]) -> np.ndarray | None:
    """True where null, over all chunks; None when nothing is."""
    if not any(chunk.null_count for chunk in chunks):
        return None
    return np.concatenate([chunk.is_null().to_numpy(zero_copy_only=False) for chunk in chunks])


def _values_of(chunk: pa.Array, dtype: np.dtype, per_row: int = 1) -> np.ndarray:
    """A view of the values buffer of a chunk: its rows only."""
    buffer = chunk.buffers()[1]
    if buffer is None or not len(chunk):
        return np.empty(0, dtype=dtype)
    first = chunk.offset * per_row
    return np.frombuffer(buffer, dtype=dtype)[first : first + len(chunk) * per_row]


@dataclass(slots=True)
class ArrowText:
    """Chunks of Arrow text (32- or 64-bit offsets), still to be put behind one another."""

    chunks: list[pa.Array]
    mask: np.ndarray | None

    def _offsets(self, chunk: pa.Array) -> np.ndarray:
        dtype = np.dtype("i8" if pa.types.is_large_string(chunk.type) else "i4")
        buffer = chunk.buffers()[1]
        if buffer is None or not len(chunk):
            return np.zeros(1, dtype=dtype)
        return np.frombuffer(buffer, dtype=dtype)[chunk.offset : chunk.offset + len(chunk) + 1]

    def n_bytes(self) -> int:
        """Bytes of text in all chunks."""
        total = 0
        for chunk in self.chunks:
            offsets = self._offsets(chunk)
            total += int(offsets[-1]) - int(offsets[0])
        return total

    def fill(self, column: Any, copy: Copy = np.copyto) -> None:
        """Write all of it into an unpublished column."""
        from .plan import _fill_validity

        n_rows = sum(len(chunk) for chunk in self.chunks)
        _fill_validity(column, n_rows, self.mask)
        to_offsets = np.frombuffer(column.offsets(), dtype="i8")
        to_data = np.frombuffer(column.data(), dtype="u1")
        if len(to_offsets):
            to_offsets[0] = 0
        row = end = 0
        for chunk in self.chunks:
            offsets = self._offsets(chunk)
            first, n_bytes = int(offsets[0]), int(offsets[-1]) - int(offsets[0])
            part = to_offsets[row + 1 : row + 1 + len(chunk)]
            np.add(offsets[1:], end - first, out=part, dtype="i8")
            if n_bytes:
                data = np.frombuffer(chunk.buffers()[2], dtype="u1")
                copy(to_data[end : end + n_bytes], data[first : first + n_bytes])
            row, end = row + len(chunk), end + n_bytes


def plan_text_arrow(array: Any, _label: Any, _dtype: Any, meta: dict[str, Any]) -> Plan:
    """A text column of Arrow strings, large strings or string views."""
    chunks = [
        chunk
        if pa.types.is_string(chunk.type) or pa.types.is_large_string(chunk.type)
        else chunk.cast(pa.large_string())
        for chunk in _chunks(array)
    ]
    text = ArrowText(chunks, _mask_of(chunks))
    n_rows = sum(len(chunk) for chunk in chunks)
    return Plan(_native.TEXT, n_rows, meta, True, data_bytes=max(text.n_bytes(), 1), text=text)


def _plan_dictionary(array: Any, label: Any, dtype: Any, meta: dict[str, Any]) -> Plan:
    of = array.type
    if not (pa.types.is_string(of.value_type) or pa.types.is_large_string(of.value_type)):
        raise refuse(label, dtype, array, None, "a dictionary is stored when its values are text")
    if of.index_type not in (pa.int8(), pa.int16(), pa.int32()):
        raise refuse(label, dtype, array, None, "a dictionary is stored when its indices are int8,"
                     " int16 or int32: cast it")  # fmt: skip
    whole = pa.chunked_array(_chunks(array), type=of).unify_dictionaries().combine_chunks()
    whole = whole.chunk(0) if isinstance(whole, pa.ChunkedArray) and whole.num_chunks else whole
    texts = whole.dictionary.to_pylist() if isinstance(whole, pa.DictionaryArray) else []
    if None in texts or len(set(texts)) != len(texts):
        raise refuse(label, dtype, array, None, "its dictionary has a null or a text twice")
    mask = _mask_of([whole])
    code = np.dtype(f"i{of.index_type.bit_width // 8}")
    codes = _values_of(whole.indices, code) if len(whole) else np.empty(0, code)
    meta["ordered"] = of.ordered
    meta["arrow"] = "string" if pa.types.is_string(of.value_type) else "large_string"
    return plan_codes(codes, texts, meta, np.zeros(len(codes), "?") if mask is None else mask)


def _plan_lists(array: Any, label: Any, dtype: Any, meta: dict[str, Any]) -> Plan:
    of, item = array.type, array.type.value_type
    code = _numpy_code(item)
    if code is None or of.list_size < 1:
        raise refuse(label, dtype, array, None, "a list is stored when its items are numbers")
    pieces, size = [], of.list_size
    for chunk in _chunks(array):
        items = chunk.values.slice(chunk.offset * size, len(chunk) * size)
        if items.null_count and chunk.flatten().null_count:
            why = "a list is stored when no item of it is null"
            raise refuse(label, dtype, array, None, why)
        pieces.append(_values_of(items, np.dtype(code)).reshape(len(chunk), size))
    meta["item"] = [of.value_field.name, of.value_field.nullable]
    return Plan(
        _native.LIST_FIXED, len(array), meta, True, list_length=size, item_type=NUMERIC[code],
        pieces=pieces, mask=_mask_of(_chunks(array)),
    )  # fmt: skip


def _numpy_code(of: pa.DataType) -> str | None:
    """numpy's code of an Arrow number type, or None."""
    kinds = ((pa.types.is_signed_integer, "i"), (pa.types.is_unsigned_integer, "u"),
             (pa.types.is_floating, "f"))  # fmt: skip
    kind = next((kind for test, kind in kinds if test(of)), None)
    return None if kind is None else f"{kind}{of.bit_width // 8}"


def plan_arrow(array: Any, label: Any) -> Plan:
    """How a column of an ArrowDtype is stored; always nullable, since Arrow columns are."""
    dtype, data = array.dtype, array.__arrow_array__()
    of = data.type
    meta = _meta("arrow", dtype)
    chunks, n_rows = _chunks(data), len(data)
    if pa.types.is_string(of) or pa.types.is_large_string(of) or _is_view(of):
        meta["arrow"] = "large_string" if pa.types.is_large_string(of) else str(of)
        return plan_text_arrow(data, label, dtype, meta)
    if pa.types.is_dictionary(of):
        return _plan_dictionary(data, label, dtype, meta)
    if pa.types.is_fixed_size_list(of):
        return _plan_lists(data, label, dtype, meta)
    mask = _mask_of(chunks)
    if pa.types.is_boolean(of):
        pieces = [c.fill_null(False).to_numpy(zero_copy_only=False) for c in chunks]
        return Plan(_native.BOOL, n_rows, meta, True, pieces=pieces, mask=mask)
    code = _numpy_code(of)
    if code is not None:
        pieces = [_values_of(chunk, np.dtype(code)) for chunk in chunks]
        return Plan(NUMERIC[code], n_rows, meta, True, pieces=pieces, mask=mask)
    if pa.types.is_timestamp(of):
        pieces = [_values_of(chunk, np.dtype("i8")) for chunk in chunks]
        return Plan(_native.TIMESTAMP, n_rows, meta, True, UNITS[of.unit], of.tz, pieces=pieces,
                    mask=mask, under_null=NAT)  # fmt: skip
    if pa.types.is_date32(of):
        pieces = [_values_of(chunk, np.dtype("i4")) for chunk in chunks]
        return Plan(_native.DATE32, n_rows, meta, True, pieces=pieces, mask=mask)
    if pa.types.is_fixed_size_binary(of) and of.byte_width > 0:
        width = of.byte_width
        pieces = [_values_of(c, np.dtype("u1"), width).reshape(len(c), width) for c in chunks]
        return Plan(_native.BINARY_FIXED, n_rows, meta, True, width_bytes=width, pieces=pieces,
                    mask=mask)  # fmt: skip
    raise refuse(label, dtype, array, None, "it cannot be stored: cast it with .astype()")


def _is_view(of: pa.DataType) -> bool:
    test = getattr(pa.types, "is_string_view", None)  # pyarrow 16 and newer
    return test is not None and bool(test(of))


# ---- out: arrays over shared memory ------------------------------------------------------------


def _buffer(native_buffer: Any) -> Any:
    """An Arrow buffer over a native one, which it keeps alive; None stays None."""
    return None if native_buffer is None else pa.py_buffer(native_buffer)


def arrow_type(column: Any, meta: dict[str, Any]) -> pa.DataType:
    """The Arrow type whose layout a native column has."""
    number = column.type
    if number == _native.TIMESTAMP:
        return pa.timestamp(_UNIT_NAMES[column.unit], column.zone or None)
    if number == _native.BINARY_FIXED:
        return pa.binary(column.row_bytes)
    if number == _native.TEXT:
        return pa.large_string()
    if number == _native.LIST_FIXED:
        item = meta.get("item")
        name, nullable = "item", True
        if isinstance(item, list) and len(item) == 2 and isinstance(item[0], str):
            name, nullable = item[0], bool(item[1])
        return pa.list_(pa.field(name, _TYPES[column.item_type], nullable), column.list_length)
    if number == _native.BOOL8:
        return pa.bool_()
    return _TYPES[number]


def text_array(column: Any, first: int, n: int) -> pa.Array:
    """Rows of a text column as large strings over its buffers, offsets checked first.

    Raises
    ------
    Corrupt
        Offsets in shared memory do not ascend or leave the column's room.
    """
    if n == 0:
        return pa.array([], type=pa.large_string())
    column.validate(first, n)
    buffers = [_buffer(column.validity()), _buffer(column.offsets()), _buffer(column.data())]
    return pa.Array.from_buffers(pa.large_string(), n, buffers, offset=first)


def _dictionary_array(column: Any, first: int, n: int, meta: dict[str, Any]) -> pa.Array:
    column.validate(first, n)
    code = next(pa_type for number, pa_type in _TYPES.items() if number == column.item_type)
    buffers = [_buffer(column.validity()), _buffer(column.read_values())]
    codes = pa.Array.from_buffers(code, n, buffers, offset=first)
    of = pa.large_string() if meta.get("arrow") == "large_string" else pa.string()
    texts = pa.array(column.categories(), type=of)
    return pa.DictionaryArray.from_arrays(codes, texts, ordered=bool(meta.get("ordered")),
                                          safe=False)  # fmt: skip


def array(column: Any, first: int, n: int, meta: dict[str, Any]) -> pa.Array:
    """Rows of a native column as an Arrow array over its buffers; bool bytes are a copy."""
    if column.type == _native.TEXT:
        found = text_array(column, first, n)
        if meta.get("arrow") == "string" and found.nbytes < _OFFSET_MAX:
            return found.cast(pa.string())
        if meta.get("arrow") == "string_view" and hasattr(pa, "string_view"):
            return found.cast(pa.string_view())
        return found
    if column.type == _native.DICT_TEXT:
        return _dictionary_array(column, first, n, meta)
    of = arrow_type(column, meta)
    if n == 0:
        return pa.array([], type=of)
    validity = _buffer(column.validity())
    if column.type == _native.BOOL8:
        values = np.frombuffer(column.read_values(), dtype="u1")[first : first + n] != 0
        mask = np.empty(n, "u1")
        column.null_mask(first, n, mask)
        return pa.array(values, mask=mask.view("?"))
    if column.type == _native.LIST_FIXED:
        size = column.list_length
        items = pa.Array.from_buffers(of.value_type, (first + n) * size,
                                      [None, _buffer(column.read_values())])  # fmt: skip
        return pa.Array.from_buffers(of, n, [validity], offset=first, children=[items])
    return pa.Array.from_buffers(of, n, [validity, _buffer(column.read_values())], offset=first)


def to_string_array(found: pa.Array, dtype: Any) -> Any:
    """A pandas string array of `dtype` (Arrow storage) over large strings, without a copy.

    pandas before 2.2 has 32-bit offsets only: there it is a copy.
    """
    try:
        return dtype.__from_arrow__(pa.chunked_array([found]))
    except ValueError:
        return dtype.__from_arrow__(pa.chunked_array([found.cast(pa.string())]))


def to_arrow_array(found: pa.Array) -> Any:
    """A pandas ArrowExtensionArray, without a copy."""
    return pd.arrays.ArrowExtensionArray(pa.chunked_array([found]))


__all__ = [
    "array", "plan_arrow", "plan_text_arrow", "text_array",
    "to_arrow_array", "to_string_array",
]  # fmt: skip
