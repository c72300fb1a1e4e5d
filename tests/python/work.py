# SPDX-License-Identifier: Apache-2.0
"""What worker processes of the tests run: a module, so that every start method can import it."""

from __future__ import annotations

import os
import signal
from multiprocessing.connection import Connection
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from typing import Any

import pintable


def pid_and_sum(table: pintable.Table) -> tuple[int, float]:
    return os.getpid(), float(table["x"].numpy().sum())


def fill_table(table: pintable.Table, value: float) -> int:
    table["y"].numpy()[:] = value
    return table.rows


def fill_column(column: pintable.Column, value: float) -> int:
    column.numpy()[:] = value
    return len(column)


def fill_slice(piece: pintable.Slice, value: float) -> int:
    piece["y"].numpy()[:] = value
    return len(piece)


def increment_by_job(job: pintable.Job) -> int:
    n_rows = 0
    for part in job:
        part["y"][:] += 1
        n_rows += len(part)
    return n_rows


def name_of_error(handle: bytes) -> str:
    import pickle

    try:
        pickle.loads(handle)
    except pintable.Error as error:
        return type(error).__name__
    return "none"


def try_to_write(table: pintable.Table) -> str:
    try:
        table["x"].numpy()[0] = -1
    except (ValueError, pintable.Error) as error:
        return type(error).__name__
    return "none"


def serve(channel: Connection) -> None:
    """Fill what comes over a pipe, say how many rows it has, until the pipe ends."""
    while True:
        try:
            table = channel.recv()
        except EOFError:
            return
        channel.send(fill_table(table, 5.0))


def take_and_give(inbox: Queue[Any], outbox: Queue[Any]) -> None:
    """Every table of a queue, filled and put into another one; None ends."""
    while (table := inbox.get()) is not None:
        fill_table(table, 6.0)
        outbox.put(table[: table.rows // 2])


def build_and_leave(channel: Connection, n_rows: int) -> None:
    """A table that only its handle, sent before this process ends, leads to."""
    import numpy as np

    table = pintable.create({"x": "float64", "y": "float64"}, n_rows)
    table["x"].numpy()[:] = np.arange(float(n_rows))
    channel.send(table)


def build(n_rows: int) -> pintable.Table:
    table = pintable.create({"x": "float64"}, n_rows)
    table["x"].numpy()[:] = n_rows
    return table


def overwrite_and_hang(table: pintable.Table, channel: Connection) -> None:
    """Hold chunk 0 of y, half written, for ever."""
    with table.lease(0, ["y"]) as part:
        part["y"][: len(part) // 2] = -1
        channel.send("held")
        signal.pause()


def say_so_and_pause(folder: str, part: Any) -> None:
    """Leave a file named after this process, and do not come back."""
    with open(os.path.join(folder, str(os.getpid())), "w"):
        pass
    while True:
        signal.pause()


barrier: Barrier | None = None


def set_barrier(shared: Barrier) -> None:
    global barrier
    barrier = shared


def open_together(handle: bytes) -> float:
    """Open as the first thing that this process does with the pool, all at the same time."""
    import pickle

    assert barrier is not None
    barrier.wait()
    return float(pickle.loads(handle)["x"].numpy().sum())
