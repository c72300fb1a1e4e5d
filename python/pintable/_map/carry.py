# SPDX-License-Identifier: Apache-2.0
"""What travels between the caller of `Table.map` and its workers: functions and exceptions.

Functions go as bytes of cloudpickle where it is installed (by itself or inside joblib), which takes
lambdas, closures and what was typed into a notebook; else of pickle, which takes what a module has.
"""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from .._base.errors import MapError

_PICKLERS = ("cloudpickle", "joblib.externals.cloudpickle")
HINT = "install cloudpickle, or put the function into a module that the workers can import"


def _cloudpickle() -> Any:
    for name in _PICKLERS:
        try:
            return import_module(name)
        except ImportError:
            continue
    return None


def pack(func: Callable[..., Any]) -> bytes:
    """Bytes of a function for another process; MapError says what to do if there are none."""
    pickler = _cloudpickle()
    try:
        return bytes((pickler or pickle).dumps(func))
    except Exception as error:  # whatever the __reduce__ of something func refers to says
        advice = "" if pickler is not None else f"; {HINT}"
        raise MapError(
            f"map: {_name(func)} cannot be sent to a worker process: "
            f"{type(error).__name__}: {error}{advice}"
        ) from error


def unpack(data: bytes) -> Callable[..., Any]:
    """The function of `pack`; MapError if this process cannot make it."""
    try:
        func = pickle.loads(data)
    except Exception as error:  # imports run here, with any result
        advice = "" if b"cloudpickle" in data else f"; {HINT}"  # a function by value names it
        raise MapError(
            f"map: the function cannot be loaded in a worker process: "
            f"{type(error).__name__}: {error}{advice}"
        ) from error
    return func  # type: ignore[no-any-return]


def _name(func: Any) -> str:
    return getattr(func, "__qualname__", None) or repr(func)


class RemoteTraceback(Exception):
    """The traceback in the worker, as text: the cause of the exception that `map` raises."""

    def __init__(self, text: str) -> None:
        super().__init__(text)

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


@dataclass(frozen=True)
class Failure:
    """What went wrong in a worker, so that it can be raised in the caller.

    first, n_rows : rows of the chunk that was set aside; n_rows 0: no chunk, the worker itself.
    """

    first: int
    n_rows: int
    pickled: bytes | None  # the exception, where it survives pickling
    summary: str  # "ValueError: no such thing"
    traceback: str

    @property
    def rows(self) -> range:
        return range(self.first, self.first + self.n_rows)


def failure(error: BaseException, first: int = 0, n_rows: int = 0) -> Failure:
    """Describe an exception that has just been caught."""
    try:
        text = "".join(traceback.format_exception(error))
    except Exception:  # its __str__ raises
        text = "".join(traceback.format_tb(error.__traceback__))
    return Failure(first, n_rows, _pack_error(error), summary(error), text)


def summary(error: BaseException) -> str:
    """One line about an exception."""
    try:
        return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    except Exception:  # its __str__ raises
        return type(error).__name__


def _pack_error(error: BaseException) -> bytes | None:
    """Bytes of an exception that come back as the same type, or None."""
    for pickler in (pickle, _cloudpickle()):
        if pickler is None:
            continue
        try:
            data = bytes(pickler.dumps(error))
            if type(pickle.loads(data)).__qualname__ == type(error).__qualname__:
                return data
        except Exception:  # many exceptions come back wrong or not at all: their __init__ decides
            continue
    return None


def revive(found: Failure, table: str) -> BaseException:
    """The exception to raise in the caller: the original if it came through, else MapError.

    Its cause is the worker's traceback; a note says which rows, of which table.
    """
    error: BaseException | None = None
    if found.pickled is not None:
        try:
            error = pickle.loads(found.pickled)
        except Exception:  # a module that only the worker could import
            error = None
    if not isinstance(error, Exception):  # also SystemExit: the worker's, not the caller's
        error = MapError(f"map: {found.summary}")
    if isinstance(error, MapError) and found.n_rows:
        error.rows = found.rows
    error.__cause__ = RemoteTraceback(found.traceback)
    if found.n_rows:
        error.add_note(rows_note(found.rows, table))
    return error


def rows_text(rows: range) -> str:
    """Rows for people, as a Slice shows them, the last one not included: "4096..8192"."""
    return f"{rows.start}..{rows.stop}"


def rows_note(rows: range, table: str) -> str:
    """Where it happened: "in rows 4096..8192 of table 'flights'"."""
    return f"in rows {rows_text(rows)} of table {table!r}"
