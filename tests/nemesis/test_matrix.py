"""Each service dies at each step of a turn's life, and clients see what the table says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.nemesis.failpoints import matrix
from tests.nemesis.matrix import report, run_matrix


@pytest.mark.timeout(900)
async def test_every_service_may_die_at_every_step(tmp_path: Path) -> None:
    """No promise breaks, and the turn ends as the delivery table says."""
    passed, violations = await run_matrix(matrix(), tmp_path)

    assert [] == violations, report(passed, violations)
