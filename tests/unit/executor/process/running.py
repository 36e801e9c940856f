"""A channel to a small program, and what is heard of it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from services.chassis.tasks import Tasks
from services.executor.channel import Exit
from services.executor.channels.process.channel import ProcessChannel, Start
from services.executor.channels.process.tree import Mark, Trees

PATIENCE_SECONDS = 10

LEAVE_BEHIND = """
import os, pathlib, subprocess, sys, time
sleep = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
# A tool: a session of its own, and an orphan at once.
middle = '''
import os, pathlib, subprocess, sys
one = subprocess.Popen(sys.argv[2:], start_new_session=True, stdout=subprocess.PIPE)
one.stdout.readline()
pathlib.Path(sys.argv[1], str(one.pid)).touch()
os._exit(0)
'''
subprocess.run([sys.executable, "-c", middle, sys.argv[1], *sleep], check=True)
"""
"""Starts a tool that outlives whoever started it."""


def runs(pid: str) -> bool:
    """Tell whether a process runs; one that is dead and not yet waited for does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def started(pids: Path) -> list[str]:
    """Return the processes that left their ids."""
    return [one.name for one in pids.iterdir()]


def alive(pids: Path) -> list[str]:
    """Return those of them that still run."""
    return [pid for pid in started(pids) if runs(pid)]


class Heard:
    """A receiver that keeps what it hears."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.ended: Exit | None = None
        self._news = asyncio.Event()

    def receive(self, lines: Sequence[bytes]) -> None:
        """Take lines; see `Receiver`."""
        assert self.ended is None
        self.lines += lines
        self._news.set()

    def exited(self, ended: Exit) -> None:
        """Hear of the end; see `Receiver`."""
        assert self.ended is None
        self.ended = ended
        self._news.set()

    async def until(self, count: int) -> list[bytes]:
        """Return the lines, once there are so many."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.lines) < count:
                self._news.clear()
                await self._news.wait()
        return self.lines

    async def end(self) -> Exit:
        """Return how it ended, once it has told."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.ended is None:
                self._news.clear()
                await self._news.wait()
        return self.ended


def make_start(
    code: str, *arguments: str, directory: Path, program: str = sys.executable, **variables: str
) -> Start:
    """Return how to start a Python program given as text."""
    return Start(
        # Of this run alone: what is marked is looked for on the whole machine.
        mark=Mark(instance=f"unit-{os.getpid()}", workspace=directory.name),
        program=Path(program),
        arguments=("-c", code, *arguments),
        environment={"PATH": "/usr/bin:/bin", **variables},
        directory=directory,
        folders=(directory / "home",),
    )


@asynccontextmanager
async def channel_to(start: Start, trees: Trees) -> AsyncIterator[ProcessChannel]:
    """A channel not yet open; killed at the end."""
    async with Tasks() as tasks:
        channel = ProcessChannel(start=start, trees=trees, tasks=tasks, roots=set())
        yield channel
        await channel.kill()
