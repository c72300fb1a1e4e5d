# SPDX-License-Identifier: Apache-2.0
"""What the figures were taken on, a service of the bench's own, and processes that start afresh."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pintable
from measure import Report

READY = b"r"
LINGER_S = 30  # a service that this program could not stop is gone so long after it
STOP_S = 10


@contextlib.contextmanager
def service() -> Iterator[str]:
    """Run a service in a folder of its own; $PINTABLE_ADDRESS leads to it meanwhile.

    A process joins once, so every service needs processes that have not joined yet.
    """
    folder = tempfile.mkdtemp(prefix="pintable-bench-", dir=_short_temporary_folder())
    before = os.environ.get("PINTABLE_ADDRESS")
    read_end, write_end = os.pipe()
    program = os.environ.get("PINTABLED") or str(pintable.get_service_path())
    arguments = ["--address", folder, "--private", "--linger", str(LINGER_S)]
    arguments += ["--ready-fd", str(write_end), "--log", f"{folder}/log"]
    process = subprocess.Popen([program, *arguments], pass_fds=[write_end])
    os.close(write_end)
    try:
        if os.read(read_end, 1) == b"":
            raise RuntimeError(f"{program} does not start: {Path(folder, 'log').read_text()}")
        os.environ["PINTABLE_ADDRESS"] = folder
        yield folder
    finally:
        os.close(read_end)
        process.terminate()
        process.wait(STOP_S)
        shutil.rmtree(folder, ignore_errors=True)
        if before is None:
            os.environ.pop("PINTABLE_ADDRESS", None)
        else:
            os.environ["PINTABLE_ADDRESS"] = before


def fresh_process(*arguments: str) -> str:
    """Run bench.py with other arguments, with a service that nobody has joined; its output."""
    program = str(Path(__file__).with_name("bench.py"))
    with service():
        done = subprocess.run(
            [sys.executable, program, *arguments], stdout=subprocess.PIPE, text=True, check=True
        )
    return done.stdout


def facts(report: Report) -> None:
    """Say what machine this is."""
    report.fact("cpu", _line_of("/proc/cpuinfo", "model name") or platform.machine())
    report.fact("cpus", str(len(os.sched_getaffinity(0))))
    report.fact("kernel", f"{platform.release()} {platform.machine()}")
    report.fact("memory_gib", f"{_available_bytes() / 2**30:.1f} available")
    report.fact("load", Path("/proc/loadavg").read_text().strip())
    report.fact("commit", os.environ.get("BENCH_COMMIT") or "none")
    report.fact("python", platform.python_version())
    report.fact("pandas", f"{pd.__version__}, numpy {np.__version__}, pyarrow {_arrow_version()}")
    report.fact("pintable", pintable.__version__)
    table = pintable.create({"x": "float64"}, 1 << 22, "pages")
    values = table["x"].numpy()
    values[:] = 1
    report.fact("pool_pages", pages_of(values))
    del values
    table.drop()


def pages_of(values: np.ndarray) -> str:
    """How the memory of an array is mapped: "2M" when at least half of what is touched is."""
    address = values.__array_interface__["data"][0]
    resident = huge = 0
    is_ours = False
    with open("/proc/self/smaps") as smaps:
        for line in smaps:
            bounds = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
            if bounds:
                is_ours = int(bounds[1], 16) <= address < int(bounds[2], 16)
            elif is_ours:
                name, _, value = line.partition(":")
                if name == "Rss":
                    resident = int(value.split()[0])
                elif name in ("AnonHugePages", "ShmemPmdMapped", "FilePmdMapped"):
                    huge += int(value.split()[0])
    return "2M" if 2 * huge >= resident > 0 else "4k"


def _short_temporary_folder() -> str:
    """A socket's path has room for 107 bytes."""
    wanted = os.environ.get("TMPDIR", "/tmp")
    return wanted if len(wanted) <= 60 else "/tmp"


def _line_of(path: str, prefix: str) -> str | None:
    with open(path) as lines:
        for line in lines:
            if line.startswith(prefix):
                return line.partition(":")[2].strip()
    return None


def _available_bytes() -> int:
    return int((_line_of("/proc/meminfo", "MemAvailable") or "0 kB").split()[0]) * 1024


def _arrow_version() -> str:
    try:
        import pyarrow
    except ImportError:
        return "none"
    return pyarrow.__version__
