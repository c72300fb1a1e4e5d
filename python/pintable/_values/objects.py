# SPDX-License-Identifier: Apache-2.0
"""Python objects <-> bytes of column buffers, with the standard library alone.

Reading checks what shared memory holds (codes, offsets, dates out of Python's range). Writing takes
None, pandas' NA and NaT for null, and a float NaN too, but in float columns, where NaN is a value.
"""

from __future__ import annotations

import datetime
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any

from .. import _native as N
from .._base.errors import Corrupt, Error, OutOfRange, TypeMismatch
from .._base.types import BYTES, CODE, FLOATS, INTEGERS, UNIT_NAME, Spec
from .nulls import NAT, value_under_null

_EPOCH = datetime.datetime(1970, 1, 1)
_EPOCH_DAY = datetime.date(1970, 1, 1).toordinal()
_FEW = 16  # rows whose categories are looked up one by one rather than all fetched
_PER_SECOND = {N.SECOND: 1, N.MILLISECOND: 1000, N.MICROSECOND: 1000_000, N.NANOSECOND: 10**9}

# ---- reading -----------------------------------------------------------------------------------


def to_list(column: Any, spec: Spec, first: int, n_rows: int) -> list[Any]:
    """Rows [first, first + n_rows) of a native column as Python objects, None where null."""
    if n_rows == 0:
        column.type  # noqa: B018  ValueError when the table is closed
        return []
    items = _READERS.get(spec.type, _read_numbers)(column, spec, first, n_rows)
    if spec.nullable:
        mask = bytearray(n_rows)
        column.null_mask(first, n_rows, mask)
        if any(mask):
            items = [None if is_null else item for item, is_null in zip(items, mask, strict=True)]
    return items


def _raw(column: Any, first: int, n_rows: int, width: int) -> memoryview:
    return memoryview(column.read_values())[first * width : (first + n_rows) * width]


def _unpack(code: str, raw: memoryview) -> list[Any]:
    if code == "e":  # memoryview does not know it
        return list(struct.unpack(f"<{len(raw) // 2}e", raw))
    if code == "?":  # any byte but 0 is true, whatever a writer stored
        return [byte != 0 for byte in raw]
    return raw.cast("B").cast(code).tolist()  # type: ignore[call-overload, no-any-return]


def _read_numbers(column: Any, spec: Spec, first: int, n_rows: int) -> list[Any]:
    return _unpack(CODE[spec.type], _raw(column, first, n_rows, BYTES[spec.type]))


def _read_bits(column: Any, _spec: Spec, first: int, n_rows: int) -> list[Any]:
    out = bytearray(n_rows)
    column.get_bools(first, n_rows, out)
    return [byte != 0 for byte in out]


def _read_dates(column: Any, spec: Spec, first: int, n_rows: int) -> list[Any]:
    days = _read_numbers(column, spec, first, n_rows)
    found: list[Any] = []
    for i, day in enumerate(days):
        try:
            found.append(datetime.date.fromordinal(_EPOCH_DAY + day))
        except (ValueError, OverflowError):
            if not column.is_null(first + i):
                raise OutOfRange(
                    f"column {column.name!r}, row {first + i}: day {day} is not a datetime.date; "
                    "numpy() gives it"
                ) from None
            found.append(None)
    return found


def _zone(text: str | None) -> datetime.tzinfo | None:
    if text is None:
        return None
    if text in ("UTC", "Z"):
        return datetime.UTC
    if text[0] in "+-":
        return datetime.datetime.strptime(text, "%z").tzinfo
    import zoneinfo

    return zoneinfo.ZoneInfo(text)


def _read_timestamps(column: Any, spec: Spec, first: int, n_rows: int) -> list[Any]:
    ticks = _read_numbers(column, spec, first, n_rows)
    make = _nanoseconds(spec) if spec.unit == N.NANOSECOND else _datetimes(spec)
    found: list[Any] = []
    for i, tick in enumerate(ticks):
        if tick == NAT:
            found.append(None)
            continue
        try:
            found.append(make(tick))
        except (ValueError, OverflowError):  # pandas' own error is a ValueError
            if not column.is_null(first + i):
                raise OutOfRange(
                    f"column {column.name!r}, row {first + i}: {tick} {UNIT_NAME[spec.unit]} since "
                    "1970 is out of range for Python; numpy() gives it"
                ) from None
            found.append(None)
    return found


