"""Each service dies at each step of a turn's life, and clients see what the table says."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.nemesis.failpoints import matrix
from tests.nemesis.matrix import report, run_matrix


@pytest.mark.timeout(900)
async def test_every_service_may_die_at_every_step(tmp_path: Path) -> None:
    """No promise breaks, and the turn ends as the delivery table says."""
    cells = matrix()
    # Most of it is waiting for leases to expire, which two clusters do in half the time.
    halves = await asyncio.gather(
        *(run_matrix(cells[half::2], tmp_path / str(half)) for half in range(2))
    )

    for passed, violations in halves:
        assert [] == violations, report(passed, violations)
