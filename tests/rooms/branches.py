"""Tells how many branches of each service its own tests take; fails below the limit.

`python -m tests.rooms.branches SERVICE …` reads what pytest-cov has written, `.coverage` or
what COVERAGE_FILE names. Coverage's own limit counts lines too, which hide branches.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from coverage import Coverage

LIMIT_PERCENT = 95.0
"""Least share of branches, for each service by itself."""


def taken(report: dict[str, dict[str, dict[str, dict[str, int]]]], service: str) -> float:
    """Percent of a service's branches that were taken."""
    summaries = [
        file["summary"]
        for path, file in report["files"].items()
        if Path(path).is_relative_to(Path("services") / service)
    ]
    covered = sum(summary["covered_branches"] for summary in summaries)
    return 100 * covered / sum(summary["num_branches"] for summary in summaries)


def main(services: list[str]) -> int:
    """Print a line for each service; 1 when one is below the limit."""
    coverage = Coverage()
    coverage.load()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "coverage.json"
        coverage.json_report(outfile=str(path))
        report = json.loads(path.read_text())
    failed = False
    for service in services:
        percent = taken(report, service)
        failed = failed or percent < LIMIT_PERCENT
        print(f"services/{service}: {percent:.1f} % of branches, at least {LIMIT_PERCENT} wanted")  # noqa: T201
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
