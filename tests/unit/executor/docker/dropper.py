"""Runs an agent in a container and is killed: `python -m tests.unit.executor.docker.dropper`.

Its words: the directory of the workspaces, the container's name, lines after which to die, and
the command line.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from services.chassis.tasks import Tasks
from services.executor.channel import Exit, Launch
from services.executor.channels.docker.channel import DockerChannel
from services.executor.workspaces import Workspaces
from tests.contract.channels import containers


class Victim:
    """Dies at a line."""

    def __init__(self, limit: int) -> None:
        self._left = limit

    def receive(self, lines: Sequence[bytes]) -> None:
        """Take lines."""
        self._left -= len(lines)
        if self._left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def exited(self, ended: Exit) -> None:
        """Nothing follows, which was not planned."""
        sys.exit(f"it ended: {ended}")


async def main(root: str, name: str, limit: str, *argv: str) -> None:
    """Run it, and be killed."""
    place = await Workspaces(root=Path(root)).make("abcdefgh")
    launch = Launch(place=place, tenant="t", argv=argv, environment={})
    async with containers.engine() as engine, Tasks() as tasks:
        channel = DockerChannel(
            engine=engine,
            container=name,
            workspace="abcdefgh",
            configuration=containers.configuration(launch),
            prepare=None,
            tasks=tasks,
        )
        await channel.open(Victim(int(limit)))
        await channel.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
