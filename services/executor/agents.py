"""Which agent process serves which workspace: started, reused, put to sleep.

Does not know what a turn is made of, nor which program the processes run.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.chassis.metrics import Metrics
from services.chassis.tasks import Tasks
from services.executor.agent_process import AgentProcess, AgentProcesses, Work
from services.executor.backend import Backend, Link
from services.executor.metering import Access, Meter, ModelProxy
from services.executor.place import Place
from services.executor.workspaces import Workspaces


@dataclass(frozen=True, slots=True, kw_only=True)
class Wear:
    """How long agent processes are kept.

    Attributes:
        processes: Processes that may live; idle ones are closed beyond it.
        limited_processes: Of those, of backends that are limited.
        tenant_processes: Of those, for one tenant.
        idle: How long an idle process lives.
        background: How long one lives that is idle but for what it has in the background.
        turns: Turns a process takes before it is replaced.
        memory: Bytes it may take after a turn before it is replaced.
    """

    processes: int
    limited_processes: int
    tenant_processes: int
    idle: timedelta
    background: timedelta
    turns: int
    memory: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """What an execution has while it is in a workspace.

    Attributes:
        process: The agent's process; open, unless it is a survivor.
        place: What the agent has on this machine.
        meter: Counts what it consumes; None when it needs no model.
    """

    process: AgentProcess
    place: Place
    meter: Meter | None


class _Seat:
    """A workspace's place: the process that sits there, if any, and what belongs to it."""

    __slots__ = (
        "access", "backend", "entries", "idle_since", "lock", "meter", "place", "process",
        "tenant", "timer", "visitors",
    )  # fmt: skip

    def __init__(self, place: Place) -> None:
        self.place = place
        self.lock = asyncio.Lock()
        self.visitors = 0
        self.process: AgentProcess | None = None
        self.access: Access | None = None
        self.meter: Meter | None = None
        self.entries: Collection[str] = ()
        self.backend = ""
        self.tenant = ""
        self.idle_since = 0.0
        self.timer: asyncio.TimerHandle | None = None

    @property
    def vacant(self) -> bool:
        """Whether nothing would be lost with it: consumption that no turn has told would."""
        owed = self.meter is not None and self.meter.usage.ByteSize()
        return not self.visitors and self.process is None and not owed


