# SPDX-License-Identifier: Apache-2.0
"""The Python benches: a table for people, and with --json FILE one JSON object a line there.

Needs pintable and pandas importable by the interpreter that runs it. Options are in README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import sys

import attach_bench
import handle_bench
import machine
import share_bench
import update_bench
from measure import Report

BENCHES = {
    "share": share_bench.run,
    "attach": attach_bench.run,
    "update": update_bench.run,
    "handle": handle_bench.run,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE", help="append JSON lines to FILE")
    parser.add_argument("--cold", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("bench", nargs="*", help=f"which to run: {', '.join(BENCHES)}; all")
    options = parser.parse_args()
    unknown = set(options.bench) - BENCHES.keys()
    if unknown:
        parser.error(f"no bench {', '.join(sorted(unknown))}")
    if options.cold:
        share_bench.cold(*options.cold)
        return 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(machine.service())
        file = stack.enter_context(open(options.json, "a")) if options.json else None
        report = Report(file)
        machine.facts(report)
        for name in options.bench or BENCHES:
            BENCHES[name](report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
