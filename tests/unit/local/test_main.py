"""The command line of a run on this machine."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from services.local.folder import DataFolder
from services.local.ports import LOOPBACK
from services.local.programs import ROOT


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end, which every test here makes come soon."""
    command = [sys.executable, "-m", "services.local", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={"PATH": ""}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("port", ["x", "70000", "-1", "8080.5"])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    """The error is one line that says what a port is."""
    done = run(f"--port={port}")

    assert 2 == done.returncode
    assert f"{port} is not a port; use 0 to 65535" in done.stderr


def test_a_port_in_use_is_told_with_another(tmp_path: Path) -> None:
    """The person learns what to type, and nothing has been started or made."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen()
        port = listener.getsockname()[1]

        done = run(f"--port={port}", f"--data={tmp_path / 'data'}")

    assert 2 == done.returncode
    assert f"Port {port} is in use. Try:  make run PORT={port + 10}\n" == done.stderr
    assert not (tmp_path / "data").exists()


def test_a_folder_in_use_is_told(tmp_path: Path) -> None:
    """Two runs do not share one folder."""
    with DataFolder(tmp_path):
        done = run("--port=0", f"--data={tmp_path}")

    assert 2 == done.returncode
    assert "is in use by process" in done.stderr


@pytest.mark.parametrize("count", ["0", "-1", "10", "two"])
def test_a_number_of_replicas_that_is_none_is_refused(count: str) -> None:
    """The error says what is."""
    done = run(f"--replicas={count}")

    assert 2 == done.returncode
    assert "--replicas" in done.stderr


def test_a_store_that_is_none_is_refused() -> None:
    """The error names those there are."""
    done = run("--store=paper")

    assert 2 == done.returncode
    assert "sqlite" in done.stderr
    assert "firestore" in done.stderr


def test_replicas_on_sqlite_are_refused(tmp_path: Path) -> None:
    """The person learns what to type, and nothing has been started or made."""
    done = run("--port=0", "--replicas=2", "--store=sqlite", f"--data={tmp_path / 'data'}")

    assert 2 == done.returncode
    assert done.stderr.endswith("Try:  make run REPLICAS=2 STORE=firestore\n")
    assert not (tmp_path / "data").exists()


def test_a_missing_emulator_is_told(tmp_path: Path) -> None:
    """The path is empty here, so there is none; the person learns what to install."""
    done = run("--port=0", "--store=firestore", f"--data={tmp_path}")

    assert 2 == done.returncode
    assert "Install the gcloud command line" in done.stderr
    assert 1 == len(done.stderr.splitlines())


def test_several_replicas_take_the_emulator_by_themselves(tmp_path: Path) -> None:
    """Nothing but their number has to be said; here the emulator is missing, which tells."""
    done = run("--port=0", "--replicas=2", f"--data={tmp_path}")

    assert 2 == done.returncode
    assert "Install the gcloud command line" in done.stderr
