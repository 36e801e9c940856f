"""A minute of every fault we know, and not one broken promise."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.nemesis.run import Plan, run

SEED = 20


@pytest.mark.timeout(240)
async def test_a_minute_of_faults_breaks_no_promise(tmp_path: Path) -> None:
    """At least 40 faults and 300 turns: nothing lost, doubled, changed, mixed or stuck."""
    result = await run(Plan(seconds=60, seed=SEED), folder=tmp_path)

    assert [] == result.violations, result.report()
    assert result.faults.total() >= 40, result.report()
    assert result.turns >= 300, result.report()
