"""Tests of `services.executor.channels.process.launcher`; the tests of channels run it for real."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.executor.channels.process import launcher


def launched(parent: int, *program: str) -> subprocess.CompletedProcess[str]:
    """Run the launcher to its end."""
    command = [sys.executable, "-I", "-S", launcher.__file__, str(parent), *program]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_becomes_the_program() -> None:
    """With its words, and as the first to go when memory is short."""
    code = "import sys; print(sys.argv[1:], open('/proc/self/oom_score_adj').read().strip())"
    done = launched(os.getpid(), sys.executable, "-c", code, "a b", "")

    assert "['a b', ''] 500\n" == done.stdout


def test_starts_nothing_for_a_parent_that_is_gone() -> None:
    """It would not hear of its death any more."""
    done = launched(1 << 30, sys.executable, "-c", "print('started')")

    assert (0, "") == (done.returncode, done.stdout)


def test_says_why_there_is_no_program(tmp_path: Path) -> None:
    """In its last words."""
    done = launched(os.getpid(), str(tmp_path / "none"))

    assert 1 == done.returncode
    assert "The agent's program does not start" in done.stderr


def test_other_systems_do_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is arranged there, and the program is started all the same."""
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(FileNotFoundError):
        launcher.launch(0, [str(tmp_path / "none")])
