# SPDX-License-Identifier: Apache-2.0
"""Type specifications: strings such as "int64?" <-> types of the C library <-> numpy dtypes.

    bool  bit  int8 .. uint64  float16 float32 float64  date
    timestamp[us]  timestamp[ns, Europe/Berlin]  binary[16]
    text[BYTES]                       room for so many bytes of text; written once
    category  category[int16]  category[int16, N, BYTES]      room for N texts of BYTES in all;
                                      nullable, "?" or not, when made without values
    list[float32, 768]                768 items a row

A "?" behind makes a column nullable. numpy dtypes, their strings ("<i8"), Python's bool, int and
float, and pandas' names ("Int64", "datetime64[ns, UTC]") mean what they mean there; its "string"
and "str" are "category?".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .. import _native as N
from .errors import Invalid, TypeMismatch

if TYPE_CHECKING:
    import numpy as np

PLAIN: dict[str, int] = {
    "bit": N.BOOL, "bool": N.BOOL8,
    "int8": N.INT8, "int16": N.INT16, "int32": N.INT32, "int64": N.INT64,
    "uint8": N.UINT8, "uint16": N.UINT16, "uint32": N.UINT32, "uint64": N.UINT64,
    "float16": N.FLOAT16, "float32": N.FLOAT32, "float64": N.FLOAT64, "date": N.DATE32,
}  # fmt: skip
PLAIN_NAME: dict[int, str] = {number: name for name, number in PLAIN.items()}

# numpy's character code and struct's are the same for these, but for bool and float16's "e" both.
CODE: dict[int, str] = {
    N.BOOL8: "?", N.INT8: "b", N.INT16: "h", N.INT32: "i", N.INT64: "q",
    N.UINT8: "B", N.UINT16: "H", N.UINT32: "I", N.UINT64: "Q",
    N.FLOAT16: "e", N.FLOAT32: "f", N.FLOAT64: "d", N.DATE32: "i", N.TIMESTAMP: "q",
}  # fmt: skip
BYTES: dict[int, int] = {
    N.BOOL8: 1, N.INT8: 1, N.INT16: 2, N.INT32: 4, N.INT64: 8, N.UINT8: 1, N.UINT16: 2, N.UINT32: 4,
    N.UINT64: 8, N.FLOAT16: 2, N.FLOAT32: 4, N.FLOAT64: 8, N.DATE32: 4, N.TIMESTAMP: 8,
}  # fmt: skip

UNITS: dict[str, int] = {
    "s": N.SECOND, "ms": N.MILLISECOND, "us": N.MICROSECOND, "ns": N.NANOSECOND,
}  # fmt: skip
UNIT_NAME: dict[int, str] = {number: name for name, number in UNITS.items()}

INTEGERS = frozenset(
    (N.INT8, N.INT16, N.INT32, N.INT64, N.UINT8, N.UINT16, N.UINT32, N.UINT64)
)  # fmt: skip
FLOATS = frozenset((N.FLOAT16, N.FLOAT32, N.FLOAT64))
_CODE_TYPES = {"int8": N.INT8, "int16": N.INT16, "int32": N.INT32}
_CATEGORIES_DEFAULT = 65536
_CATEGORY_BYTES_DEFAULT = 64  # room for text, a category

_BUILTIN: dict[type, str] = {bool: "bool", int: "int64", float: "float64"}
_PANDAS_NAME = {"boolean": "bool?"} | {
    name: name.lower() + "?"
    for name in ("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64",
                 "Float32", "Float64")
}  # fmt: skip
# pandas' text, which can be null and written again: text columns can not.
_PANDAS_NAME |= {"string": "category?", "str": "category?"}
_ZONED = re.compile(r"datetime64\[(?P<unit>[a-z]+),\s*(?P<zone>[^\]]+)\]\Z")
_FORM = re.compile(r"(?P<head>[a-z0-9]+)\s*(?:\[(?P<body>[^\[\]]*)\])?\Z")


@dataclass(frozen=True, slots=True)
class Spec:
    """Type of a column: what pint_field says but for the name.

    metadata is the column's own bytes (JSON of the pandas bridge) or None. For a category column
    that exists, n_categories is 0: its room is not known to readers.
    """

    type: int
    nullable: bool = False
    unit: int = 0
    zone: str | None = None
    width_bytes: int = 0
    list_length: int = 0
    item_type: int = 0
    data_bytes: int = 0
    n_categories: int = 0
    metadata: bytes | None = None

    @classmethod
    def parse(cls, spec: Any) -> Spec:
        """Spec of a string, a numpy or pandas dtype, a Python type, or a Spec (given back).

        Raises Invalid for what is none of these, TypeMismatch for a dtype that has no column type.
        """
        if isinstance(spec, Spec):
            return spec
        if isinstance(spec, type) and spec in _BUILTIN:
            spec = _BUILTIN[spec]
        if isinstance(spec, str):
            return _parse_text(spec)
        if spec is None:  # numpy takes it for float64
            raise Invalid("a type is missing: None is none")
        return _parse_dtype(spec)

    @classmethod
    def of(cls, column: Any) -> Spec:
        """Spec of a native column that exists."""
        return cls(
            column.type, bool(column.nullable), column.unit, column.zone or None,
            column.row_bytes if column.type == N.BINARY_FIXED else 0,
            column.list_length if column.type == N.LIST_FIXED else 0,
            column.item_type if column.type in (N.LIST_FIXED, N.DICT_TEXT) else 0,
            column.data_bytes, 0,
        )  # fmt: skip

    def native(self, name: str) -> tuple[Any, ...]:
        """The tuple that `_native.Pool.create` takes for a field."""
        return (
            name, self.type, self.nullable, self.unit, self.zone, self.width_bytes,
            self.list_length, self.item_type, self.data_bytes, self.n_categories, self.metadata,
        )  # fmt: skip

    def with_metadata(self, metadata: bytes | None) -> Spec:
        return replace(self, metadata=metadata)

    def empty(self) -> Spec:
        """The Spec of a column that is made without values: a category one is nullable, since
        there is no text yet that its rows could have."""
        return replace(self, nullable=True) if self.type == N.DICT_TEXT else self

    def dtype(self) -> np.dtype[Any]:
        """numpy dtype of an item of the values buffer (of the codes, for a category).

        Timestamps are datetime64 in their unit; dates int32 days; binary void. TypeMismatch for
        bits and text, whose buffers are not arrays of items.
        """
        import numpy as np

        if self.type == N.TIMESTAMP:
            return np.dtype(f"M8[{UNIT_NAME[self.unit]}]")
        if self.type == N.BINARY_FIXED:
            return np.dtype(f"V{self.width_bytes}")
        code = CODE.get(self.item_type if self.item_type else self.type)
        if code is None:
            raise TypeMismatch(f"a {self} column has no numpy dtype")
        return np.dtype(code)

    def same_shape(self, other: Spec) -> bool:
        """Do both describe columns that hold the same values the same way? Rooms may differ."""
        return replace(self, data_bytes=0, n_categories=0, metadata=None) == replace(
            other, data_bytes=0, n_categories=0, metadata=None
        )

    def __str__(self) -> str:
        if self.type in PLAIN_NAME:
            text = PLAIN_NAME[self.type]
        elif self.type == N.TIMESTAMP:
            text = f"timestamp[{UNIT_NAME[self.unit]}{', ' + self.zone if self.zone else ''}]"
        elif self.type == N.BINARY_FIXED:
            text = f"binary[{self.width_bytes}]"
        elif self.type == N.TEXT:
            text = f"text[{self.data_bytes}]"
        elif self.type == N.DICT_TEXT:
            room = f", {self.n_categories}, {self.data_bytes}" if self.n_categories else ""
            text = f"category[{PLAIN_NAME[self.item_type]}{room}]"
        elif self.type == N.LIST_FIXED:
            text = f"list[{PLAIN_NAME[self.item_type]}, {self.list_length}]"
        else:
            text = f"type{self.type}"
        return text + "?" if self.nullable else text


def _number(text: str, what: str, whole: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise Invalid(f"type {whole!r}: {what} must be a number, not {text!r}")
    return int(text)


def category(
    code_type: int = N.INT32, n: int | None = None, data_bytes: int | None = None, *,
    nullable: bool = False, metadata: bytes | None = None,
) -> Spec:  # fmt: skip
    """Spec of a category column with room for n texts of data_bytes in all (None: defaults)."""
    most = 1 << (8 * BYTES[code_type] - 1)
    n = min(most, _CATEGORIES_DEFAULT) if n is None else n
    data_bytes = max(1, n * _CATEGORY_BYTES_DEFAULT if data_bytes is None else data_bytes)
    return Spec(
        N.DICT_TEXT, nullable, item_type=code_type, data_bytes=data_bytes, n_categories=n,
        metadata=metadata,
    )  # fmt: skip


def _parse_text(whole: str) -> Spec:
    text = whole.strip()
    if text in _PANDAS_NAME:
        text = _PANDAS_NAME[text]
    zoned = _ZONED.match(text)
    if zoned:
        text = f"timestamp[{zoned['unit']}, {zoned['zone'].strip()}]"
    nullable = len(text) > 1 and text.endswith("?")  # "?" alone is numpy's bool
    form = _FORM.match(text[:-1].rstrip() if nullable else text)
    head = form["head"] if form else ""
    body = [part.strip() for part in form["body"].split(",")] if form and form["body"] else []
    spec = _parse_form(head, body, whole)
    if spec is None:
        spec = _parse_dtype(text[:-1].rstrip() if nullable else text, whole)
    return replace(spec, nullable=True) if nullable else spec


def _parse_form(head: str, body: list[str], whole: str) -> Spec | None:
    if head in PLAIN and not body:
        return Spec(PLAIN[head])
    if head == "timestamp":
        if len(body) not in (1, 2) or body[0] not in UNITS:
            raise Invalid(f"type {whole!r}: write timestamp[UNIT] or timestamp[UNIT, ZONE], UNIT "
                          "one of s, ms, us, ns")  # fmt: skip
        return Spec(N.TIMESTAMP, unit=UNITS[body[0]], zone=body[1] if len(body) == 2 else None)
    if head == "binary":
        if len(body) != 1:
            raise Invalid(f"type {whole!r}: write binary[BYTES]")
        return Spec(N.BINARY_FIXED, width_bytes=_number(body[0], "the width", whole))
    if head == "text":
        if len(body) != 1:
            raise Invalid(f"type {whole!r}: write text[BYTES], the room for all of its text")
        return Spec(N.TEXT, data_bytes=_number(body[0], "the room", whole))
    if head == "category":
        code = body[0] if body else "int32"
        if code not in _CODE_TYPES or len(body) not in (0, 1, 3):
            raise Invalid(f"type {whole!r}: write category, category[CODE] or category[CODE, N, "
                          "BYTES], CODE one of int8, int16, int32")  # fmt: skip
        room = [_number(part, "the room", whole) for part in body[1:]]
        return category(_CODE_TYPES[code], *room)
    if head == "list":
        if len(body) != 2 or body[0] not in PLAIN or body[0] == "bit":
            raise Invalid(f"type {whole!r}: write list[TYPE, LENGTH] with a number type")
        return Spec(
            N.LIST_FIXED, item_type=PLAIN[body[0]], list_length=_number(body[1], "LENGTH", whole)
        )  # fmt: skip
    return None


def _parse_dtype(dtype: Any, whole: str | None = None) -> Spec:
    pandas_name = getattr(dtype, "name", None)
    if isinstance(pandas_name, str):
        if pandas_name in _PANDAS_NAME or _ZONED.match(pandas_name):
            return _parse_text(pandas_name)
    try:
        import numpy as np
    except ImportError:
        raise Invalid(f"type {whole or dtype!r} is not known") from None
    try:
        parsed = np.dtype(dtype)
    except TypeError:
        raise Invalid(f"type {whole or dtype!r} is not known") from None
    return from_dtype(parsed)


def from_dtype(dtype: np.dtype[Any]) -> Spec:
    """Spec of a numpy dtype. TypeMismatch if no column type holds it."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        item = from_dtype(base)
        if len(shape) == 1 and item.type in CODE and item.type != N.TIMESTAMP:
            return Spec(N.LIST_FIXED, item_type=item.type, list_length=shape[0])
    elif dtype.isnative and dtype.names is None:
        if dtype.kind == "M":
            unit = dtype.str.partition("[")[2].rstrip("]")
            if unit == "D":
                return Spec(N.DATE32)
            if unit in UNITS:
                return Spec(N.TIMESTAMP, unit=UNITS[unit])
        elif dtype.kind in "SV" and dtype.itemsize:
            return Spec(N.BINARY_FIXED, width_bytes=dtype.itemsize)
        elif dtype.kind in "biuf" and dtype.name in PLAIN:
            return Spec(PLAIN[dtype.name])
    hint = ""
    if dtype.kind in "OUT":
        hint = ': for strings write "text[BYTES]" or "category"'
    elif dtype.kind == "m":
        hint = ': store it as "int64"'
    raise TypeMismatch(f"no column type holds numpy's {dtype}{hint}")
