"""Every planted bug is found: a checker that finds none proves nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.nemesis.mutants import MUTANTS, Mutant, find

AT_ONCE = 2
"""Runs at a time: each of them mostly waits."""


def test_there_are_ten() -> None:
    """Ten at least, each by its own name."""
    assert len({mutant.name for mutant in MUTANTS}) >= 10


@pytest.mark.timeout(1200)
async def test_the_checker_finds_every_planted_bug(tmp_path: Path) -> None:
    """A run of some seconds that provokes it is enough."""
    slots = asyncio.Semaphore(AT_ONCE)
    missed: list[str] = []

    async def look(mutant: Mutant) -> None:
        async with slots:
            result = await find(mutant, tmp_path / mutant.name)
        if not result.violations:
            missed.append(f"{mutant.name}\n{result.report()}")

    async with asyncio.TaskGroup() as runs:
        for mutant in MUTANTS:
            runs.create_task(look(mutant))

    assert [] == missed
