"""One loaded agent: its log, its live end, the turn that runs and those that wait.

Does not know the agents beside it, nor who may ask for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from moorline.session.v1 import agents_pb2, turns_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure, not_found
from services.session.encoding import LoggedEvent, timestamp
from services.session.environment import Environment
from services.session.event_source import EventSource
from services.session.forms import EventForm
from services.session.history import History, Segment
from services.session.loader import Loader
from services.session.log import Log
from services.session.outcomes import Outcome, end_turn, outcome_label, queue_full, turn_exists
from services.session.ownership.ownership import Lease
from services.session.permissions import require_same
from services.session.recordings import Recordings
from services.session.records import (
    AgentRecord,
    TurnRecord,
    new_turn_documents,
    order_document,
    turn_work_path,
)
from services.session.timeline import Timeline
from services.session.turn_archive import TurnArchive
from services.session.turns import TurnRun

U = TypeVar("U")


class LiveAgent:
    """An agent in memory, the only writer of its documents.

    Args:
        environment: What it works with.
        record: Its settings.
        version: Version of its document.
        tail: Newest segment of its log.
        lease: The lease on its user.
        loader: Who has loaded it.
    """

    __slots__ = (
        "_environment",
        "_lease",
        "_loader",
        "_recordings",
        "_run",
        "_share",
        "_unfinished",
        "_waiting",
        "archive",
        "history",
        "log",
        "record",
        "timeline",
        "used",
    )

    def __init__(
        self,
        *,
        environment: Environment,
        record: AgentRecord,
        version: str,
        tail: Segment | None,
        lease: Lease,
        loader: Loader,
    ) -> None:
        self._environment = environment
        self._lease = lease
        self._loader = loader
        self.record = record
        self.history = History(store=environment.store, agent=record.name, log=record.log)
        self.archive = TurnArchive(store=environment.store, agent=record.name, log=record.log)
        self.log = Log(
            store=environment.store,
            agent=record.name,
            history=self.history,
            lease=lease,
            clock=environment.clock,
            tasks=environment.tasks,
            tail=tail,
            gather=environment.limits.gather,
            linger=environment.limits.linger,
            pace=environment.limits.pace,
            committed=self._committed,
            fenced=lambda: loader.fenced(record.name.agent),
        )
        self.log.track(str(record.name), version)
        if tail is not None and "agent" in tail.carried:
            record.recall(tail.carried["agent"])
            self.log.late(record.fields(), record.summary())
        self.timeline = Timeline(head=self.log.head)
        self.used = asyncio.get_running_loop().time()
        """Loop time of the last use."""
        self._run: TurnRun | None = None
        self._waiting: list[TurnRecord] = []
        self._unfinished: dict[str, TurnRecord] = {}
        self._recordings = Recordings(log=self.log)
        self._share = environment.measures.share()

    @property
    def busy(self) -> bool:
        """True while it has work in hand or somebody follows it."""
        return (
            bool(self._unfinished) or self.timeline.followed or not self.log.idle or self.log.behind
        )

    @property
    def running(self) -> bool:
        """True while a turn runs."""
        return self._run is not None

    def knows(self, turn_id: str) -> bool:
        """Tell whether a turn runs or waits here, or is ending."""
        return turn_id in self._unfinished

    def unfinished(self) -> list[TurnRecord]:
        """Return the turns that run or wait, in the order they run."""
        running = [self._run.turn] if self._run is not None else []
        return running + self._waiting

    def message(self) -> agents_pb2.Agent:
        """Return the agent as it is now."""
        agent = self.record.message()
        agent.head_sequence = self.log.head
        if self._run is not None:
            waits = self._run.open_requests
            agent.state = (
                agents_pb2.Agent.STATE_NEEDS_YOU if waits else agents_pb2.Agent.STATE_WORKING
            )
            agent.running_turn = str(self._run.turn.name)
            agent.activity_time.CopyFrom(timestamp(self.record.activity_time))
        agent.queued_turns.extend(str(turn.name) for turn in self._waiting)
        return agent

    async def resume(self) -> None:
        """Take up the turns that an earlier process left unfinished.

        Raises:
            Failure: STORE_UNAVAILABLE; nothing was taken up.
        """
        left = await self.archive.unfinished(self.history)
        for path, version in left.versions.items():
            self.log.track(path, version)
        self._waiting = left.waiting
        self._unfinished = {turn.name.turn: turn for turn in left.waiting}
        if left.running is not None:
            self._unfinished[left.running.name.turn] = left.running
            self._run = self._new_run(left.running)
            self._run.resume(left.events, left.cursors)
        self._next()
        self._changed()

    async def create_turn(self, turn_id: str, prompt: str) -> TurnRecord:
        """Record a prompt for good and see that it runs; the first call with an id counts.

        Raises:
            Failure: RESOURCE_EXISTS, QUEUE_FULL, STORE_UNAVAILABLE, FENCED. After
                the last two the turn may have been recorded; the same call again
                tells.
        """
        turn = self._unfinished.get(turn_id)
        if turn is None:
            stored = await self.stored_turn(turn_id)
            # Another call with this id may have come by while this one read.
            turn = self._unfinished.get(turn_id) or stored or self._begin(turn_id, prompt)
        if turn.prompt != prompt:
            raise turn_exists(turn)
        await self._recordings.wait(turn)
        return turn

    async def cancel_turn(self, turn_id: str) -> TurnRecord:
        """End a waiting turn, ask a running one to stop, leave a finished one alone.

        Raises:
            Failure: RESOURCE_NOT_FOUND, STORE_UNAVAILABLE, FENCED.
        """
        turn = self._unfinished.get(turn_id)
        if turn is None:
            return await self._stored(turn_id)
        if self._run is not None and self._run.turn is turn:
            await self._run.cancel()
        elif turn in self._waiting:
            self._waiting.remove(turn)
            self._end_waiting(turn)
        await self._recordings.wait(turn)
        return turn

    async def resolve_permission(
        self, turn_id: str, answer: transcript_pb2.PermissionDecision
    ) -> None:
        """Answer a permission request; the first answer wins.

        Raises:
            Failure: RESOURCE_NOT_FOUND, PERMISSION_RESOLVED, STORE_UNAVAILABLE,
                FENCED.
        """
        if self._run is not None and self._run.turn.name.turn == turn_id:
            await self._run.resolve(answer)
            return
        turn = self._unfinished.get(turn_id) or await self._stored(turn_id)
        decided = turn.permissions.get(answer.permission_id)
        if decided is None:
            raise not_found()
        require_same(decided, allowed=answer.allowed)

    def follow(
        self,
        *,
        form: EventForm[U],
        after_sequence: int,
        include_deltas: bool,
        mark: Callable[[], None],
        log_id: str = "",
    ) -> EventSource[U]:
        """Return a new subscription; see `EventSource`.

        Raises:
            Failure: SEQUENCE_UNKNOWN.
        """
        return EventSource(
            timeline=self.timeline,
            history=self.history,
            lease=self._lease,
            log_id=self.record.log_id,
            tasks=self._environment.tasks,
            form=form,
            after_sequence=after_sequence,
            known_log_id=log_id,
            include_deltas=include_deltas,
            mark=mark,
        )

    async def save(self) -> None:
        """Record changed settings.

        Raises:
            Failure: STORE_UNAVAILABLE, FENCED.
        """
        path = str(self.record.name)
        await self.log.durable(self.log.append("", [], documents={path: self.record.fields()}))
        self._changed()

    async def stored_turn(self, turn_id: str) -> TurnRecord | None:
        """Return a turn, whether it has ended or not, or None."""
        turn = self._unfinished.get(turn_id)
        if turn is not None:
            await self._recordings.wait(turn)
            return turn
        return await self.archive.get(turn_id)

    def close(self, failure: Failure) -> None:
        """Let go of everything without ending a turn; followers end with a failure."""
        if self._run is not None:
            self._run.stop()
        self.log.fence()
        self.timeline.end(failure)
        self._share.set(queued=0, requests=0)

    async def settle(self) -> None:
        """Let go of the running turn and wait until every append asked for has ended."""
        if self._run is not None:
            self._run.stop()
        await self.log.settled()

    async def _stored(self, turn_id: str) -> TurnRecord:
        turn = await self.stored_turn(turn_id)
        if turn is None:
            raise not_found()
        return turn

    def _begin(self, turn_id: str, prompt: str) -> TurnRecord:
        """Record a new turn; it runs at once when nothing runs or waits."""
        limit = self._environment.limits.queued_turns
        if len(self._waiting) >= limit:
            raise queue_full(limit)
        now = self._environment.clock.now()
        name = self.record.name.turn(turn_id)
        turn = TurnRecord(
            name=name,
            prompt=prompt,
            state=turns_pb2.Turn.STATE_QUEUED,
            sequence=self.log.next,
            create_time=now,
            log=self.record.log,
        )
        runs = self._run is None and not self._waiting
        if runs:
            self._start(turn)
        else:
            self._waiting.append(turn)
        self._unfinished[turn_id] = turn
        self.record.activity_time = now
        message = transcript_pb2.UserMessage(text=prompt)
        documents = new_turn_documents(turn)
        recorded = self.log.append(
            turn_id,
            [transcript_pb2.Item(user_message=message)],
            time=now,
            documents=documents,
        )
        order = order_document(turn)
        recorded.add_done_callback(lambda _: self.log.forget(order))
        self._recordings.add(turn_id, recorded)
        if runs:
            self._run = self._new_run(turn)
            self._run.start(recorded)
        self._changed()
        return turn

    def _start(self, turn: TurnRecord) -> None:
        turn.state = turns_pb2.Turn.STATE_RUNNING
        turn.attempt = 1
        turn.executor = self._environment.executors.place(preferred=self.record.executor)
        turn.start_time = self._environment.clock.now()

    def _new_run(self, turn: TurnRecord) -> TurnRun:
        return TurnRun(
            environment=self._environment,
            agent=self.record,
            turn=turn,
            agent_log=self.log,
            timeline=self.timeline,
            changed=self._changed,
            ended=self._turn_ended,
        )

    def _turn_ended(self) -> None:
        if self._run is not None:
            self._drop(self._run.turn)
            self._run = None
        self.used = asyncio.get_running_loop().time()
        self._next()
        self._changed()

    def _next(self) -> None:
        """Start the turn that waits longest, unless one runs."""
        if self._run is not None or not self._waiting or self._loader.holds_back():
            return
        turn = self._waiting.pop(0)
        self._start(turn)
        recorded = self.log.append(turn.name.turn, [], documents={str(turn.name): turn.fields()})
        self._run = self._new_run(turn)
        self._run.start(recorded)

    def _end_waiting(self, turn: TurnRecord) -> None:
        now = self._environment.clock.now()
        outcome = Outcome(state=Outcome.STATE_CANCELLED)
        turn.cancelled = True
        end_turn(turn, outcome, now)
        self.record.head = self.log.next
        self.log.late(self.record.fields(), self.record.summary())
        ended = self.log.append(
            turn.name.turn,
            [transcript_pb2.Item(turn_outcome=outcome)],
            documents={
                str(turn.name): turn.fields(),
                turn_work_path(turn.name): None,
            },
        )
        self._recordings.add(turn.name.turn, ended)
        ended.add_done_callback(lambda done: self._waiting_ended(done, turn))
        self._changed()

    def _waiting_ended(self, done: asyncio.Future[None], turn: TurnRecord) -> None:
        if not done.cancelled() and done.exception() is None:
            self._environment.measures.turns.labels(outcome_label(turn)).inc()
            self._drop(turn)

    def _drop(self, turn: TurnRecord) -> None:
        self._unfinished.pop(turn.name.turn, None)
        self.log.forget(str(turn.name))

    def _committed(self, events: Sequence[LoggedEvent], cursors: Mapping[str, int]) -> None:
        self.timeline.publish(events)
        over = any(event.closes_blocks for event in events)
        if self._run is not None:
            for execution, sequence in cursors.items():
                self._run.acknowledge(execution, sequence, at_once=over)
        if events:
            self.record.activity_time = self._environment.clock.now()
            self._changed()

    def _changed(self) -> None:
        requests = self._run.open_requests if self._run is not None else 0
        self._share.set(queued=len(self._waiting), requests=requests)
        self._loader.changed(self.record.name.agent)
