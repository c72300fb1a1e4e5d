# SPDX-License-Identifier: Apache-2.0
"""Progress of `Table.map`: a tqdm bar, a plain bar, plain lines, calls of the user's function.

Reporters are used by one thread. `update` may be called often; it is cheap when nothing changed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

_BAR_CELLS = 30
_BAR_EVERY_S = 0.2


class Reporter:
    """Shows nothing; base of the others.

    Parameters
    ----------
    total : int
        Rows to do in all.
    title : str
        What is being done, for people.
    """

    def __init__(self, total: int, title: str) -> None:
        self.total = total
        self.title = title
        self.done = -1
        self.redone = 0

    def update(self, done: int, redone: int) -> None:
        """`done` rows are done so far; `redone` times a chunk had to be given out again."""
        if (done, redone) != (self.done, self.redone):
            self.done, self.redone = done, redone
            self.show()

    def show(self) -> None:
        """Show `self.done` and `self.redone`."""

    def close(self) -> None:
        """Leave the terminal as a next line of output expects it."""


class _Calls(Reporter):
    """The user's function gets (rows done, rows in all)."""

    def __init__(self, total: int, title: str, call: Callable[[int, int], Any]) -> None:
        super().__init__(total, title)
        self.call = call
        self.told = -1

    def show(self) -> None:
        if self.told != self.done:
            self.told = self.done
            self.call(self.done, self.total)


class _Tqdm(Reporter):
    def __init__(self, total: int, title: str, tqdm: Any) -> None:
        super().__init__(total, title)

        class Bar(tqdm):  # type: ignore[misc]
            monitor_interval = 0  # no watching thread: this process may fork while the bar is up

        self.bar = Bar(total=total, desc=title, unit="row", unit_scale=True)

    def show(self) -> None:
        if self.redone:
            self.bar.set_postfix_str(_redone(self.redone), refresh=False)
        self.bar.update(self.done - self.bar.n)  # rows done never become fewer within a pass

    def close(self) -> None:
        self.bar.close()


class _Bar(Reporter):
    """One line on a terminal, without tqdm."""

    def __init__(self, total: int, title: str) -> None:
        super().__init__(total, title)
        self.start = time.monotonic()
        self.shown_at = float("-inf")
        self.width = 0

    def show(self) -> None:
        now = time.monotonic()
        if now - self.shown_at >= _BAR_EVERY_S or self.done == self.total:
            self.shown_at = now
            self._write("\r" + _bar_line(self).ljust(self.width))

    def close(self) -> None:
        if self.done >= 0:
            self._write("\r" + _bar_line(self).ljust(self.width) + "\n")

    def _write(self, text: str) -> None:
        self.width = max(self.width, len(text) - 1)
        _stderr(text)


class _Lines(Reporter):
    """A line each tenth of the way, for logs."""

    def __init__(self, total: int, title: str) -> None:
        super().__init__(total, title)
        self.start = time.monotonic()
        self.tenths = 0

    def show(self) -> None:
        tenths = 10 * self.done // self.total if self.total else 10
        if tenths > self.tenths:
            self.tenths = tenths
            _stderr(_line(self.title, self.done, self.total, self.redone, self.start) + "\n")


def _stderr(text: str) -> None:
    if sys.stderr is not None:  # None in processes that were started without one
        sys.stderr.write(text)
        sys.stderr.flush()


def _redone(n: int) -> str:
    return f"{n} chunk{'s' if n != 1 else ''} redone"


def _line(title: str, done: int, total: int, redone: int, start: float) -> str:
    seconds = max(time.monotonic() - start, 1e-9)
    percent = 100 * done // total if total else 100
    text = f"{title}: {percent:3d} %  {done}/{total} rows  {done / seconds:,.0f} rows/s"
    return f"{text}  {_redone(redone)}" if redone else text


def _bar_line(bar: _Bar) -> str:
    done = max(bar.done, 0)
    cells = _BAR_CELLS * done // bar.total if bar.total else _BAR_CELLS
    line = _line(bar.title, done, bar.total, bar.redone, bar.start)
    return f"[{'#' * cells}{'.' * (_BAR_CELLS - cells)}] {line}"


def _is_notebook() -> bool:
    """True in a Jupyter kernel, whose stderr is no terminal but shows bars."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def reporter(progress: bool | Callable[[int, int], Any] | None, total: int, title: str) -> Reporter:
    """The reporter for the argument `progress` of `Table.map`.

    None: a bar when stderr is a terminal or this is a notebook. True: a bar there, else a line each
    tenth. False: nothing. A callable gets (rows done, rows in all).
    """
    if progress is False:
        return Reporter(total, title)
    if callable(progress):
        return _Calls(total, title, progress)
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    if is_terminal or _is_notebook():
        try:
            from tqdm.auto import tqdm
        except ImportError:
            return _Bar(total, title) if is_terminal else Reporter(total, title)
        return _Tqdm(total, title, tqdm)
    return _Lines(total, title) if progress else Reporter(total, title)
