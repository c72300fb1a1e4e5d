# SPDX-License-Identifier: Apache-2.0
"""A spawned process that is already up and runs what it is sent, one call after another."""

from __future__ import annotations

import multiprocessing as mp
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


def _serve(channel: Connection) -> None:
    while True:
        try:
            func, args = channel.recv()
        except EOFError:
            return
        try:
            result = (True, func(*args))
        except BaseException:  # whatever it was, the parent must hear of it
            result = (False, traceback.format_exc())
        del func, args  # nothing of a call outlives it: the next one finds the process as before
        channel.send(result)


class Worker:
    """Start one; call() runs a function of an importable module there and returns its result."""

    def __init__(self, start_method: str = "spawn") -> None:
        context = mp.get_context(start_method)
        self._channel, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,))
        self._process.start()
        theirs.close()

    def send(self, func: Callable[..., Any], *args: Any) -> None:
        """Begin a call; receive() is its end."""
        self._channel.send((func, args))

    def receive(self) -> Any:
        ok, result = self._channel.recv()
        if not ok:
            raise RuntimeError(f"in a worker:\n{result}")
        return result

    def call(self, func: Callable[..., Any], *args: Any) -> Any:
        self.send(func, *args)
        return self.receive()

    def close(self) -> None:
        self._channel.close()
        self._process.join()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
