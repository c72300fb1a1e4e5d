# SPDX-License-Identifier: Apache-2.0
"""What does it cost to have a shared table as a frame?

In a worker: to_pandas() of 7 numeric columns, against pandas' own work for the same frame,
pd.DataFrame(views, copy=False) with the views at hand. Opening the table from its handle, when the
process has others open but not this one, is apart. None of it may depend on the rows.
"""

from __future__ import annotations

import pickle
import time

import numpy as np
import pandas as pd
import pintable
from measure import Report, Spec, check
from worker import Worker

ROWS = (1_000, 100_000, 1_000_000, 4_000_000)
N_COLUMNS = 7
N_CALLS = 20  # one sample is the mean of so many
BASELINE = "DataFrame(views, copy=False)"


def label(i: int) -> str:
    return f"x{i}"


# ---- in the worker -------------------------------------------------------------------------------


def time_to_pandas(table: pintable.Table) -> float:
    """us."""
    start_ns = time.perf_counter_ns()
    for _ in range(N_CALLS):
        frame = table.to_pandas()
    end_ns = time.perf_counter_ns()
    _check(table, frame)
    return (end_ns - start_ns) / N_CALLS / 1e3


def time_frame(table: pintable.Table) -> float:
    """us."""
    views = {label(i): np.asarray(table[label(i)].numpy()) for i in range(N_COLUMNS)}
    start_ns = time.perf_counter_ns()
    for _ in range(N_CALLS):
        frame = pd.DataFrame(views, copy=False)
    end_ns = time.perf_counter_ns()
    _check(table, frame)
    return (end_ns - start_ns) / N_CALLS / 1e3


def time_open(handle: bytes) -> float:
    """us."""
    start_ns = time.perf_counter_ns()
    table = pickle.loads(handle)
    end_ns = time.perf_counter_ns()
    check(table[label(1)].numpy()[-1] == table.rows, "another table was opened")
    table.close()
    return (end_ns - start_ns) / 1e3


def _check(table: pintable.Table, frame: pd.DataFrame) -> None:
    check(len(frame) == table.rows, "rows")
    check(all(pintable.is_shared(frame).values()), "the frame is a copy")
    for i in range(N_COLUMNS):
        check(frame[label(i)].iat[-1] == i * table.rows, "values")


# ---- in the parent -------------------------------------------------------------------------------


def run(report: Report) -> None:
    """attach/ROWS, with attach_open/ROWS."""
    with Worker() as worker:
        for n_rows in ROWS:
            ends = {label(i): np.full(n_rows, i * float(n_rows)) for i in range(N_COLUMNS)}
            table = pintable.from_pandas(pd.DataFrame(ends))
            handle = pickle.dumps(table)
            spec = Spec(f"attach/{n_rows}", "us", BASELINE, ratio_max=1.5, n_rounds=24, n_warm=6)
            report.measure(
                spec,
                lambda table=table: worker.call(time_to_pandas, table),
                lambda table=table: worker.call(time_frame, table),
            )
            opening = Spec(f"attach_open/{n_rows}", "us", n_rounds=30, n_warm=5)
            report.measure(opening, lambda handle=handle: worker.call(time_open, handle))
            table.drop()
            table.close()
