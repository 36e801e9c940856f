"""A minute of every fault we know, and not one broken promise."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.nemesis.run import Plan, run
from tests.nemesis.scripts import empty_the_database

SEED = 12


@pytest.mark.timeout(240)
async def test_a_minute_of_faults_breaks_no_promise(tmp_path: Path) -> None:
    """At least 40 faults and 300 turns: nothing lost, doubled, changed, mixed or stuck."""
    result = await run(Plan(seconds=60, seed=SEED), folder=tmp_path)

    assert [] == result.violations, result.report()
    assert result.faults.total() >= 40, result.report()
    assert result.turns >= 300, result.report()


@pytest.mark.timeout(120)
async def test_an_emptied_database_is_told_and_never_mixed(tmp_path: Path) -> None:
    """Who follows is told to forget everything, and shows nothing of what is gone."""
    plan = Plan(seconds=12, seed=SEED, users=4, agents=3, script=empty_the_database)
    result = await run(plan, folder=tmp_path)

    assert [] == result.violations, result.report()
    assert result.resets, result.report()
    assert result.turns, result.report()
