"""The end of a turn: its outcome, and all that is recorded with it.

Does not know what leads to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from moorline.errors.v1 import errors_pb2
from moorline.executor.v1 import executions_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.session.agent_record import AgentRecord
from services.session.environment import Environment
from services.session.late import Late
from services.session.log import Log, succeeded
from services.session.outcomes import Outcome, end_turn
from services.session.permissions import Permissions
from services.session.progress import Progress
from services.session.records import TurnRecord, turn_work_path
from services.session.transcripts.mirror import lost_part


class Conclusion:
    """Records exactly one outcome of a turn.

    Args:
        environment: What it works with.
        agent: Whose turn it is; learns what the turn leaves behind.
        turn: The turn.
        agent_log: Where the outcome goes.
        permissions: The turn's requests.
        progress: Where the turn stands.
        changed: Called when the agent looks different.
        concluded: Called with the outcome in the moment that its recording begins.
    """

    __slots__ = (
        "_agent",
        "_changed",
        "_concluded",
        "_environment",
        "_log",
        "_permissions",
        "_progress",
        "_turn",
        "recorded",
    )

    def __init__(
        self,
        *,
        environment: Environment,
        agent: AgentRecord,
        turn: TurnRecord,
        agent_log: Log,
        permissions: Permissions,
        progress: Progress,
        changed: Callable[[], None],
        concluded: Callable[[Outcome], None],
    ) -> None:
        self._environment = environment
        self._agent = agent
        self._turn = turn
        self._log = agent_log
        self._permissions = permissions
        self._progress = progress
        self._changed = changed
        self._concluded = concluded
        self.recorded: asyncio.Future[None] | None = None
        """Told once the outcome is durable; None while there is none."""

    def hear(self, event: executions_pb2.ExecutionEvent, *, heard: str) -> None:
        """Record the execution's outcome, which is the turn's.

        Args:
            event: Holds the outcome.
            heard: As for `decide`.
        """
        outcome = event.item.turn_outcome
        if self._turn.background:
            _end_background(outcome, cancelled=self._turn.cancelled)
        self._record(
            outcome,
            told=event.conversation,
            heard=heard,
            time=event.create_time.ToDatetime(UTC),
            cursors={self._turn.execution: event.sequence},
        )

    def decide(
        self,
        state: Outcome.State.ValueType,
        failure: Failure | None,
        *,
        before: Sequence[transcript_pb2.Item],
        heard: str,
    ) -> asyncio.Future[None]:
        """Record an outcome that no execution tells, and see that none goes on.

        Args:
            state: What became of the turn.
            failure: Why.
            before: What else happened.
            heard: Conversation of the transcript as the last execution told it; empty
                for none.
        """
        error = failure.to_error() if failure is not None else None
        outcome = Outcome(state=state, error=error)
        recorded = self._record(outcome, heard=heard, before=before)
        if self._turn.executor:
            recorded.add_done_callback(self._abandon)
        return recorded

    def _abandon(self, recorded: asyncio.Future[None]) -> None:
        """See that the execution stops, wherever it may run, and never starts."""
        # Not without right: whoever else owns the agent now may go on with it.
        if succeeded(recorded):
            self._environment.executors.abandon(self._turn.executor, self._turn.execution)

    def _record(
        self,
        outcome: transcript_pb2.TurnOutcome,
        *,
        heard: str,
        told: str = "",
        before: Sequence[transcript_pb2.Item] = (),
        time: datetime | None = None,
        cursors: Mapping[str, int] | None = None,
    ) -> asyncio.Future[None]:
        """Record the outcome, and with it that nothing is left to do for the turn."""
        turn, agent, now = self._turn, self._agent, self._environment.clock.now()
        self._progress.end(outcome)
        end_turn(turn, outcome, now)
        items = [
            *before,
            *self._permissions.close(),
            transcript_pb2.Item(turn_outcome=outcome),
        ]
        turn.permissions = self._permissions.summary()
        part = self._go_on_with(outcome, told, heard)
        # Where the agent's files and process are now.
        agent.executor = turn.executor or agent.executor
        agent.head = self._log.next + len(items) - 1
        agent.activity_time = now
        agent.account = agent.account.with_turn(turn.usage, now)
        self.recorded = self._log.append(
            turn.name.turn,
            items,
            time=time,
            documents={
                str(turn.name): turn.fields(),
                turn_work_path(turn.name): None,
            },
            late=Late(agent.fields(), agent.summary()),
            cursors=cursors,
            part=part,
        )
        self._concluded(outcome)
        self._changed()
        return self.recorded

    def _go_on_with(
        self, outcome: transcript_pb2.TurnOutcome, told: str, heard: str
    ) -> executions_pb2.TranscriptPart | None:
        """Note which conversation the next turn goes on with.

        Returns:
            What must be known where the conversation is stored, or None.
        """
        heard = heard or self._log.mirror.conversation
        if outcome.error.reason == errors_pb2.ERROR_REASON_CONVERSATION_LOST:
            # With the handle that failed, every later turn would fail too.
            self._agent.conversation = ""
            return lost_part() if heard else None
        # An outcome of ours tells none; what was stored of a new one does.
        self._agent.conversation = told or self._agent.conversation or heard
        return None


def _end_background(outcome: transcript_pb2.TurnOutcome, *, cancelled: bool) -> None:
    """Say how a turn ended that nobody asked for: to be stopped is its natural end."""
    if outcome.state in (Outcome.STATE_FINISHED, Outcome.STATE_CANCELLED):
        outcome.state = Outcome.STATE_CANCELLED if cancelled else Outcome.STATE_FINISHED
