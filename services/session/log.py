"""Writes an agent's log: the only truth about what happened.

An append *creates* the segment at the next position, which is persistence,
idempotency and fencing in one: whoever else wrote there owns the agent now.
What arrives while a commit is in flight is the next segment, and what is not
urgent waits a little for more, text that is shown already a little longer. Other
documents of the agent ride in the same commit; the agent's own is not written
every time. Nothing is committed while the user's lease is not held. Does not
know what events mean.
"""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson

from moorline.errors.v1 import errors_pb2
from moorline.executor.v1 import executions_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.chassis.tasks import Tasks
from services.session.appends import Append, Waiting
from services.session.clock import DatabaseClock
from services.session.commits import Commits
from services.session.encoding import LoggedEvent, event_fields, time_text
from services.session.history import History, Position, Segment
from services.session.late import Late, LateDocument
from services.session.names import AgentName
from services.session.ownership.ownership import Lease
from services.session.store import Store, unavailable
from services.session.transcripts.mirror import Mirror

LINGER_BYTES = 16 * 1024
"""When more waits, it waits no longer: whoever sent it keeps it until it is durable."""

_DURABLE_SECONDS = 6.0
"""How long a caller waits for its append before it is told to try again. Whoever asked the
gateway shall hear of it within 8 s."""


@dataclass(slots=True)
class _Batch:
    segment: Segment
    appends: list[Append]
    documents: dict[str, Mapping[str, Any] | None]
    pieces: Collection[str]


