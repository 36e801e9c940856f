"""The turns of one agent that run, wait or are ending: who comes next, and when.

Does not know who asks for them, nor what a running turn does.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable

from moorline.session.v1 import turns_pb2
from moorline.transcript.v1 import transcript_pb2
from services.session.agent_record import AgentRecord
from services.session.environment import Environment
from services.session.late import Late
from services.session.loader import Loader
from services.session.log import Log
from services.session.outcomes import Outcome, end_turn, outcome_label, queue_full
from services.session.recordings import Recordings
from services.session.records import (
    TurnRecord,
    new_turn_documents,
    order_document,
    turn_work_path,
)
from services.session.timeline import Timeline
from services.session.turn_archive import Unfinished
from services.session.turns import TurnRun


class TurnQueue:
    """Runs one agent's turns, one at a time, in the order they came.

    Args:
        environment: What it works with.
        record: The agent.
        log: The agent's log.
        timeline: The agent's live end.
        loader: Tells whether turns that wait are the next owner's.
        recordings: Learns what callers wait for.
        changed: Called when the agent may look different.
        ended: Called when a turn that ran has ended.
    """

    __slots__ = (
        "_changed",
        "_ended",
        "_environment",
        "_loader",
        "_log",
        "_record",
        "_recordings",
        "_timeline",
        "_unfinished",
        "_waiting",
        "run",
    )

    def __init__(
        self,
        *,
        environment: Environment,
        record: AgentRecord,
        log: Log,
        timeline: Timeline,
        loader: Loader,
        recordings: Recordings,
        changed: Callable[[], None],
        ended: Callable[[], None],
    ) -> None:
        self._environment = environment
        self._record = record
        self._log = log
        self._timeline = timeline
        self._loader = loader
        self._recordings = recordings
        self._changed = changed
        self._ended = ended
        self.run: TurnRun | None = None
        """The turn that runs."""
        self._waiting: list[TurnRecord] = []
        self._unfinished: dict[str, TurnRecord] = {}

    @property
    def busy(self) -> bool:
        """True while a turn runs, waits or is ending."""
        return bool(self._unfinished)

    @property
    def waiting(self) -> int:
        """How many turns wait."""
        return len(self._waiting)

    def find(self, turn_id: str) -> TurnRecord | None:
        """Return a turn that runs or waits here, or is ending."""
        return self._unfinished.get(turn_id)

    def turns(self) -> list[TurnRecord]:
        """Return the turns that run or wait, in the order they run."""
        running = [self.run.turn] if self.run is not None else []
        return running + self._waiting

    def names(self) -> list[str]:
        """Return the names of the turns that wait."""
        return [str(turn.name) for turn in self._waiting if not turn.background]

    def resume(self, left: Unfinished) -> None:
        """Take up what an earlier process left unfinished."""
        for path, version in left.versions.items():
            self._log.track(path, version)
        self._waiting = left.waiting
        self._unfinished = {turn.name.turn: turn for turn in left.waiting}
        if left.running is not None:
            self._unfinished[left.running.name.turn] = left.running
            self.run = self._new_run(left.running)
            self.run.resume(left.events, left.cursors)
            self._make_way()
        self._next()

    def add(self, turn_id: str, prompt: str) -> TurnRecord:
        """Record a new turn; it runs at once when nothing runs or waits.

        Raises:
            Failure: QUEUE_FULL.
        """
        limit = self._environment.limits.queued_turns
        # A turn that nobody asked for takes no one's place.
        self._skip_background()
        if len(self._waiting) >= limit:
            raise queue_full(limit)
        turn = self._new_turn(turn_id, prompt)
        runs = self.run is None and not self._waiting
        if runs:
            self._start(turn)
        else:
            self._waiting.append(turn)
        message = transcript_pb2.UserMessage(text=prompt)
        recorded = self._record_new(turn, transcript_pb2.Item(user_message=message))
        if runs:
            self.run = self._new_run(turn)
            self.run.start(recorded)
        self._make_way()
        self._changed()
        return turn

    async def cancel(self, turn: TurnRecord) -> None:
        """End a waiting turn, ask a running one to stop.

        Raises:
            Failure: STORE_UNAVAILABLE, FENCED.
        """
        if self.run is not None and self.run.turn is turn:
            await self.run.cancel()
        elif turn in self._waiting:
            self._waiting.remove(turn)
            turn.cancelled = True
            self._end_waiting(turn, Outcome.STATE_CANCELLED)

    def stop(self) -> None:
        """Let go of the running turn without ending it."""
        if self.run is not None:
            self.run.stop()

    async def settle(self) -> None:
        """Let go of the running turn, once it is sure where it runs."""
        if self.run is not None:
            await self.run.settle()

    def _new_turn(self, turn_id: str, prompt: str, *, background: bool = False) -> TurnRecord:
        return TurnRecord(
            name=self._record.name.turn(turn_id),
            prompt=prompt,
            state=turns_pb2.Turn.STATE_QUEUED,
            sequence=self._log.next,
            create_time=self._environment.clock.now(),
            background=background,
            log=self._record.log,
        )

    def _record_new(
        self, turn: TurnRecord, item: transcript_pb2.Item, *, joined: bool = False
    ) -> asyncio.Future[None]:
        """Record a turn that is in its place, with its first item."""
        turn_id = turn.name.turn
        self._unfinished[turn_id] = turn
        self._record.activity_time = turn.create_time
        recorded = self._log.append(
            turn_id,
            [item],
            time=turn.create_time,
            documents=new_turn_documents(turn),
            joined=joined,
        )
        order = order_document(turn)
        recorded.add_done_callback(lambda _: self._log.forget(order))
        self._recordings.add(turn_id, recorded)
        return recorded

    def _start(self, turn: TurnRecord) -> None:
        turn.state = turns_pb2.Turn.STATE_RUNNING
        turn.attempt = 1
        turn.executor = self._record.executor
        if not turn.background:
            turn.executor = self._environment.executors.place(preferred=turn.executor)
        turn.start_time = self._environment.clock.now()

    def _new_run(self, turn: TurnRecord) -> TurnRun:
        return TurnRun(
            environment=self._environment,
            agent=self._record,
            turn=turn,
            agent_log=self._log,
            timeline=self._timeline,
            changed=self._changed,
            loader=self._loader,
            concluded=self._concluded,
            ended=self._turn_ended,
        )

    def _concluded(self, outcome: Outcome) -> None:
        """See that somebody hears of what a turn has left in the background.

        Only once: when the turn for that ends, with or without news, nothing follows it
        until somebody asks for something.
        """
        asked = self.run is not None and not self.run.turn.background
        if outcome.background_tasks < 1 or self._waiting or not asked:
            return
        turn = self._new_turn(f"background-{uuid.uuid4().hex[:16]}", "", background=True)
        self._waiting.append(turn)
        work = transcript_pb2.BackgroundWork()
        # With the outcome, or a crash between the two would leave nobody to hear.
        self._record_new(turn, transcript_pb2.Item(background_work=work), joined=True)

    def _make_way(self) -> None:
        """End the turn that runs if nobody asked for it and another waits."""
        if self.run is not None and self.run.turn.background and self._waiting:
            self.run.give_way()

    def _skip_background(self) -> None:
        """End the turn that waits and that nobody asked for."""
        for turn in [turn for turn in self._waiting if turn.background]:
            self._waiting.remove(turn)
            self._end_waiting(turn, Outcome.STATE_FINISHED)

    def _turn_ended(self) -> None:
        if self.run is not None:
            self._drop(self.run.turn)
            self.run = None
        self._ended()
        self._next()
        self._changed()

    def _next(self) -> None:
        """Start the turn that waits longest, unless one runs."""
        if self.run is not None or not self._waiting or self._loader.holds_back():
            return
        turn = self._waiting.pop(0)
        self._start(turn)
        recorded = self._log.append(turn.name.turn, [], documents={str(turn.name): turn.fields()})
        self.run = self._new_run(turn)
        self.run.start(recorded)

    def _end_waiting(self, turn: TurnRecord, state: Outcome.State.ValueType) -> None:
        now = self._environment.clock.now()
        outcome = Outcome(state=state)
        end_turn(turn, outcome, now)
        record = self._record
        record.head = self._log.next
        record.account = record.account.with_turn(None, now)
        ended = self._log.append(
            turn.name.turn,
            [transcript_pb2.Item(turn_outcome=outcome)],
            documents={
                str(turn.name): turn.fields(),
                turn_work_path(turn.name): None,
            },
            late=Late(record.fields(), record.summary()),
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
        self._log.forget(str(turn.name))
