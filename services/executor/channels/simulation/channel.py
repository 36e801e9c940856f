"""The channel to a simulated agent process, in this process.

Does not know what the lines mean; the simulated CLI does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from services.chassis.tasks import Tasks
from services.executor.channel import Exit, Launch
from services.executor.channels.simulation.cli import SimulatedCli


class SimulationChannel:
    """A `Channel` whose process is an object.

    Args:
        launch: What to start.
        seed: Any number; with it the ids are the same in each run.
        tasks: Owner of the simulated process's tasks.
    """

    def __init__(self, *, launch: Launch, seed: int, tasks: Tasks) -> None:
        self._cli = SimulatedCli(
            argv=launch.argv, directory=launch.directory, seed=seed, tasks=tasks
        )

    async def open(self) -> None:
        """Nothing has to be started."""

    async def write(self, line: bytes) -> None:
        """Hand one line to the process."""
        self._cli.receive(line)

    def lines(self) -> AsyncIterator[Sequence[bytes]]:
        """Yield what the process prints until it is gone."""
        return self._cli.lines.batches()

    async def close_input(self) -> None:
        """Tell the process that no line follows."""
        self._cli.close_input()

    async def kill(self) -> None:
        """End the process at once."""
        self._cli.kill()

    async def wait(self) -> Exit:
        """Wait until the process is gone."""
        return await asyncio.shield(self._cli.exited)
