"""Planted bugs and failpoints fit the code as it is, and a stale one says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.nemesis.copies import Replacement, StaleReplacementError, copy_services, replaced
from tests.nemesis.failpoints import REPLACEMENTS, matrix
from tests.nemesis.mutants import MUTANTS, Mutant


def test_every_failpoint_has_its_place() -> None:
    """What the points are put into can still be compiled."""
    for name, text in replaced(REPLACEMENTS).items():
        assert compile(text, name, "exec")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_planted_bug_has_its_place(mutant: Mutant) -> None:
    """What a bug is put into can still be compiled."""
    for name, text in replaced(mutant.replacements).items():
        assert compile(text, name, "exec")


def test_each_service_dies_at_each_of_the_fourteen_steps() -> None:
    """The matrix has no hole."""
    steps = {(cell.point.partition("-")[0], cell.victim) for cell in matrix()}

    assert steps == {
        (str(step), victim)
        for step in range(1, 15)
        for victim in ("gateway", "session", "executor")
    }


def test_a_copy_has_the_new_words_and_everything_else(tmp_path: Path) -> None:
    """It can be run like the original, which is left alone."""
    old = '"""Writes an agent\'s log'
    replacement = Replacement("services/session/log.py", old, f"{old}, wrongly")
    copy = copy_services(tmp_path / "copy", [replacement], added={"services/more.py": "x = 1\n"})

    assert "log, wrongly" in (copy / "services/session/log.py").read_text()
    assert "x = 1\n" == (copy / "services/more.py").read_text()
    assert (copy / "moorline/session/v1/turns_pb2.py").exists()
    assert (copy / "services/gateway/static/app.js").exists()


@pytest.mark.parametrize("old", ["never there", "import"])
def test_a_replacement_that_does_not_fit_fails_loudly(old: str) -> None:
    """What is not there exactly once is not replaced in silence."""
    with pytest.raises(StaleReplacementError, match="not once"):
        replaced([Replacement("services/session/log.py", old, "")])


def test_a_replacement_in_a_file_that_is_gone_fails_loudly() -> None:
    """A module that was renamed takes its planted bugs with it."""
    with pytest.raises(StaleReplacementError, match="not there any more"):
        replaced([Replacement("services/gone.py", "x", "")])
