"""`make test-all` runs every test, and accepts no skipped one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.rooms.tracked import ROOT, modules

SKIPS_ITSELF = """
import pytest

def test_of_docker():
    pytest.skip("no engine answers")
"""

SKIPS_ITS_MODULE = """
import pytest

pytest.skip("no engine answers", allow_module_level=True)
"""

IS_EXPECTED_TO_FAIL = """
import pytest

@pytest.mark.xfail(reason="a known gap")
def test_of_a_gap():
    raise AssertionError
"""


def run(folder: Path, source: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run one module of tests by the project's plugin, and nothing else of the project."""
    (folder / "test_it.py").write_text(source)
    (folder / "empty.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-c", "empty.ini", "-p", "tests.conftest"]
    return subprocess.run(
        [*command, "-p", "no:cacheprovider", "-ra", *options, "test_it.py"],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("source", [SKIPS_ITSELF, SKIPS_ITS_MODULE])
def test_a_skipped_test_fails_where_all_are_required(tmp_path: Path, source: str) -> None:
    """What a machine cannot test is a failure there, with the reason."""
    done = run(tmp_path, source, "--require-all")

    assert 0 != done.returncode
    assert "no engine answers" in done.stdout
    assert "skipped" not in done.stdout.splitlines()[-1]


@pytest.mark.parametrize("source", [SKIPS_ITSELF, SKIPS_ITS_MODULE])
def test_a_skipped_test_is_named_otherwise(tmp_path: Path, source: str) -> None:
    """`make test` passes and says what it did not test, and why."""
    done = run(tmp_path, source)

    assert done.returncode in (0, 5)
    assert "no engine answers" in done.stdout
    assert "1 skipped" in done.stdout


def test_a_test_expected_to_fail_is_no_skipped_one(tmp_path: Path) -> None:
    """A known gap is told by its own mark."""
    done = run(tmp_path, IS_EXPECTED_TO_FAIL, "--require-all")

    assert 0 == done.returncode
    assert "1 xfailed" in done.stdout


def test_every_test_is_in_a_command_of_make_test_all() -> None:
    """Its processes of tests share the folders out; a new folder must be somebody's."""
    told = subprocess.run(
        ["make", "--dry-run", "test-all"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    commands = [line.split() for line in told.stdout.splitlines() if " pytest " in line]
    taken = set()
    for words in commands:
        folders = [Path(word) for word in words if word.startswith("tests/")]
        ignored = [Path(word.split("=")[1]) for word in words if word.startswith("--ignore=")]
        taken |= {
            path
            for path in modules()
            if any(path.is_relative_to(folder) for folder in folders)
            and not any(path.is_relative_to(folder) for folder in ignored)
        }

    assert [] == [path for path in modules() if path.name.startswith("test_") and path not in taken]
