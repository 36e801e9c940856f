"""Planted bugs and failpoints fit the code as it is, and a stale one says so."""

from __future__ import annotations

import compileall
from pathlib import Path

import pytest

from tests.nemesis.copies import Replacement, StaleReplacementError, copy_services
from tests.nemesis.failpoints import copy_with_failpoints, matrix
from tests.nemesis.mutants import MUTANTS, Mutant


def test_every_failpoint_has_its_place(tmp_path: Path) -> None:
    """The copy with all points compiles."""
    copy = copy_with_failpoints(tmp_path / "copy")

    assert compileall.compile_dir(copy / "services", quiet=1)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_planted_bug_has_its_place(tmp_path: Path, mutant: Mutant) -> None:
    """The copy with the bug compiles."""
    copy = copy_services(tmp_path / "copy", mutant.replacements)

    for replacement in mutant.replacements:
        assert compileall.compile_file(copy / replacement.file, quiet=1)


def test_each_service_dies_at_each_of_the_fourteen_steps() -> None:
    """The matrix has no hole."""
    steps = {(cell.point.partition("-")[0], cell.victim) for cell in matrix()}

    assert steps == {
        (str(step), victim)
        for step in range(1, 15)
        for victim in ("gateway", "session", "executor")
    }


@pytest.mark.parametrize("old", ["never there", "import"])
def test_a_replacement_that_does_not_fit_fails_loudly(tmp_path: Path, old: str) -> None:
    """What is not there exactly once is not replaced in silence."""
    with pytest.raises(StaleReplacementError, match="not once"):
        copy_services(tmp_path / "copy", [Replacement("services/session/log.py", old, "")])


def test_a_replacement_in_a_file_that_is_gone_fails_loudly(tmp_path: Path) -> None:
    """A module that was renamed takes its planted bugs with it."""
    with pytest.raises(StaleReplacementError, match="not there any more"):
        copy_services(tmp_path / "copy", [Replacement("services/gone.py", "x", "")])
