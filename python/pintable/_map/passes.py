# SPDX-License-Identifier: Apache-2.0
"""Passes over the job of a `Table.map`, by processes or an executor, and what a failed one raises.

A map is a job of the table. When a job of the given name is there already, its chunks that are done
stay done: the pending ones are finished, then those that had failed are done in a second job, named
with "~1" behind, through which the others pass untouched; and so on, should those fail in turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, ThreadPoolExecutor
from concurrent.futures import wait as wait_futures
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .. import _native
from .._base.errors import Error, Invalid, MapError
from .._table.job import Job
from . import carry as _carry
from . import progress as _progress
from . import worker as _worker
from .carry import Failure
from .crew import Crew, Worker
from .result import Call

if TYPE_CHECKING:
    from .._table.table import Table

_LOOK_S = 0.1  # between looks at the progress
_STARTS_IN_VAIN = 3  # workers in a row that ended before they took a chunk
_TASKS_END_S = 1.0  # for tasks of an executor, when map is interrupted
_SETTLE_S = 5.0  # for the service to notice the death of workers


# ---- passes ------------------------------------------------------------------------------------


def run(
    table: Table, call: Call, base: str, crew: Processes | Tasks, is_kept: bool
) -> None:
    """Do the job, and what failed in an earlier run of it. Drops the jobs it no longer needs."""
    jobs: list[Job] = []
    is_over = False
    only: frozenset[int] | None = None
    try:
        while True:
            job_name = base if not jobs else f"{base}~{len(jobs)}"
            job = Job(table, job_name, [*call.columns, *call.hidden], call.outs, call.inouts)
            jobs.append(job)
            before = job._failed_chunks()
            crew.run(_worker.Plan(job, call, crew.func, crew.packed, len(before), only))
            if not before:
                break
            only = frozenset(before)
        is_over = True
    finally:
        for job in jobs if is_over or not is_kept else ():
            try:
                job.drop()
            except Error:  # the table was dropped, or the service is gone
                pass
        for job in jobs:
            job.close()


@dataclass
class _Outcome:
    """Failures seen during a pass."""

    job: Job
    failures: list[Failure] = field(default_factory=list)
    deaths: dict[int, str] = field(default_factory=dict)  # first row -> how its worker died

    def add(self, found: Failure | None) -> None:
        if found is not None:
            self.failures.append(found)

    def raise_first(self, old: frozenset[int] | set[int]) -> None:
        """Raise for the lowest rows that failed in this pass; nothing if none did."""
        table = self.job.table
        broken = [found for found in self.failures if not found.n_rows]
        if broken:
            raise _carry.revive(broken[0], table.name)
        by_row = {found.first: found for found in self.failures}
        chunks = [chunk for chunk in self.job._failed_chunks() if chunk not in old]
        failed = {chunk * table.chunk_rows for chunk in chunks} | by_row.keys()
        if not failed:
            return
        first = min(failed)
        if first in by_row:
            raise _carry.revive(by_row[first], table.name)
        rows = range(first, min(first + table.chunk_rows, table.rows))
        how = self.deaths.get(first, "died")
        raise map_error(
            f"map: the workers that had rows {_carry.rows_text(rows)} of table {table.name!r} died,"
            f" the last one {how}",
            rows,
        )


def map_error(message: str, rows: range = range(0)) -> MapError:
    error = MapError(message)
    error.rows = rows
    return error


def _is_over(job: Job) -> bool:
    counts = job.progress()
    return counts.n_done + counts.n_failed == counts.n_chunks


def _show(reporter: _progress.Reporter, job: Job) -> None:
    counts = job.progress()
    done = min(counts.n_done * job.table.chunk_rows, job.table.rows)
    reporter.update(done, counts.n_redone)


# ---- worker processes --------------------------------------------------------------------------


class Processes:
    """Runs passes in processes of its own."""

    def __init__(
        self, func: Callable[..., Any], start_method: str | None, n_workers: int
    ) -> None:
        import multiprocessing

        try:
            self.context: Any = multiprocessing.get_context(start_method)
        except ValueError as error:
            raise Invalid(f"map: {error}") from None
        self.n_workers = n_workers
        self.reporter = _progress.Reporter(0, "")
        # Under fork the function is inherited as it is, so any will do.
        self.func = func
        self.packed = None if self.context.get_start_method() == "fork" else _carry.pack(func)

    def run(self, plan: _worker.Plan) -> None:
        """One pass; raises what it failed with."""
        outcome = _Outcome(plan.job)
        old = set(plan.job._failed_chunks()) if plan.n_failed else set()
        crew = Crew(self.context, _worker.main, (plan,))
        crew.prepare()
        try:
            self._watch(crew, plan, outcome)
        except BaseException:
            held = [worker.rows.start for worker in crew.kill() if worker.rows is not None]
            _settle(plan, [first // plan.job.table.chunk_rows for first in held])
            raise
        outcome.raise_first(old)
        _show(self.reporter, plan.job)

    def _watch(self, crew: Crew, plan: _worker.Plan, outcome: _Outcome) -> None:
        """Until every worker has ended: start as many as needed, listen, replace the dead."""
        in_vain = 0
        shown_at = float("-inf")
        for _ in range(self.n_workers):
            crew.start()
        while crew.workers:
            if crew.wait(_LOOK_S):
                in_vain = 0
            for worker in crew.ended():
                if worker.last is not None:
                    outcome.add(worker.last[1])
                    if worker.last[0] == "broken":
                        outcome.raise_first(frozenset())
                    continue
                if worker.rows is not None:
                    in_vain = 0
                    outcome.deaths[worker.rows.start] = worker.reason()
                else:
                    in_vain += 1
                    if in_vain >= _STARTS_IN_VAIN:
                        raise self._in_vain(worker)
                if plan.job.progress().n_failed == plan.n_failed and not _is_over(plan.job):
                    crew.start()
            if not crew.workers and not outcome.failures and not _is_over(plan.job):
                # All ended well but for chunks handed back behind them.
                if plan.job.progress().n_failed == plan.n_failed:
                    crew.start()
            if time.monotonic() - shown_at >= _LOOK_S:
                shown_at = time.monotonic()
                _show(self.reporter, plan.job)

    def _in_vain(self, worker: Worker) -> MapError:
        text = (
            f"map: {_STARTS_IN_VAIN} workers in a row died before they took a chunk, the last one"
            f" {worker.reason()}; what they wrote to stderr may say why"
        )
        if self.context.get_start_method() != "fork":
            text += '. A script must call map under `if __name__ == "__main__":`'
        return map_error(text)


def _settle(plan: _worker.Plan, chunks: Iterable[int]) -> None:
    """Put the old bytes of inout columns back in chunks that workers may have died in.

    The library does it for whoever wants such a chunk next; here is who reads them plainly.
    """
    if not plan.call.inouts:
        return
    table = plan.job.table
    columns = [table._field(name).native for name in plan.call.inouts]
    until = time.monotonic() + _SETTLE_S
    for chunk in chunks:
        try:
            left = max(0.0, until - time.monotonic())
            # To get it is all that is wanted; UPDATE saves nothing.
            table._native.claim(columns, chunk, _native.UPDATE, left).commit()
        except Error:
            pass  # somebody lives who has it, or nobody can put them back: the chunk says so


# ---- tasks of an executor ----------------------------------------------------------------------


class Tasks:
    """Runs passes as tasks of an executor of the caller's."""

    def __init__(self, func: Callable[..., Any], executor: Any, n_workers: int) -> None:
        self.executor = executor
        self.n_workers = n_workers
        self.reporter = _progress.Reporter(0, "")
        self.func = func  # threads get it as it is
        self.packed = None if isinstance(executor, ThreadPoolExecutor) else _carry.pack(func)

    def run(self, plan: _worker.Plan) -> None:
        """One pass; raises what it failed with."""
        outcome = _Outcome(plan.job)
        old = set(plan.job._failed_chunks()) if plan.n_failed else set()
        tasks: set[Any] = set()
        try:
            self._watch(plan, outcome, tasks)
        except BaseException:
            _stop_tasks(plan, tasks)
            _settle(plan, range(plan.job.table.chunks))  # who had which is not known
            raise
        outcome.raise_first(old)
        _show(self.reporter, plan.job)

    def _watch(self, plan: _worker.Plan, outcome: _Outcome, tasks: set[Any]) -> None:
        rounds = 0
        done_before = -1
        while not outcome.failures and not _is_over(plan.job):
            counts = plan.job.progress()
            if counts.n_failed > plan.n_failed:
                return
            rounds = rounds + 1 if counts.n_done == done_before else 0
            done_before = counts.n_done
            if rounds >= _STARTS_IN_VAIN:
                raise map_error(f"map: {rounds} rounds of tasks ended and did no chunk")
            tasks.update(self.executor.submit(_worker.task, plan) for _ in range(self.n_workers))
            while tasks:
                over, _ = wait_futures(tasks, _LOOK_S, FIRST_COMPLETED)
                for task in over:
                    tasks.remove(task)
                    outcome.add(_task_result(task, plan))
                _show(self.reporter, plan.job)


def _task_result(task: Any, plan: _worker.Plan) -> Failure | None:
    try:
        return task.result()  # type: ignore[no-any-return]
    except BrokenExecutor as error:
        raise map_error(
            f"map: a worker process of the executor died: {error} (the chunk it had is as before;"
            f" workers=N has map start processes that are replaced)"
        ) from error


def _stop_tasks(plan: _worker.Plan, tasks: set[Any]) -> None:
    """Let running tasks take no further chunk: they stop when one has failed.

    If no chunk is left to fail, they stop by themselves. Chunks in flight finish in their time.
    """
    for task in tasks:
        task.cancel()
    try:
        part = plan.job.next(0)
        if part is not None:
            part.reject("map was interrupted")
    except Error:
        pass  # others hold what is left, or this process does
    wait_futures(tasks, _TASKS_END_S)