class Log:
    """The writing end of one agent's log, from its newest segment on.

    Once another writer is found it is fenced: every append, waiting or new,
    fails with FENCED, and the agent must be loaded anew.

    Args:
        store: Where it is kept.
        agent: Whose log it is.
        history: The log, for reading.
        lease: The lease on its user.
        clock: The database's time.
        tasks: Owns the task that writes; there is none while nothing waits.
        tail: The newest segment; None for an empty log.
        mirror: Where the agent's own transcript goes, in the same commits.
        gather: How long appends that are not urgent wait for others.
        linger: The same for text that is shown already.
        pace: Least time between two writes of the agent's document by `late`.
        committed: Called after each commit with its events and cursors.
        fenced: Called once, when another writer is found.
    """

    __slots__ = (
        "_agent",
        "_clock",
        "_commits",
        "_committed",
        "_due",
        "_fence",
        "_fenced",
        "_gather_seconds",
        "_hurry",
        "_last_time",
        "_late",
        "_latest",
        "_lease",
        "_linger_seconds",
        "_pending",
        "_position",
        "_tasks",
        "_writer",
        "head",
        "mirror",
        "next",
    )

    def __init__(
        self,
        *,
        store: Store,
        agent: AgentName,
        history: History,
        lease: Lease,
        clock: DatabaseClock,
        tasks: Tasks,
        tail: Segment | None,
        mirror: Mirror,
        gather: timedelta,
        linger: timedelta = timedelta(0),
        pace: timedelta,
        committed: Callable[[Sequence[LoggedEvent], Mapping[str, int]], None],
        fenced: Callable[[], None],
    ) -> None:
        self._agent = agent
        self._clock = clock
        self._tasks = tasks
        self._committed = committed
        self._fenced = fenced
        self._lease = lease
        self._commits = Commits(
            store=store,
            history=history,
            lease=lease,
            clock=clock,
            over=lambda: self.fenced,
        )
        self._gather_seconds = gather.total_seconds()
        self._linger_seconds = linger.total_seconds()
        self._hurry = asyncio.Event()
        self._late = LateDocument(pace=pace.total_seconds(), due=self._flush)
        self._position = tail.end if tail is not None else Position()
        self._pending = Waiting()
        # When the next commit begins at the latest.
        self._due = math.inf
        self._writer: asyncio.Task[None] | None = None
        self._fence: Failure | None = None
        self._latest: asyncio.Future[None] | None = None
        self._last_time = tail.time if tail is not None else None
        self.mirror = mirror
        """Where the agent's own transcript is."""
        self.next = self._position.sequence
        """Number that the next event appended will get."""
        self.head = self.next - 1
        """Number of the newest event committed."""

    @property
    def idle(self) -> bool:
        """True when every append has ended."""
        return self._writer is None

    @property
    def behind(self) -> bool:
        """True while the agent's document is not what it shall be."""
        return self._late.waiting is not None

    @property
    def owned(self) -> bool:
        """True while nobody else can have become the owner of the agent's user."""
        return self._fence is None and self._lease.held

    @property
    def fenced(self) -> bool:
        """True when nothing can be appended any more."""
        return self._fence is not None

    def track(self, path: str, version: str) -> None:
        """Tell the version of a document that later appends will write."""
        self._commits.track(path, version)

    def forget(self, path: str) -> None:
        """Drop a document that no later append will write."""
        self._commits.track(path, "")

    def append(
        self,
        turn_id: str,
        items: Sequence[transcript_pb2.Item],
        *,
        time: datetime | None = None,
        documents: Mapping[str, Mapping[str, Any] | None] | None = None,
        late: Late | None = None,
        cursors: Mapping[str, int] | None = None,
        part: executions_pb2.TranscriptPart | None = None,
        urgent: bool = True,
        shown: bool = False,
        joined: bool = False,
    ) -> asyncio.Future[None]:
        """Number items and have them committed, all or none, after what waits.

        Args:
            turn_id: The turn they belong to.
            items: What happened; may be empty when only documents change.
            time: When it happened, as another clock saw it; None for now.
            documents: Fields to write by path, in the same commit; None deletes.
            late: What it makes of the agent's document, which is written with it or soon
                after; segments tell what is carried until then.
            cursors: Executor's number of the newest item, by execution.
            part: By what the agent's own transcript has grown.
            urgent: False lets it wait a little for others, to share their commit.
            shown: True lets it wait longer, as followers have the text already.
            joined: True when it goes into the commit of the append before, which was
                made just now.

        Returns:
            Done when the commit is durable and its events are published; fails
            with FENCED. Dropping or cancelling it does not take the append back.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Looked at, so that an append nobody waits for does not warn.
        done.add_done_callback(lambda future: future.cancelled() or future.exception())
        if self._fence is not None:
            done.set_exception(self._fence)
            return done
        moment = self._moment(time)
        events = [
            event_fields(sequence=self.next + n, turn_id=turn_id, create_time=moment, item=item)
            for n, item in enumerate(items)
        ]
        self.next += len(events)
        self._latest = done
        size = sum(item.ByteSize() + 200 for item in items)
        size += sum(len(orjson.dumps(fields)) for fields in (documents or {}).values())
        size += part.ByteSize() if part is not None else 0
        due = asyncio.get_running_loop().time()
        if not urgent:
            due += max(self._gather_seconds, self._linger_seconds if shown else 0.0)
        self._pending.add(
            Append(events, documents or {}, cursors or {}, size, done, part, joined, late)
        )
        self._begin_by(due if self._pending.bytes <= LINGER_BYTES else -math.inf)
        if self._writer is None:
            self._writer = self._tasks.spawn(self._write(), name="log-write")
            self._writer.add_done_callback(self._stopped)
        return done

    def late(self, late: Late) -> None:
        """Have the agent's document written soon: the newest segment tells more than it.

        Segments tell what is carried until it is, as `Segment.carried["agent"]`.
        """
        self._late.waiting = late

    async def durable(self, append: asyncio.Future[None]) -> None:
        """Wait for an append.

        Raises:
            Failure: STORE_UNAVAILABLE after 6 s; the append may still happen.
                FENCED when another writer owns the agent.
        """
        # Never cancelled with who waits, and heard of sooner than through a shield.
        await asyncio.wait((append,), timeout=_DURABLE_SECONDS)
        if not append.done():
            raise unavailable()
        append.result()

    async def caught_up(self) -> None:
        """Wait until what was appended before this call is durable.

        Raises:
            Failure: As for `durable`.
        """
        if self._latest is not None and not self._latest.done():
            self._begin_by(-math.inf)
            await self.durable(self._latest)

    async def settled(self) -> None:
        """Wait until all that was asked for so far is written, for as long as that takes."""
        self._late.hurry()
        self._flush()
        self._begin_by(-math.inf)
        while self._writer is not None:
            await asyncio.wait([self._writer])

    def fence(self) -> None:
        """Stop writing: somebody else owns the agent, or will. Repeating it does nothing."""
        if self._fence is None:
            self._fence = Failure(
                errors_pb2.ERROR_REASON_FENCED, "Another writer owns this history now. Call again."
            )
        self._late.close()
        self._pending.fail(self._fence)

    def _flush(self) -> None:
        if self._late.waiting is not None and self._fence is None:
            self.append("", [])

    def _moment(self, time: datetime | None) -> datetime:
        # Another clock may be an hour off: it must not lead ours, nor make an
        # event seem older than the one before.
        now = self._clock.now()
        moment = now if time is None else min(time, now)
        if self._last_time is not None and moment < self._last_time:
            moment = self._last_time
        self._last_time = moment
        return moment

    async def _write(self) -> None:
        try:
            while self._pending:
                await self._wait_for_more()
                if not self._pending:
                    # Fenced meanwhile.
                    return
                batch = self._gather()
                if not await self._commits.commit(batch.segment, batch.documents):
                    found = self._fence is None
                    self._pending.put_back(batch.appends)
                    self.fence()
                    if found:
                        self._fenced()
                    return
                self._publish(batch)
        finally:
            self._writer = None

    def _stopped(self, writer: asyncio.Task[None]) -> None:
        """See that nothing is appended after what a bug has kept from being written."""
        if not writer.cancelled() and writer.exception() is not None:
            self.fence()
            self._fenced()

    def _begin_by(self, due: float) -> None:
        """Let the next commit begin then, or earlier."""
        if due < self._due:
            self._due = due
            self._hurry.set()

    async def _wait_for_more(self) -> None:
        loop = asyncio.get_running_loop()
        while self._pending and (left := self._due - loop.time()) > 0:
            self._hurry.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._hurry.wait()

    def _gather(self) -> _Batch:
        appends = self._pending.take()
        self._due = -math.inf if self._pending else math.inf
        documents = {path: to for append in appends for path, to in append.documents.items()}
        pieces = self.mirror.write([one.part for one in appends if one.part is not None])
        documents.update(pieces)
        carried = self._carried(appends, documents)
        events = [event for append in appends for event in append.events]
        if not events and self._last_time is not None:
            carried["time"] = time_text(self._last_time)
        segment = Segment(
            position=self._position,
            nonce=uuid.uuid4().hex,
            events=events,
            cursors={name: at for append in appends for name, at in append.cursors.items()},
            epoch=self._lease.epoch,
            carried=carried,
        )
        return _Batch(segment, appends, documents, pieces.keys())

    def _carried(
        self, appends: Sequence[Append], documents: dict[str, Mapping[str, Any] | None]
    ) -> dict[str, Any]:
        """See that a segment tells of the agent what its appends have made of it, and no more.

        What is counted must be counted in the very commit of what it is counted for.
        """
        path = str(self._agent)
        for append in appends:
            if append.late is not None:
                self._late.waiting = append.late
                if path in documents:
                    documents[path] = append.late.fields
            if path in append.documents:
                documents[path] = append.documents[path]
        if path in documents:
            self._late.written()
        elif (late := self._late.take()) is not None:
            documents[path] = late.fields
        elif self._late.waiting is not None:
            return {"agent": self._late.waiting.carried}
        return {}

    def _publish(self, batch: _Batch) -> None:
        self._position = batch.segment.end
        self.head = self._position.sequence - 1
        events = [LoggedEvent(event) for event in batch.segment.events]
        self._committed(events, batch.segment.cursors)
        for path in batch.pieces:
            # Written once.
            self.forget(path)
        for append in batch.appends:
            if not append.done.done():
                append.done.set_result(None)


def succeeded(append: asyncio.Future[None]) -> bool:
    """Tell whether an append is durable; not so while it waits, or when it failed."""
    return append.done() and not append.cancelled() and append.exception() is None
