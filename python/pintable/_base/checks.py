# SPDX-License-Identifier: Apache-2.0
"""Arguments that users get wrong, and packages they have not installed: errors that say so."""

from __future__ import annotations

import importlib
import operator
import sys
from typing import Any

from .errors import OutOfRange, TypeMismatch


def need(what: str, *packages: str) -> None:
    """ModuleNotFoundError that names what was called and how to get the packages it needs."""
    for package in packages:
        if package not in sys.modules:
            try:
                importlib.import_module(package)
            except ImportError as error:
                raise ModuleNotFoundError(
                    f'{what} needs {package}: pip install "pintable[pandas]"', name=package
                ) from error


def integer(value: Any, what: str) -> int:
    """An int, or what stands for one. TypeMismatch otherwise, for bool too."""
    if not isinstance(value, bool):
        try:
            return operator.index(value)
        except TypeError:
            pass
    raise TypeMismatch(f"{what} must be an int, not {value!r}")


def count(value: Any, what: str) -> int:
    """An int that is not negative. TypeMismatch, OutOfRange."""
    found = integer(value, what)
    if found < 0:
        raise OutOfRange(f"{what} must not be negative, and is {found}")
    return found


def timeout(value: Any) -> Any:
    """Seconds, or None for no limit. TypeMismatch, OutOfRange for a negative number or NaN."""
    if value is None:
        return None
    try:
        seconds = float(value) if not isinstance(value, (str, bytes)) else None
    except TypeError:
        seconds = None
    if seconds is None:
        raise TypeMismatch(f"timeout must be a number of seconds or None, not {value!r}")
    if not seconds >= 0:
        raise OutOfRange(f"timeout must not be negative, and is {value!r}")
    return seconds


def text(value: Any, what: str) -> str:
    """A str. TypeMismatch otherwise."""
    if not isinstance(value, str):
        raise TypeMismatch(f"{what} must be a str, not {value!r}")
    return value
