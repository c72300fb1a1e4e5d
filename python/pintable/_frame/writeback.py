# SPDX-License-Identifier: Apache-2.0
"""Table.writeback: what changed in a frame goes back into the table it was made from.

In steps, so that a value that does not fit is found before anything is stored: each column is
brought into the form its table column has (`_fit`); categories that are new are added; values that
lie in columns about to be written are copied (`_detach`); then chunks that differ are written under
leases with undo, and columns that still share memory are marked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .. import _native
from .._base import pool as _pool
from .._base.errors import Invalid, OutOfRange, TypeMismatch
from .._table import fetch as _fetch
from .._table.part import claim
from . import columns as _frame_columns
from . import meta as _frame_meta
from . import shared as _shared
from . import to_pandas as _to_pandas
from .from_pandas import spec_of
from .plan import DTYPES, NAT, UNITS, Plan, plan

if TYPE_CHECKING:
    from .._table.table import Table

_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # a second
_UNIT_NAMES = {number: name for name, number in UNITS.items()}
_DAY_SECONDS = 86400


@dataclass(slots=True)
class _Values:
    """A column's rows in the form the table stores them.

    numbers : None when they lie in the table already, and only nulls may differ
    mask    : True where null; None for no nulls
    texts   : of a category column: what `numbers` index into, until the codes are the table's own
    """

    numbers: np.ndarray | None
    mask: np.ndarray | None
    texts: list[str] | None = None


def _no(entry: _to_pandas.Entry, why: str, row: int | None = None) -> TypeMismatch:
    place = "" if row is None else f", row {row}"
    return TypeMismatch(f"writeback: column {entry.label!r}{place}: {why}")


# ---- is it the column itself? ------------------------------------------------------------------


def _is_itself(entry: _to_pandas.Entry, array: Any, n_rows: int) -> bool:
    """True when an array is the memory of the column: all of it, in its order."""
    column = entry.native
    if _shared.is_arrow(array):
        return _is_same_arrow(column, array, n_rows)
    backing = _shared._backing(array)
    values = column.read_values()
    return (
        backing is not None
        and values is not None
        and n_rows > 0
        and backing.flags.c_contiguous
        and backing.__array_interface__["data"][0] == values.address
        and len(backing) == n_rows
        and backing.itemsize == _frame_columns.stored(column, 0, 0).itemsize
    )


def _is_same_arrow(column: Any, array: Any, n_rows: int) -> bool:
    chunks = array.__arrow_array__().chunks
    if len(chunks) != 1 or chunks[0].offset or len(chunks[0]) != n_rows:
        return False
    theirs = [buffer.address for buffer in chunks[0].buffers() if buffer is not None]
    all_ours = (column.validity(), column.offsets(), column.read_values(), column.data())
    return theirs == [buffer.address for buffer in all_ours if buffer is not None]


def _shared_values(entry: _to_pandas.Entry, array: Any) -> _Values:
    """Nulls that a frame has put into a column whose values it shares: see to_pandas(writable)."""
    column = entry.native
    mask = None
    if column.nullable and not _shared.is_arrow(array):
        if isinstance(array, pd.Categorical):
            mask = array.codes < 0
        elif hasattr(array, "_mask"):
            mask = np.array(array._mask)
        elif column.type == _native.TIMESTAMP:
            mask = _shared._backing(array).view("i8") == NAT
    return _Values(None, mask)


# ---- into the form of the column ---------------------------------------------------------------


def _exact(entry: _to_pandas.Entry, values: np.ndarray, dtype: np.dtype,
           mask: np.ndarray | None) -> np.ndarray:  # fmt: skip
    """The same numbers in another dtype; TypeMismatch names the first that is not the same."""
    if values.dtype == dtype:
        return values
    if (values.dtype.kind == "b") != (dtype.kind == "b"):
        raise _no(entry, f"{values.dtype} values do not go into a column of {dtype}")
    with np.errstate(all="ignore"):
        cast = values.astype(dtype)
        back = cast.astype(values.dtype)
    bad = (back != values) & ((values == values) | (dtype.kind != "f"))  # a NaN is not itself
    bad |= (cast < 0) != (values < 0)
    if dtype.kind in "iu" and values.dtype.kind == "f":
        bad |= ~((values >= float(np.iinfo(dtype).min)) & (values < float(np.iinfo(dtype).max) + 1))
    bad = bad.any(axis=1) if bad.ndim == 2 else bad
    if mask is not None:
        bad &= ~mask
    if bad.any():
        row = int(np.argmax(bad))
        raise _no(entry, f"a column of {dtype} does not hold {values[row]!r}", row)
    return cast


def _rescale(entry: _to_pandas.Entry, ticks: np.ndarray, unit: str, to: str) -> np.ndarray:
    """int64 ticks of one unit in another, exactly; NaT stays."""
    if unit == to:
        return ticks
    is_there = ticks != NAT
    if _TICKS[to] > _TICKS[unit]:
        k = _TICKS[to] // _TICKS[unit]
        bad = (ticks > (2**63 - 1) // k) | (ticks < -((2**63 - 1) // k))
        made = ticks * k  # wraps where it is bad
    else:
        k = _TICKS[unit] // _TICKS[to]
        bad, made = ticks % k != 0, ticks // k
    bad &= is_there
    if bad.any():
        raise _no(entry, f"a time in {unit} does not go into {to} exactly", int(np.argmax(bad)))
    return np.where(is_there, made, NAT)


def _fit_codes(entry: _to_pandas.Entry, series: pd.Series, planned: Plan) -> _Values:
    if planned.type == _native.DICT_TEXT:
        codes = np.concatenate(planned.pieces)
        how, texts = planned.meta.get("how"), list(planned.categories or [])
    elif planned.type == _native.TEXT:
        found, uniques = pd.factorize(series)
        codes, how, texts = found, None, [str(text) for text in uniques]
    else:
        raise _no(entry, f"{series.dtype} values do not go into a column of categories")
    if how != entry.meta.get("how"):
        raise _no(entry, f"categories of {series.dtype} are of another type than the column's")
    mask = np.array(codes < 0)
    if planned.mask is not None:
        mask |= planned.mask
    return _Values(codes, mask, texts)


def _fit_times(entry: _to_pandas.Entry, series: pd.Series, planned: Plan) -> np.ndarray:
    column, ticks = entry.native, np.concatenate(planned.pieces)
    if column.type == _native.DATE32:
        if planned.type == _native.DATE32:
            return ticks
        if planned.type == _native.TIMESTAMP and not planned.zone:
            seconds = _rescale(entry, ticks, _UNIT_NAMES[planned.unit], "s")
            bad = (seconds % _DAY_SECONDS != 0) & (seconds != NAT)
            if bad.any():
                raise _no(entry, "a date has no time of day", int(np.argmax(bad)))
            days = np.where(seconds == NAT, 0, seconds // _DAY_SECONDS)
            return _exact(entry, days, np.dtype("i4"), None)
    elif planned.type == _native.TIMESTAMP and (planned.zone or None) == (column.zone or None):
        return _rescale(entry, ticks, _UNIT_NAMES[planned.unit], _UNIT_NAMES[column.unit])
    kind = "dates" if column.type == _native.DATE32 else f"times of zone {column.zone!r}"
    raise _no(entry, f"{series.dtype} values do not go into a column of {kind}")


def _fit_rows(entry: _to_pandas.Entry, series: pd.Series, planned: Plan) -> np.ndarray:
    """Fixed-size bytes and lists."""
    column = entry.native
    same = planned.type == column.type and planned.list_length == column.list_length
    if not same or (planned.width_bytes and planned.width_bytes != column.row_bytes):
        raise _no(entry, f"{series.dtype} values are of another shape than the column's rows")
    values = np.concatenate(planned.pieces)
    if column.type == _native.BINARY_FIXED:
        return values
    return _exact(entry, values, DTYPES[column.item_type], planned.mask)


def _fit_numbers(entry: _to_pandas.Entry, series: pd.Series, planned: Plan) -> np.ndarray:
    column = entry.native
    unit = _frame_columns.span_unit(column, entry.meta)
    if (unit is not None) != (planned.meta.get("as") == "timedelta"):
        raise _no(entry, f"{series.dtype} values mean another thing than the column's")
    if planned.type not in DTYPES and planned.type != _native.BOOL:
        raise _no(entry, f"{series.dtype} values do not go into a column of numbers")
    values = np.concatenate(planned.pieces) if len(planned.pieces) != 1 else planned.pieces[0]
    if unit is not None:
        return _rescale(entry, values, str(planned.meta["unit"]), unit)
    dtype = np.dtype("?") if column.type == _native.BOOL else DTYPES[column.type]
    return _exact(entry, values, dtype, planned.mask)


def _check_text(entry: _to_pandas.Entry, series: pd.Series, planned: Plan) -> None:
    """Text cannot be rewritten in place: TypeMismatch unless it is what the table has."""
    if planned.type != _native.TEXT:
        raise _no(entry, f"{series.dtype} values do not go into a column of text")
    # A new array: to_numpy(copy=True) of an unpickled Series may be the Series' own objects.
    theirs = np.where(series.isna(), None, series.to_numpy(dtype=object))
    ours = _frame_columns.text_objects(entry.native, 0, len(series))
    differs = np.asarray(theirs != ours, dtype="?")
    if differs.any():
        why = "text is fixed once a table is published: store it in a new column, or in a category"
        raise _no(entry, why, int(np.argmax(differs)))


def _fit(entry: _to_pandas.Entry, series: pd.Series) -> _Values | None:
    """A Series in the form of a column; None when there is nothing to store (unchanged text)."""
    column, planned = entry.native, plan(series, entry.label)
    if column.type == _native.TEXT:
        _check_text(entry, series, planned)
        return None
    is_empty = planned.type == _native.TEXT and bool(series.isna().all())
    if column.type == _native.DICT_TEXT:
        values = _fit_codes(entry, series, planned)
    elif is_empty and len(series):  # a column set to None: pandas has no type for it
        blank = np.zeros_like(_stored(entry, 0, len(series)))
        values = _Values(blank, np.ones(len(series), dtype="?"))
    elif column.type in (_native.TIMESTAMP, _native.DATE32):
        values = _Values(_fit_times(entry, series, planned), planned.mask)
    elif column.type in (_native.BINARY_FIXED, _native.LIST_FIXED):
        values = _Values(_fit_rows(entry, series, planned), planned.mask)
    else:
        values = _Values(_fit_numbers(entry, series, planned), planned.mask)
    if values.mask is not None and values.mask.any() and not column.nullable:
        row = int(np.argmax(values.mask))
        raise _no(entry, "the column is not nullable and this value is missing", row)
    return values


def _resolve_categories(entry: _to_pandas.Entry, values: _Values) -> None:
    """Texts and codes into them become the codes of the column; new texts are added to it."""
    column = entry.native
    assert values.numbers is not None and values.mask is not None and values.texts is not None
    known = {text: code for code, text in enumerate(column.categories())}
    is_null = values.mask
    codes = np.where(is_null, 0, values.numbers)
    lookup = np.zeros(max(len(values.texts), 1), dtype="i8")
    for i in np.unique(codes[~is_null]):
        text = values.texts[i]
        if text not in known:
            try:
                known[text] = column.add_category(text)
            except OutOfRange as error:
                raise _no(entry, f"no room for the further category {text!r}") from error
        lookup[i] = known[text]
    values.numbers = np.where(is_null, -1, lookup[codes]).astype(DTYPES[column.item_type])
    values.texts = None


# ---- storing -----------------------------------------------------------------------------------


def _stored(entry: _to_pandas.Entry, first: int, n: int) -> np.ndarray:
    if entry.native.type == _native.BOOL:
        return _frame_columns.bits(entry.native, first, n)
    return _frame_columns.stored(entry.native, first, n)


def _as_bits(values: np.ndarray) -> np.ndarray:
    """Numbers as unsigned integers, so that a NaN equals itself and -0.0 does not equal 0.0."""
    values = np.ascontiguousarray(values)
    return values.view(f"u{values.dtype.itemsize}")


def _differs(entry: _to_pandas.Entry, values: _Values, first: int, n: int) -> bool:
    mask = np.zeros(n, "?") if values.mask is None else values.mask[first : first + n]
    if entry.native.nullable and values.mask is not None or values.numbers is not None:
        if (_frame_columns.null_mask(entry.native, first, n) != mask).any():
            return True
    if values.numbers is None:
        return False
    differs = _as_bits(values.numbers[first : first + n]) != _as_bits(_stored(entry, first, n))
    differs = differs.any(axis=1) if differs.ndim == 2 else differs
    return bool((differs & ~mask).any())


def _store(entry: _to_pandas.Entry, values: _Values, first: int, n: int) -> None:
    """Write rows of a chunk that is leased."""
    column = entry.native
    if values.numbers is not None:
        part = values.numbers[first : first + n]
        if column.type == _native.BOOL:
            column.store_bools(first, n, np.ascontiguousarray(part).view("u1"))
        else:
            target = _frame_columns.stored(column, first, n, to_store=True)
            np.copyto(target, part)
            if values.mask is not None and column.type == _native.TIMESTAMP:
                target[values.mask[first : first + n]] = NAT
    if column.nullable and (values.mask is not None or values.numbers is not None):
        mask = np.zeros(n, "?") if values.mask is None else values.mask[first : first + n]
        column.store_null_mask(first, n, np.ascontiguousarray(mask).view("u1"))


def _store_differing(table: Table, entry: _to_pandas.Entry, values: _Values) -> int:
    """Write the chunks that differ; gives rows written."""
    native, n_stored = table._native, 0
    for chunk in range(native.chunks):
        first = chunk * native.chunk_rows
        n = min(native.chunk_rows, native.rows - first)
        if n <= 0 or not _differs(entry, values, first, n):
            continue
        lease = claim([entry.native], chunk, _native.INOUT)
        try:
            _store(entry, values, first, n)
        except BaseException:
            lease.abandon()
            raise
        lease.commit()
        n_stored += n
    return n_stored


class _Detacher:
    """Copies arrays that a store into some columns of a table would change.

    A frame may hold a view of one column as another (``df["b"] = df["a"]``), or of the same in
    another order, so a store would change what a later one reads.
    """

    def __init__(self, table: Table, entries: list[_to_pandas.Entry]) -> None:
        native = table._native
        written = {entry.native.index for entry in entries}
        kept = [i for i in range(native.n_columns) if i not in written]
        buffers = [native.column_at(i).read_values() for i in kept]
        self._safe = [(b.address, b.address + b.nbytes) for b in buffers if b is not None]

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """The array, or a copy if it lies in a pool elsewhere than in a column that stays as it is.

        Told by pool, not by table: the same table may be mapped twice.
        """
        if not array.size:
            return array
        low, n_bytes = _shared._bounds(array)
        if not _pool.contains(low, n_bytes):
            return array
        if any(first <= low and low + n_bytes <= end for first, end in self._safe):
            return array
        return np.array(array)


def _detach(table: Table, others: list[tuple[_to_pandas.Entry, _Values]], new: list[Plan]) -> None:
    """Make all values independent of the columns that are about to be written."""
    copy = _Detacher(table, [entry for entry, _ in others])
    for _, values in others:
        if values.numbers is not None:
            values.numbers = copy(values.numbers)
    for planned in new:
        planned.pieces = [copy(piece) for piece in planned.pieces]


def _add(table: Table, label: Any, planned: Plan) -> None:
    name = _frame_meta.names_for([label], table.columns)[0]
    if type(label) is not str or label != name:
        planned.meta["label"] = _frame_meta.encode_label(label)
    table._add(name, spec_of(planned), planned.fill)


def _match(found: _to_pandas.Layout, labels: list[Any]) -> list[_to_pandas.Entry | None]:
    """The column of each label; labels that are there twice go to columns in their order."""
    left = list(found.entries)
    matched: list[_to_pandas.Entry | None] = []
    for label in labels:
        entry = next((e for e in left if _frame_meta.is_same_label(e.label, label)), None)
        if entry is not None:
            left.remove(entry)
        matched.append(entry)
    return matched


def writeback(table: Table, df: pd.DataFrame) -> dict[Any, int]:
    """See `Table.writeback`. Waits for chunks that others hold a lease on.

    Rows are taken in their order; the frame's index is not looked at.

    Another process that writes the same rows meanwhile and this one overwrite each other's.
    """
    if not isinstance(df, pd.DataFrame):
        raise Invalid(f"writeback takes a DataFrame, not {type(df).__name__}")
    table._check_writable()
    n_rows = table.rows
    if len(df) != n_rows:
        raise Invalid(f"writeback: the frame has {len(df)} rows, table {table.name!r} has {n_rows}")
    labels = list(df.columns)
    shared, other, new = [], [], []
    for i, entry in enumerate(_match(_to_pandas.layout(table), labels)):
        series = df.iloc[:, i]
        array = _shared.values_of(series)
        if entry is None:
            new.append((labels[i], plan(series, labels[i])))
        elif _is_itself(entry, array, n_rows):
            shared.append((labels[i], entry, _shared_values(entry, array)))
        else:
            other.append((labels[i], entry, _fit(entry, series)))
    for label, _ in new:
        _frame_meta.encode_label(label)
    for _, entry, values in other:
        if values is not None and values.texts is not None:
            _resolve_categories(entry, values)
    stored = [(entry, values) for _, entry, values in other if values is not None]
    _detach(table, stored, [planned for _, planned in new])
    n_stored: dict[Any, int] = dict.fromkeys(labels, 0)
    for label, entry, values in shared + other:
        if values is not None:
            n_stored[label] += _store_differing(table, entry, values)
    for _, entry, _ in shared:
        if entry.native.type != _native.TEXT and n_rows:
            _fetch.wait_for_blocks(entry.native)
            entry.native.mark(0, n_rows)
    for label, planned in new:
        _add(table, label, planned)
        n_stored[label] += n_rows
    return n_stored
