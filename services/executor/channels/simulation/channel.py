"""The channel to a simulated agent process, in this process.

Does not know what the lines mean; the simulated CLI does.
"""

from __future__ import annotations

import asyncio

from services.chassis.tasks import Tasks
from services.executor.channel import Exit, Launch, Receiver
from services.executor.channels.simulation.cli import SimulatedCli
from services.executor.channels.simulation.ticker import Ticker


class SimulationChannel:
    """A `Channel` whose process is an object.

    Args:
        launch: What to start.
        seed: Any number; with it the ids are the same in each run.
        ticker: Wakes what is paced.
        tasks: Owner of the simulated process's tasks.
    """

    def __init__(self, *, launch: Launch, seed: int, ticker: Ticker, tasks: Tasks) -> None:
        self._cli = SimulatedCli(
            argv=launch.argv,
            environment=launch.environment,
            directory=launch.place.files,
            seed=seed,
            ticker=ticker,
            tasks=tasks,
        )

    async def open(self, receiver: Receiver) -> None:
        """Let the process print to its receiver; nothing has to be started."""
        self._cli.lines.connect(receiver)

    async def write(self, line: bytes) -> None:
        """Hand one line to the process."""
        self._cli.receive(line)

    def hold(self) -> None:
        """Keep what the process prints, until `release`."""
        self._cli.lines.hold()

    def release(self) -> None:
        """Hand over what waits, and go on."""
        self._cli.lines.release()

    async def close_input(self) -> None:
        """Tell the process that no line follows."""
        self._cli.close_input()

    async def kill(self) -> None:
        """End the process at once."""
        self._cli.kill()

    async def memory(self) -> int | None:
        """Return None: it has no memory of its own."""
        return None

    async def wait(self) -> Exit:
        """Wait until the process is gone."""
        return await asyncio.shield(self._cli.exited)
