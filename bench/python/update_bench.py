# SPDX-License-Identifier: Apache-2.0
"""How long until two workers have changed 128 MiB and the parent has the result?

Each worker adds 1 to every value of its half of the rows. Ours: each gets the handle of a slice
and changes it; the parent reads its own views. Baseline: multiprocessing.Pool.map over the halves
of the frame, which pickles them to the workers and the results back; putting the halves together
again is not counted. update_undo is ours with every chunk under a lease whose old bytes come back
when the worker dies.
"""

from __future__ import annotations

import multiprocessing as mp
import time

import numpy as np
import pandas as pd
import pintable
from measure import Report, Spec, check
from worker import Worker

N_ROWS = 1 << 22
N_COLUMNS = 4
LABELS = [f"x{i}" for i in range(N_COLUMNS)]  # float64: 32 MiB each


# ---- in the workers ------------------------------------------------------------------------------


def add_one_in_place(piece: pintable.Slice) -> None:
    for label in LABELS:
        values = piece[label].numpy()
        np.add(values, 1, out=values)
        piece[label].mark()


def add_one_under_leases(table: pintable.Table, chunks: range) -> None:
    for chunk in chunks:
        with table.lease(chunk, LABELS) as part:
            for label in LABELS:
                values = part[label]
                np.add(values, 1, out=values)


def add_one_to_copy(frame: pd.DataFrame) -> pd.DataFrame:
    return frame + 1


def is_up() -> bool:
    return True


# ---- in the parent -------------------------------------------------------------------------------


class Table:
    """The shared one, and what its values must be now. A sample is in ms."""

    def __init__(self, workers: list[Worker]) -> None:
        self._workers = workers
        self._table = pintable.from_pandas(_frame())
        self._views = [self._table[label].numpy() for label in LABELS]
        self._n_added = 0

    def in_place(self) -> float:
        half = N_ROWS // 2
        start_ns = time.monotonic_ns()
        self._workers[0].send(add_one_in_place, self._table[:half])
        self._workers[1].send(add_one_in_place, self._table[half:])
        return self._finish(start_ns)

    def under_leases(self) -> float:
        half = self._table.chunks // 2
        start_ns = time.monotonic_ns()
        self._workers[0].send(add_one_under_leases, self._table, range(half))
        self._workers[1].send(
            add_one_under_leases, self._table, range(half, self._table.chunks)
        )
        return self._finish(start_ns)

    def _finish(self, start_ns: int) -> float:
        for worker in self._workers:
            worker.receive()
        end_ns = time.monotonic_ns()
        self._n_added += 1
        for i, values in enumerate(self._views):
            check(_holds(values, i + self._n_added), "not every value was changed once")
        return (end_ns - start_ns) / 1e6

    def drop(self) -> None:
        del self._views
        self._table.drop()
        self._table.close()


def _frame() -> pd.DataFrame:
    return pd.DataFrame({label: np.full(N_ROWS, float(i)) for i, label in enumerate(LABELS)})


def _holds(values: np.ndarray, value: float) -> bool:
    return values.min() == value == values.max()


def run(report: Report) -> None:
    """update, and update_undo."""
    context = mp.get_context("spawn")
    with Worker() as first, Worker() as second, context.Pool(2) as pool:
        first.call(is_up)
        second.call(is_up)
        halves = [_frame().iloc[: N_ROWS // 2], _frame().iloc[N_ROWS // 2 :]]

        def pickled() -> float:
            start_ns = time.monotonic_ns()
            changed = pool.map(add_one_to_copy, halves, chunksize=1)
            end_ns = time.monotonic_ns()
            for i, label in enumerate(LABELS):
                check(all(_holds(half[label].to_numpy(), i + 1) for half in changed), "pickled")
            return (end_ns - start_ns) / 1e6

        table = Table([first, second])
        name = "pickled both ways by a Pool"
        spec = Spec("update", "ms", name, ratio_max=1 / 50, n_rounds=12, n_warm=2)
        report.measure(spec, table.in_place, pickled)
        spec = Spec("update_undo", "ms", "update", n_rounds=12, n_warm=2)
        report.measure(spec, table.under_leases, table.in_place)
        table.drop()
