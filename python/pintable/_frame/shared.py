# SPDX-License-Identifier: Apache-2.0
"""Is it still shared? Told by memory address, never by bookkeeping.

pandas copies when it has to (and, from version 3 on, whenever a frame is changed), and says
nothing. `is_shared` looks where the memory of each column lies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._base import pool as _pool
from .._base.errors import TypeMismatch

if TYPE_CHECKING:
    import pandas as pd

    from .._table.table import Table


def _bounds(array: Any) -> tuple[int, int]:
    """First byte and number of bytes that a numpy array spans."""
    import numpy as np

    holder: Any = np.lib.array_utils if hasattr(np.lib, "array_utils") else np  # numpy 2, 1
    low, high = holder.byte_bounds(array)
    return low, high - low


def _arrow_spans(array: Any) -> list[tuple[int, int]]:
    found = array.__arrow_array__()
    chunks = found.chunks if hasattr(found, "chunks") else [found]
    buffers = [buffer for chunk in chunks for buffer in chunk.buffers() if buffer is not None]
    return [(buffer.address, buffer.size) for buffer in buffers if buffer.size]


def _backing(array: Any) -> Any:
    """The numpy array behind a pandas one, or None for those that have another kind of memory."""
    import numpy as np
    import pandas as pd

    if isinstance(array, np.ndarray):
        return array
    if isinstance(array, pd.Categorical):
        return array.codes
    masked = (pd.arrays.IntegerArray, pd.arrays.FloatingArray, pd.arrays.BooleanArray)
    found = getattr(array, "_data" if isinstance(array, masked) else "_ndarray", None)
    return found if isinstance(found, np.ndarray) else None


def values_of(obj: Any) -> Any:
    """The array in a Series or Index as it is held, flags and all."""
    return getattr(obj, "_values", None) if hasattr(obj, "_values") else obj.array


def spans(array: Any) -> list[tuple[int, int]]:
    """(address, bytes) of the memory of an array's values; empty when it cannot be told."""
    backing = _backing(array)
    if backing is not None:
        return [_bounds(backing)] if backing.size else []
    if is_arrow(array):
        return _arrow_spans(array)
    return []


def is_arrow(array: Any) -> bool:
    """True for pandas arrays that hold Arrow memory."""
    return hasattr(array, "_pa_array") and hasattr(array, "__arrow_array__")


def _array_is_shared(array: Any) -> bool:
    found = spans(array)
    return bool(found) and all(_pool.contains(address, n_bytes) for address, n_bytes in found)


def is_shared(obj: Any) -> Any:
    """Does a frame, Series or array still lie in shared memory?

    Of a column with a mask of nulls, the values count; of a categorical, the codes. An array
    without values is not shared.

    Parameters
    ----------
    obj : DataFrame, Series, Index, numpy or pandas array

    Returns
    -------
    dict or bool
        For a frame, a bool for each column label (for a label that is there twice: are both?).
    """
    import numpy as np
    import pandas as pd

    if isinstance(obj, pd.DataFrame):
        found: dict[Any, bool] = {}
        for i, label in enumerate(obj.columns):
            shared = _array_is_shared(values_of(obj.iloc[:, i]))
            found[label] = found.get(label, True) and shared
        return found
    if isinstance(obj, (pd.Series, pd.Index)):
        return _array_is_shared(values_of(obj))
    if isinstance(obj, (np.ndarray, pd.api.extensions.ExtensionArray)):
        return _array_is_shared(obj)
    raise TypeMismatch(f"is_shared takes a frame, Series or array, not {type(obj).__name__}")


# ---- storing what changed ----------------------------------------------------------------------


def writeback(table: Table, df: pd.DataFrame) -> dict[Any, int]:
    """See `Table.writeback`."""
    from . import writeback as _writeback

    return _writeback.writeback(table, df)
