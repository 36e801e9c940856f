"""The turns of one agent that run, wait or are ending: who comes next, and when.

Does not know who asks for them, nor what a running turn does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from moorline.session.v1 import turns_pb2
from moorline.transcript.v1 import transcript_pb2
from services.session.environment import Environment
from services.session.late import Late
from services.session.loader import Loader
from services.session.log import Log
from services.session.outcomes import Outcome, end_turn, outcome_label, queue_full
from services.session.recordings import Recordings
from services.session.records import (
    AgentRecord,
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
        return [str(turn.name) for turn in self._waiting]

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
        self._next()

    def add(self, turn_id: str, prompt: str) -> TurnRecord:
        """Record a new turn; it runs at once when nothing runs or waits.

        Raises:
            Failure: QUEUE_FULL.
        """
        limit = self._environment.limits.queued_turns
        if len(self._waiting) >= limit:
            raise queue_full(limit)
        now = self._environment.clock.now()
        name = self._record.name.turn(turn_id)
        turn = TurnRecord(
            name=name,
            prompt=prompt,
            state=turns_pb2.Turn.STATE_QUEUED,
            sequence=self._log.next,
            create_time=now,
            log=self._record.log,
        )
        runs = self.run is None and not self._waiting
        if runs:
            self._start(turn)
        else:
            self._waiting.append(turn)
        self._unfinished[turn_id] = turn
        self._record.activity_time = now
        message = transcript_pb2.UserMessage(text=prompt)
        documents = new_turn_documents(turn)
        recorded = self._log.append(
            turn_id,
            [transcript_pb2.Item(user_message=message)],
            time=now,
            documents=documents,
        )
        order = order_document(turn)
        recorded.add_done_callback(lambda _: self._log.forget(order))
        self._recordings.add(turn_id, recorded)
        if runs:
            self.run = self._new_run(turn)
            self.run.start(recorded)
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
            self._end_waiting(turn)

    def stop(self) -> None:
        """Let go of the running turn without ending it."""
        if self.run is not None:
            self.run.stop()

    def _start(self, turn: TurnRecord) -> None:
        turn.state = turns_pb2.Turn.STATE_RUNNING
        turn.attempt = 1
        turn.executor = self._environment.executors.place(preferred=self._record.executor)
        turn.start_time = self._environment.clock.now()

    def _new_run(self, turn: TurnRecord) -> TurnRun:
        return TurnRun(
            environment=self._environment,
            agent=self._record,
            turn=turn,
            agent_log=self._log,
            timeline=self._timeline,
            changed=self._changed,
            ended=self._turn_ended,
        )

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

    def _end_waiting(self, turn: TurnRecord) -> None:
        now = self._environment.clock.now()
        outcome = Outcome(state=Outcome.STATE_CANCELLED)
        turn.cancelled = True
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
