"""Setting up works with what a machine has, and says what it lacks.

Every program on the path is one of the tests' own, so nothing is downloaded.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.readme import ROOT

OLD = 'case "$1" in --version) echo Python 3.10.9;; *) exit 1;; esac'
"""A Python that is too old: it runs, and fails every check."""

SHIM = 'echo "this version is not installed" >&2; exit 127'
"""What a version switcher leaves on the path for versions that it does not have."""

WITHOUT_VENV = f"""
case "$*" in *"import venv"*) exit 1;; esac
exec {sys.executable} "$@"
"""

GOOD = f"""
if [ "$1 $2" = "-m venv" ]; then
  mkdir -p "$4/bin"
  printf '#!/bin/sh\\necho pip "$@" >> calls\\n' > "$4/bin/python"
  chmod +x "$4/bin/python"
  exit
fi
exec {sys.executable} "$@"
"""
"""A Python whose environments write down what they are told."""

UV = """
echo uv "$@" >> calls
"""


class Machine:
    """A folder to set up in, and the programs that are there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "path"
        self.bin.mkdir()
        for name in ("sh", "dirname", "mkdir", "chmod"):
            (self.bin / name).symlink_to(shutil.which(name) or "")

    def has(self, name: str, script: str) -> None:
        """Put a program on the path."""
        program = self.bin / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    def install(self, *names: str, python: str = "") -> subprocess.CompletedProcess[str]:
        """Set up."""
        return subprocess.run(
            ["sh", str(ROOT / "requirements" / "install.sh"), *names],
            cwd=self.folder,
            env={"PATH": str(self.bin), "VENV": "env", "PYTHON": python},
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def calls(self) -> list[str]:
        """What installers were told, a line each."""
        return (self.folder / "calls").read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with a shell and nothing else."""
    return Machine(tmp_path)


def test_an_old_python_is_told_with_what_to_do(machine: Machine) -> None:
    """The person learns what is there, what is needed, and how to get it."""
    machine.has("python3", OLD)

    done = machine.install("run")

    assert 2 == done.returncode
    assert "needs Python 3.11 or newer; found: Python 3.10.9" in done.stderr
    assert "apt-get install" in done.stderr
    assert "brew install" in done.stderr


def test_no_python_at_all_is_told(machine: Machine) -> None:
    """The same for a machine without any."""
    done = machine.install("run")

    assert 2 == done.returncode
    assert "needs Python 3.11 or newer" in done.stderr


def test_a_missing_venv_module_is_told(machine: Machine) -> None:
    """Debian packs it apart; the package is named with its version."""
    machine.has("python3", WITHOUT_VENV)

    done = machine.install("run")

    assert 2 == done.returncode
    assert "has no venv module" in done.stderr
    assert f"python3.{sys.version_info[1]}-venv" in done.stderr


def test_a_shim_is_no_python(machine: Machine) -> None:
    """A name on the path that does not run is passed over."""
    machine.has("python3.13", SHIM)
    machine.has("python3", GOOD)

    assert 0 == machine.install("run").returncode


def test_pip_installs_what_is_pinned_by_hash(machine: Machine) -> None:
    """Nothing but the listed files of the listed versions gets in."""
    machine.has("python3", GOOD)

    machine.install("run", "build", ".")

    installs = [call for call in machine.calls if "pip install" in call]
    assert "--require-hashes --requirement" in installs[0]
    assert installs[0].endswith("requirements/run.txt")
    assert installs[1].endswith("requirements/build.txt")
    assert installs[2].endswith("--no-deps --no-build-isolation --editable .")


def test_uv_is_used_where_it_is(machine: Machine) -> None:
    """Uv makes the environment and fills it, also where Python is too old."""
    machine.has("python3", OLD)
    machine.has("uv", UV)

    done = machine.install("run")

    assert 0 == done.returncode
    assert machine.calls[0].startswith("uv venv")
    assert "--python >=3.11 env" in machine.calls[0]
    assert machine.calls[1].startswith("uv pip install")
    assert "--require-hashes" in machine.calls[1]


def test_an_environment_that_works_is_kept(machine: Machine) -> None:
    """A second set-up installs, and makes nothing anew."""
    machine.has("python3", GOOD)
    machine.install("run")
    mark = machine.folder / "env" / "mark"
    mark.write_text("")

    done = machine.install("run")

    assert 0 == done.returncode
    assert "Setting up" not in done.stderr
    assert mark.exists()


def test_the_python_can_be_chosen(machine: Machine) -> None:
    """`make run PYTHON=...` takes that one, although another is newer."""
    machine.has("python3", SHIM)
    machine.has("mine", GOOD)

    assert 0 == machine.install("run", python="mine").returncode
