"""The rules of who may import whom, and that they catch somebody."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rooms.tracked import ROOT, modules

# The command line of import-linter; it has no module to be run by.
CHECK = "import sys; from importlinter.cli import lint_imports_command as run; sys.exit(run())"
FLOORS = "The session service has floors, with its implementations known at the top only"


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    """Check the packages of a folder by the project's rules."""
    options = ["--no-cache", "--no-logo", str(ROOT / "pyproject.toml")]
    command = [sys.executable, "-c", CHECK, *options]
    environment = {"PYTHONPATH": str(folder), "PATH": "", "COLUMNS": "200"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The packages, to be spoilt."""
    for package in ("services", "moorline"):
        shutil.copytree(
            ROOT / package,
            tmp_path / package,
            ignore=shutil.ignore_patterns("static", "node_modules", "__pycache__"),
        )
    return tmp_path


def test_the_rules_hold() -> None:
    """Nobody imports whom it must not know."""
    done = check(ROOT)

    assert 0 == done.returncode, done.stdout


@pytest.mark.parametrize(
    ("file", "line", "rule"),
    [
        ("services/gateway/planted.py", "import services.session", "No service imports another"),
        ("services/local/planted.py", "import services.gateway", "No service imports another"),
        ("services/chassis/planted.py", "import services.executor", "The chassis knows no service"),
        (
            "services/chassis/planted.py",
            "import moorline.session.v1.turns_pb2",
            "The chassis knows no domain noun",
        ),
        ("moorline/planted.py", "import services.chassis", "The client knows no service"),
        ("services/session/turns.py", "import services.session.stores.sqlite", FLOORS),
        ("services/session/turns.py", "import services.session.session", FLOORS),
        (
            "services/session/stores/sqlite.py",
            "import services.session.log",
            "The session service's implementations know their Protocol, not the logic",
        ),
        (
            "services/session/turns.py",
            "import grpc",
            "The session service's logic speaks no gRPC",
        ),
    ],
)
def test_a_planted_import_is_caught(copy: Path, file: str, line: str, rule: str) -> None:
    """Each rule fails on the import it forbids."""
    with (copy / file).open("a") as spoilt:
        spoilt.write(f"{line}\n")

    done = check(copy)

    assert 1 == done.returncode, done.stdout + done.stderr
    assert f"{rule} BROKEN" in done.stdout


API = {
    "chassis": {"diagnosis", "errors"},
    "executor": {"diagnosis", "errors", "transcript", "executor"},
    "session": {"diagnosis", "errors", "transcript", "executor", "session"},
    "gateway": {"diagnosis", "errors", "transcript", "executor", "session", "gateway"},
    "local": set(),
}
"""What of the generated API each room may know: itself, and what stands behind it."""


@pytest.mark.parametrize("room", API)
def test_a_service_knows_the_api_of_what_stands_behind_it(room: str) -> None:
    """The executor knows no session, no service knows the client's code."""
    files = [path for path in modules() if path.parts[:2] == ("services", room)]
    imported = {name for path in files for name in _imported((ROOT / path).read_text())}
    ours = {name for name in imported if name.startswith("moorline.")}
    allowed = tuple(f"moorline.{part}.v1" for part in API[room])

    assert [] == [name for name in sorted(ours) if not name.startswith(allowed)]
    assert "moorline" not in imported


def test_the_generated_api_comes_without_the_client() -> None:
    """A service that imports its protos does not pay for the client's modules."""
    code = "import sys, moorline.errors.v1.errors_pb2; print('websockets' in sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    assert "False" == done.stdout.strip()


def _imported(source: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return names
