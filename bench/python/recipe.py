# SPDX-License-Identifier: Apache-2.0
"""The baseline: what the usual answer to "share a DataFrame with workers" does.

A structured array in a SharedMemory block, rebuilt into a frame in the worker. Nothing in it is
made slower than people write it. Its text is ASCII here, which needs no further step; what it does
to missing values and other text is shown by examples/usual_recipe.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Recipe:
    """What is sent to the worker."""

    name: str
    n_rows: int
    dtype: np.dtype


def share(frame: pd.DataFrame) -> tuple[SharedMemory, Recipe]:
    """Copy a frame into a block. The caller closes and unlinks it."""
    text = {
        label: f"S{max(map(len, frame[label]))}"
        for label in frame.columns
        if not pd.api.types.is_numeric_dtype(frame[label].dtype)
    }
    records = frame.to_records(index=False, column_dtypes=text)
    block = SharedMemory(create=True, size=records.nbytes)
    shared = np.recarray(records.shape, dtype=records.dtype, buf=block.buf)
    shared[:] = records
    return block, Recipe(block.name, len(frame), records.dtype)


def attach(recipe: Recipe) -> tuple[SharedMemory, pd.DataFrame]:
    """The frame again, in the worker. Text comes back as bytes; decoding it is not counted."""
    block = SharedMemory(name=recipe.name)
    records = np.recarray((recipe.n_rows,), dtype=recipe.dtype, buf=block.buf)
    return block, pd.DataFrame(records)
