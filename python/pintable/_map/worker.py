# SPDX-License-Identifier: Apache-2.0
"""What a worker of `Table.map` does: take a chunk, call the function, store, done; again.

The same loop runs in the processes that map starts, in tasks of an executor, and in its threads.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from .._base.errors import Again, NotFound, Timeout
from . import carry as _carry
from .carry import Failure

if TYPE_CHECKING:
    from .._table.job import Job
    from .result import Call

_WAIT_S = 0.5  # for chunks that others hold, between looks at whether to stop
_SCAN_EACH_CHUNKS = 1024  # a job of so many chunks is looked at before each chunk
_SCAN_EVERY_S = 0.02  # a larger one so often
_PARENT_EVERY_S = 1.0


@dataclass(frozen=True)
class Plan:
    """One pass over a job, the same for every worker. Pickles small: job is a handle."""

    job: Job
    call: Call  # how func is called and what it returns is stored
    func: Callable[..., Any] | None  # None where only bytes can travel
    packed: bytes | None
    n_failed: int  # chunks of the job that had failed before this pass
    only: frozenset[int] | None = None  # chunks to call func on; the others pass as they are

    def function(self) -> Callable[..., Any]:
        """The function in this process; MapError if it cannot be made here."""
        if self.packed is not None:
            return _carry.unpack(self.packed)
        assert self.func is not None
        return self.func

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "func": None}


class _Stop:
    """Whether a chunk of this pass has failed, here or elsewhere: then no more are taken."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.looked_at = float("-inf")
        self.found = False

    def __call__(self) -> bool:
        now = time.monotonic()
        is_small = self.plan.job.table.chunks <= _SCAN_EACH_CHUNKS
        if not self.found and (is_small or now - self.looked_at >= _SCAN_EVERY_S):
            self.looked_at = now
            self.found = self.plan.job.progress().n_failed > self.plan.n_failed
        return self.found


def drain(
    plan: Plan, func: Callable[..., Any], took: Callable[[int, int], None]
) -> Failure | None:
    """Do chunks until there are none, or one has failed. The failure, if it happened here.

    took(first, n_rows) is called before the function gets a chunk. Raises what the library raises
    when chunks cannot be had (Torn, ServiceGone, ...).
    """
    stop = _Stop(plan)
    while not stop():
        try:
            part = plan.job.next(_WAIT_S)
        except Timeout:
            continue
        except Again:
            return None  # other threads of this process hold the last ones
        if part is None:
            return None
        if plan.only is not None and part.chunk not in plan.only:
            part.done()  # its rows hold the result of an earlier pass
            continue
        first, n_rows = part.first, part.n_rows
        took(first, n_rows)
        try:
            plan.call.run(func, part)
        except KeyboardInterrupt:
            part.fail("interrupted")  # handed back: it is nobody's fault
            raise
        except BaseException as error:  # SystemExit too: func ended, with no result
            found = _carry.failure(error, first, n_rows)
            del error
            part.reject(found.summary)
            return found
        part.done()
    return None


# ---- worker processes of map itself ------------------------------------------------------------


def main(pipe: Connection, plan: Plan) -> None:
    """Body of a worker process. Says what it did through the pipe (see crew.py)."""
    # Ctrl-C reaches the whole process group; the parent decides what it means. It started us with
    # SIGINT blocked; children of func are to find it as usual.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, name="pintable-parent", daemon=True).start()
    try:
        found = drain(
            plan, plan.function(), lambda first, n_rows: pipe.send(("take", first, n_rows))
        )
        message: tuple[str, Failure | None] = ("end", found)
    except BrokenPipeError:
        os._exit(1)  # the parent is gone
    except BaseException as error:
        message = ("broken", _carry.failure(error))
    try:
        pipe.send(message)
        pipe.close()
    except BrokenPipeError:
        os._exit(1)


def _end_with_parent() -> None:
    """End this process when its parent does, whatever func is doing.

    The sentinel alone may come late: under fork, later siblings hold the same pipe. Hence also the
    look at the parent's id, which a fork server does not show.
    """
    parent = parent_process()
    if parent is None:
        return
    is_child = os.getppid() == parent.pid
    while True:
        is_over = bool(wait([parent.sentinel], _PARENT_EVERY_S))
        if is_over or (is_child and os.getppid() != parent.pid):
            os._exit(1)


# ---- tasks of an executor ----------------------------------------------------------------------


def task(plan: Plan) -> Failure | None:
    """Body of one task of an executor. The failure of a chunk, or None.

    A task that starts late, when map has ended and dropped its job, has nothing to do.
    """
    func = plan.function()
    try:
        plan.job.progress()  # joins the job, where it has come here as a handle
    except NotFound:
        return None
    return drain(plan, func, lambda first, n_rows: None)
