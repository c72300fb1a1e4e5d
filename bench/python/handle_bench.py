# SPDX-License-Identifier: Apache-2.0
"""What does a handle cost the process that gets it?

pickle.loads() of a table's handle in a worker that has joined the pool: of a table that it has not
open yet, and of one that it has. No baseline: nothing else does this.
"""

from __future__ import annotations

import pickle
import time

import numpy as np
import pintable
from measure import Report, Spec, check
from worker import Worker

N_TABLES = 200
N_REPEATS = 1_000  # loads in a sample of the repeated ones
N_SAMPLES = 30
N_ROWS = 1_000


# ---- in the worker -------------------------------------------------------------------------------


def time_first(handles: list[bytes]) -> list[float]:
    """us, one after another; all stay open meanwhile."""
    took = []
    tables = []
    for i, handle in enumerate(handles):
        start_ns = time.perf_counter_ns()
        table = pickle.loads(handle)
        took.append((time.perf_counter_ns() - start_ns) / 1e3)
        check(table["x"].numpy()[-1] == i, "another table was opened")
        tables.append(table)
    return took


def time_repeated(handle: bytes) -> list[float]:
    """us, means over N_REPEATS."""
    table = pickle.loads(handle)
    took = []
    for _ in range(N_SAMPLES):
        start_ns = time.perf_counter_ns()
        for _ in range(N_REPEATS):
            again = pickle.loads(handle)
        took.append((time.perf_counter_ns() - start_ns) / N_REPEATS / 1e3)
    check(again.name == table.name and again["x"].numpy()[-1] == 0, "another table was opened")
    return took


# ---- in the parent -------------------------------------------------------------------------------


def run(report: Report) -> None:
    """unpickle_handle_first, unpickle_handle_repeated, and the bytes of one."""
    tables = []
    for i in range(N_TABLES):
        table = pintable.create({"x": "int64"}, N_ROWS, f"{i:032d}")
        table["x"].numpy()[:] = np.full(N_ROWS, i)
        tables.append(table)
    handles = [pickle.dumps(table) for table in tables]
    report.fact("handle_bytes", f"{max(map(len, handles))}, name of 32 characters")
    with Worker() as worker:
        worker.call(time_first, handles[:1])
        took = worker.call(time_first, handles)
        report.row(Spec("unpickle_handle_first", "us", value_max=100), took)
        took = worker.call(time_repeated, handles[0])
        report.row(Spec("unpickle_handle_repeated", "us", value_max=5), took[1:])
    for table in tables:
        table.drop()
