# SPDX-License-Identifier: Apache-2.0
"""The examples run as they are, and say what they claim."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from child import DEADLINE_S, private_service, python_env, tables_of_child_go

pytest.importorskip("pandas")

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run_example(name: str, *arguments: str, **env: str) -> str:
    """Run one from another folder, as a user may; what it prints."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        cwd="/",
        env=python_env(**env),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_answer() -> None:
    lines = run_example("answer.py").splitlines()
    # Every fourth row is alike: delay 1.5, missing, -3, 20; the second has no tail number.
    n = 100_000
    first, _, third, fourth = (sum(range(i, 4 * n, 4)) for i in range(4))
    expected = {
        "AA": (1.5 * first + n - 3.0 * third + n) / (2 * n),
        "LX": 0.0,
        "SK": (20.0 * fourth + n) / n,
    }
    shown = {line.split()[0]: float(line.split()[1]) for line in lines if line[:2] in expected}
    assert shown == pytest.approx(expected, rel=1e-5)


def test_answer_is_short() -> None:
    assert len((EXAMPLES / "answer.py").read_text().splitlines()) < 20


def test_usual_recipe() -> None:
    output = run_example("usual_recipe.py")
    for claim in ("1. The frame is a copy", "2. The missing value has become text", "3. Text that"):
        assert claim in output


def test_workers() -> None:
    output = run_example("workers.py")
    paid = sum(price * 0.9 if price >= 100 else price for price in range(200)) * 5_000
    assert output.startswith("1000000 rows in ")
    assert output.endswith(f" {paid:.0f} paid\n")


NO_GPU = {"PINTABLE_LIBCUDA": "/nonexistent/libcuda.so.1"}


def test_device_block() -> None:
    first, then = run_example("device_block.py", **NO_GPU).split("host, after one chunk")
    assert "host, at first: 7.63 of 7.63 MiB to the device, 7.63 of 7.63 MiB back" in first
    assert "has changed: 0.06 of 7.63 MiB to the device" in then
    for part in (first, then):
        assert "on the host: mean 0.000, deviation 1.000" in part
    tables_of_child_go()


SUM = sum(range(100_000))


def test_foreign_handle() -> None:
    output = run_example("foreign_handle.py", **NO_GPU)
    assert "no GPU (no CUDA driver" in output and "100000 rows on host, handed over" in output
    assert f"mmap has mapped the descriptor, without pintable: the sum is {SUM}\n" in output
    assert output.endswith(f"sum is {SUM}\n")
    assert "no GPU" not in run_example("foreign_handle.py", "host", **NO_GPU)
    tables_of_child_go()


def test_foreign_handle_on_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    library = os.environ.get("FAKECUDA_LIBRARY")
    if not library:
        pytest.skip("FAKECUDA_LIBRARY does not name the fake CUDA driver")
    if find_spec("cupy") or find_spec("numba"):
        pytest.skip("CuPy and numba would be taken, which need a real driver")
    monkeypatch.setenv("PINTABLE_LIBCUDA", library)  # of the service's broker too
    monkeypatch.setenv("FAKECUDA_ASYNC", "thread")
    with private_service() as service:
        output = run_example("foreign_handle.py", "cuda:0", **service.env)
    assert "on cuda:0, handed over as 64 bytes of a CUDA IPC handle" in output
    assert "the driver has opened the handle (no cupy, no numba), without pintable" in output
    assert output.count(f"sum is {SUM}\n") == 2


def test_nothing_is_left_behind() -> None:
    run_example("answer.py")
    tables_of_child_go()
