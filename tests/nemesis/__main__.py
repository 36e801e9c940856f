"""`python -m tests.nemesis`: one run of the nemesis, told in a few lines.

Ends with 1 on a violation; with `--mutant` when there is none.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import tempfile
from pathlib import Path

from tests.nemesis.cluster import ROOT, Shape
from tests.nemesis.failpoints import matrix
from tests.nemesis.matrix import report, run_matrix
from tests.nemesis.mutants import MUTANTS, find
from tests.nemesis.run import Plan, run


def main(arguments: list[str]) -> int:
    """Parse the arguments and make the run."""
    parser = argparse.ArgumentParser(prog="python -m tests.nemesis", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long faults are made")
    parser.add_argument("--seed", type=int, default=None, help="decides everything; random")
    parser.add_argument("--replicas", type=int, default=2, help="pods of each service")
    parser.add_argument("--lease", type=float, default=4, help="seconds of a lease")
    parser.add_argument("--users", type=int, default=6, help="people")
    parser.add_argument("--agents", type=int, default=4, help="agents of each")
    parser.add_argument("--pause", type=float, default=1, help="mean seconds between faults")
    parser.add_argument("--outages", type=int, default=1, help="things away at a time, at most")
    parser.add_argument("--store", default="firestore", choices=["firestore", "sqlite"])
    parser.add_argument("--source", type=Path, default=ROOT, help="folder with services/")
    parser.add_argument("--folder", type=Path, default=None, help="for logs and the record")
    parser.add_argument("--keep", action="store_true", help="write the record in any case")
    names = [mutant.name for mutant in MUTANTS]
    parser.add_argument("--mutant", choices=names, help="plant a bug, which must be found")
    parser.add_argument(
        "--matrix", nargs="*", metavar="CELL", help="the kill matrix, or some cells"
    )
    chosen = parser.parse_args(arguments)
    plan = Plan(
        seconds=chosen.seconds,
        seed=chosen.seed if chosen.seed is not None else random.randrange(10**6),
        shape=Shape(
            replicas=chosen.replicas,
            lease_seconds=chosen.lease,
            store=chosen.store,
            source=chosen.source,
        ),
        users=chosen.users,
        agents=chosen.agents,
        pause=chosen.pause,
        outages=chosen.outages,
    )
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="nemesis-"))
    folder.mkdir(parents=True, exist_ok=True)
    if chosen.matrix is not None:
        cells = [cell for cell in matrix() if not chosen.matrix or cell.name in chosen.matrix]
        passed, violations = asyncio.run(run_matrix(cells, folder, source=chosen.source))
        print(report(passed, violations))  # noqa: T201
        return int(bool(violations))
    if chosen.mutant:
        mutant = next(mutant for mutant in MUTANTS if mutant.name == chosen.mutant)
        result = asyncio.run(find(mutant, folder, source=chosen.source))
        print(f"{mutant.name}: {mutant.bug}\n{result.report()}")  # noqa: T201
        return int(not result.violations)
    print(f"seed {plan.seed}, everything is in {folder}", flush=True)  # noqa: T201
    result = asyncio.run(run(plan, folder=folder, keep=chosen.keep))
    print(result.report())  # noqa: T201
    return int(bool(result.violations))


if __name__ == "__main__":
    # Else what was started and broken would be left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
