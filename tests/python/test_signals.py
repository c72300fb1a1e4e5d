# SPDX-License-Identifier: Apache-2.0
"""Signal handlers in calls that wait: which thread they run in, what they may do, what stays."""

from __future__ import annotations

import textwrap
from importlib.util import find_spec

import pytest
from child import DEADLINE_S, private_service, start_python, tables_of_child_go

needs_numpy = pytest.mark.skipif(not find_spec("numpy"), reason="needs numpy")

PRELUDE = """
import os, signal, sys, threading, time
import pintable

def make(name=None):
    return pintable.create({"x": "int64"}, 10, name)

def signal_soon(number=signal.SIGINT):
    # The wait is on by then; if not, the handler runs before it and the tests still mean the same.
    timer = threading.Timer(0.3, os.kill, (os.getpid(), number))
    timer.daemon = True
    timer.start()
"""


def _run(code: str, freezes: bool = False) -> None:
    """Run in a child; with `freezes` on a service of its own that is stopped where the script says
    `freeze()`, and goes on where it says `thaw()`."""
    if not freezes:
        with start_python(PRELUDE + textwrap.dedent(code)) as process:
            output, errors = process.communicate(timeout=DEADLINE_S)
        tables_of_child_go()
        assert (process.returncode, output, errors) == (0, "", "")
        return
    with private_service() as service:
        pids = service.pids()
        stop = f"""
def freeze():
    for pid in {pids}: os.kill(pid, signal.SIGSTOP)
def thaw():
    for pid in {pids}: os.kill(pid, signal.SIGCONT)
"""
        script = PRELUDE + stop + textwrap.dedent(code)
        with start_python(script, env=service.env) as process:
            output, errors = process.communicate(timeout=DEADLINE_S)
        assert (process.returncode, output, errors) == (0, "", "")


def test_handler_that_does_not_raise_ends_nothing() -> None:
    _run("""
    seen = []
    signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    table = make()
    signal_soon(signal.SIGUSR1)
    start = time.monotonic()
    try:
        table.wait("x", timeout=1.0)
    except pintable.Timeout:
        pass
    else:
        raise AssertionError
    assert seen == [signal.SIGUSR1]
    assert time.monotonic() - start >= 1.0
    """)


@needs_numpy
def test_handler_runs_while_the_wait_is_on() -> None:
    _run("""
    table = make()
    def publish_change(number, frame):  # what the wait is for; only the handler does it
        with table.lease(0, ["x"]) as part:
            part["x"][:] = 1
    signal.signal(signal.SIGUSR1, publish_change)
    signal_soon(signal.SIGUSR1)
    table.wait("x", timeout=30)
    """)


@needs_numpy
def test_wait_of_another_thread_goes_on() -> None:
    _run("""
    table, other = make(), make()
    result = []
    def wait():
        result.append("waits")
        try:
            other.wait("x", timeout=30)
            result.append("changed")
        except BaseException as error:
            result.append(error)
    thread = threading.Thread(target=wait)
    thread.start()
    signal_soon()
    try:
        table.wait("x", timeout=30)
    except KeyboardInterrupt:
        pass
    assert result == ["waits"], result
    with other.lease(0, ["x"]) as part:
        part["x"][:] = 1
    thread.join()
    assert result == ["waits", "changed"], result
    """)


def test_exception_of_any_handler_goes_out() -> None:
    _run("""
    class Stop(Exception):
        pass
    def stop(number, frame):
        raise Stop
    signal.signal(signal.SIGTERM, stop)
    table = make()
    signal_soon(signal.SIGTERM)
    try:
        table.wait("x")
    except Stop:
        pass
    """)


@needs_numpy
def test_request_and_lease_survive_an_interrupt() -> None:
    _run(
        """
    table = make("kept")
    with table.lease(0, ["x"]) as part:
        freeze()
        for _ in range(3):
            signal_soon()
            try:
                make("lost")
            except KeyboardInterrupt:
                pass
            else:
                raise AssertionError
        thaw()
        part["x"][:] = 7
        make("lost").drop()
    assert pintable.list_tables() == ["kept"]
    assert (pintable.open("kept")["x"].numpy() == 7).all()
    """,
        freezes=True,
    )


def test_handler_cannot_make_a_request_inside_another() -> None:
    _run(
        """
    found = []
    table = make("kept")
    def make_inside(number, frame):
        try:
            make("inside")
        except pintable.Error as error:
            found.append(error)
        thaw()
    signal.signal(signal.SIGUSR1, make_inside)
    freeze()
    signal_soon(signal.SIGUSR1)
    make("outside")
    assert [type(error) for error in found] == [pintable.WrongState]
    assert sorted(pintable.list_tables()) == ["kept", "outside"]
    """,
        freezes=True,
    )
