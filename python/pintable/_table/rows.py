# SPDX-License-Identifier: Apache-2.0
"""Rows of a table: what `Table` and `Slice` have in common, and `Slice` itself."""

from __future__ import annotations

import html
import operator
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

from .._base import checks as _checks
from .._base.errors import Error, Invalid, OutOfRange, TypeMismatch
from . import handle as _handle
from .part import Reading

if TYPE_CHECKING:
    import pandas as pd

    from .column import Column
    from .table import Table

Cut = slice  # the builtin: Rows has a method of that name
RowsLike = slice | range | tuple[int, int] | None


def span(rows: RowsLike, n_rows: int) -> tuple[int, int]:
    """(first, count) of rows a..b given as slice, range or pair; slices clip as Python's do.

    Raises Invalid for a step or something else, OutOfRange for a range or pair not inside.
    """
    if rows is None:
        return 0, n_rows
    if isinstance(rows, slice):
        if rows.step not in (None, 1):
            raise Invalid(f"rows {rows}: a step is not possible, rows are taken in one piece")
        first, end, _ = rows.indices(n_rows)
        return first, max(0, end - first)
    if isinstance(rows, range):
        if rows.step != 1:
            raise Invalid(f"rows {rows}: a step is not possible, rows are taken in one piece")
        first, end = rows.start, rows.stop
    elif isinstance(rows, tuple) and len(rows) == 2:
        first, end = operator.index(rows[0]), operator.index(rows[1])
    else:
        raise Invalid(f"rows must be a slice, a range or a pair (first, end), not {rows!r}")
    if not 0 <= first <= end <= n_rows:
        raise OutOfRange(f"rows {first} to {end} are not inside the {n_rows} rows there are")
    return first, end - first


class Rows:
    """Rows [first, first + n) of a table and its columns there."""

    __slots__ = ("__weakref__",)

    _table: Table

    def _span(self) -> tuple[int, int]:
        raise NotImplementedError

    # ---- facts

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in order."""
        return self._table._native.column_names()

    @property
    def schema(self) -> dict[str, str]:
        """Type of each column, as `create` takes them."""
        table = self._table
        return {name: str(table._field(name).spec) for name in self.columns}

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self._span()[1]

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns), those that make the index of a frame counted too."""
        return self._span()[1], self._table._native.n_columns

    def keys(self) -> list[str]:
        """Names of the columns: ``dict(t)`` has the Columns by name."""
        return self.columns

    def __len__(self) -> int:
        return self._span()[1]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._table._find(name) is not None

    # ---- columns and rows

    @overload
    def __getitem__(self, key: str) -> Column: ...

    @overload
    def __getitem__(self, key: Cut) -> Slice: ...

    def __getitem__(self, key: str | Cut) -> Column | Slice:
        """Column by name, or a Slice of rows a:b."""
        if isinstance(key, str):
            return self._table._column(key, *self._span())
        if isinstance(key, Cut):
            first, n = self._span()
            start, count = span(key, n)
            return Slice(self._table, first + start, count)
        hint = ": for several columns to_pandas(columns=[...])" if isinstance(key, list) else ""
        raise TypeMismatch(
            f"index with a column name (str) or rows (a:b), not {type(key).__name__}{hint}"
        )

    def slice(self, a: int | None = None, b: int | None = None) -> Slice:
        """The rows a..b, without a copy; a and b clip and count from the end as in Python."""
        return self[a:b]

    def reading(self, rows: RowsLike = None, columns: str | Sequence[str] | None = None) -> Reading:
        """Context manager: read rows in place, and know at the end that they held still.

        Gives a Part with read-only views. Raises Busy or Torn at the start, Changed at the end if
        anything was committed or marked meanwhile: throw away what was read, and read again. An
        exception of the body wins. Noticed are changes under leases and jobs and those followed by
        `mark`.

        Parameters
        ----------
        rows : slice, range or (first, end), optional
            Relative to these rows; None for all.
        columns : str or list of str, optional
            Those that will be read; None for all.
        """
        first, n = self._span()
        start, count = span(rows, n)
        names = self.columns if columns is None else name_list(columns)
        return Reading(self._table, first + start, count, names)

    def to_pandas(
        self,
        columns: str | Sequence[Any] | None = None,
        *,
        writable: bool = False,
        strings: str | None = None,
    ) -> pd.DataFrame:
        """A frame on these rows, without a copy where pandas can do that.

        Parameters
        ----------
        columns : label or list of labels, optional
            None for all.
        writable : bool
            True: what is written into the frame's shared columns goes into the table. See
            `is_shared`.
        strings : str, optional
            "object": text columns as Python strings (a copy).
        """
        _checks.need("to_pandas()", "numpy", "pandas")
        from .._frame import to_pandas as _to_pandas

        first, n = self._span()
        return _to_pandas.to_pandas(
            self._table, first, n, columns, writable=writable, strings=strings
        )

    def head(self, n: int = 5) -> pd.DataFrame:
        """The first n rows as a read-only frame; n < 0: all but the last -n, as pandas has it."""
        return self[: _checks.integer(n, "n")].to_pandas()

    # ---- notebooks

    def _ipython_key_completions_(self) -> list[str]:
        return self.columns

    def _repr_html_(self) -> str | None:
        """The first rows as pandas shows them; None, for the plain repr, where that cannot be."""
        try:
            _checks.need("showing rows", "numpy", "pandas")
            shown = self.head()._repr_html_()
        except (Error, ImportError, ValueError):  # torn or foreign bytes, a closed table
            return None
        return None if shown is None else f"{shown}<p>{html.escape(repr(self))}</p>"


def name_list(columns: str | Sequence[str]) -> list[str]:
    """Column names given as one or as several."""
    try:
        names = [columns] if isinstance(columns, str) else list(columns)
    except TypeError:
        raise TypeMismatch(
            f"columns must be a name (str) or a list of names, not {columns!r}"
        ) from None
    for name in names:
        if not isinstance(name, str):
            raise TypeMismatch(f"a column name must be a str, not {name!r}")
    return names


class Slice(Rows):
    """Rows a..b of a table, without a copy. Pickles as a handle. Usable while its table is open."""

    __slots__ = ("_first", "_n", "_table")

    def __init__(self, table: Table, first: int, n_rows: int) -> None:
        self._table, self._first, self._n = table, first, n_rows

    def _span(self) -> tuple[int, int]:
        return self._first, self._n

    @property
    def table(self) -> Table:
        """The table these rows are of."""
        return self._table

    @property
    def first(self) -> int:
        """Row of the table that is row 0 here."""
        return self._first

    def __setitem__(self, name: str, values: Any) -> None:
        self[name][:] = values

    def __reduce__(self) -> tuple[Any, ...]:
        return _handle.open_slice, (self._first, self._n, *_handle.args(self._table))

    def __repr__(self) -> str:
        return f"<pintable.Slice rows {self._first}..{self._first + self._n} of {self._table!r}>"
