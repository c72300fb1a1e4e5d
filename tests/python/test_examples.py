# SPDX-License-Identifier: Apache-2.0
"""The examples run as they are, and say what they claim."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from child import DEADLINE_S, python_env, tables_of_child_go

pytest.importorskip("pandas")

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run_example(name: str) -> str:
    """Run one from another folder, as a user may; what it prints."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        cwd="/",
        env=python_env(),
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


def test_nothing_is_left_behind() -> None:
    run_example("answer.py")
    tables_of_child_go()
