"""Keeps programs running, and ends them all.

Does not know what the programs are or whether they are ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from services.local.programs import ROOT, Program

LEASH = Path(__file__).with_name("leash.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long to wait before a program that ended is started again, as Kubernetes does.

    Attributes:
        first: The first pause; each further one is twice as long.
        most: The longest pause.
        forgotten: A program that ran for so long starts again with the first pause.
    """

    first: timedelta = timedelta(seconds=0.5)
    most: timedelta = timedelta(seconds=10)
    forgotten: timedelta = timedelta(seconds=30)

    def after(self, previous: timedelta, ran: timedelta) -> timedelta:
        """Return the next pause.

        Args:
            previous: The pause before the run that has ended; zero before the first.
            ran: How long that run was.
        """
        if not previous or ran >= self.forgotten:
            return self.first
        return min(previous * 2, self.most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """A program ended by itself.

    Attributes:
        program: Which.
        status: Exit status; negative for the signal that ended it.
        pause: Until it is started again.
    """

    program: Program
    status: int
    pause: timedelta


class Supervisor:
    """Runs programs until it is left, each in a process group of its own.

    An async context manager: entering starts every program, leaving ends them,
    first asking (SIGTERM), then forcing (SIGKILL) after `grace`.

    Args:
        programs: What to keep running.
        backoff: When to start again what ended.
        grace: How long an ending program may take.
        started: Called after each start, with nothing to be awaited.
        died: Called when a program has ended by itself.
    """

    def __init__(
        self,
        *,
        programs: Sequence[Program],
        backoff: Backoff,
        grace: timedelta,
        started: Callable[[], None],
        died: Callable[[Death], None],
    ) -> None:
        self._programs = programs
        self._backoff = backoff
        self._grace = grace
        self._started = started
        self._died = died
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._exits: dict[str, asyncio.Future[int]] = {}
        self._keepers: list[asyncio.Task[None]] = []
        # Of our own, since the loop's have few threads and these are held for the whole run.
        self._threads = ThreadPoolExecutor(max_workers=len(programs), thread_name_prefix="wait")

    @property
    def pids(self) -> dict[str, int]:
        """The process of each program: the running one, else the last."""
        return {name: process.pid for name, process in self._processes.items()}

    def kill(self) -> None:
        """End everything this instant; leaving is then immediate."""
        for process in self._processes.values():
            _signal(process, signal.SIGKILL)

    async def __aenter__(self) -> Self:
        for program in self._programs:
            self._start(program)
        self._started()
        self._keepers = [
            asyncio.create_task(self._keep(program), name=f"keep {program.name}")
            for program in self._programs
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        for process in self._processes.values():
            _signal(process, signal.SIGTERM)
        await asyncio.wait(self._exits.values(), timeout=self._grace.total_seconds())
        self.kill()
        await asyncio.wait(self._exits.values())
        self._threads.shutdown()

    async def _keep(self, program: Program) -> None:
        loop = asyncio.get_running_loop()
        pause = timedelta(0)
        while True:
            since = loop.time()
            # Shielded: a cancelled keeper leaves the exit for __aexit__ to await.
            status = await asyncio.shield(self._exits[program.name])
            pause = self._backoff.after(pause, timedelta(seconds=loop.time() - since))
            self._died(Death(program=program, status=status, pause=pause))
            await asyncio.sleep(pause.total_seconds())
            self._start(program)
            self._started()

    def _start(self, program: Program) -> None:
        """Start a program. It does not get a terminal, and Ctrl-C does not reach it."""
        with program.log.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - commands of this project
                [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), *program.command],
                cwd=ROOT,
                env=dict(program.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._processes[program.name] = process
        # A thread waits for it, since asyncio's own way of doing so differs by version.
        loop = asyncio.get_running_loop()
        self._exits[program.name] = loop.run_in_executor(self._threads, _wait, process)


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process to end, however long it runs, and end what it left in its group."""
    status = process.wait()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    return status


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to a process that has not been seen to end, and to its children."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
