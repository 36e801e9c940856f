"""Every planted bug is found: a checker that finds none proves nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.nemesis.mutants import MUTANTS, Mutant, find


def test_there_are_ten() -> None:
    """Ten at least, each by its own name."""
    assert len({mutant.name for mutant in MUTANTS}) >= 10


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
async def test_the_checker_finds_it(mutant: Mutant, tmp_path: Path) -> None:
    """A run of some seconds that provokes it is enough."""
    result = await find(mutant, tmp_path)

    assert result.violations, result.report()
