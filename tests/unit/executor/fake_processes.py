"""Stand-ins for agent processes, and for what executions use beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

from moorline.errors.v1 import errors_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure, not_found
from services.executor.agent_process import Budget, Ending, Result, Work
from services.executor.backend import Backend, Link, View
from services.executor.book import Book
from services.executor.place import Place


class FakeProcess:
    """An agent process that does what the test says."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.alive = True
        self.conversation = work.resume_from
        self.background = 0
        self.turns = 0
        self.model = ""
        self.begun: list[str] = []
        self.attended: list[str] = []
        self.adopted: list[str] = []
        self.closed = False
        self.killed = False
        self.interrupts = 0
        self.obeys = True
        """Whether an interrupt ends the turn."""
        self.answered: list[transcript_pb2.PermissionDecision] = []
        self.quiet = timedelta(0)
        self.bytes: int | None = None
        self.environment: Mapping[str, str] = {}
        self.open_failure: Failure | None = None
        self.opening: asyncio.Event | None = None
        """When set, `open` waits for it."""
        self.book = Book()
        self.ending: asyncio.Future[Ending] | None = None

    async def open(self) -> None:
        """See `AgentProcess`."""
        if self.opening is not None:
            await self.opening.wait()
        if self.open_failure is not None:
            raise self.open_failure

    def fits(self, work: Work) -> bool:
        """See `AgentProcess`."""
        same = work.instructions == self.work.instructions
        return self.alive and same and work.resume_from == self.conversation

    async def begin(self, work: Work, book: Book) -> asyncio.Future[Ending]:
        """See `AgentProcess`."""
        self.begun.append(work.execution_id)
        return self._enter(book)

    async def attend(self, work: Work, book: Book) -> asyncio.Future[Ending]:
        """See `AgentProcess`."""
        self.attended.append(work.execution_id)
        return self._enter(book)

    async def adopt(self, work: Work, book: Book) -> asyncio.Future[Ending]:
        """See `AgentProcess`."""
        if self.open_failure is not None:
            raise self.open_failure
        self.adopted.append(work.execution_id)
        return self._enter(book)

    async def interrupt(self) -> None:
        """See `AgentProcess`."""
        self.interrupts += 1
        if self.obeys:
            attends = bool(self.attended)
            self.end(Result.FINISHED if attends else Result.INTERRUPTED)

    async def answer(self, decision: transcript_pb2.PermissionDecision) -> None:
        """See `AgentProcess`."""
        ended = self.ending is None or self.ending.done()
        if ended or decision.permission_id == "unknown":
            raise not_found()
        self.answered.append(decision)

    async def close(self) -> None:
        """See `AgentProcess`."""
        self.closed = True
        self.alive = False

    async def kill(self) -> None:
        """See `AgentProcess`."""
        self.killed = True
        self.alive = False
        failure = Failure(errors_pb2.ERROR_REASON_AGENT_CRASHED, "killed")
        self.end(Result.DIED, failure=failure)

    def quiet_for(self) -> timedelta:
        """See `AgentProcess`."""
        return self.quiet

    async def memory(self) -> int | None:
        """See `AgentProcess`."""
        return self.bytes

    def end(self, result: Result, **changed: Any) -> None:
        """End the running turn."""
        values: dict[str, Any] = {
            "result": result,
            "failure": None,
            "usage": transcript_pb2.Usage(input_tokens=1),
            "tools_running": 0,
            "tools_succeeded": 0,
            "tools_failed": 0,
        }
        if self.ending is not None and not self.ending.done():
            self.ending.set_result(Ending(**(values | changed)))

    def _enter(self, book: Book) -> asyncio.Future[Ending]:
        self.book = book
        self.turns += 1
        self.conversation = self.conversation or "c1"
        self.ending = asyncio.get_running_loop().create_future()
        return self.ending


class FakeProcesses:
    """Makes fake processes and remembers them."""

    def __init__(self) -> None:
        self.made: list[FakeProcess] = []
        self.survivors: list[str] = []
        """Workspaces whose survivors were asked for."""
        self.open_failure: Failure | None = None
        self.opening: asyncio.Event | None = None

    def make(
        self, work: Work, backend: Backend, place: Place, environment: Mapping[str, str]
    ) -> FakeProcess:
        """See `AgentProcesses`."""
        process = FakeProcess(work)
        process.environment = environment
        process.open_failure = self.open_failure
        process.opening = self.opening
        self.made.append(process)
        return process

    def survivor(self, work: Work, backend: Backend, place: Place) -> FakeProcess:
        """See `AgentProcesses`."""
        self.survivors.append(place.workspace)
        return self.make(work, backend, place, {})


class FakeMeter:
    """A meter that the test turns."""

    def __init__(self) -> None:
        self.changed: Callable[[], None] | None = None
        self.record: Callable[[bytes], None] | None = None
        self.usage = transcript_pb2.Usage()
        self.exhausted = ""
        self.budgets: list[Budget] = []
        self.recalled: list[bytes] = []

    def begin(self, budget: Budget) -> None:
        """See `Meter`."""
        self.budgets.append(budget)

    def recall(self, records: Iterable[bytes]) -> None:
        """See `Meter`."""
        self.recalled.extend(records)

    def end(self) -> transcript_pb2.Usage:
        """See `Meter`."""
        usage, self.usage = self.usage, transcript_pb2.Usage()
        return usage

    def count(self, micros: int) -> None:
        """Count a request that was answered."""
        before = self.usage.cost_usd_micros
        self.usage = transcript_pb2.Usage(cost_usd_micros=before + micros)
        if self.record is not None:
            self.record(b"%d" % micros)
        if self.changed is not None:
            self.changed()


class FakeAccess:
    """A way to the model that remembers whether it was closed."""

    def __init__(self) -> None:
        self.environment = {"ANTHROPIC_BASE_URL": "http://model"}
        self.closed = False

    async def close(self) -> None:
        """See `Access`."""
        self.closed = True


class FakeProxy:
    """A proxy that lets everybody in, unless it is told not to."""

    def __init__(self) -> None:
        self.unavailable = ""
        self.failure: Failure | None = None
        self.meters: list[FakeMeter] = []
        self.accesses: list[FakeAccess] = []

    def meter(self) -> FakeMeter:
        """See `ModelProxy`."""
        self.meters.append(FakeMeter())
        return self.meters[-1]

    async def admit(self, meter: Any, *, link: Link, place: Place, view: View) -> FakeAccess:
        """See `ModelProxy`."""
        if self.failure is not None:
            raise self.failure
        self.accesses.append(FakeAccess())
        return self.accesses[-1]


class FakeSnapshots:
    """Tells the changes that the test says."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.compared: list[str] = []
        self.changed = transcript_pb2.FileChanges()
        self.may_tell = asyncio.Event()
        self.may_tell.set()

    async def take(self, place: Place) -> None:
        """See `Snapshots`."""
        self.taken.append(place.workspace)

    async def changes(self, place: Place) -> transcript_pb2.FileChanges:
        """See `Snapshots`."""
        self.compared.append(place.workspace)
        await self.may_tell.wait()
        return self.changed
