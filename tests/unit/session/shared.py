"""A database that several processes share, in memory, and processes on it.

Time passes as the test says, for the database and for each process alone; and with the loop's
time, which jumps (see `conftest`), so that a busy machine ends no lease.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

from services.chassis.failures import Failure
from services.chassis.metrics import Metrics
from services.session.environment import Environment
from services.session.forms import MessageEvents
from services.session.limits import Limits
from services.session.ownership.lease import LeaseMeasures, Terms
from services.session.ownership.leases import Leases
from services.session.store import (
    Committed,
    Create,
    Delete,
    Document,
    StoreConflict,
    Update,
    Write,
)
from tests.unit.session.fakes import FakeExecutors, store_unavailable
from tests.unit.session.following import Client
from tests.unit.session.service import Service

_START = datetime(2026, 1, 1, tzinfo=UTC)


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


@dataclass
class Stopwatch:
    """A monotonic clock that can be moved on; it begins at 0 s.

    Attributes:
        ahead: Seconds added to those that the loop has counted since it began.
    """

    ahead: float = 0.0
    _began: float = field(default_factory=_loop_time)

    def __call__(self) -> float:
        """Return its seconds."""
        return _loop_time() - self._began + self.ahead


@dataclass
class Database:
    """Documents with conditional writes, and the only time that counts.

    Attributes:
        documents: What there is, by path.
        watch: Its clock.
        writes: How often each document was written.
        batches: The paths of every commit, in order.
    """

    documents: dict[str, tuple[dict[str, Any], str, datetime]] = field(default_factory=dict)
    watch: Stopwatch = field(default_factory=Stopwatch)
    writes: Counter[str] = field(default_factory=Counter)
    batches: list[list[str]] = field(default_factory=list)
    _versions: Any = field(default_factory=lambda: itertools.count(1))
    _last: datetime = _START

    def now(self) -> datetime:
        """Return the time, later at each call."""
        now = _START + timedelta(seconds=self.watch())
        self._last = max(now, self._last + timedelta(microseconds=1))
        return self._last

    def get(self, path: str) -> Document | None:
        """Return a document."""
        if path not in self.documents:
            return None
        fields, version, update_time = self.documents[path]
        return Document(path, dict(fields), version, update_time, self.now())

    def commit(self, writes: Sequence[Write]) -> Committed:
        """Make all writes or none."""
        for write in writes:
            there = self.documents.get(write.path)
            if (isinstance(write, Create) and there is not None) or (
                isinstance(write, Update | Delete)
                and write.version is not None
                and (there is None or there[1] != write.version)
            ):
                raise StoreConflict(write.path)
        now, versions = self.now(), []
        for write in writes:
            self.writes[write.path] += 1
            if isinstance(write, Delete):
                self.documents.pop(write.path, None)
                versions.append("")
            else:
                versions.append(str(next(self._versions)))
                self.documents[write.path] = (dict(write.fields), versions[-1], now)
        self.batches.append([write.path for write in writes])
        return Committed(now, tuple(versions))


class Connection:
    """One process's way to the database; a `Store`.

    Attributes:
        away: True makes every operation fail.
        lost: How many of the next commits are made without an answer.
        gate: While not set, operations wait before they reach the database.
        answers: While not set, answers wait on their way back.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.away = False
        self.lost = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.answers = asyncio.Event()
        self.answers.set()
        self.waiting = 0

    async def __aenter__(self) -> Self:
        """See `Store`."""
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
        await self._reach()
        committed = self.database.commit(writes)
        await self.answers.wait()
        if self.lost:
            self.lost -= 1
            raise store_unavailable()
        return committed

    async def get(self, path: str) -> Document | None:
        """See `Store`."""
        await self._reach()
        return self.database.get(path)

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
        await self._reach()
        prefix = f"{collection}/"
        ids = sorted(
            (
                id_
                for path in self.database.documents
                if path.startswith(prefix)
                and "/" not in (id_ := path[len(prefix) :])
                and id_ > after
                and (not before or id_ < before)
            ),
            reverse=reverse,
        )
        found = (self.database.get(prefix + id_) for id_ in ids[:limit])
        return [document for document in found if document is not None]

    async def now(self) -> datetime:
        """See `Store`."""
        await self._reach()
        return self.database.now()

    async def _reach(self) -> None:
        await asyncio.sleep(0)
        self.waiting += 1
        try:
            await self.gate.wait()
        finally:
            self.waiting -= 1
        if self.away:
            raise store_unavailable()


class Pod(Service):
    """One of several processes on a database.

    Attributes:
        store: Its way to the database.
        watch: Its monotonic clock.
    """

    def __init__(
        self,
        *,
        database: Database,
        executors: FakeExecutors,
        limits: Limits,
        address: str,
        sweep: float = 1000,
        store: Connection | None = None,
    ) -> None:
        self.store = store or Connection(database)
        self.watch = Stopwatch()

        def ownership(environment: Environment, metrics: Metrics) -> Leases:
            terms = Terms(
                store=environment.store,
                tasks=environment.tasks,
                clock=environment.clock,
                seconds=limits.lease.total_seconds(),
                monotonic=self.watch,
                measures=LeaseMeasures(metrics=metrics),
            )
            return Leases(terms=terms, address=address)

        super().__init__(
            store=self.store,
            executors=executors,
            limits=limits,
            ownership=ownership,
            sweep=sweep,
            monotonic=_loop_time,
        )


class Pods:
    """Makes processes on one database; an async context manager that drops them all."""

    def __init__(self, *, executors: FakeExecutors, limits: Limits) -> None:
        self.database = Database()
        self.executors = executors
        self.limits = limits
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(kind, error, traceback)

    async def start(self, address: str, **options: Any) -> Pod:
        """Start a process."""
        pod = Pod(
            database=self.database,
            executors=self.executors,
            limits=self.limits,
            address=address,
            **options,
        )
        return await self._stack.enter_async_context(pod)

    def pass_time(self, seconds: float, *pods: Pod) -> None:
        """Let time pass for the database, and for these processes as if they slept."""
        self.database.watch.ahead += seconds
        for pod in pods:
            pod.watch.ahead += seconds


async def reasons(*calls: Any) -> list[str]:
    """Return why calls failed."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    return [
        result.reason_name if isinstance(result, Failure) else repr(result) for result in results
    ]


async def follow(pod: Pod) -> Client:
    """Follow the agent as a client does."""
    agent = await pod.live()
    return Client(
        agent.follow(form=MessageEvents(), after_sequence=0, include_deltas=True, mark=lambda: None)
    )
