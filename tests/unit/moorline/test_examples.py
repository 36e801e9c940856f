"""Tests that the examples run, and are typed as strictly as everything else."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.moorline.scripted import Gateway
from tests.unit.moorline.scripted_platform import TOKEN, Turn

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", ["async_turn.py", "sync_turn.py"])
async def test_an_example_runs(gateway: Gateway, name: str) -> None:
    """It prints the answer, allows an edit and refuses a command."""

    async def script(turn: Turn) -> None:
        for tool in ("Edit", "Bash"):
            decision = await turn.ask(tool)
            await turn.say(f"{tool}: {decision['allowed']}")

    gateway.platform.script = script
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(ROOT / "examples" / name), "go"],
        env={"MOORLINE_URL": gateway.url, "MOORLINE_TOKEN": TOKEN, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "" == done.stderr
    assert "Edit: True\n\nBash: False\n" in done.stdout
    assert "5 tokens, $0.0015" in done.stdout
