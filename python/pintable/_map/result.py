# SPDX-License-Identifier: Apache-2.0
"""One call of the function of `Table.map`: what it gets of a chunk, what becomes of its result.

All values to be stored are worked out before the first is stored, and those that lie in the memory
of a column that is about to change are copied first: func may exchange two columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import _native as N
from .._base import types as _types
from .._base.errors import Invalid, TypeMismatch

if TYPE_CHECKING:
    import pandas as pd

    from .._table.part import Part
    from .._table.table import Table


@dataclass(frozen=True)
class Call:
    """How func is called. The same for all chunks of a map.

    columns : names that func reads; inouts : that it may change; outs : that its result goes to.
    hidden : names that are not given as columns but make the frame's index.
    """

    columns: tuple[str, ...]
    inouts: tuple[str, ...]
    outs: tuple[str, ...]
    hidden: tuple[str, ...]
    is_single: bool  # func gets one Series or array
    is_pandas: bool

    @property
    def names(self) -> list[str]:
        """What func gets, in order."""
        return [*self.columns, *(name for name in self.inouts if name not in self.columns)]

    def run(self, func: Callable[..., Any], part: Part) -> None:
        """Call func on the rows of a part and store what it made there."""
        if self.is_pandas:
            self._run_pandas(func, part)
        else:
            self._run_numpy(func, part)

    # ---- pandas

    def _run_pandas(self, func: Callable[..., Any], part: Part) -> None:
        given = frame(part.table, part.first, part.n_rows, self.names)
        # Copies: a frame may let go of a column's memory on any write, so that views would not save
        # storing the values, and whatever func does with the columns cannot change the table yet.
        labels = {}
        for i, name in enumerate(self.names):
            if name in self.inouts:
                labels[name] = given.columns[i]
                given.isetitem(i, _copied(given.iloc[:, i]))
        result = func(given.iloc[:, 0] if self.is_single else given)
        index = given.index
        stores = split(result, self.outs, part.n_rows, index, given=given)
        for name, label in labels.items():
            values = _only(given, label, name)
            stores[name] = align(values, part.n_rows, index, f"column {name!r} of the frame")
        _store(part, stores)

    # ---- numpy

    def _run_numpy(self, func: Callable[..., Any], part: Part) -> None:
        given = {name: array(part, name) for name in self.names}
        before = {name: given[name] for name in self.inouts}
        result = func(given[self.columns[0]] if self.is_single else given)
        stores = split(result, self.outs, part.n_rows, None, given=given)
        for name in self.inouts:
            values = given.get(name)
            if values is None:
                raise Invalid(f"column {name!r} is gone from the dict that func was given")
            if values is not before[name]:
                stores[name] = align(values, part.n_rows, None, f"column {name!r} of the dict")
            elif _is_masked(values):
                stores[name] = values
            else:
                _mask_from_values(part, name, values)
        # An array of one column may have become another's, or a result.
        views = list(before.values())
        _store(part, {name: _detached(values, views) for name, values in stores.items()})


def _store(part: Part, stores: dict[str, Any]) -> None:
    for name, values in stores.items():
        try:
            part[name] = values
        except Exception as error:
            error.add_note(f"storing what func made for column {name!r}")
            raise


def frame(table: Table, first: int, n_rows: int, names: Sequence[str]) -> pd.DataFrame:
    """Rows of the columns of these names, one column each, read-only where that is no copy."""
    import pandas as pd

    from .._frame import to_pandas as _to_pandas

    layout = _to_pandas.layout(table)
    entries = [layout.all[name] for name in names]
    arrays = {i: _plain(entry.make(first, n_rows, False, None)) for i, entry in enumerate(entries)}
    found = pd.DataFrame(arrays, index=layout.rows_index(first, n_rows), copy=False)
    found.columns = layout.labels_of(entries, False)
    return found


def _plain(values: Any) -> Any:
    """Without the subclass that warns of copies: the frame does not leave the worker as it is."""
    import numpy as np

    return values.view(np.ndarray) if isinstance(values, np.ndarray) else values


def _copied(series: pd.Series) -> pd.Series:
    if hasattr(series.array, "__arrow_array__") and hasattr(series.array, "_pa_array"):
        import numpy as np

        return series.take(np.arange(len(series)))  # copy() of Arrow data is none
    return series.copy(deep=True)


def array(part: Part, name: str) -> Any:
    """What a column of a chunk is as_="numpy": its view; masked where nulls would not be seen."""
    view = part[name]
    column = part._field(name).native
    if not column.nullable or column.type in (N.TIMESTAMP, N.DICT_TEXT, N.TEXT):
        return view  # NaT, code -1 and None say null themselves
    import numpy as np

    mask = part.null_mask(name)
    if view.ndim == 2:
        mask = np.repeat(mask[:, None], view.shape[1], axis=1)
    return np.ma.MaskedArray(view, mask=mask, copy=False)


def _is_masked(values: Any) -> bool:
    import numpy as np

    return isinstance(values, np.ma.MaskedArray)


def _mask_from_values(part: Part, name: str, values: Any) -> None:
    """Make validity agree with values that func changed in place and that say null themselves."""
    import numpy as np

    column = part._field(name).native
    if not column.nullable:
        return
    null = np.isnat(values) if column.type == N.TIMESTAMP else np.asarray(values) < 0
    column.store_null_mask(part.first, part.n_rows, np.ascontiguousarray(null).view(np.uint8))
    column.validate(part.first, part.n_rows)  # codes that func wrote have a category


def _only(frame: Any, label: Any, name: str) -> Any:
    """The one column of a frame with this label."""
    try:
        values = frame[label]
    except KeyError:
        raise Invalid(f"column {name!r} is not in the frame any more") from None
    if getattr(values, "ndim", 1) != 1:
        raise Invalid(f'several columns are labelled {label!r}: use as_="numpy"')
    return values


def _detached(values: Any, views: Sequence[Any]) -> Any:
    """The values, copied if storing into one of the views could change them."""
    import numpy as np

    is_shared = isinstance(values, np.ndarray) and any(
        np.may_share_memory(values, view) for view in views
    )
    return values.copy() if is_shared else values


# ---- results -----------------------------------------------------------------------------------


def split(
    result: Any, outs: Sequence[str], n_rows: int, index: Any, given: Any = None
) -> dict[str, Any]:
    """Values for each out column of what func returned; Invalid if it is not that.

    index is that of the frame func got (None: no frame), which pandas results are aligned with.
    """
    if not outs:
        if result is None or result is given:
            return {}
        raise Invalid(
            f"func returned {_kind(result)}, but out= names no column for it"
            " (changes of inout columns are made in what func gets)"
        )
    if result is None:
        raise Invalid(f"func returned None, but out= names {', '.join(map(repr, outs))}")
    if _is_frame(result):
        values = _from_frame(result, outs)
    elif isinstance(result, Mapping):
        values = _from_dict(result, outs)
    elif len(outs) == 1:
        values = {outs[0]: result}
    elif isinstance(result, tuple):
        if len(result) != len(outs):
            raise Invalid(f"func returned a tuple of {len(result)}, but out= names {len(outs)}")
        values = dict(zip(outs, result, strict=True))
    else:
        raise Invalid(
            f"func returned {_kind(result)}, but out= names {len(outs)} columns:"
            " return a tuple, dict or frame"
        )
    return {name: align(found, n_rows, index, f"out {name!r}") for name, found in values.items()}


def _from_frame(frame: Any, outs: Sequence[str]) -> dict[str, Any]:
    if len(outs) == 1 and frame.shape[1] == 1:
        return {outs[0]: frame.iloc[:, 0]}
    missing = [name for name in outs if name not in frame.columns]
    if missing:
        raise Invalid(f"the frame that func returned has no column {missing[0]!r}")
    return {name: _only(frame, name, name) for name in outs}


def _from_dict(found: Mapping[Any, Any], outs: Sequence[str]) -> dict[str, Any]:
    missing = [name for name in outs if name not in found]
    more = [key for key in found if key not in outs]
    if missing or more:
        what = f"lacks {missing[0]!r}" if missing else f"has {more[0]!r}, which out= does not name"
        raise Invalid(f"the dict that func returned {what}")
    return {name: found[name] for name in outs}


def align(
    values: Any,
    n_rows: int,
    index: Any,
    what: str,
    refusal: str = "the index of the result is not the index of the chunk",
) -> Any:
    """Values in the order of the rows: as many as rows, or a single one for all of them.

    A Series whose index is the chunk's in another order is put into the chunk's order, as pandas
    does; one with no labels of its own (0, 1, 2, ...) is taken as it stands; any other is refused.
    """
    if is_scalar(values):
        return values
    try:
        n_values = len(values)
    except TypeError:
        raise TypeMismatch(f"{what}: {_kind(values)} is no array of values") from None
    if n_values != n_rows:
        raise Invalid(f"{what}: {n_values} values for {n_rows} rows")
    if isinstance(values, tuple):
        return list(values)
    found = getattr(values, "index", None)
    if index is None or found is None or not hasattr(values, "iloc") or is_plain(found, n_rows):
        return values
    if found is index or found.equals(index):
        return values
    if index.is_unique and found.is_unique and index.isin(found).all():
        return values.reindex(index)
    raise Invalid(f"{what}: {refusal}")


def is_plain(index: Any, n_rows: int) -> bool:
    """An index that pandas made up: no one gave these values labels."""
    import pandas as pd

    return isinstance(index, pd.RangeIndex) and index.equals(pd.RangeIndex(n_rows))


def is_scalar(values: Any) -> bool:
    """One value rather than one a row."""
    if values is None or isinstance(values, (str, bytes, bool, int, float, complex)):
        return True
    if getattr(values, "ndim", None) == 0:  # numpy scalars and arrays without a dimension
        return True
    return not hasattr(values, "__len__") and not hasattr(values, "__iter__")


def _is_frame(value: Any) -> bool:
    return hasattr(value, "iloc") and getattr(value, "ndim", 0) == 2


def _kind(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[:1] in 'aeiouAEIOU' else 'a'} {name}"


# ---- types of new columns ----------------------------------------------------------------------

_TEXT_CATEGORIES = 65536
_TEXT_BYTES = 4 << 20


def infer(values: Any, name: str) -> _types.Spec:
    """Type for a new out column, from the values func returned for some rows.

    Text becomes a category column with room to grow, as text columns are written once.
    """
    from .._values import store as _store

    if is_scalar(values):
        if values is None:
            raise Invalid(_no_type(name, "func returned None"))
        values = [values.item() if getattr(values, "ndim", None) == 0 else values]
    try:
        spec, _, _ = _store.plan(values, name)
    except TypeMismatch as error:
        error.add_note(f"to give the type of a new column: out={{{name!r}: ...}}")
        raise
    if spec.type in (N.TEXT, N.DICT_TEXT):
        return _types.Spec(
            N.DICT_TEXT, nullable=True, item_type=N.INT32, data_bytes=_TEXT_BYTES,
            n_categories=_TEXT_CATEGORIES,
        )  # fmt: skip
    return spec


def _no_type(name: str, why: str) -> str:
    return f"the type of new column {name!r} is not known: {why}; give it: out={{{name!r}: ...}}"


def no_rows(names: Sequence[str]) -> Invalid:
    """Error for new columns without a type in a table without rows."""
    return Invalid(_no_type(names[0], "the table has no rows to try func on"))
