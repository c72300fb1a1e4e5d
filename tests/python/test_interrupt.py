# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C ends every wait, and other threads run while one waits."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap

import pytest
from child import DEADLINE_S, private_service, python_env, start_python, tables_of_child_go

np = pytest.importorskip("numpy")

LIMIT_S = 2.0  # from the signal to KeyboardInterrupt

# interrupted(call): run a call that does not end by itself. A thread sends SIGINT when
# the main thread has not moved for a while and is inside the package: then it waits. That the
# thread can see this at all shows that the wait has released the GIL.
PRELUDE = f"""
import os, signal, sys, threading, time
import numpy as np
import pintable

STILL_S = 0.3
PACKAGE = os.path.dirname(pintable.__file__)

def where(thread_id):
    frame, places, inside = sys._current_frames()[thread_id], [], False
    while frame is not None:
        places.append((frame.f_code, frame.f_lasti))
        inside = inside or frame.f_code.co_filename.startswith(PACKAGE)
        frame = frame.f_back
    return tuple(places), inside

def to_this_process():
    os.kill(os.getpid(), signal.SIGINT)

def to_the_group():  # what a terminal does
    os.killpg(0, signal.SIGINT)

def interrupt(thread_id, sent, is_ready, send):
    while not is_ready():
        time.sleep(0.01)
    last, since = None, time.monotonic()
    while True:
        places, inside = where(thread_id)
        if places != last or not inside:
            last, since = places, time.monotonic()
        if time.monotonic() - since > STILL_S:
            break
        time.sleep(0.01)
    sent.append(time.monotonic())
    send()

def interrupted(call, is_ready=lambda: True, send=to_this_process):
    sent = []
    args = (threading.get_ident(), sent, is_ready, send)
    threading.Thread(target=interrupt, args=args, daemon=True).start()
    try:
        call()
    except KeyboardInterrupt:
        took = time.monotonic() - sent[0]
        assert took < {LIMIT_S}, took
    else:
        raise AssertionError("the call ended by itself")

def make(rows=1000):
    return pintable.create({{"x": "int64", "y": "int64"}}, rows, chunk_rows=512)

def one_chunk():
    return pintable.create({{"x": "int64"}}, 10)

def other_process_holds(table, code):
    # Another session, so that the wait is for somebody else.
    import subprocess
    program = "import pintable, sys; t = pintable.open(sys.argv[1]); " + code
    program += "; print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen([sys.executable, "-c", program, table.name],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\\n"
    return holder

def let_go(holder):
    holder.communicate()
    assert holder.returncode == 0
"""

# Each waits for something that does not come.
WAITS = {
    "lease of another session": """
        table = one_chunk()
        holder = other_process_holds(table, "p = t.lease(0, ['x']); p.__enter__()")
        interrupted(lambda: table.lease(0, ["x"]).__enter__())
        let_go(holder)
        with table.lease(0, ["x"], timeout=10) as part:
            part["x"][:] = 1
        """,
    "lease with a far timeout": """
        table = one_chunk()
        holder = other_process_holds(table, "p = t.lease(0, ['x']); p.__enter__()")
        interrupted(lambda: table.lease(0, ["x"], timeout=1000).__enter__())
        let_go(holder)
        """,
    "next chunk of a job": """
        table = one_chunk()
        holder = other_process_holds(table, "p = iter(t.job('j', inout=['x'])); next(p)")
        job = table.job("j", inout=["x"])
        interrupted(lambda: next(iter(job)))
        let_go(holder)
        assert [len(part) for part in job] == [10]  # it is handed out again
        """,
    "end of a job": """
        table = make()
        job = table.job("j", inout=["x"])
        interrupted(lambda: job.wait())
        """,
    "change of a column": """
        table = make()
        interrupted(lambda: table.wait("x"))
        interrupted(lambda: table.wait("x", timeout=1000))
        """,
}


def _ends(code: str, env: dict[str, str] | None = None) -> None:
    with start_python(PRELUDE + textwrap.dedent(code), env=env) as process:
        output, errors = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, output, errors) == (0, "", "")


