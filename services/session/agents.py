"""One loaded agent: its log, its live end, the turn that runs and those that wait.

Does not know the agents beside it, nor who may ask for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from moorline.session.v1 import agents_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure, not_found
from services.session.account import Account
from services.session.agent_record import AgentRecord
from services.session.answers import require_same
from services.session.encoding import LoggedEvent, timestamp
from services.session.environment import Environment
from services.session.event_source import EventSource
from services.session.forms import EventForm
from services.session.history import History, Segment
from services.session.late import Late
from services.session.loader import Loader
from services.session.log import Log
from services.session.outcomes import turn_exists, unreachable
from services.session.ownership.ownership import Lease
from services.session.recordings import Recordings
from services.session.records import TurnRecord
from services.session.timeline import Timeline
from services.session.transcripts.mirror import Mirror
from services.session.turn_archive import TurnArchive
from services.session.turn_queue import TurnQueue

log = logging.getLogger(__name__)

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
        "_located",
        "_recordings",
        "_share",
        "_turns",
        "archive",
        "history",
        "log",
        "mirror",
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
        self.mirror = Mirror(store=environment.store, agent=record.name, log=record.log)
        self.log = Log(
            store=environment.store,
            agent=record.name,
            history=self.history,
            lease=lease,
            clock=environment.clock,
            tasks=environment.tasks,
            tail=tail,
            mirror=self.mirror,
            gather=environment.limits.gather,
            linger=environment.limits.linger,
            pace=environment.limits.pace,
            committed=self._committed,
            fenced=lambda: loader.fenced(record.name.agent),
        )
        self.log.track(str(record.name), version)
        if tail is not None and "agent" in tail.carried:
            record.recall(tail.carried["agent"])
            self.log.late(Late(record.fields(), record.summary()))
        self.timeline = Timeline(head=self.log.head)
        self.used = asyncio.get_running_loop().time()
        """Loop time of the last use."""
        self._recordings = Recordings(log=self.log)
        self._share = environment.measures.share()
        # The recording of where the files will be, once somebody wanted to know.
        self._located: asyncio.Future[None] | None = None
        self._turns = TurnQueue(
            environment=environment,
            record=record,
            log=self.log,
            timeline=self.timeline,
            loader=loader,
            recordings=self._recordings,
            changed=self._changed,
            ended=self._turn_ended,
        )

    @property
    def busy(self) -> bool:
        """True while it has work in hand or somebody follows it."""
        return self._turns.busy or self.timeline.followed or not self.log.idle or self.log.behind

    @property
    def running(self) -> bool:
        """True while a turn runs that somebody asked for."""
        run = self._turns.run
        return run is not None and not run.turn.background

    @property
    def unsettled_cost(self) -> int:
        """What a turn that is not in the account cost so far, in millionths of a US dollar."""
        run = self._turns.run
        return run.progress.cost if run is not None and not run.over else 0

    def final_account(self, now: datetime) -> Account:
        """Return the account as it is when the running turn will never have an outcome."""
        run = self._turns.run
        if run is None or run.over:
            return self.record.account
        return self.record.account.with_turn(run.progress.usage, now)

    def exhaust(self, failure: Failure) -> None:
        """Have the running turn fail: nothing is left of a budget."""
        if self._turns.run is not None:
            self._turns.run.exhaust(failure)

    def knows(self, turn_id: str) -> bool:
        """Tell whether a turn runs or waits here, or is ending."""
        return self._turns.find(turn_id) is not None

    def unfinished(self) -> list[TurnRecord]:
        """Return the turns that run or wait, in the order they run."""
        return self._turns.turns()

    def message(self) -> agents_pb2.Agent:
        """Return the agent as it is now."""
        agent = self.record.message()
        agent.head_sequence = self.log.head
        run = self._turns.run
        if run is not None:
            waits = run.open_requests
            agent.state = (
                agents_pb2.Agent.STATE_NEEDS_YOU if waits else agents_pb2.Agent.STATE_WORKING
            )
            agent.running_turn = str(run.turn.name)
            agent.activity_time.CopyFrom(timestamp(self.record.activity_time))
            agent.queue_position = run.progress.queue_position
            if run.progress.heard:
                agent.turn_usage.CopyFrom(run.progress.usage)
        agent.queued_turns.extend(self._turns.names())
        return agent

    async def resume(self) -> None:
        """Take up the turns that an earlier process left unfinished.

        Raises:
            Failure: STORE_UNAVAILABLE; nothing was taken up.
        """
        await self.mirror.load()
        self._turns.resume(await self.archive.unfinished(self.history))
        self._changed()

    async def create_turn(self, turn_id: str, prompt: str) -> TurnRecord:
        """Record a prompt for good and see that it runs; the first call with an id counts.

        Raises:
            Failure: RESOURCE_EXISTS, QUEUE_FULL, STORE_UNAVAILABLE, FENCED. After
                the last two the turn may have been recorded; the same call again
                tells.
        """
        turn = self._turns.find(turn_id)
        if turn is None:
            stored = await self.stored_turn(turn_id)
            # Another call with this id may have come by while this one read.
            turn = self._turns.find(turn_id) or stored or self._turns.add(turn_id, prompt)
        if turn.prompt != prompt:
            raise turn_exists(turn)
        await self._recordings.wait(turn)
        return turn

    async def cancel_turn(self, turn_id: str) -> TurnRecord:
        """End a waiting turn, ask a running one to stop, leave a finished one alone.

        Raises:
            Failure: RESOURCE_NOT_FOUND, STORE_UNAVAILABLE, FENCED.
        """
        turn = self._turns.find(turn_id)
        if turn is None:
            return await self._stored(turn_id)
        await self._turns.cancel(turn)
        await self._recordings.wait(turn)
        return turn

    async def resolve_permission(
        self, turn_id: str, answer: transcript_pb2.PermissionDecision
    ) -> None:
        """Answer a permission request; the first answer wins.

        Raises:
            Failure: RESOURCE_NOT_FOUND, PERMISSION_RESOLVED, FIELD_INVALID,
                QUOTA_EXCEEDED, STORE_UNAVAILABLE, FENCED.
        """
        run = self._turns.run
        if run is not None and run.turn.name.turn == turn_id:
            await run.resolve(answer)
            return
        turn = self._turns.find(turn_id) or await self._stored(turn_id)
        decided = turn.permissions.get(answer.permission_id)
        if decided is None:
            raise not_found()
        require_same(decided, answer)

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

    async def locate(self) -> str:
        """Return the address of the executor that has the agent's files, or will have them.

        Raises:
            Failure: SERVICE_UNAVAILABLE when none can be named; STORE_UNAVAILABLE, FENCED.
        """
        executors, run = self._environment.executors, self._turns.run
        there = (run.turn.executor if run is not None else "") or self.record.executor
        if not executors.known(there):
            # It never ran, or its files are gone with their executor.
            there = executors.place(preferred="")
            if not there:
                raise unreachable()
            self.record.executor = there
            path = str(self.record.name)
            self._located = self.log.append("", [], documents={path: self.record.fields()})
        if self._located is not None:
            # The first turn shall go there, whoever starts it.
            await self.log.durable(self._located)
        return there

    async def stored_turn(self, turn_id: str) -> TurnRecord | None:
        """Return a turn, whether it has ended or not, or None."""
        turn = self._turns.find(turn_id)
        if turn is not None:
            await self._recordings.wait(turn)
            return turn
        return await self.archive.get(turn_id)

    def close(self, failure: Failure) -> None:
        """Let go of everything without ending a turn; followers end with a failure."""
        self._turns.stop()
        self.log.fence()
        self.timeline.end(failure)
        self._share.set(queued=0, requests=0)

    async def settle(self) -> None:
        """Let go of the running turn and wait until every append asked for has ended."""
        await self._turns.settle()
        await self.log.settled()

    async def _stored(self, turn_id: str) -> TurnRecord:
        turn = await self.stored_turn(turn_id)
        if turn is None:
            raise not_found()
        return turn

    def _turn_ended(self) -> None:
        self.used = asyncio.get_running_loop().time()
        # Not while a conversation before the newest may be gone on with.
        if self.mirror.littered and self.mirror.conversation in ("", self.record.conversation):
            self._environment.tasks.spawn(self._clear_transcript(), name="transcript-clear")

    async def _clear_transcript(self) -> None:
        try:
            await self.mirror.clear()
        except Failure as failure:
            # The next turn tries again.
            log.info("transcript not cleared", extra={"reason": failure.reason_name})

    def _committed(self, events: Sequence[LoggedEvent], cursors: Mapping[str, int]) -> None:
        run = self._turns.run
        running = run.turn.name.turn if run is not None else ""
        self.timeline.publish(events, running=running)
        over = any(event.closes_blocks for event in events)
        if run is not None:
            for execution, sequence in cursors.items():
                run.acknowledge(execution, sequence, at_once=over)
        if events:
            self.record.activity_time = self._environment.clock.now()
            self._changed()

    def _changed(self) -> None:
        run = self._turns.run
        self._share.set(
            queued=self._turns.waiting, requests=run.open_requests if run is not None else 0
        )
        self._loader.changed(self.record.name.agent)
