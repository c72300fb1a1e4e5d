# SPDX-License-Identifier: Apache-2.0
"""The type of a new column for a list of Python objects."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from .. import _native as N
from .._base.errors import TypeMismatch
from .._base.types import UNITS, Spec
from .objects import missing_test

_NUMPY_KIND = {"b": "bool", "i": "int", "u": "int", "f": "float", "M": "datetime"}


def _zone_name(zone: datetime.tzinfo) -> str | None:
    if zone is datetime.UTC:
        return "UTC"
    return getattr(zone, "key", None) or getattr(zone, "zone", None)


def _kind(item: Any) -> str:
    if isinstance(item, str):
        return "text"
    if isinstance(item, (bytes, bytearray)):
        return "bytes"
    if isinstance(item, bool):
        return "bool"
    if isinstance(item, datetime.datetime):
        return "datetime"
    if isinstance(item, datetime.date):
        return "date"
    dtype = getattr(item, "dtype", None)
    if dtype is not None and getattr(item, "ndim", 0) == 0:
        return _NUMPY_KIND.get(dtype.kind, "")
    if hasattr(item, "__index__"):
        return "int"
    if isinstance(item, float):
        return "float"
    if dtype is not None or isinstance(item, (list, tuple)):
        return "list"
    return ""


def spec_of(items: Sequence[Any], label: Any) -> Spec:
    """Spec for items: nullable where one stands for no value. Raises TypeMismatch for mixtures."""
    is_none = missing_test(False)  # NaN is a value, but beside text it stands for none
    present = [item for item in items if not is_none(item)]
    kinds = {_kind(item) for item in present}
    if kinds == {"text", "float"}:
        present = [item for item in present if item == item]
        kinds = {_kind(item) for item in present}
    nullable = len(present) != len(items)
    if not present:
        if items:
            raise TypeMismatch(
                f"column {label!r}: no value tells its type; add it with add_column(name, type)"
            )
        raise TypeMismatch(f"column {label!r}: an empty list has no type: use a numpy array")
    if kinds == {"int", "float"}:
        kinds = {"float"}
    if len(kinds) == 1:
        found = _of_kind(kinds.pop(), present, nullable, label)
        if found is not None:
            return found
    first = type(present[0])
    odd = next((item for item in present if type(item) is not first), present[0])
    row = next(row for row, item in enumerate(items) if item is odd)
    shown = repr(odd)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    raise TypeMismatch(
        f"column {label!r}, row {row}: {shown} ({type(odd).__name__}): no column type holds "
        "these values together"
    )


def _of_kind(kind: str, items: list[Any], nullable: bool, label: Any) -> Spec | None:
    if kind == "bool":
        return Spec(N.BOOL8, nullable)
    if kind == "int":
        low, high = min(items), max(items)
        return Spec(N.UINT64 if high >= 1 << 63 and low >= 0 else N.INT64, nullable)
    if kind == "float":
        return Spec(N.FLOAT64, nullable)
    if kind == "date":
        return Spec(N.DATE32, nullable)
    if kind == "datetime":
        return _datetime(items, nullable)
    if kind == "text":
        return Spec(N.TEXT, nullable, data_bytes=max(1, _text_bytes(items, label)))
    if kind not in ("bytes", "list"):
        return None
    widths = {len(item) for item in items}
    if len(widths) != 1 or 0 in widths:
        return None
    if kind == "bytes":
        return Spec(N.BINARY_FIXED, nullable, width_bytes=widths.pop())
    return _list(items, nullable, widths.pop(), label)


def _text_bytes(items: list[str], label: Any) -> int:
    total = 0
    for item in items:
        try:
            total += len(item.encode())
        except UnicodeEncodeError as error:
            raise TypeMismatch(f"column {label!r}: {item!r} is not text: {error.reason}") from None
    return total


def _datetime(items: list[Any], nullable: bool) -> Spec | None:
    """The finest unit of the items; microseconds for datetime's own."""
    units: set[Any] = set()
    zones: set[str | None] = set()
    for item in items:
        unit = getattr(item, "unit", None) if hasattr(item, "asm8") else "us"
        if not isinstance(item, datetime.datetime):
            unit = item.dtype.str.partition("[")[2].rstrip("]")
        units.add(unit)
        zone = getattr(item, "tzinfo", None)
        zones.add(None if zone is None else _zone_name(zone) or "")
    order = list(UNITS)
    if len(zones) != 1 or "" in zones or not units <= set(order):
        return None
    unit = max(units, key=order.index)
    return Spec(N.TIMESTAMP, nullable, unit=UNITS[unit], zone=zones.pop())


def _list(items: list[Any], nullable: bool, length: int, label: Any) -> Spec | None:
    dtypes: set[Any] = {getattr(item, "dtype", None) for item in items}
    if len(dtypes) == 1 and None not in dtypes:
        from .._base.types import from_dtype

        item = from_dtype(dtypes.pop())
    else:
        flat = [part for item in items for part in item]
        item = spec_of(flat, label)
    if item.nullable or item.type not in _LIST_ITEMS:
        return None
    return Spec(N.LIST_FIXED, nullable, item_type=item.type, list_length=length)


_LIST_ITEMS = frozenset(range(N.BOOL8, N.FLOAT64 + 1))
