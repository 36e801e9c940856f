"""Fixtures of the simulation's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from services.chassis.tasks import Tasks
from services.executor.channels.simulation.cli import SimulatedCli
from services.executor.channels.simulation.ticker import Ticker
from tests.unit.executor.simulation.terminal import Start, Terminal
from tests.unit.jumping import Factories, loops

WITHOUT_SOCKETS = {"test_pace"}
"""Where what is due when is what was waited, whatever the machine does."""


def pytest_asyncio_loop_factories(item: pytest.Item) -> Factories:
    """Let the time of tests jump that have nothing but their own loop to wait for."""
    return loops(jumping=item.path.stem in WITHOUT_SOCKETS)


@pytest.fixture
def start(tmp_path: Path, tasks: Tasks) -> Start:
    """Starts a process with a command line."""

    def start(*argv: str, environment: Mapping[str, str] | None = None) -> Terminal:
        cli = SimulatedCli(
            argv=argv,
            environment=environment or {},
            directory=tmp_path,
            seed=0,
            ticker=Ticker(),
            tasks=tasks,
        )
        return Terminal(cli)

    return start


@pytest.fixture
async def terminal(start: Start) -> AsyncIterator[Terminal]:
    """A process in the mode that asks."""
    terminal = start("claude", "--permission-mode=default", "--session-id=s1")
    yield terminal
    terminal.cli.kill()
