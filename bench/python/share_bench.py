# SPDX-License-Identifier: Apache-2.0
"""How long from a pandas frame here to a frame in another process?

From before the first call on the frame to the moment where the worker, which is up and has its
modules loaded, has read a value of every column of its frame. Baselines: the usual recipe
(recipe.py), and pickling the frame to a multiprocessing.Pool. Both frames are checked after that
moment. Cold: the same once in processes that have not shared anything before, with a service that
nobody has joined: joining, first touch of memory and all first calls are in it.
"""

from __future__ import annotations

import multiprocessing as mp
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np
import pandas as pd
import pintable
import recipe
from machine import fresh_process
from measure import Report, Spec, check
from pintable import _native
from worker import Worker

N_ROWS = 1_000_000
N_FLOATS, N_INTS = 4, 3
TEXT_STEP = 101  # every so manieth text is compared
N_COLD = 4
RECIPE, POOL = "the usual recipe", "pickle to a Pool"
NUMERIC, STRINGS = "numeric", "strings"


@dataclass
class Arrival:
    """What a worker says about the frame that it got."""

    at_ns: int  # CLOCK_MONOTONIC, one clock for all processes
    checksums: list[int]
    scan_ns: int  # the first sum over every numeric column


def make_frame(kind: str) -> pd.DataFrame:
    """1 M rows of 7 numeric columns; "strings": with 2 object columns of ASCII text, none missing.

    The recipe is wrong on missing and raises on other text: with these it does what it can.
    """
    random = np.random.default_rng(7)
    columns: dict[str, object] = {f"f{i}": random.random(N_ROWS) for i in range(N_FLOATS)}
    columns |= {f"i{i}": random.integers(0, 1 << 40, N_ROWS) for i in range(N_INTS)}
    frame = pd.DataFrame(columns)
    if kind == STRINGS:
        tails = random.integers(0, 100_000, N_ROWS)
        towns = random.integers(0, 3_000, N_ROWS)
        frame["tail"] = pd.Series([f"N{tail:05d}" for tail in tails], dtype=object)
        frame["town"] = pd.Series([f"town of {'x' * (i % 17)}{i}" for i in towns], dtype=object)
    return frame


def checksums_of(frame: pd.DataFrame) -> list[int]:
    """One number a column; the same for text and for its bytes."""
    result = []
    for label in frame.columns:
        column = frame[label]
        if pd.api.types.is_numeric_dtype(column.dtype):
            result.append(zlib.crc32(np.ascontiguousarray(column.to_numpy())))
        else:
            some = column.iloc[::TEXT_STEP].tolist()
            encoded = [text.encode() if isinstance(text, str) else text for text in some]
            result.append(zlib.crc32(b"\0".join(encoded)))
    result.append(len(frame))
    return result


# ---- in the worker -------------------------------------------------------------------------------


def _arrived(frame: pd.DataFrame) -> Arrival:
    for i in range(frame.shape[1]):
        frame.iat[len(frame) - 1, i]
    at_ns = time.monotonic_ns()
    for label in frame.columns:
        if pd.api.types.is_numeric_dtype(frame[label].dtype):
            frame[label].to_numpy().sum()
    scan_ns = time.monotonic_ns() - at_ns
    return Arrival(at_ns, checksums_of(frame), scan_ns)


def read_shared(table: pintable.Table) -> Arrival:
    return _arrived(table.to_pandas())


def read_recipe(shared: recipe.Recipe) -> Arrival:
    block, frame = recipe.attach(shared)
    arrival = _arrived(frame)
    block.close()
    return arrival


def read_pickled(frame: pd.DataFrame) -> Arrival:
    return _arrived(frame)


def is_up() -> bool:
    """A call that needs this module, and with it all others, and nothing else."""
    return True


def now_ns() -> int:
    return time.monotonic_ns()


# ---- in the parent -------------------------------------------------------------------------------


