"""The simulated agent as a program of its own, for channels that start programs.

Prints to its output and reads its input, and knows nothing of who is at the other end.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from services.chassis.tasks import Tasks
from services.executor.channel import Exit
from services.executor.channels.simulation.cli import SimulatedCli
from services.executor.channels.simulation.ticker import Ticker


class Printer:
    """Prints what it receives; a reader that is behind holds up everything."""

    def receive(self, lines: Sequence[bytes]) -> None:
        """Print lines."""
        rest = b"\n".join([*lines, b""])
        while rest:
            rest = rest[os.write(1, rest) :]

    def exited(self, ended: Exit) -> None:
        """Nothing follows."""


async def main() -> int:
    """Run until the simulated process exits; return its code."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with Tasks() as tasks:
        cli = SimulatedCli(
            argv=sys.argv,
            environment=os.environ,  # noqa: TID251 - a program of the tests, not a service
            directory=Path.cwd(),
            seed=0,
            ticker=Ticker(),
            tasks=tasks,
        )
        cli.lines.connect(Printer())

        async def read() -> None:
            while line := await reader.readline():
                cli.receive(line)
            cli.close_input()

        tasks.spawn(read(), name="read")
        ended = await cli.exited
        cli.lines.flush()
        return ended.code or 0


if __name__ == "__main__":
    os._exit(asyncio.run(main()))
