# SPDX-License-Identifier: Apache-2.0
"""What workers of the map tests run: a module, so that every start method can import it."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def double(values: Any) -> Any:
    return values["x"] * 2.0


def pid_of_rows(values: Any) -> Any:
    return values["x"] * 0 + os.getpid()


def increment(values: Any) -> None:
    values["x"][:] += 1


def half_then_sleep(values: Any) -> None:
    """Write half of x in place, say so, and wait for a signal."""
    values["x"][:100] = -5
    os.write(1, b"%d\n" % os.getpid())  # in one piece
    signal.pause()


class NotMine(Exception):
    """An exception that pickles, but does not come back: its __init__ wants two arguments."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


@dataclass(frozen=True)
class Raise:
    """Raises in chunks that hold one of some values of x."""

    at: tuple[int, ...]
    error: type[BaseException] = ValueError
    args: tuple[Any, ...] = ("this is it",)

    def __call__(self, values: Any) -> Any:
        if {int(value) for value in values["x"]} & set(self.at):
            raise self.error(*self.args)
        return values["x"] * 2.0


def first_time(path: str) -> bool:
    """True for one caller only, of all processes."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    return True


@dataclass(frozen=True)
class Die:
    """Writes half of a chunk's x in place, then dies, at every try: by a signal or by exit."""

    at: int  # in the chunk that holds this value of x
    signal: int = signal.SIGKILL
    status: int | None = None

    def __call__(self, values: Any) -> None:
        x = values["x"]
        if self.at in x:
            half = len(x) // 2
            x[:half] = -7
            if self.status is not None:
                os._exit(self.status)
            os.kill(os.getpid(), self.signal)
        x += 1000


@dataclass(frozen=True)
class DieOnce:
    """Adds 1000 to x in place; dies half way through the chunk that holds a value, once."""

    folder: str
    at: int

    def __call__(self, values: Any) -> None:
        x = values["x"]
        half = len(x) // 2
        is_here = self.at in x
        x[:half] += 1000
        if is_here and first_time(f"{self.folder}/died"):
            os.kill(os.getpid(), signal.SIGKILL)
        x[half:] += 1000


@dataclass(frozen=True)
class Note:
    """Leaves a file for each chunk it is called on, named by its first x."""

    folder: str

    def __call__(self, values: Any) -> Any:
        x = values["x"]
        (Path(self.folder) / f"{int(x[0])}-{os.getpid()}").touch()
        return x * 2.0
