# SPDX-License-Identifier: Apache-2.0
"""to_pandas: rows of a table as a frame over shared memory.

What the metadata say is read once for a table and kept (`Layout`); each call then makes views
(`columns`) and gives them to pandas without a copy.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .._base.errors import Error, Invalid, NotFound
from .._table import fetch as _fetch
from . import meta as _frame_meta
from . import pickling as _pickling
from .columns import Maker, maker

if TYPE_CHECKING:
    from .._table.table import Table

# ---- the whole table ---------------------------------------------------------------------------


@dataclass(slots=True)
class Entry:
    """One column: its name, label, native column, metadata, and how it becomes an array."""

    name: str
    label: Any
    native: Any
    meta: dict[str, Any]
    make: Maker


class Layout:
    """What the metadata of a table say, read once for as many columns as it had."""

    def __init__(self, table: Table) -> None:
        native = table._native
        found = _frame_meta.load(native.metadata).get("pandas")
        found = found if isinstance(found, dict) else {}
        self.n_columns = native.n_columns
        self.has_index = isinstance(found.get("index"), dict)
        entries = [self._entry(native.column_at(i)) for i in range(self.n_columns)]
        by_name = {entry.name: entry for entry in entries}
        self.index_meta = self._index_meta(found.get("index"), by_name, native.rows)
        self.index = [by_name[name] for name in self.index_meta["columns"]]
        behind = set(self.index_meta["columns"])
        self.all = by_name
        self.entries = [
            entry
            for entry in entries
            if entry.name not in behind and entry.meta.get("hidden") is not True
        ]
        self.columns_meta = found.get("columns")
        attrs = found.get("attrs")
        keep = isinstance(attrs, dict) and all(map(_frame_meta.is_shallow, attrs.values()))
        self.attrs = attrs if keep else {}
        self.labels = self.labels_of(self.entries, True)

    @staticmethod
    def _entry(column: Any) -> Entry:
        meta = _frame_meta.load(column.metadata)
        label = _frame_meta.label_or(meta["label"], column.name) if "label" in meta else column.name
        return Entry(column.name, label, column, meta, maker(column, meta))

    @staticmethod
    def _index_meta(found: Any, by_name: dict[str, Entry], n_rows: int) -> dict[str, Any]:
        plain = {"columns": [], "range": range(n_rows), "names": [None], "multi": False}
        if not isinstance(found, dict) or not isinstance(found.get("names"), list):
            return plain
        names = [_frame_meta.label_or(name, None) for name in found["names"]]
        if found.get("kind") == "range" and len(names) == 1:
            try:
                bounds = range(*(int(part) for part in found["range"]))
                fits = len(bounds) == n_rows and all(
                    -(2**63) <= part < 2**63 for part in (bounds.start, bounds.stop, bounds.step)
                )
            except (TypeError, ValueError, KeyError, OverflowError):
                return plain
            return {**plain, "names": names, "range": bounds} if fits else plain
        columns = found.get("columns")
        if (
            not isinstance(columns, list)
            or not columns
            or len(columns) != len(names)
            or not all(isinstance(name, str) and name in by_name for name in columns)
        ):
            return plain
        return {"columns": columns, "names": names, "multi": found.get("multi") is True,
                "freq": found.get("freq")}  # fmt: skip

    def labels_of(self, entries: list[Entry], is_whole: bool) -> pd.Index:
        """The column index of some of the columns."""
        return _frame_meta.decode_columns(
            self.columns_meta, [entry.label for entry in entries], is_whole
        )

    def rows_index(self, first: int, n: int) -> pd.Index:
        """The row index of rows [first, first + n); their numbers where pandas takes no index of
        the columns that the metadata name."""
        meta = self.index_meta
        if not self.index:
            bounds = meta["range"][first : first + n]
            return pd.RangeIndex(bounds.start, bounds.stop, bounds.step, name=meta["names"][0])
        try:
            return self._columns_index(first, n)
        except Error:
            raise  # what lies in the columns is at fault
        except (TypeError, ValueError, NotImplementedError):
            return pd.RangeIndex(first, first + n)

    def _columns_index(self, first: int, n: int) -> pd.Index:
        meta = self.index_meta
        levels = [
            pd.Index(entry.make(first, n, False, "as was"), copy=False,
                     dtype=object if entry.meta.get("as") == "object" else None)
            for entry in self.index
        ]  # fmt: skip
        if meta["multi"] or len(levels) > 1:
            return pd.MultiIndex.from_arrays(levels, names=meta["names"])
        index = levels[0]
        index.name = meta["names"][0]
        return _frame_meta.with_freq(index, meta.get("freq"))

    def find(self, wanted: Any) -> list[Entry]:
        """The column of a name, or else those of a label.

        Raises
        ------
        NotFound
            There is none.
        """
        if isinstance(wanted, str) and wanted in self.all:
            return [self.all[wanted]]
        found = [entry for entry in self.entries if _frame_meta.is_same_label(entry.label, wanted)]
        if not found:
            raise NotFound(f"no column {wanted!r}")
        return found


def layout(table: Table) -> Layout:
    """The layout of a table, kept until it has further columns."""
    found = table._memo.get("layout")
    if found is None or found.n_columns != table._native.n_columns:
        found = table._memo["layout"] = Layout(table)
    return found


def _select(found: Layout, columns: Any) -> tuple[list[Entry], pd.Index]:
    if columns is None:
        return found.entries, found.labels
    if isinstance(columns, (str, tuple)) or not hasattr(columns, "__iter__"):
        columns = [columns]
    entries = [entry for wanted in columns for entry in found.find(wanted)]
    return entries, found.labels_of(entries, False)


def to_pandas(
    table: Table,
    first: int,
    n: int,
    columns: Any = None,
    *,
    writable: bool = False,
    strings: str | None = None,
) -> pd.DataFrame:
    """Rows [first, first + n) as a frame; see `Table.to_pandas`.

    Raises
    ------
    NotFound
        No such column.
    Frozen, PermissionDenied
        `writable` and the table is not.
    Corrupt
        Codes or offsets in shared memory are impossible.
    """
    if strings not in (None, "object"):
        raise Invalid(f'strings must be None or "object", not {strings!r}')
    if writable:
        table._check_writable()
    found = layout(table)
    entries, labels = _select(found, columns)
    if writable:
        for entry in entries:
            _fetch.fetch_for_stores(entry.native, first, n)
    index = found.rows_index(first, n)
    arrays = {}
    for i, entry in enumerate(entries):
        array = entry.make(first, n, writable, strings)
        is_object = type(array) is np.ndarray and array.dtype.kind == "O"
        # pandas would look at an array of objects and choose a dtype; a Series stays as it is
        arrays[i] = pd.Series(array, index=index, dtype=object, copy=False) if is_object else array
    df = pd.DataFrame(arrays, index=index, copy=False)
    df.columns = labels
    if found.attrs:
        df.attrs = copy.deepcopy(found.attrs)
    _pickling.watch()
    return df


def in_row_order(table: Table, values: pd.Series, name: str) -> pd.Series:
    """A Series in the order of the table's rows, by the index the table was made with.

    As it stands when its index is the plain one (0, 1, 2, ...) or the table was made without.

    Raises
    ------
    Invalid
        Its index has other labels than the table's, or labels that are there twice.
    """
    from .._map import result as _result

    if _result.is_plain(values.index, len(values)):
        return values
    found = layout(table)
    if not found.has_index:
        return values
    n_rows = table.rows
    refusal = "its index is not that of the table; to store by position, give it .to_numpy()"
    index = found.rows_index(0, n_rows)
    return _result.align(values, n_rows, index, f"column {name!r}", refusal)


def index_columns(table: Table) -> list[str]:
    """Names of the columns that are the frame's row index, or only there to count rows."""
    found = layout(table)
    shown = {entry.name for entry in found.entries}
    return [name for name in found.all if name not in shown]


def series(
    table: Table,
    name: str,
    first: int,
    n: int,
    *,
    writable: bool = False,
    strings: str | None = None,
) -> pd.Series:
    """Rows [first, first + n) of the column `name` as a Series; as `to_pandas`."""
    if writable:
        table._check_writable()
    found = layout(table)
    entry = found.all.get(name)
    if entry is None:
        raise NotFound(f"no column {name!r}")
    if writable:
        _fetch.fetch_for_stores(entry.native, first, n)
    array = entry.make(first, n, writable, strings)
    dtype = object if type(array) is np.ndarray and array.dtype.kind == "O" else None
    index = found.rows_index(first, n)
    _pickling.watch()
    return pd.Series(array, index=index, dtype=dtype, name=entry.label, copy=False)
