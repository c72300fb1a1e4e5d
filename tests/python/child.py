# SPDX-License-Identifier: Apache-2.0
"""Other Python processes for tests: run a script, look at how it ended, stop a service hard."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pintable

DEADLINE_S = 60  # for what must happen; only a hang takes that long


@dataclass(frozen=True)
class Ended:
    """How a process ended: status is negative for a signal."""

    status: int
    output: str
    errors: str


def python_env(**more: str) -> dict[str, str]:
    """This environment, for interpreters that find the modules that this one does."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return {**os.environ, "PYTHONPATH": path, **more}


def run_python(
    code: str, *arguments: str, env: dict[str, str] | None = None, deadline: float = DEADLINE_S
) -> Ended:
    """Run a script in an interpreter like this one, with the same path and environment."""
    with start_python(code, *arguments, env=env) as process:
        output, errors = process.communicate(timeout=deadline)
    return Ended(process.returncode, output, errors)


@contextlib.contextmanager
def start_python(
    code: str, *arguments: str, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """The same, running meanwhile; killed at the end if it still is."""
    # Python from 3.12 on warns of every fork() beside threads; some scripts are about that.
    options = ["-X", "faulthandler", "-W", "ignore:This process:DeprecationWarning"]
    process = subprocess.Popen(
        [sys.executable, *options, "-c", textwrap.dedent(code), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=python_env(**(env or {})),
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        with contextlib.suppress(ValueError):  # communicate() has closed them
            process.communicate()


def ends_well(code: str, *arguments: str, env: dict[str, str] | None = None) -> str:
    """Run a script that must end with status 0 and write nothing to standard error; its output."""
    ended = run_python(code, *arguments, env=env)
    assert (ended.status, ended.errors) == (0, ""), ended
    return ended.output


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    """Look again and again until it is so; for what other processes do in their own time."""
    end = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < end, f"{what}: not within {DEADLINE_S} s"
        time.sleep(0.001)  # what is waited for may need this CPU


def tables_of_child_go() -> None:
    """Tables that nobody keeps go with the family of processes that made them: a child started with
    an environment of its own is one."""
    wait_until(lambda: pintable.list_tables() == [], "the end of a child's tables")


class PrivateService:
    """A service of one test's own, in a folder of its own, that can be stopped and killed."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        read_end, write_end = os.pipe()
        arguments = ["--address", folder, "--ready-fd", str(write_end), "--log", f"{folder}/log"]
        program = os.environ.get("PINTABLED") or str(pintable.get_service_path())
        self._process = subprocess.Popen([program, *arguments], pass_fds=[write_end])
        os.close(write_end)
        ready = os.read(read_end, 1)
        os.close(read_end)
        assert ready, Path(folder, "log").read_text()
        self._frozen: list[int] = []

    @property
    def env(self) -> dict[str, str]:
        return {"PINTABLE_ADDRESS": self.folder}

    def pids(self) -> list[int]:
        """Keeper, service and preparer."""
        stat = stat_of(self.folder)
        return [stat["keeper_pid"], stat["pid"], stat["preparer_pid"]]

    def kill(self) -> None:
        """Every process of it at once, for good: keeper and service start each other again,
        so all are stopped before any is killed."""
        pids = self.pids()
        for signum in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                os.kill(pid, signum)
        self._process.wait(DEADLINE_S)

    def freeze(self) -> None:
        """Make it answer nobody, without dying, until stop()."""
        self._frozen = self.pids()
        for pid in self._frozen:
            os.kill(pid, signal.SIGSTOP)

    def stop(self) -> None:
        for pid in self._frozen:
            os.kill(pid, signal.SIGCONT)
        self._frozen = []
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait(DEADLINE_S)


@contextlib.contextmanager
def private_service() -> Iterator[PrivateService]:
    with tempfile.TemporaryDirectory(prefix="pt-", dir="/tmp") as folder:
        service = PrivateService(folder)
        try:
            yield service
        finally:
            service.stop()


def stat_of(address: str | None = None) -> dict:
    """What `pintable stat --json` says."""
    arguments = [sys.executable, "-m", "pintable", "stat", "--json"]
    env = python_env() if address is None else python_env(PINTABLE_ADDRESS=address)
    done = subprocess.run(arguments, env=env, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def stop_service_at(address: str) -> None:
    """Stop a service that was started by whoever needed it."""
    arguments = [sys.executable, "-m", "pintable", "stop", "--force"]
    subprocess.run(arguments, env=python_env(PINTABLE_ADDRESS=address), check=True)
