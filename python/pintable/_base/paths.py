# SPDX-License-Identifier: Apache-2.0
"""Where this copy of pintable keeps its headers, its library and its programs.

In a wheel all lies inside the package, in include, lib and bin. A package installed by CMake says
where the library was installed, in a generated module ``_installed``.
"""

from __future__ import annotations

import glob
import importlib.util
import os

__all__ = ["get_include", "get_library_dir", "get_program_path", "get_service_path"]


def _package_dir() -> str:
    """Folder of the native module: not that of the sources in an editable installation."""
    spec = importlib.util.find_spec("pintable._native")
    if spec is not None and spec.origin:
        return os.path.dirname(os.path.abspath(spec.origin))
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def _folder(name: str) -> str:
    """LIBRARY_DIR, INCLUDE_DIR or PROGRAM_DIR as an absolute path."""
    inside = {"LIBRARY_DIR": "lib", "INCLUDE_DIR": "include", "PROGRAM_DIR": "bin"}[name]
    try:
        from pintable import _installed  # type: ignore[attr-defined]  # made by CMake
    except ImportError:
        return os.path.join(_package_dir(), inside)
    return os.path.normpath(os.path.join(_package_dir(), getattr(_installed, name)))


def _existing(path: str, what: str) -> str:
    if not os.path.exists(path):
        raise FileNotFoundError(f"this copy of pintable has no {what}: '{path}' does not exist")
    return path


def get_include() -> str:
    """Folder for the compiler's ``-I``: it holds ``pintable/pintable.h``.

    Raises
    ------
    FileNotFoundError
        The headers were not installed (a Debian system without the development package).
    """
    folder = _folder("INCLUDE_DIR")
    _existing(os.path.join(folder, "pintable", "pintable.h"), "C headers")
    return folder


def get_library_dir() -> str:
    """Folder for the linker's ``-L``: it holds ``libpintable.so``.

    A program or extension that is linked with it also needs to find the library when it is loaded
    (``-Wl,-rpath``), unless pintable is imported first in the same process: there is one copy of
    the library a process, found by its name.

    Raises
    ------
    FileNotFoundError
        The library was not installed there.
    """
    folder = _folder("LIBRARY_DIR")
    if not glob.glob(os.path.join(glob.escape(folder), "libpintable.so*")):
        raise FileNotFoundError(f"this copy of pintable has no library in '{folder}'")
    return folder


def get_service_path() -> str:
    """The program ``pintabled`` that came with this copy.

    It is what the library starts where no service runs, unless ``$PINTABLED`` names another.

    Raises
    ------
    FileNotFoundError
        The program was not installed there.
    """
    beside = os.path.join(_folder("LIBRARY_DIR"), "pintabled")
    if os.path.exists(beside):
        return beside
    return _existing(os.path.join(_folder("PROGRAM_DIR"), "pintabled"), "service program")


def get_program_path() -> str:
    """The program ``pintable``, the command line, that came with this copy.

    Raises
    ------
    FileNotFoundError
        The program was not installed there.
    """
    return _existing(os.path.join(_folder("PROGRAM_DIR"), "pintable"), "command line program")