class Agents:
    """One agent process for each active workspace.

    A process is started by the first execution in its workspace, reused by those that continue
    its conversation on the same terms, and closed when it is idle for a while, worn, or when too
    many live. The next execution then resumes the conversation in a new process.

    Args:
        backends: The backends by name.
        workspaces: Where the files are.
        processes: Makes processes.
        proxy: How they reach the model.
        limited: Names of the backends whose processes count for their tenants.
        wear: How long processes are kept.
        tasks: Owner of the tasks that close processes.
        metrics: Where processes are counted.
    """

    def __init__(
        self,
        *,
        backends: Mapping[str, Backend],
        workspaces: Workspaces,
        processes: AgentProcesses,
        proxy: ModelProxy,
        limited: Collection[str],
        wear: Wear,
        tasks: Tasks,
        metrics: Metrics,
    ) -> None:
        self._backends = backends
        self._workspaces = workspaces
        self._processes = processes
        self._proxy = proxy
        self._limited = limited
        self._wear = wear
        self._tasks = tasks
        self._living = metrics.gauge(
            "moorline_agent_processes", "Agent processes that live.", ("backend", "state")
        )
        self._count = 0
        self._tenants: Counter[str] = Counter()
        # Least recently used first.
        self._seats: dict[str, _Seat] = {}

    @asynccontextmanager
    async def borrow(self, work: Work, *, survivor: bool = False) -> AsyncIterator[Stay | None]:
        """Have a process that fits an execution, alone in its workspace, while inside.

        Waits until an execution before it has left the workspace; bounded by that one's end.

        Args:
            work: The execution.
            survivor: Whether the process outlived the executor that started it, and this
                execution goes on in it. It is not open then.

        Returns:
            None for an execution in the background when there is no such process any more.

        Raises:
            Failure: As `AgentProcess.open` and `ModelProxy.admit`; QUOTA_EXCEEDED when the tenant
                has as many processes as it may, some of them for what goes on in the background.
        """
        async with self._visit(work.workspace) as seat:
            process = await self._fit(seat, work, survivor=survivor)
            if process is None:
                yield None
                return
            self._move(seat, busy=True)
            lost = False
            try:
                yield Stay(process=process, place=seat.place, meter=seat.meter)
            except Failure:
                lost = survivor
                raise
            finally:
                self._move(seat, busy=False)
                if lost:
                    await self._dismiss(seat, process.kill)
                else:
                    await self._settle(work.workspace, seat, process)

    @asynccontextmanager
    async def vacated(self, workspace: str) -> AsyncIterator[Place]:
        """Have a workspace without a process, alone, while inside.

        Waits for the execution that is in the workspace; the caller ends it first.
        """
        async with self._visit(workspace) as seat:
            if seat.process is not None:
                await self._dismiss(seat, seat.process.close)
            yield await self._workspaces.make(workspace)

    async def delete(self, workspace: str) -> None:
        """End the process of a workspace and delete its files.

        Waits for the execution that is in the workspace; the caller ends it first.
        """
        async with self._visit(workspace) as seat:
            if seat.process is not None:
                await self._dismiss(seat, seat.process.kill)
            seat.meter = None
            await self._workspaces.delete(workspace)

    async def kill(self) -> None:
        """End all processes at once, busy ones too."""
        processes = [seat.process for seat in self._seats.values() if seat.process is not None]
        await asyncio.gather(*(process.kill() for process in processes))

    def told(self, workspace: str, entries: Collection[str]) -> None:
        """Hear which entries of the transcript are the newest; by whoever is in the workspace."""
        if entries:
            self._seats[workspace].entries = entries

    def remembers(self, work: Work) -> bool:
        """Tell whether the process that is there has written the entry that is stored last."""
        seat = self._seats.get(work.workspace)
        return seat is not None and seat.process is not None and work.last_entry in seat.entries

    @asynccontextmanager
    async def _visit(self, workspace: str) -> AsyncIterator[_Seat]:
        seat = self._seats.get(workspace)
        if seat is None:
            seat = self._seats[workspace] = _Seat(self._workspaces.place(workspace))
        seat.visitors += 1
        try:
            async with seat.lock:
                if seat.timer is not None:
                    seat.timer.cancel()
                    seat.timer = None
                yield seat
        finally:
            seat.visitors -= 1
            if seat.vacant:
                del self._seats[workspace]

    async def _fit(self, seat: _Seat, work: Work, *, survivor: bool) -> AgentProcess | None:
        process = seat.process
        if work.background and not survivor:
            return process if process is not None and _goes_on(process, work) else None
        if process is not None:
            if seat.backend == work.backend and process.fits(work):
                return process
            await self._dismiss(seat, process.close)
        if not survivor:
            self._make_room(work)
        return await self._start(seat, work, survivor=survivor)

    async def _start(self, seat: _Seat, work: Work, *, survivor: bool) -> AgentProcess:
        place = await self._workspaces.make(work.workspace)
        backend = self._backends[work.backend]
        async with contextlib.AsyncExitStack() as undo:
            if survivor:
                process = self._processes.survivor(work, backend, place)
                undo.push_async_callback(process.kill)
            access: Access | None = None
            if backend.link is not Link.NONE:
                if seat.meter is None:
                    seat.meter = self._proxy.meter()
                access = await self._proxy.admit(
                    seat.meter, link=backend.link, place=place, view=backend.view(place)
                )
                undo.push_async_callback(access.close)
            if not survivor:
                environment = {} if access is None else access.environment
                process = self._processes.make(work, backend, place, environment)
                await process.open()
            undo.pop_all()
        seat.process, seat.access, seat.entries = process, access, ()
        seat.backend, seat.tenant = work.backend, work.tenant
        self._count += 1
        if seat.backend in self._limited:
            self._tenants[seat.tenant] += 1
        self._living.labels(seat.backend, "idle").inc()
        return process

    async def _dismiss(self, seat: _Seat, how: Callable[[], Awaitable[None]]) -> None:
        access, seat.process, seat.access = seat.access, None, None
        self._count -= 1
        if seat.backend in self._limited:
            self._tenants[seat.tenant] -= 1
        self._living.labels(seat.backend, "idle").dec()
        try:
            await how()
        finally:
            if access is not None:
                await access.close()

    async def _settle(self, workspace: str, seat: _Seat, process: AgentProcess) -> None:
        if not process.alive:
            await self._dismiss(seat, process.close)
            return
        # To the young end of the order.
        self._seats[workspace] = self._seats.pop(workspace)
        loop = asyncio.get_running_loop()
        seat.idle_since = loop.time()
        worn = process.turns >= self._wear.turns
        delay = 0.0 if worn else self._wear.idle.total_seconds()
        seat.timer = loop.call_later(delay, self._retire, workspace)
        if self._backends[seat.backend].link is not Link.NONE:
            self._tasks.spawn(self._weigh(workspace, seat, process), name="weigh-agent")

    async def _weigh(self, workspace: str, seat: _Seat, process: AgentProcess) -> None:
        memory = await process.memory()
        if memory is None or memory <= self._wear.memory:
            return
        # Somebody may have come meanwhile; after that turn it is weighed again.
        if seat.process is process and not seat.visitors and not process.background:
            await self._hibernate(workspace)

    def _move(self, seat: _Seat, *, busy: bool) -> None:
        self._living.labels(seat.backend, "busy").inc(1 if busy else -1)
        self._living.labels(seat.backend, "idle").inc(-1 if busy else 1)

    def _make_room(self, work: Work) -> None:
        if work.backend in self._limited:
            limit = self._wear.tenant_processes
            if self._tenants[work.tenant] >= limit:
                retired = self._retire_longest_idle(lambda seat: self._counts(seat, work.tenant))
                # Turns are few, but nobody else limits what goes on behind them.
                if not retired and self._has_background(work.tenant):
                    raise _as_many_as_may(limit)
                return
            if self._tenants.total() >= self._wear.limited_processes:
                self._retire_longest_idle(lambda seat: self._counts(seat, seat.tenant))
                return
        if self._count >= self._wear.processes:
            self._retire_longest_idle(lambda _: True)

    def _counts(self, seat: _Seat, tenant: str) -> bool:
        return seat.tenant == tenant and seat.backend in self._limited

    def _has_background(self, tenant: str) -> bool:
        return any(
            seat.process is not None and seat.process.background and self._counts(seat, tenant)
            for seat in self._seats.values()
        )

    def _retire_longest_idle(self, may: Callable[[_Seat], bool]) -> bool:
        for workspace, seat in self._seats.items():
            if seat.process is None or seat.visitors or seat.process.background:
                continue
            if may(seat):
                self._retire(workspace)
                return True
        return False

    def _retire(self, workspace: str) -> None:
        self._tasks.spawn(self._hibernate(workspace), name="hibernate")

    async def _hibernate(self, workspace: str) -> None:
        seat = self._seats.get(workspace)
        if seat is None or seat.visitors:
            return
        async with self._visit(workspace):
            if seat.process is None:
                return
            loop = asyncio.get_running_loop()
            idle = loop.time() - seat.idle_since
            if seat.process.background and idle < self._wear.background.total_seconds():
                delay = self._wear.idle.total_seconds()
                seat.timer = loop.call_later(delay, self._retire, workspace)
                return
            await self._dismiss(seat, seat.process.close)


def _goes_on(process: AgentProcess, work: Work) -> bool:
    return process.alive and process.conversation == work.resume_from


def _as_many_as_may(limit: int) -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_QUOTA_EXCEEDED,
        f"You have {limit} agents at work, as many as you may. Wait until what they do in the"
        " background has ended, or stop it.",
        limit=str(limit),
        limitName="agentProcesses",
    )
