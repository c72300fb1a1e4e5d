# SPDX-License-Identifier: Apache-2.0
"""CopyWarning when a frame or Series that holds shared memory is pickled.

What to_pandas gives has plain numpy arrays in it, since pandas compares the classes of arrays. The
warning comes from a reducer for pandas' managers, which hold the arrays of every frame and Series
(also those that pandas made of ours). It is registered with copyreg, which every pickler looks at:
pickle's, multiprocessing's, cloudpickle's, joblib's. It is there for all frames of the process, so
it must be quick, and what is pickled must be what pandas itself would have pickled.

pandas does not promise anything of its managers. Where they are not as expected, nothing warns.
"""

from __future__ import annotations

import copyreg
import sys
from typing import Any

import numpy as np
import pandas as pd

from .._base import pool as _pool
from .._values import view as _view
from . import shared as _shared

_COMPUTED = (pd.RangeIndex, pd.MultiIndex)  # indexes whose rows are made when they are asked for
_is_watched = False


def watch() -> None:
    """Have pickles of frames and Series warn; called for each one that is handed out."""
    global _is_watched
    if _is_watched:
        return
    for obj in (pd.DataFrame(), pd.Series(dtype="i1")):
        manager = getattr(obj, "_mgr", None)
        # A reducer that another package has put there stays.
        if hasattr(manager, "blocks") and type(manager) not in copyreg.dispatch_table:
            copyreg.pickle(type(manager), _reduce)
    _is_watched = True


def _reduce(manager: Any) -> Any:
    try:
        n_bytes = _shared_bytes(manager)
    except Exception:  # whatever this pandas has there, it must not keep a frame from its pickle
        n_bytes = 0
    if n_bytes and not _is_hashing():
        _view.warn_copy(f"pickling a frame copies {n_bytes} bytes of a table")
    # From protocol 2 on, reducing does not depend on the protocol, which is not told here.
    return manager.__reduce_ex__(4)


def _is_hashing() -> bool:
    """Is it joblib.hash, whose pickler reads arrays where they lie and copies none?"""
    hashing = sys.modules.get("joblib.hashing")
    pickler = sys._getframe(2).f_locals.get("self")
    return hashing is not None and isinstance(pickler, hashing.Hasher)


def _shared_bytes(manager: Any) -> int:
    """Bytes of a manager's columns and row index that lie in a pool."""
    pools = list(_pool._joined.values())
    n_bytes = 0
    for block in manager.blocks:
        values = block.values
        if _is_in(values, pools):
            n_bytes += values.nbytes
    index = manager.axes[-1]
    if not isinstance(index, _COMPUTED) and _is_in(index._data, pools):
        n_bytes += index.nbytes
    return n_bytes


def _is_in(array: Any, pools: list[Any]) -> bool:
    """Does any of the memory behind a numpy or pandas array lie in one of the pools?"""
    if not isinstance(array, np.ndarray):
        if _shared.is_arrow(array):
            return _is_arrow_in(array._pa_array, pools)
        backing = getattr(array, "_ndarray", None)
        array = getattr(array, "_data", None) if backing is None else backing
        if not isinstance(array, np.ndarray):
            return False
    if type(array) is _view.View:
        return False  # it warns itself
    # Asking for the address is ten times as slow as this: most arrays own their memory, or are
    # views of one that does. What lies in a pool has something else at its end.
    base = array.base
    while type(base) is np.ndarray:
        base = base.base
    if base is None:
        return False
    start = array.__array_interface__["data"][0]
    # One mapping holds all of it, so one byte answers. An array without rows copies none.
    return array.size > 0 and any(pool.contains(start, 1) for pool in pools)


def _is_arrow_in(array: Any, pools: list[Any]) -> bool:
    """The same of a ChunkedArray; the values of a chunk answer for it, and are its last buffer."""
    for chunk in array.chunks:
        values = chunk.buffers()[-1]
        if values is not None:
            start = values.address
            for pool in pools:
                if pool.contains(start, 1):
                    return True
    return False
