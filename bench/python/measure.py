# SPDX-License-Identifier: Apache-2.0
"""Rounds, medians and lines, as bench/support/bench.c has them for the C benches.

A comparison runs rounds of three samples: ours, the baseline, and the baseline again, each in every
place of the round equally often. A round gives one ratio ours / baseline and one ratio
baseline / baseline (the A/A line: what the machine's noise alone does). Reported are medians.

A sample checks its own result and raises when it is wrong: no number without a check.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import IO

# So that each sample is in each place, and after each other one, equally often.
ORDERS = ("OBA", "OAB", "BAO", "ABO", "BOA", "AOB")

Sample = Callable[[], float]


class WrongResult(Exception):
    """A sample's result is not what it must be."""


def check(condition: object, what: str) -> None:
    """End the bench unless condition is true."""
    if not condition:
        raise WrongResult(what)


@dataclass(frozen=True)
class Spec:
    """One measurement: its name, the unit of its samples, what it is compared with, its target."""

    name: str
    unit: str
    baseline: str | None = None
    value_max: float | None = None  # median <= value_max, in the unit
    ratio_max: float | None = None  # median of ours / baseline <= ratio_max
    n_rounds: int = 12
    n_warm: int = 2  # rounds run first and dropped

    def target(self) -> str | None:
        """The target in words; None when there is none."""
        if self.value_max is not None:
            return f"<= {self.value_max:g} {self.unit}"
        if self.ratio_max is not None:
            return f"ratio <= {self.ratio_max:.3g}"
        return None

    def is_met(self, value: float, ratio: float | None) -> bool | None:
        """Whether the medians reach the target; None when there is none."""
        if self.value_max is not None:
            return value <= self.value_max
        if self.ratio_max is not None:
            return ratio is not None and ratio <= self.ratio_max
        return None


@dataclass(frozen=True)
class Summary:
    """Median, and the tenth and ninetieth hundredth: each of the two is a value that was seen."""

    median: float
    p10: float
    p90: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Summary:
        ordered = sorted(values)
        last = len(ordered) - 1
        return cls(median(ordered), ordered[int(0.1 * last + 0.5)], ordered[int(0.9 * last + 0.5)])


def _digits(value: float | None) -> str:
    """Four significant digits, no exponent."""
    if value is None:
        return ""
    size = abs(value)
    if size < 1:
        return f"{value:.4f}"
    return f"{value:.{0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 10 else 3}f}"


class Report:
    """Prints a table for people and, to a file, one JSON object a line.

    Not for several threads.
    """

    def __init__(self, json_file: IO[str] | None) -> None:
        self._json = json_file
        self._has_header = False

    def fact(self, name: str, value: str) -> None:
        """A fact about the machine or the run."""
        print(f"# {name:<28} {value}", flush=True)
        self._line({"fact": name, "value": value})

    def row(
        self, spec: Spec, ours: Sequence[float], baseline: Sequence[float] | None = None
    ) -> None:
        """Report samples; the i-th of both were taken in one round."""
        value = Summary.of(ours)
        base = ratio = None
        if baseline is not None:
            base = Summary.of(baseline)
            ratio = Summary.of([a / b for a, b in zip(ours, baseline, strict=True)])
        met = spec.is_met(value.median, ratio.median if ratio else None)
        target = spec.target()
        self._print(spec, value, len(ours), base, ratio, target, met)
        self._line(
            {
                "bench": spec.name,
                "unit": spec.unit,
                "value": _six(value.median),
                "p10": _six(value.p10),
                "p90": _six(value.p90),
                "n": len(ours),
                "baseline": spec.baseline if base else None,
                "baseline_value": _six(base.median) if base else None,
                "ratio": _six(ratio.median) if ratio else None,
                "ratio_p10": _six(ratio.p10) if ratio else None,
                "ratio_p90": _six(ratio.p90) if ratio else None,
                "target": target,
                "met": met,
            }
        )

    def noise(self, spec: Spec, first: Sequence[float], second: Sequence[float]) -> None:
        """The A/A line: ratios of two samples of the baseline."""
        ratios = [b / a for a, b in zip(first, second, strict=True)]
        self.row(Spec(f"{spec.name}/aa", "ratio"), ratios)

    def measure(self, spec: Spec, ours: Sample, baseline: Sample | None = None) -> None:
        """Run the rounds of a comparison, or of ours alone, and report them."""
        samples: dict[str, list[float]] = {"O": [], "B": [], "A": []}
        for i in range(spec.n_warm + spec.n_rounds):
            for which in ORDERS[i % len(ORDERS)]:
                if which == "O":
                    value = ours()
                elif baseline is not None:
                    value = baseline()
                else:
                    continue
                if i >= spec.n_warm:
                    samples[which].append(value)
        self.row(spec, samples["O"], samples["B"] if baseline is not None else None)
        if baseline is not None:
            self.noise(spec, samples["B"], samples["A"])

    def _line(self, record: dict[str, object]) -> None:
        if self._json is not None:
            self._json.write(json.dumps(record, separators=(",", ":")) + "\n")
            self._json.flush()

    def _print(
        self,
        spec: Spec,
        value: Summary,
        n: int,
        base: Summary | None,
        ratio: Summary | None,
        target: str | None,
        met: bool | None,
    ) -> None:
        form = "{:<34} {:<6} {:>9} {:>9} {:>9} {:>4} {:>9} {:>8}  {}"
        if not self._has_header:
            columns = ("bench", "unit", "median", "p10", "p90", "n", "baseline", "ratio", "target")
            print(form.format(*columns))
            self._has_header = True
        verdict = "" if met is None else ": met" if met else ": MISSED"
        name = "  baseline / baseline" if spec.name.endswith("/aa") else spec.name
        print(
            form.format(
                name,
                spec.unit,
                _digits(value.median),
                _digits(value.p10),
                _digits(value.p90),
                n,
                _digits(base.median if base else None),
                _digits(ratio.median if ratio else None),
                (target or "") + verdict,
            ),
            flush=True,
        )


def _six(value: float) -> float:
    """Six significant digits."""
    return float(f"{value:.6g}")
