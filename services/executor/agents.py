"""Which agent process serves which workspace: started, reused, put to sleep.

Does not know what a turn is made of, nor which program the processes run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta

from services.chassis.metrics import Metrics
from services.chassis.tasks import Tasks
from services.executor.agent_process import AgentProcess, Work
from services.executor.backend import Backend
from services.executor.workspaces import Place, Workspaces


class _Seat:
    """A workspace's place: the process that sits there, if any."""

    __slots__ = ("backend", "lock", "process", "purpose", "timer", "visitors")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.visitors = 0
        self.process: AgentProcess | None = None
        self.purpose: tuple[object, ...] = ()
        self.backend = ""
        self.timer: asyncio.TimerHandle | None = None


class Agents:
    """One agent process for each active workspace.

    A process is started by the first execution in its workspace, reused by those that continue
    its conversation on the same terms, and closed when idle for a while or when too many live.
    The next execution then resumes the conversation in a new process.

    Args:
        backends: The backends by name.
        workspaces: Where the files are.
        make: Makes a process, not yet open, for an execution.
        limit: Processes that may live; idle ones are closed beyond it.
        idle_limit: How long an idle process lives.
        tasks: Owner of the tasks that close processes.
        metrics: Where processes are counted.
    """

    def __init__(
        self,
        *,
        backends: Mapping[str, Backend],
        workspaces: Workspaces,
        make: Callable[[Work, Backend, Place], AgentProcess],
        limit: int,
        idle_limit: timedelta,
        tasks: Tasks,
        metrics: Metrics,
    ) -> None:
        self._backends = backends
        self._workspaces = workspaces
        self._make = make
        self._limit = limit
        self._idle_seconds = idle_limit.total_seconds()
        self._tasks = tasks
        self._living = metrics.gauge(
            "moorline_agent_processes", "Agent processes that live.", ("backend", "state")
        )
        self._count = 0
        # Least recently used first.
        self._seats: dict[str, _Seat] = {}

    @asynccontextmanager
    async def borrow(self, work: Work) -> AsyncIterator[AgentProcess]:
        """Have an open process that fits an execution, alone in its workspace, while inside.

        Waits until an execution before it has left the workspace; bounded by that one's end.

        Raises:
            Failure: As `AgentProcess.open`.
        """
        async with self._visit(work.workspace) as seat:
            process = await self._fit(seat, work)
            self._move(seat, busy=True)
            try:
                yield process
            finally:
                self._move(seat, busy=False)
                await self._settle(work.workspace, seat, process)

    async def delete(self, workspace: str) -> None:
        """End the process of a workspace and delete its files.

        Waits for the execution that is in the workspace; the caller ends it first.
        """
        async with self._visit(workspace) as seat:
            if seat.process is not None:
                await self._dismiss(seat, seat.process.kill)
            await self._workspaces.delete(workspace)

    async def kill(self) -> None:
        """End all processes at once, busy ones too."""
        processes = [seat.process for seat in self._seats.values() if seat.process is not None]
        await asyncio.gather(*(process.kill() for process in processes))

    @asynccontextmanager
    async def _visit(self, workspace: str) -> AsyncIterator[_Seat]:
        seat = self._seats.get(workspace)
        if seat is None:
            seat = self._seats[workspace] = _Seat()
        seat.visitors += 1
        try:
            async with seat.lock:
                if seat.timer is not None:
                    seat.timer.cancel()
                    seat.timer = None
                yield seat
        finally:
            seat.visitors -= 1
            if not seat.visitors and seat.process is None:
                del self._seats[workspace]

    async def _fit(self, seat: _Seat, work: Work) -> AgentProcess:
        purpose = (work.backend, work.instructions, work.permission_mode)
        process = seat.process
        if process is not None:
            fits = seat.purpose == purpose and process.conversation == work.resume_from
            if fits and process.alive:
                return process
            await self._dismiss(seat, process.close)
        self._make_room()
        place = await self._workspaces.make(work.workspace)
        process = self._make(work, self._backends[work.backend], place)
        await process.open()
        seat.process, seat.purpose, seat.backend = process, purpose, work.backend
        self._count += 1
        self._living.labels(seat.backend, "idle").inc()
        return process

    async def _dismiss(self, seat: _Seat, how: Callable[[], Awaitable[None]]) -> None:
        seat.process = None
        self._count -= 1
        self._living.labels(seat.backend, "idle").dec()
        await how()

    async def _settle(self, workspace: str, seat: _Seat, process: AgentProcess) -> None:
        if not process.alive:
            await self._dismiss(seat, process.close)
            return
        # To the young end of the order.
        self._seats[workspace] = self._seats.pop(workspace)
        loop = asyncio.get_running_loop()
        seat.timer = loop.call_later(self._idle_seconds, self._retire, workspace)

    def _move(self, seat: _Seat, *, busy: bool) -> None:
        self._living.labels(seat.backend, "busy").inc(1 if busy else -1)
        self._living.labels(seat.backend, "idle").inc(-1 if busy else 1)

    def _make_room(self) -> None:
        if self._count < self._limit:
            return
        for workspace, seat in self._seats.items():
            if seat.process is not None and not seat.visitors:
                self._retire(workspace)
                return

    def _retire(self, workspace: str) -> None:
        self._tasks.spawn(self._hibernate(workspace), name="hibernate")

    async def _hibernate(self, workspace: str) -> None:
        seat = self._seats.get(workspace)
        if seat is None or seat.visitors:
            return
        async with self._visit(workspace):
            if seat.process is not None:
                await self._dismiss(seat, seat.process.close)
