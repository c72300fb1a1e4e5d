# SPDX-License-Identifier: Apache-2.0
"""`temporary`: a table that is dropped at the end of a block."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .._base.errors import Error
from .._base.pool import Address
from .table import Table

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def temporary(
    df: pd.DataFrame, name: str | None = None, *, chunk_rows: int = 0, address: Address = None
) -> Iterator[Table]:
    """Context manager: a table made from a frame, dropped and closed at the end of the block.

    Also when the body raises; its exception wins. Arrays and frames on the table stay valid, and
    its memory goes with the last of them. A child that was forked in the block leaves the table to
    its parent.

    Parameters
    ----------
    df, name, chunk_rows, address
        As for `Table.from_pandas`. Raises what that raises; Exists if the name is taken.
    """
    table = Table.from_pandas(df, name, chunk_rows=chunk_rows, address=address)
    # A handle of its own: the body may close the table, or give it another name.
    native = table._native.pool.open_id(table.id, False)
    maker = os.getpid()
    try:
        yield table
    except BaseException as error:
        try:
            _end(table, native, maker)
        except Error as second:
            error.add_note(f"and the table was not dropped: {second}")
        raise
    _end(table, native, maker)


def _end(table: Table, native: Any, maker: int) -> None:
    table.close()
    try:
        if os.getpid() == maker and not native.dropped:
            native.pool.drop(native.name)
    finally:
        native.close()
