# SPDX-License-Identifier: Apache-2.0
"""The worker processes of `Table.map`, seen from their parent: start, watch, replace, end.

A worker talks through a pipe of its own: ("take", first, n_rows) before each chunk, then one last
message, ("end", Failure or None) or ("broken", Failure). A worker that ends without a last message
has died. A crew is used by one thread.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from .carry import Failure

_TERMINATE_S = 1.0  # from SIGTERM to SIGKILL
_REAP_S = 5.0  # for the end of a killed process, which the kernel may put off


@contextmanager
def interrupts_later() -> Iterator[None]:
    """Put Ctrl-C off to the end of the block, so that no process is lost half way.

    Only the main thread can be interrupted; elsewhere this does nothing. Processes started inside
    begin with SIGINT blocked, for as long as they have not said that they ignore it.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or handler is None:
        yield  # None: a handler that Python did not set and cannot put back
        return
    seen: list[Any] = []
    signal.signal(signal.SIGINT, lambda number, frame: seen.append(frame))
    try:
        was = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            # One that came meanwhile is delivered here, to the handler above.
            signal.pthread_sigmask(signal.SIG_SETMASK, was)
    finally:
        signal.signal(signal.SIGINT, handler)
        if seen and callable(handler):
            handler(signal.SIGINT, seen[0])


@contextmanager
def _importable_main() -> Iterator[None]:
    """Hide the file of a main module that has none, while a process is started.

    A program read from standard input says that its file is "<stdin>", which multiprocessing would
    have each child run. Without it children start as those of an interactive session do.
    """
    main = sys.modules.get("__main__")
    path = getattr(main, "__file__", None)
    if not path or os.path.exists(path) or getattr(main, "__spec__", None) is not None:
        yield
        return
    del main.__file__  # type: ignore[union-attr]
    try:
        yield
    finally:
        main.__file__ = path  # type: ignore[union-attr]


@dataclass(eq=False)
class Worker:
    """One worker process."""

    process: Any  # BaseProcess of some start method
    pipe: Connection
    rows: range | None = None  # of the chunk it took last
    last: tuple[str, Failure | None] | None = None  # its last message

    def read(self) -> bool:
        """Take in what it has said. True when it took a chunk."""
        took = False
        try:
            while self.pipe.poll(0):
                message = self.pipe.recv()
                if message[0] == "take":
                    self.rows = range(message[1], message[1] + message[2])
                    took = True
                else:
                    self.last = (message[0], message[1])
        except (EOFError, OSError, pickle.UnpicklingError):
            pass  # it ended, perhaps in the middle of a message
        return took

    def reason(self) -> str:
        """How it died: "killed by SIGKILL", "ended with status 1"."""
        code = self.process.exitcode
        if code is None or code >= 0:
            return f"ended with status {code}"
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"


class Crew:
    """Worker processes that run `main(pipe, *args)`.

    Parameters
    ----------
    context
        A multiprocessing context.
    main : callable
        Importable function of the worker.
    args : tuple
        What it gets behind its pipe; pickled unless the start method is fork.
    """

    def __init__(self, context: Any, main: Callable[..., None], args: tuple[Any, ...]) -> None:
        self.context = context
        self.main = main
        self.args = args
        self.workers: list[Worker] = []

    def prepare(self) -> None:
        """Start what multiprocessing starts once a process, before SIGINT is blocked for a start.

        The resource tracker unblocks SIGINT as it starts; a fork server would keep it blocked.
        """
        method = self.context.get_start_method()
        if method != "fork":
            from multiprocessing import resource_tracker

            resource_tracker.ensure_running()
        if method == "forkserver":
            from multiprocessing import forkserver

            with _importable_main():
                forkserver.ensure_running()

    def start(self) -> None:
        """Start one worker more."""
        with interrupts_later():
            ours, theirs = self.context.Pipe(duplex=False)
            try:
                # Not a daemon: those may have no children, and func may start some.
                process = self.context.Process(
                    target=self.main, args=(theirs, *self.args), name="pintable-map", daemon=False
                )
                with _importable_main():
                    process.start()
            except BaseException:
                ours.close()
                raise
            finally:
                theirs.close()
            self.workers.append(Worker(process, ours))

    def wait(self, seconds: float) -> list[Worker]:
        """Wait until one speaks or ends. Those that took a chunk since the last call."""
        pipes = [worker.pipe for worker in self.workers if worker.last is None]
        ends = [worker.process.sentinel for worker in self.workers]
        ready = set(wait([*pipes, *ends], seconds)) if ends else set()
        return [worker for worker in self.workers if worker.pipe in ready and worker.read()]

    def ended(self) -> list[Worker]:
        """Take the workers whose process is over off the crew, with all they said read."""
        over = [worker for worker in self.workers if worker.process.exitcode is not None]
        for worker in over:
            worker.read()
            worker.pipe.close()
            worker.process.join()
            self.workers.remove(worker)
        return over

    def kill(self) -> list[Worker]:
        """End every worker now: SIGTERM, then SIGKILL. The workers there were."""
        with interrupts_later():
            workers = list(self.workers)
            for worker in workers:
                worker.process.terminate()
            self._reap(time.monotonic() + _TERMINATE_S)
            for worker in self.workers:
                worker.process.kill()
            self._reap(time.monotonic() + _REAP_S)
            for worker in self.workers:  # in the kernel, where nothing ends it: let it go
                worker.pipe.close()
            self.workers.clear()
            return workers

    def _reap(self, until: float) -> None:
        self.ended()
        while self.workers and (left := until - time.monotonic()) > 0:
            wait([worker.process.sentinel for worker in self.workers], min(left, 0.1))
            self.ended()
