"""`python -m tests.load`: measures this machine and says what came of the goals."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from tests.load import bench, figures, processes, readme, report
from tests.load.systems import ROOT


def machine(*, quick: bool) -> figures.Machine:
    """Describe this machine at this moment, without its name."""
    return figures.Machine(
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        revision=_revision(),
        python=platform.python_version(),
        cores=len(os.sched_getaffinity(0)),
        load_before=round(processes.load_average(), 2),
        quick=quick,
    )


def _revision() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two minutes, for a look")
    parser.add_argument("--only", default="", help=f"some of {','.join(bench.MEASURES)}")
    parser.add_argument("--turns", default="", help="numbers of paced turns, such as 25,100")
    parser.add_argument("--seconds", type=float, default=0.0, help="length of each window")
    parser.add_argument(
        "--out",
        type=Path,
        help="file for the figures, as JSON; docs/benchmarks.json renews the READMEs, too",
    )
    arguments = parser.parse_args()
    plan = bench.QUICK if arguments.quick else bench.Plan()
    if arguments.only:
        plan = replace(plan, only=arguments.only.split(","))
    if arguments.turns:
        plan = replace(plan, paced=tuple(map(int, arguments.turns.split(","))))
    if arguments.seconds:
        plan = replace(plan, seconds=arguments.seconds)
    if unknown := set(plan.only) - set(bench.MEASURES):
        parser.error(f"--only: {', '.join(sorted(unknown))}: not a measure")
    measured = bench.measure(plan, machine(quick=arguments.quick), _progress)
    sys.stdout.write(report.terminal(measured))
    if arguments.out is not None:
        arguments.out.write_bytes(figures.dump(measured))
        if arguments.out.resolve() == readme.FIGURES:
            readme.rewrite(measured)


def _progress(what: str) -> None:
    sys.stderr.write(f"{what} …\n")


if __name__ == "__main__":
    main()
