"""Stand-ins for what the session service works with.

`FakeExecutors` are `executor.Executors` that do what a test tells each of them;
`FaultyStore` is a `Store` that fails, waits or forgets to answer on request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from types import TracebackType
from typing import Self

from moorline.errors.v1 import errors_pb2
from moorline.executor.v1 import executions_pb2, workspaces_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure, field_invalid, not_found
from services.session.executors.executor import Listener
from services.session.store import Committed, Document, Store, Write
from tests.unit.session.fake_execution import FakeExecution

__all__ = [
    "FakeExecution",
    "FakeExecutor",
    "FakeExecutors",
    "FakeSubscription",
    "FaultyStore",
    "store_unavailable",
    "unavailable",
]

Outcome = transcript_pb2.TurnOutcome


def unavailable() -> Failure:
    """Return what an executor that is away answers."""
    return Failure(errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE, "away")


def store_unavailable() -> Failure:
    """Return what a store that is away answers."""
    return Failure(errors_pb2.ERROR_REASON_STORE_UNAVAILABLE, "away")


class FakeSubscription:
    """A subscription to a fake execution."""

    def __init__(self, execution: FakeExecution, listener: Listener) -> None:
        self._execution = execution
        self._listener = listener

    def close(self) -> None:
        """Stop following."""
        if self._listener in self._execution.listeners:
            self._execution.listeners.remove(self._listener)


class FakeExecutor:
    """One executor in the test's hands; its calls are those of `executor.Executors`.

    Attributes:
        executions: What was created and is known, by id.
        created: Ids in the order of creation, also of those forgotten.
        failures: Raised by the next calls of a method, by its name; under
            `after create` once the call has had its effect.
        away: True makes every call fail as if the executor could not be reached.
        script: Called with each new execution.
        cancels: True ends an execution as cancelled when asked to.
        abandoned: Ids of executions that it was to stop when it can be reached.
        refuse: Makes the failure of every creation, unless it is None.
        called: Called with the name of every method that is called.
        forgetful: True makes it ask for the conversations that it has not been given.
        files: What it was given of conversations: entries by file.
    """

    def __init__(self) -> None:
        self.executions: dict[str, FakeExecution] = {}
        self.created: list[str] = []
        self.failures: dict[str, list[Failure]] = {}
        self.away = False
        self.script: Callable[[FakeExecution], None] = lambda execution: None
        self.cancels = True
        self.acknowledged: dict[str, int] = {}
        self.hurried: set[str] = set()
        self.deleted: list[str] = []
        self.abandoned: list[str] = []
        self.refuse: Callable[[], Failure] | None = None
        self.calls: list[str] = []
        self.stuck: set[str] = set()
        self.forgetful = False
        self.files: dict[str, list[str]] = {}
        self.called: Callable[[str], None] = lambda method: None
        self._news = asyncio.Event()

    @property
    def last(self) -> FakeExecution:
        """The execution created last."""
        return self.executions[self.created[-1]]

    async def execution(self, number: int = 1) -> FakeExecution:
        """Wait until so many executions were created and the last is followed."""
        async with asyncio.timeout(15):
            while len(self.created) < number or not self.last.listeners:
                self._news.clear()
                await self._news.wait()
        return self.last

    def forget(self) -> None:
        """Lose every execution, as a restart does."""
        lost = list(self.executions.values())
        self.executions.clear()
        for execution in lost:
            for listener in list(execution.listeners):
                listener.end(not_found())

    def reconnect(self) -> None:
        """Break every subscription and bring it back, as a broken stream does."""
        for execution in self.executions.values():
            for listener in list(execution.listeners):
                listener.reset()
                execution.replay(listener)

    async def create(self, execution_id: str, execution: executions_pb2.Execution) -> None:
        """See `executor.Executors`."""
        await self._called("create")
        if self.refuse is not None:
            raise self.refuse()
        if self.failures.get("after create"):
            self._make(execution_id, execution)
            raise self.failures["after create"].pop(0)
        if execution_id in self.executions:
            return
        last = execution.last_entry
        if self.forgetful and last and not any(last in text for text in self.files.get("", ())):
            raise Failure(errors_pb2.ERROR_REASON_TRANSCRIPT_NEEDED, "give it to me")
        self._make(execution_id, execution)

    async def subscribe(self, execution_id: str, listener: Listener) -> FakeSubscription:
        """See `executor.Executors`."""
        await self._called("subscribe")
        execution = self._known(execution_id)
        execution.listeners.append(listener)
        execution.replay(listener)
        asyncio.get_running_loop().call_soon(self._followed, execution)
        return FakeSubscription(execution, listener)

    async def cancel(self, execution_id: str, failure: Failure | None = None) -> None:
        """See `executor.Executors`."""
        await self._called("cancel")
        execution = self._known(execution_id)
        execution.cancellations += 1
        if self.cancels and failure is not None:
            execution.end(Outcome.STATE_FAILED, error=failure.to_error())
        elif self.cancels:
            execution.end(Outcome.STATE_CANCELLED)

    async def resolve(self, execution_id: str, decision: transcript_pb2.PermissionDecision) -> None:
        """See `executor.Executors`."""
        await self._called("resolve")
        self._known(execution_id).decisions.append(decision)
        self._news.set()

    async def restore(self, request: workspaces_pb2.RestoreTranscriptRequest) -> None:
        """See `executor.Executors`."""
        await self._called("restore")
        known = self.files.setdefault(request.file, [])
        if request.position > len(known):
            raise field_invalid("position", "be what I have")
        known[request.position :] = request.entries
        if self.failures.get("after restore"):
            raise self.failures["after restore"].pop(0)

    def acknowledge(self, execution_id: str, sequence: int, *, at_once: bool) -> None:
        """See `executor.Executors`."""
        self.acknowledged[execution_id] = sequence
        if at_once:
            self.hurried.add(execution_id)

    def abandon(self, execution_id: str) -> None:
        """See `executor.Executors`."""
        self.abandoned.append(execution_id)

    async def delete_workspace(self, workspace: str) -> None:
        """See `executor.Executors`."""
        await self._called("delete_workspace")
        self.deleted.append(workspace)

    def _make(self, execution_id: str, execution: executions_pb2.Execution) -> None:
        self.executions[execution_id] = FakeExecution(execution_id, execution)
        self.created.append(execution_id)
        self._news.set()

    def _followed(self, execution: FakeExecution) -> None:
        self.script(execution)
        self._news.set()

    def _known(self, execution_id: str) -> FakeExecution:
        if execution_id not in self.executions:
            raise not_found()
        return self.executions[execution_id]

    async def _called(self, method: str) -> None:
        self.calls.append(method)
        self.called(method)
        # A call takes at least one turn of the loop.
        await asyncio.sleep(0)
        if method in self.stuck:
            await asyncio.Event().wait()
        if self.away:
            raise unavailable()
        if self.failures.get(method):
            raise self.failures[method].pop(0)


class FakeExecutors:
    """All executors; new executions go to the first that is not `unwilling`.

    Attributes:
        members: The executors by address.
        unwilling: Addresses at which no execution is placed.
    """

    def __init__(self, *members: FakeExecutor) -> None:
        self.members = {f"e{number}:1": member for number, member in enumerate(members, start=1)}
        self.unwilling: set[str] = set()

    def lose(self, address: str = "e1:1") -> None:
        """Let an executor be away for too long; what it runs goes on without us."""
        lost = self.members[address]
        self.unwilling.add(address)
        lost.away = True
        for execution in lost.executions.values():
            for listener in list(execution.listeners):
                execution.listeners.remove(listener)
                listener.end(unavailable())

    def place(self, *, preferred: str, avoid: Collection[str] = ()) -> str:
        """See `executor.Executors`."""
        willing = dict.fromkeys(self.members.keys() - {*avoid, *self.unwilling})
        return preferred if preferred in willing else min(willing, default="")

    def known(self, address: str) -> bool:
        """See `executor.Executors`."""
        return address in self.members

    async def create(
        self, address: str, execution_id: str, execution: executions_pb2.Execution
    ) -> None:
        """See `executor.Executors`."""
        await self.members[address].create(execution_id, execution)

    async def subscribe(
        self, address: str, execution_id: str, listener: Listener
    ) -> FakeSubscription:
        """See `executor.Executors`."""
        return await self.members[address].subscribe(execution_id, listener)

    async def cancel(self, address: str, execution_id: str, failure: Failure | None = None) -> None:
        """See `executor.Executors`."""
        await self.members[address].cancel(execution_id, failure)

    async def resolve(
        self, address: str, execution_id: str, decision: transcript_pb2.PermissionDecision
    ) -> None:
        """See `executor.Executors`."""
        await self.members[address].resolve(execution_id, decision)

    async def restore(self, address: str, request: workspaces_pb2.RestoreTranscriptRequest) -> None:
        """See `executor.Executors`."""
        await self.members[address].restore(request)

    def acknowledge(self, address: str, execution_id: str, sequence: int, *, at_once: bool) -> None:
        """See `executor.Executors`."""
        self.members[address].acknowledge(execution_id, sequence, at_once=at_once)

    def abandon(self, address: str, execution_id: str) -> None:
        """See `executor.Executors`."""
        self.members[address].abandon(execution_id)

    async def delete_workspace(self, workspace: str) -> None:
        """See `executor.Executors`."""
        for member in self.members.values():
            await member.delete_workspace(workspace)


class FaultyStore:
    """A store whose answers a test spoils.

    Attributes:
        before: Raised by the next commits instead of being made.
        after: Raised by the next commits after they were made: the answer is lost.
        unreadable: Raised by the next reads.
        missing: Which of the next reads of a document fail, by path.
        commits: Every batch that was asked for.
        held: While not set, commits wait.
        delay: Seconds that each commit takes at least.
        writing: How many commits are on their way, past everything above.
    """

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.before: list[Exception] = []
        self.after: list[Exception] = []
        self.unreadable: list[Failure] = []
        self.missing: dict[str, list[bool]] = {}
        self.commits: list[Sequence[Write]] = []
        self.held = asyncio.Event()
        self.held.set()
        self.delay = 0.0
        self.writing = 0

    async def __aenter__(self) -> Self:
        """See `Store`; the inner store is open already."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """See `Store`."""

    async def commit(self, writes: Sequence[Write]) -> Committed:
        """See `Store`."""
        self.commits.append(writes)
        await self.held.wait()
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.before:
            raise self.before.pop(0)
        self.writing += 1
        try:
            committed = await self.inner.commit(writes)
        finally:
            self.writing -= 1
        if self.after:
            raise self.after.pop(0)
        return committed

    async def get(self, path: str) -> Document | None:
        """See `Store`."""
        if self.unreadable:
            raise self.unreadable.pop(0)
        if self.missing.get(path) and self.missing[path].pop(0):
            raise store_unavailable()
        return await self.inner.get(path)

    async def read(
        self,
        collection: str,
        *,
        after: str = "",
        before: str = "",
        limit: int = 1000,
        reverse: bool = False,
    ) -> Sequence[Document]:
        """See `Store`."""
        if self.unreadable:
            raise self.unreadable.pop(0)
        return await self.inner.read(
            collection, after=after, before=before, limit=limit, reverse=reverse
        )

    async def now(self) -> datetime:
        """See `Store`."""
        return await self.inner.now()
