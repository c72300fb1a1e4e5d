# SPDX-License-Identifier: Apache-2.0
"""`Table.map`: its arguments, and the columns it adds. The work itself is in passes.py."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from .._base import checks as _checks
from .._base.errors import Exists, Invalid, OutOfRange, TypeMismatch
from .._base.types import Spec
from .._table import fetch as _fetch
from .._table import part as _part
from .._table.part import Part
from .._table.rows import name_list
from . import carry as _carry
from . import passes as _passes
from . import progress as _progress
from . import result as _result
from .result import Call

if TYPE_CHECKING:
    from .._table.table import Table

_SAMPLE_ROWS = 1000


def map_table(
    table: Table,
    func: Callable[[Any], Any],
    columns: str | Sequence[str] | None,
    out: str | Sequence[str] | Mapping[str, Any] | None,
    inout: str | Sequence[str] | None,
    workers: int | Executor | None,
    *,
    as_: str | None,
    progress: bool | Callable[[int, int], Any] | None,
    start_method: str | None,
    name: str | None,
) -> Table:
    """See `Table.map`."""
    if not callable(func):
        raise TypeMismatch(f"map: func must be callable, not {type(func).__name__}")
    if as_ == "pandas":
        _checks.need('map(as_="pandas")', "pandas")
    if not (progress is None or isinstance(progress, bool) or callable(progress)):
        raise TypeMismatch(f"map: progress must be a bool, a callable or None, not {progress!r}")
    if name is not None:
        _checks.text(name, "map: name")
    n_workers = _count_workers(workers, table.chunks)
    table._check_writable()
    specs = _out_specs(out)
    call = _make_call(table, columns, list(specs), inout, as_)
    crew: _passes.Processes | _passes.Tasks
    if hasattr(workers, "submit"):
        crew = _passes.Tasks(func, workers, n_workers)
    else:
        crew = _passes.Processes(func, start_method, n_workers)
    # Workers would wait for a chunk that this thread holds, and this thread for them.
    written = [table._field(column).native for column in (*specs, *call.inouts) if column in table]
    _part.check_none_own(written, table.chunks)
    read = [table._field(column).native for column in (*call.names, *call.hidden)]
    _fetch.fetch(read, range(table.chunks))  # the workers may have no way to our devices
    added = _add_columns(table, func, call, specs)
    if table.rows == 0:
        return table
    base = name if name is not None else "map-" + secrets.token_hex(6)
    reporter = _progress.reporter(progress, table.rows, getattr(func, "__name__", "map"))
    crew.reporter = reporter
    try:
        _passes.run(table, call, base, crew, is_kept=name is not None)
    except BaseException as error:
        if added:
            stay = "column {} stays" if len(added) == 1 else "columns {} stay"
            error.add_note(f"new {stay.format(', '.join(added))}, with the results so far")
        raise
    finally:
        reporter.close()
    return table


# ---- arguments ---------------------------------------------------------------------------------


def _count_workers(workers: Any, n_chunks: int) -> int:
    if workers is None:
        count = getattr(os, "process_cpu_count", None)  # Python 3.13
        n = (count() if count is not None else len(os.sched_getaffinity(0))) or 1
    elif hasattr(workers, "submit"):
        n = getattr(workers, "_max_workers", None) or len(os.sched_getaffinity(0))
    elif isinstance(workers, bool) or not isinstance(workers, int):
        raise TypeMismatch(
            f"map: workers must be a number or an executor, not {type(workers).__name__}"
        )
    else:
        n = workers
    if n < 1:
        raise OutOfRange(f"map: {n} workers; there must be one at least")
    return max(1, min(n, n_chunks))


def _out_specs(out: Any) -> dict[str, Spec | None]:
    """Names of the out columns, with the type where it was given."""
    if out is None:
        return {}
    if isinstance(out, Mapping):
        names = name_list(list(out))
        return {key: None if out[key] is None else Spec.parse(out[key]) for key in names}
    return dict.fromkeys(name_list(out))


def _make_call(
    table: Table, columns: Any, outs: list[str], inout: Any, as_: str | None
) -> Call:
    if as_ is None:
        as_ = "pandas" if find_spec("pandas") is not None else "numpy"
    if as_ not in ("pandas", "numpy"):
        raise Invalid(f'map: as_ must be "pandas" or "numpy", not {as_!r}')
    names, hidden = _visible(table, as_ == "pandas")
    inouts = [] if inout is None else _names(table, inout, as_)
    if columns is None:
        reads = [column for column in names if column not in outs and column not in inouts]
    else:
        reads = _names(table, columns, as_)
    _check_apart(reads, outs, inouts)
    for column in (*reads, *inouts):
        table[column]  # NotFound before anything is done
    hidden = [column for column in hidden if column not in (*reads, *outs, *inouts)]
    if not reads and not outs and not inouts:
        raise Invalid("map: func needs a column at least")
    return Call(
        tuple(reads), tuple(inouts), tuple(outs), tuple(hidden),
        is_single=isinstance(columns, str) and not inouts, is_pandas=as_ == "pandas",
    )  # fmt: skip


def _check_apart(reads: list[str], outs: list[str], inouts: list[str]) -> None:
    for what, names in (("columns", reads), ("out", outs), ("inout", inouts)):
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise Invalid(f"map: column {min(twice)!r} is twice in {what}=")
    for name in outs:
        if name in reads or name in inouts:
            raise Invalid(
                f"map: column {name!r} cannot be read and be an out column:"
                f" to change it in place use inout={name!r} alone"
            )
    for name in inouts:
        if name in reads:
            raise Invalid(f"map: column {name!r} is in columns= and inout=: inout= is enough")


def _visible(table: Table, is_pandas: bool) -> tuple[list[str], list[str]]:
    """Names of the columns that func gets when none are named, and of those that make the index."""
    if not is_pandas:
        return table.columns, []
    from .._frame import to_pandas as _to_pandas

    layout = _to_pandas.layout(table)
    return [entry.name for entry in layout.entries], [entry.name for entry in layout.index]


def _names(table: Table, columns: Any, as_: str) -> list[str]:
    """Names of columns given by name or, for pandas, by a label that is no text."""
    if isinstance(columns, str) or as_ != "pandas" or not hasattr(columns, "__iter__"):
        return name_list(columns)
    from .._frame import to_pandas as _to_pandas

    found = []
    for column in columns:
        if isinstance(column, str):
            found.append(column)
        else:
            found += [entry.name for entry in _to_pandas.layout(table).find(column)]
    return found


# ---- new columns -------------------------------------------------------------------------------


def _add_columns(
    table: Table, func: Callable[..., Any], call: Call, specs: dict[str, Spec | None]
) -> list[str]:
    """Add the out columns that do not exist. Their names."""
    new = [name for name in call.outs if name not in table]
    untyped = [name for name in new if specs[name] is None]
    if untyped and table.rows == 0:
        raise _result.no_rows(untyped)
    found = _try_func(table, func, call) if untyped else {}
    added = []
    for name in new:
        spec = specs[name] or _result.infer(found[name], name)
        try:
            table.add_column(name, spec)
            added.append(name)
        except Exists:
            pass  # another map added it meanwhile; storing will say if its type is another
    return added


def _try_func(table: Table, func: Callable[..., Any], call: Call) -> dict[str, Any]:
    """What func makes of the first rows, called here, on copies."""
    rows = range(min(table.rows, table.chunk_rows, _SAMPLE_ROWS))
    given, index = _sample(table, call, len(rows))
    try:
        result = func(given)
        return _result.split(result, call.outs, len(rows), index, given=given)
    except Exception as error:
        error.add_note(
            f"{_carry.rows_note(rows, table.name)}, tried to find the type of the new columns"
        )
        raise


def _sample(table: Table, call: Call, n_rows: int) -> tuple[Any, Any]:
    if call.is_pandas:
        frame = _result.frame(table, 0, n_rows, call.names).copy(deep=True)
        return (frame.iloc[:, 0] if call.is_single else frame), frame.index
    part = Part(table, 0, n_rows)
    arrays = {name: _result.array(part, name).copy() for name in call.names}
    return (arrays[call.names[0]] if call.is_single else arrays), None