def _datetimes(spec: Spec) -> Callable[[int], Any]:
    zone = _zone(spec.zone)
    per_second = _PER_SECOND[spec.unit]

    def make(tick: int) -> datetime.datetime:
        seconds, rest = divmod(tick, per_second)
        naive = _EPOCH + datetime.timedelta(0, seconds, rest * (1000_000 // per_second))
        return naive if zone is None else naive.replace(tzinfo=datetime.UTC).astimezone(zone)

    return make


def _nanoseconds(spec: Spec) -> Callable[[int], Any]:
    try:
        import pandas as pd
    except ImportError:
        pass
    else:
        zone = _zone(spec.zone)
        if zone is None:
            return lambda tick: pd.Timestamp(tick)
        return lambda tick: pd.Timestamp(tick, tz="UTC").tz_convert(zone)
    try:
        import numpy as np
    except ImportError:
        return int
    return lambda tick: np.datetime64(tick, "ns")


def _read_binary(column: Any, spec: Spec, first: int, n_rows: int) -> list[Any]:
    width = spec.width_bytes
    raw = bytes(_raw(column, first, n_rows, width))
    return [raw[at : at + width] for at in range(0, len(raw), width)]


def _read_lists(column: Any, spec: Spec, first: int, n_rows: int) -> list[Any]:
    n = spec.list_length
    items = _unpack(CODE[spec.item_type], _raw(column, first, n_rows, n * BYTES[spec.item_type]))
    return [items[at : at + n] for at in range(0, len(items), n)]


def _read_text(column: Any, _spec: Spec, first: int, n_rows: int) -> list[Any]:
    return [column.get_text(row) for row in range(first, first + n_rows)]


def _read_categories(column: Any, spec: Spec, first: int, n_rows: int) -> list[Any]:
    # Codes first: a text is there before the first row that has its code.
    codes = _unpack(CODE[spec.item_type], _raw(column, first, n_rows, BYTES[spec.item_type]))
    if n_rows <= _FEW:
        n, text_of = column.n_categories, column.category
    else:
        texts = column.categories()
        n, text_of = len(texts), texts.__getitem__
    found: list[Any] = []
    for i, code in enumerate(codes):
        if 0 <= code < n:
            found.append(text_of(code))
        elif code == -1 or column.is_null(first + i):  # -1 alone: set missing through a frame
            found.append(None)
        else:
            raise Corrupt(f"column {column.name!r}, row {first + i}: code {code} of {n} categories")
    return found


_READERS: dict[int, Callable[[Any, Spec, int, int], list[Any]]] = {
    N.BOOL: _read_bits, N.DATE32: _read_dates, N.TIMESTAMP: _read_timestamps,
    N.BINARY_FIXED: _read_binary, N.LIST_FIXED: _read_lists, N.TEXT: _read_text,
    N.DICT_TEXT: _read_categories,
}  # fmt: skip

# ---- writing -----------------------------------------------------------------------------------


def missing_test(is_nan_missing: bool) -> Callable[[Any], bool]:
    """A function that says whether a value stands for no value."""
    pandas = sys.modules.get("pandas")
    na, nat = (pandas.NA, pandas.NaT) if pandas is not None else (None, None)

    def is_missing(value: Any) -> bool:
        if value is None or value is na or value is nat:
            return True
        if isinstance(value, float):
            return is_nan_missing and value != value
        dtype = getattr(value, "dtype", None)  # numpy's float32 NaN and NaT
        if dtype is not None and getattr(value, "ndim", 1) == 0:
            return bool(value != value) and (is_nan_missing or dtype.kind in "mM")
        return False

    return is_missing


def encode(
    column: Any, spec: Spec, items: Sequence[Any], first: int, codes: Callable[[list[str]], Any]
) -> tuple[bytearray, bytearray | None]:
    """(values as little-endian bytes, null mask or None) for items to go to rows from first.

    codes: gives the code of each of some texts, for a category column. Bits come as a byte each.
    Raises TypeMismatch that names the first row whose value does not go in.
    """
    is_missing = missing_test(spec.type not in FLOATS)
    nulls = bytearray(map(is_missing, items))
    has_nulls = any(nulls)
    if has_nulls and not spec.nullable:
        row = first + nulls.index(1)
        raise TypeMismatch(
            f"column {column.name!r}, row {row}: {items[row - first]!r} is no value, and the "
            f'column is not nullable: fill it, or make the column "{spec}?"'
        )
    if has_nulls:
        zero = _zero(spec)
        filled = [zero if null else item for item, null in zip(items, nulls, strict=True)]
    else:
        filled = list(items)
    if spec.type == N.DICT_TEXT:
        values = _written(column, spec, filled, first, lambda _, texts: _codes(spec, texts, codes))
    else:
        values = _written(column, spec, filled, first, _WRITERS[spec.type])
    under = value_under_null(spec) if has_nulls else None
    if under is not None:
        width = len(under)
        for i, null in enumerate(nulls):
            if null:
                values[i * width : (i + 1) * width] = under
    return values, nulls if has_nulls else None


Writer = Callable[[Spec, list[Any]], bytes]


def _written(column: Any, spec: Spec, items: list[Any], first: int, writer: Writer) -> bytearray:
    try:
        return bytearray(writer(spec, items))
    except Error:  # of the library: no room for a category
        raise
    except _CANNOT:
        # Once more, one by one, to name the row.
        for i, item in enumerate(items):
            try:
                writer(spec, [item])
            except _CANNOT as error:
                shown = repr(item)
                shown = shown if len(shown) <= 80 else shown[:77] + "..."
                raise TypeMismatch(
                    f"column {column.name!r}, row {first + i}: {shown} does not go into {spec}: "
                    f"{error}"
                ) from None
        raise


_CANNOT = (TypeError, ValueError, OverflowError, struct.error)


def _zero(spec: Spec) -> Any:
    """A value that is stored where the row is null."""
    if spec.type in FLOATS:
        return float("nan")
    if spec.type == N.DATE32:
        return datetime.date(1970, 1, 1)
    if spec.type == N.TIMESTAMP:
        return _Tick(NAT)
    if spec.type == N.BINARY_FIXED:
        return bytes(spec.width_bytes)
    if spec.type == N.LIST_FIXED:
        return [False if spec.item_type == N.BOOL8 else 0] * spec.list_length
    if spec.type == N.DICT_TEXT:
        return None
    return False if spec.type in (N.BOOL, N.BOOL8) else 0


class _Tick(int):
    """A timestamp as the number that is stored."""


def _is_bool(item: Any) -> bool:
    dtype = getattr(item, "dtype", None)
    return isinstance(item, bool) or (dtype is not None and dtype.kind == "b")


def _write_bools(_spec: Spec, items: list[Any]) -> bytes:
    for item in items:
        if not _is_bool(item):
            raise TypeError("it is not a bool")
    return bytes(map(bool, items))


def _write_integers(spec: Spec, items: list[Any]) -> bytes:
    return _pack_integers(spec.type, items)


def _pack_integers(type_: int, items: list[Any]) -> bytes:
    for kind in set(map(type, items)):
        if not hasattr(kind, "__index__"):
            raise TypeError(f"a {kind.__name__} is not an integer")
    return struct.pack(f"<{len(items)}{CODE[type_]}", *items)


def _write_floats(spec: Spec, items: list[Any]) -> bytes:
    return _pack_floats(spec.type, items)


def _pack_floats(type_: int, items: list[Any]) -> bytes:
    for kind in set(map(type, items)):
        if not (hasattr(kind, "__float__") or hasattr(kind, "__index__")) or kind is str:
            raise TypeError(f"a {kind.__name__} is not a number")
    return struct.pack(f"<{len(items)}{CODE[type_]}", *items)


def _day(item: Any) -> int:
    if isinstance(item, datetime.datetime):
        if item.tzinfo is not None or item.time() != datetime.time(0):
            raise ValueError("it has a time of day or a zone")
        item = item.date()
    if isinstance(item, datetime.date):
        return item.toordinal() - _EPOCH_DAY
    kind = getattr(getattr(item, "dtype", None), "kind", "")
    if kind == "M":
        day = item.astype("M8[D]")
        if day != item:
            raise ValueError("it has a time of day")
        return int(day.astype("i8"))
    raise TypeError("it is not a date")


def _write_dates(_spec: Spec, items: list[Any]) -> bytes:
    return struct.pack(f"<{len(items)}i", *map(_day, items))


def _tick(item: Any, spec: Spec, per_second: int) -> int:
    if isinstance(item, _Tick):
        return int(item)
    stamp = getattr(item, "asm8", None)  # pandas.Timestamp, in UTC if it has a zone
    if isinstance(item, datetime.datetime) and (item.tzinfo is None) != (spec.zone is None):
        have = "no" if item.tzinfo is None else "a"
        raise TypeError(f"it has {have} zone")
    if stamp is None and getattr(getattr(item, "dtype", None), "kind", "") == "M":
        stamp = item
    if stamp is not None:
        found = stamp.astype(f"M8[{UNIT_NAME[spec.unit]}]")
        if found != stamp:
            raise ValueError("it is finer than the unit, or out of its range")
        return int(found.astype("i8"))
    if not isinstance(item, datetime.datetime):
        raise TypeError("it is not a datetime")
    if item.tzinfo is not None:
        item = item.astimezone(datetime.UTC).replace(tzinfo=None)
    since = item - _EPOCH
    micro = (since.days * 86400 + since.seconds) * 1000_000 + since.microseconds
    whole, rest = divmod(micro * per_second, 1000_000)
    if rest:
        raise ValueError("it is finer than the unit")
    return whole


def _write_timestamps(spec: Spec, items: list[Any]) -> bytes:
    per_second = _PER_SECOND[spec.unit]
    return struct.pack(f"<{len(items)}q", *(_tick(item, spec, per_second) for item in items))


def _write_binary(spec: Spec, items: list[Any]) -> bytes:
    found = []
    for item in items:
        if isinstance(item, str) or hasattr(item, "__index__"):
            raise TypeError("it is not bytes")
        part = bytes(item)
        if len(part) != spec.width_bytes:
            raise ValueError(f"it has {len(part)} bytes")
        found.append(part)
    return b"".join(found)


def _write_lists(spec: Spec, items: list[Any]) -> bytes:
    flat: list[Any] = []
    for item in items:
        if isinstance(item, (str, bytes)) or not hasattr(item, "__len__"):
            raise TypeError("it is not a list")
        if len(item) != spec.list_length:
            raise ValueError(f"it has {len(item)} items")
        flat.extend(item.tolist() if hasattr(item, "tolist") else item)
    if spec.item_type == N.BOOL8:
        return _write_bools(spec, flat)
    pack = _pack_floats if spec.item_type in FLOATS else _pack_integers
    return pack(spec.item_type, flat)


def _codes(spec: Spec, items: list[Any], codes: Callable[[list[str]], Any]) -> bytes:
    """Codes of texts; None gives -1, which is what a null row has."""
    for kind in set(map(type, items)):
        if not issubclass(kind, str) and kind is not type(None):
            raise TypeError("it is not text")
    return struct.pack(f"<{len(items)}{CODE[spec.item_type]}", *codes(items))


_WRITERS: dict[int, Writer] = {
    N.BOOL: _write_bools, N.BOOL8: _write_bools, N.DATE32: _write_dates,
    N.TIMESTAMP: _write_timestamps, N.BINARY_FIXED: _write_binary, N.LIST_FIXED: _write_lists,
    **dict.fromkeys(INTEGERS, _write_integers), **dict.fromkeys(FLOATS, _write_floats),
}  # fmt: skip
