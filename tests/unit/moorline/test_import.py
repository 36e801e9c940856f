"""Tests of what importing the package costs and brings in."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import moorline

ROOT = Path(__file__).parents[3]
HEAVY = "grpc google typer rich websockets prompt_toolkit uvloop platformdirs services"


def test_importing_is_cheap() -> None:
    """`import moorline` brings in neither gRPC nor the command line, and adds little to asyncio.

    Judged by what asyncio itself costs in the same process, as machines differ: three times that
    is a tenth of a second of an ordinary one. The best of three: the first one may write byte
    code.
    """
    program = (
        "import sys, time; begun = time.process_time(); import asyncio;"
        "known = time.process_time(); import moorline;"
        "print((time.process_time() - known) / (known - begun));"
        f"print([m for m in sys.modules if m.split('.')[0] in {HEAVY.split()!r}])"
    )
    costs = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
        )
        cost, modules = done.stdout.splitlines()
        assert "[]" == modules
        costs.append(float(cost))
    assert min(costs) < 3


def test_the_public_names_are_sorted_and_there() -> None:
    """`__all__` lists each public name once, in order."""
    assert sorted(moorline.__all__) == moorline.__all__
    assert all(hasattr(moorline, name) for name in moorline.__all__)


def test_no_module_hides_a_generated_package() -> None:
    """The generated API lies beside the client: their names may not meet."""
    generated = {"errors", "transcript", "executor", "session", "gateway"}
    modules = {path.stem for path in (ROOT / "moorline").glob("*.py")}
    assert set() == modules & generated
    source = "\n".join(path.read_text() for path in (ROOT / "moorline").glob("*.py"))
    assert None is re.search(r"^\s*(import|from) (grpc|google)", source, re.MULTILINE)
