"""Fixtures of the simulation's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.chassis.tasks import Tasks
from services.executor.channels.simulation.cli import SimulatedCli
from tests.unit.executor.simulation.terminal import Start, Terminal


@pytest.fixture
def start(tmp_path: Path, tasks: Tasks) -> Start:
    """Starts a process with a command line."""

    def start(*argv: str) -> Terminal:
        return Terminal(SimulatedCli(argv=argv, directory=tmp_path, seed=0, tasks=tasks))

    return start


@pytest.fixture
async def terminal(start: Start) -> AsyncIterator[Terminal]:
    """A process in the mode that asks."""
    terminal = start("claude", "--permission-mode=default", "--session-id=s1")
    yield terminal
    terminal.cli.kill()
