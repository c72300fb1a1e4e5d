# SPDX-License-Identifier: Apache-2.0
"""from_pandas: a frame becomes a table.

Everything is planned first (`plan`), so that what cannot be stored is known before anything
is created; Python strings are encoded into private memory meanwhile, which is kept until they are
copied. Then the table is created without zeroing, each buffer is written once, and it is published;
whatever fails before that leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .. import _native
from .._base.errors import Invalid
from .._base.types import Spec
from . import meta as _frame_meta
from .plan import Plan, plan

if TYPE_CHECKING:
    from .._table.table import Table

HIDDEN = "__rows__"  # the one column of a table made from a frame that has none

# ---- copying -----------------------------------------------------------------------------------


class _Copier:
    """Copies put off until all are known, then made together by native threads.

    Sources and targets are the caller's and must stay as they are until `run` returns.
    """

    def __init__(self) -> None:
        self._pairs: list[tuple[np.ndarray, np.ndarray]] = []

    def __call__(self, target: np.ndarray, source: np.ndarray) -> None:
        """Note one copy of equal shapes; one that is more than a copy is made here and now."""
        flat = source.flags.c_contiguous or (source.ndim == 1 and source.itemsize <= 8)
        if flat and source.dtype == target.dtype:
            self._pairs.append((target, source))
        else:
            np.copyto(target, source)

    def run(self) -> None:
        """Make all copies."""
        _native.copy(self._pairs)


# ---- layout ------------------------------------------------------------------------------------


def _plan_columns(df: pd.DataFrame) -> tuple[list[str], list[Plan]]:
    columns = list(df.items())
    names = _frame_meta.names_for([label for label, _ in columns])
    plans = []
    for name, (label, values) in zip(names, columns, strict=True):
        planned = plan(values, label)
        if type(label) is not str or label != name:
            planned.meta["label"] = _frame_meta.encode_label(label)
        plans.append(planned)
    return names, plans


def _plan_index(index: pd.Index, taken: Sequence[str]) -> tuple[dict[str, Any], list[str], list]:
    """Metadata of the row index, and the columns it needs."""
    names = [_frame_meta.encode_label(name) for name in index.names]
    if type(index) is pd.RangeIndex:
        bounds = [index.start, index.stop, index.step]
        return {"kind": "range", "range": bounds, "names": names}, [], []
    is_multi = isinstance(index, pd.MultiIndex)
    levels = [index.get_level_values(i) for i in range(index.nlevels)] if is_multi else [index]
    columns: list[str] = []
    for i, name in enumerate(index.names):
        is_free = _frame_meta.is_name(name) and name not in taken and name not in columns
        wanted = name if is_free else f"__index_level_{i}__"
        columns += _frame_meta.names_for([wanted], [*taken, *columns])
    plans = [plan(level, f"index level {i}") for i, level in enumerate(levels)]
    found = {"kind": "columns", "columns": columns, "names": names, "multi": is_multi}
    freq = getattr(index, "freqstr", None) if not is_multi else None
    if isinstance(freq, str):
        found["freq"] = freq
    return found, columns, plans


def _hidden(n_rows: int) -> Plan:
    return Plan(_native.BOOL8, n_rows, {"hidden": True}, pieces=[np.zeros(n_rows, dtype="?")])


def _layout(df: pd.DataFrame) -> tuple[list[str], list[Plan], bytes]:
    """Names, plans and table metadata of a frame.

    Raises
    ------
    TypeMismatch
        A column, index level or label cannot be stored.
    """
    names, plans = _plan_columns(df)
    index, index_names, index_plans = _plan_index(df.index, names)
    names, plans = names + index_names, plans + index_plans
    if not plans:
        names, plans = [HIDDEN], [_hidden(len(df))]
    found = {"index": index, "columns": _frame_meta.encode_columns(df.columns)}
    attrs = _frame_meta.keep_attrs(df.attrs)
    if attrs:
        found["attrs"] = attrs
    return names, plans, _frame_meta.dump({"pintable": _frame_meta.VERSION, "pandas": found})


def spec_of(planned: Plan) -> Spec:
    """The Spec of a plan, metadata included."""
    return Spec(*planned.native("")[1:])


# ---- the two ways in ---------------------------------------------------------------------------


def from_pandas(
    df: pd.DataFrame,
    name: str | None,
    if_exists: str,
    keep: bool,
    chunk_rows: int,
    address: Any,
) -> Table:
    """See `Table.from_pandas`. The frame must not change during the call."""
    from .._table import table as _table

    if not isinstance(df, pd.DataFrame):
        raise Invalid(f"from_pandas takes a DataFrame, not {type(df).__name__}")
    if if_exists == "fail" and name is not None and _table._exists(name, address):
        raise _table.Exists(f"table {name!r} exists already")  # before the work of planning
    names, plans, metadata = _layout(df)
    specs = [(column, spec_of(planned)) for column, planned in zip(names, plans, strict=True)]

    def reopen() -> Table | None:
        return _table._open_like(str(name), specs, len(df), address)

    def fill(native: Any) -> None:
        copier = _Copier()
        for i, planned in enumerate(plans):
            planned.fill(native.column_at(i), copier)
        copier.run()

    if if_exists == "open" and name is not None:
        found = reopen()
        if found is not None:
            return found
    return _table.publish_new(
        specs, len(df), metadata, fill, name, if_exists, keep,
        chunk_rows=chunk_rows, address=address, reopen=reopen,
    )  # fmt: skip


def plan_series(values: Any, label: Any) -> tuple[Spec, int, Callable[[Any], None]]:
    """Spec, length and filler of a column for a Series, Index or pandas array.

    The filler writes all of a column of an unpublished table. `values` must stay as they are until
    it has run.

    Raises
    ------
    TypeMismatch
        They cannot be stored.
    """
    planned = plan(values, label)
    return spec_of(planned), planned.n_rows, planned.fill