@pytest.mark.parametrize("wait", WAITS)
def test_interrupt_ends_a_wait(wait: str) -> None:
    _ends(WAITS[wait])
    tables_of_child_go()


def test_interrupt_ends_joining_a_service_that_does_not_answer() -> None:
    code = """
    interrupted(lambda: pintable.list_tables())
    """
    with private_service() as service:
        service.freeze()
        _ends(code, service.env)


def test_interrupt_ends_a_request_that_is_not_answered() -> None:
    code = """
    table = make()
    print("ready", flush=True)
    sys.stdin.readline()
    interrupted(lambda: make())
    """
    with private_service() as service:
        script = PRELUDE + textwrap.dedent(code)
        with start_python(script, env=service.env) as process:
            assert process.stdout.readline() == "ready\n"
            service.freeze()
            output, errors = process.communicate("\n", timeout=20)
            assert (process.returncode, output, errors) == (0, "", "")


def test_uncaught_interrupt_ends_the_process_by_the_signal() -> None:
    code = """
    table = one_chunk()
    print("ready", flush=True)
    table.wait("x")
    """
    with start_python(PRELUDE + textwrap.dedent(code)) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=DEADLINE_S)
    tables_of_child_go()
    assert process.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")


def test_interrupt_ends_map() -> None:
    """As from a terminal: parent and workers are sent the signal."""
    pytest.importorskip("pandas")
    code = """
    import functools, tempfile, work

    table = make()
    before = table["x"].numpy().copy()
    with tempfile.TemporaryDirectory() as folder:
        func = functools.partial(work.say_so_and_pause, folder)
        interrupted(
            lambda: table.map(func, out={"z": "float64"}, workers=2, progress=False),
            lambda: len(os.listdir(folder)) == 2,
            to_the_group,
        )
    assert (table["x"].numpy() == before).all()
    # Nobody holds anything; what was begun of the new column is torn until it is rewritten.
    with table.lease(0, ["x", "y"], timeout=10):
        pass
    with table.lease(0, ["z"], inout=False, timeout=10) as part:
        part["z"][:] = 0
    """
    ended = _run_in_group(PRELUDE + textwrap.dedent(code))
    assert (ended.returncode, ended.stderr) == (0, "")
    tables_of_child_go()


def _run_in_group(script: str) -> subprocess.CompletedProcess[str]:
    """A child in a process group of its own: a signal to the group stays in it. That nobody of the
    group is left is seen by the pipe, which ends when the last one does."""
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=python_env(),
    ) as process:
        try:
            output, errors = process.communicate(timeout=DEADLINE_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


# ---- the GIL -------------------------------------------------------------------------------------

# A thread counts while the main thread waits in a call for a second; with the GIL held through the
# wait it would count nothing between its start and its end.
COUNTING = """
count, stop, started = 0, threading.Event(), threading.Event()
def run():
    global count
    while not stop.is_set():
        count += 1
        started.set()
counter = threading.Thread(target=run)
counter.start()
started.wait()

def counts(call, expected):
    before = count
    try:
        call()
    except expected:
        pass
    during = count - before
    stop.set()
    counter.join()
    assert during > 1000, during
"""

BLOCKING = {
    "wait": """
        table = make()
        counts(lambda: table.wait("x", timeout=1.0), pintable.Timeout)
        """,
    "lease": """
        table = one_chunk()
        holder = other_process_holds(table, "p = t.lease(0, ['x']); p.__enter__()")
        lease = lambda: table.lease(0, ["x"], timeout=1.0).__enter__()
        counts(lease, (pintable.Timeout, pintable.Busy))
        let_go(holder)
        """,
    "job wait": """
        job = make().job("j", inout=["x"])
        counts(lambda: job.wait(timeout=1.0), pintable.Timeout)
        """,
    "create": """
        counts(lambda: [make(1 << 21).drop() for _ in range(20)], ())
        """,
}


@pytest.mark.parametrize("call", BLOCKING)
def test_other_threads_run_during(call: str) -> None:
    _ends(COUNTING + textwrap.dedent(BLOCKING[call]))
    tables_of_child_go()
