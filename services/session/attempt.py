"""One attempt of a turn: an execution as it is followed.

Sends what it hears to where it belongs: items and parts of the agent's transcript to
the log, text being written to the timeline. Does not know how the turn goes on when
it ends.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, timedelta

from moorline.errors.v1 import errors_pb2
from moorline.executor.v1 import executions_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.session.clock import DatabaseClock
from services.session.log import Log
from services.session.permissions import Permissions
from services.session.timeline import Timeline

log = logging.getLogger(__name__)

_PART_BYTES = 1 << 20
"""Largest part of a transcript that is stored; the contract allows half of it."""

# The session service makes these itself; an executor that sends one is passed over.
_OURS = frozenset({None, "user_message", "turn_attempt", "permission_decision"})
_TEXT = frozenset({"agent_message", "agent_thought"})


class Attempt:
    """Listens to one execution; an `executor.Listener`.

    Args:
        turn_id: The turn it is an attempt of.
        execution_id: The execution.
        log: Where its items go.
        timeline: Where its text goes.
        permissions: The turn's requests.
        clock: The database's time.
        wait: How long a request waits for an answer; zero means for ever.
        again: Called when the stream begins anew, perhaps at another executor.
        progressed: Called with where the execution stands, which lasts until the next.
        finished: Called once with the event that holds the outcome.
        lost: Called when nothing will follow although the outcome has not come.

    Attributes:
        cursor: Number of the last event heard.
        tool_calls: Ids of the tool calls heard, whose effects are not known.
        conversation: That of the transcript as it was heard; empty for none.
    """

    __slots__ = (
        "_again",
        "_clock",
        "_closed",
        "_completed",
        "_finished",
        "_log",
        "_lost",
        "_permissions",
        "_progressed",
        "_timeline",
        "_turn_id",
        "_unconfirmed",
        "_wait",
        "conversation",
        "cursor",
        "execution_id",
        "tool_calls",
    )

    def __init__(
        self,
        *,
        turn_id: str,
        execution_id: str,
        log: Log,
        timeline: Timeline,
        permissions: Permissions,
        clock: DatabaseClock,
        wait: timedelta,
        again: Callable[[], None],
        progressed: Callable[[executions_pb2.ExecutionProgress], None],
        finished: Callable[[executions_pb2.ExecutionEvent], None],
        lost: Callable[[Failure], None],
    ) -> None:
        self._turn_id = turn_id
        self.execution_id = execution_id
        self._log = log
        self._timeline = timeline
        self._permissions = permissions
        self._clock = clock
        self._wait = wait
        self._again = again
        self._progressed = progressed
        self._finished = finished
        self._lost = lost
        self._closed = False
        # Blocks whose item is in the log although it may not be published yet.
        self._completed: set[str] = set()
        # Blocks from before a break that the executor has not named since.
        self._unconfirmed: set[str] = set()
        self.conversation = ""
        self.cursor = 0
        self.tool_calls: set[str] = set()

    def position(self) -> int:
        """Return the number of the last event heard; see `executor.Listener`."""
        return self.cursor

    def reset(self) -> None:
        """Hear that the stream begins anew; see `executor.Listener`."""
        self._unconfirmed = set(self._timeline.blocks) - self._completed
        self._again()

    def updates(self, updates: Sequence[executions_pb2.ExecutionUpdate]) -> None:
        """Hear what happened; see `executor.Listener`."""
        timeline = self._timeline
        for update in updates:
            if self._closed:
                return
            match update.WhichOneof("update"):
                case "delta":
                    delta = update.delta
                    if not delta.snapshot:
                        if self._unconfirmed:
                            self._discard_unconfirmed()
                        timeline.complete()
                        timeline.extend(delta.block_id, delta.text, thought=delta.thought)
                    elif delta.block_id not in self._completed:
                        self._unconfirmed.discard(delta.block_id)
                        timeline.replace(delta.block_id, delta.text, thought=delta.thought)
                case "event":
                    self._hear(update.event)
                case "progress":
                    self._progressed(update.progress)
                case "message_discarded":
                    self._unconfirmed.discard(update.message_discarded.block_id)
                    timeline.discard(update.message_discarded.block_id)

    def end(self, failure: Failure) -> None:
        """Hear that nothing will follow; see `executor.Listener`."""
        if not self._closed:
            self.close()
            self._lost(failure)

    def recall(self, item: transcript_pb2.Item) -> None:
        """Take in an item of this turn that an earlier process has logged."""
        match item.WhichOneof("kind"):
            case "turn_attempt":
                self.tool_calls.clear()
                self._permissions.clear()
            case "tool_call":
                self.tool_calls.add(item.tool_call.tool_call_id)
            case "permission_request":
                self._permissions.add(item.permission_request)
            case "permission_decision":
                self._permissions.recall(item.permission_decision)

    def close(self) -> None:
        """Listen no more: whatever still comes is passed over."""
        self._closed = True

    def partial_items(self) -> list[transcript_pb2.Item]:
        """Return the text being written as items, so that nothing shown is lost."""
        items = []
        for block in self._timeline.blocks.values():
            if block.block_id in self._completed:
                continue
            # The executor bounds a piece, so its text fits the log as it is.
            text = block.text()
            if block.thought:
                thought = transcript_pb2.AgentThought(
                    block_id=block.block_id, text=text, partial=True
                )
                items.append(transcript_pb2.Item(agent_thought=thought))
            else:
                message = transcript_pb2.AgentMessage(
                    block_id=block.block_id, text=text, partial=True
                )
                items.append(transcript_pb2.Item(agent_message=message))
        return items

    def _hear(self, event: executions_pb2.ExecutionEvent) -> None:
        if event.sequence <= self.cursor:
            return
        if event.sequence != self.cursor + 1:
            self.end(_gap(self.cursor, event.sequence))
            return
        self.cursor = event.sequence
        if event.HasField("transcript"):
            self._mirror(event)
            return
        kind = event.item.WhichOneof("kind")
        if kind == "turn_outcome":
            self.close()
            self._finished(event)
        elif kind not in _OURS:
            self._keep(event, kind)

    def _mirror(self, event: executions_pb2.ExecutionEvent) -> None:
        """Have a part of the agent's own transcript stored, with what comes next or soon."""
        if event.transcript.ByteSize() > _PART_BYTES:
            # No commit would take it; what was stored before is of no use without it.
            log.warning("part of a transcript passed over", extra={"bytes": event.ByteSize()})
            event.transcript.Clear()
        self.conversation = event.transcript.conversation
        self._log.append(
            self._turn_id,
            [],
            part=event.transcript,
            cursors={self.execution_id: event.sequence},
            urgent=False,
            shown=True,
        )

    def _keep(self, event: executions_pb2.ExecutionEvent, kind: str | None) -> None:
        item = event.item
        match kind:
            case "tool_call":
                self.tool_calls.add(item.tool_call.tool_call_id)
            case "agent_message":
                self._complete(item.agent_message, thought=False)
            case "agent_thought":
                self._complete(item.agent_thought, thought=True)
            case "permission_request" if self._wait:
                # Whoever enforces the limit is who can tell when it is over.
                expiry = self._clock.now() + self._wait
                item.permission_request.expire_time.FromDatetime(expiry)
        self._log.append(
            self._turn_id,
            [item],
            time=event.create_time.ToDatetime(UTC),
            cursors={self.execution_id: event.sequence},
            # Who is asked waits, and who is shown what happened does not mind a moment.
            urgent=kind == "permission_request",
            shown=kind in _TEXT,
        )
        if kind == "permission_request":
            self._permissions.add(item.permission_request)
            self._permissions.expire()

    def _complete(
        self, piece: transcript_pb2.AgentMessage | transcript_pb2.AgentThought, *, thought: bool
    ) -> None:
        self._completed.add(piece.block_id)
        self._unconfirmed.discard(piece.block_id)
        # Shown whole before it is stored, or the text of the next piece, which
        # waits for no commit, would overtake it.
        self._timeline.replace(piece.block_id, piece.text, thought=thought)

    def _discard_unconfirmed(self) -> None:
        for block_id in self._unconfirmed:
            self._timeline.discard(block_id)
        self._unconfirmed = set()


def _gap(cursor: int, sequence: int) -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_EXECUTION_LOST,
        f"The execution's events {cursor + 1} to {sequence - 1} are missing.",
    )