class Limit:
    """The bytes of a frame of numbers to memory that is shared and in use already; ms a sample."""

    def __init__(self, frame: pd.DataFrame, worker: Worker) -> None:
        self._worker = worker
        schema = {str(label): frame[label].dtype for label in frame.columns}
        self._table = pintable.create(schema, len(frame))
        targets = [np.asarray(self._table[label].numpy()) for label in schema]
        sources = [frame[label].to_numpy() for label in schema]
        self._pairs = list(zip(targets, sources, strict=True))

    def sample(self) -> float:
        for target, _ in self._pairs:
            target[:: 4096 // target.itemsize] = 0
        start_ns = time.monotonic_ns()
        _native.copy(self._pairs)
        at_ns = self._worker.call(now_ns)
        check(all(np.array_equal(*pair) for pair in self._pairs), "copied values")
        return (at_ns - start_ns) / 1e6

    def close(self) -> None:
        self._pairs.clear()
        self._table.drop()
        self._table.close()


class Ways:
    """The three ways to share one frame with a worker. A sample is in ms."""

    def __init__(self, frame: pd.DataFrame, worker: Worker, pool: mp.pool.Pool | None) -> None:
        self._frame = frame
        self._expected = checksums_of(frame)
        self._worker = worker
        self._pool = pool
        self.scans_ms: dict[str, list[float]] = {"ours": [], "recipe": []}

    def ours(self) -> float:
        start_ns = time.monotonic_ns()
        table = pintable.from_pandas(self._frame)
        arrival = self._worker.call(read_shared, table)
        table.drop()
        table.close()
        self.scans_ms["ours"].append(arrival.scan_ns / 1e6)
        return self._took_ms(start_ns, arrival)

    def recipe(self) -> float:
        start_ns = time.monotonic_ns()
        block, shared = recipe.share(self._frame)
        arrival = self._worker.call(read_recipe, shared)
        block.close()
        block.unlink()
        self.scans_ms["recipe"].append(arrival.scan_ns / 1e6)
        return self._took_ms(start_ns, arrival)

    def pool(self) -> float:
        start_ns = time.monotonic_ns()
        arrival = self._pool.apply(read_pickled, (self._frame,))
        return self._took_ms(start_ns, arrival)

    def convert(self) -> float:
        """Only pandas' own conversion of the text columns to Arrow."""
        text = [label for label in self._frame.columns if self._frame[label].dtype == object]
        start_ns = time.monotonic_ns()
        converted = [self._frame[label].astype("string[pyarrow]") for label in text]
        end_ns = time.monotonic_ns()
        check(all(len(column) == N_ROWS for column in converted), "converted rows")
        return (end_ns - start_ns) / 1e6

    def _took_ms(self, start_ns: int, arrival: Arrival) -> float:
        check(arrival.checksums == self._expected, "the worker's frame is another one")
        return (arrival.at_ns - start_ns) / 1e6


def run(report: Report) -> None:
    """share_numeric and share_strings, against both baselines, warm and cold."""
    context = mp.get_context("spawn")
    with Worker() as worker, context.Pool(1) as pool:
        worker.call(is_up)
        pool.apply(is_up)
        ways = Ways(make_frame(NUMERIC), worker, pool)
        _measure(report, Spec("share_numeric", "ms", RECIPE, ratio_max=1 / 50), ways, ways.recipe)
        limit = Limit(make_frame(NUMERIC), worker)
        report.measure(Spec("share_numeric_limit", "ms", RECIPE), limit.sample, ways.recipe)
        limit.close()
        _measure(report, Spec("share_numeric_pool", "ms", POOL, ratio_max=1 / 3), ways, ways.pool)
        _cold(report, "share_numeric_cold", NUMERIC)
        ways = Ways(make_frame(STRINGS), worker, pool)
        strings = Spec("share_strings", "ms", RECIPE, ratio_max=1 / 15, n_rounds=6, n_warm=1)
        _measure(report, strings, ways, ways.recipe)
        spec = Spec("share_strings_pool", "ms", POOL, n_rounds=6, n_warm=1)
        _measure(report, spec, ways, ways.pool)
        share = Spec("share_strings_conversion", "ms", "all of share_strings", n_rounds=6, n_warm=1)
        report.measure(share, ways.convert, ways.ours)
        _cold(report, "share_strings_cold", STRINGS)


def _measure(report: Report, spec: Spec, ways: Ways, baseline: Callable[[], float]) -> None:
    for scans in ways.scans_ms.values():
        scans.clear()
    report.measure(spec, ways.ours, baseline)
    if ways.scans_ms["recipe"]:
        ours, theirs = (median(ways.scans_ms[which]) for which in ("ours", "recipe"))
        report.fact(f"{spec.name}_scan", f"first sum in the worker {ours:.1f} ms, {theirs:.1f} ms")


def _cold(report: Report, name: str, kind: str) -> None:
    samples = {
        which: [float(fresh_process("--cold", kind, which)) for _ in range(N_COLD)]
        for which in ("ours", "recipe", "again")
    }
    spec = Spec(name, "ms", RECIPE)
    report.row(spec, samples["ours"], samples["recipe"])
    report.noise(spec, samples["recipe"], samples["again"])


def cold(kind: str, which: str) -> None:
    """The one sample of a fresh process: printed."""
    frame = make_frame(kind)
    with Worker() as worker:
        worker.call(is_up)
        ways = Ways(frame, worker, None)
        print(ways.ours() if which == "ours" else ways.recipe())
