"""Where a running turn stands: what it has consumed so far, and its place in the executor's queue.

Does not know who tells it, nor what it may consume.
"""

from __future__ import annotations

from moorline.executor.v1 import executions_pb2
from moorline.transcript.v1 import transcript_pb2
from services.session.account import together
from services.session.records import TurnRecord


class Progress:
    """Where the executions of one turn stand, as far as they told.

    Args:
        turn: The turn; its `usage` is what attempts before the current one consumed.

    Attributes:
        queue_position: Place in the executor's queue, 1 for the next; 0 when it runs.
    """

    __slots__ = ("_heard", "_turn", "queue_position")

    def __init__(self, *, turn: TurnRecord) -> None:
        self._turn = turn
        self._heard = transcript_pb2.Usage()
        self.queue_position = 0

    @property
    def heard(self) -> bool:
        """True once something was told."""
        return self._turn.usage is not None or bool(self._heard.ByteSize())

    @property
    def usage(self) -> transcript_pb2.Usage:
        """All so far."""
        return self._with(self._heard)

    @property
    def cost(self) -> int:
        """What it cost so far, in millionths of a US dollar."""
        before = self._turn.usage
        return self._heard.cost_usd_micros + (before.cost_usd_micros if before else 0)

    def hear(self, progress: executions_pb2.ExecutionProgress) -> bool:
        """Take in where the current execution stands; return whether that is news."""
        known = (self.queue_position, self._heard)
        self.queue_position = progress.queue_position
        if progress.HasField("usage"):
            self._heard = progress.usage
        return known != (self.queue_position, self._heard)

    def again(self) -> None:
        """Begin another attempt: what is heard of it comes on top."""
        if self._heard.ByteSize():
            self._turn.usage = self.usage
        self._heard = transcript_pb2.Usage()
        self.queue_position = 0

    def end(self, outcome: transcript_pb2.TurnOutcome) -> None:
        """Complete an outcome's usage: it tells of the last execution, at most."""
        if self.heard or outcome.HasField("usage"):
            last = outcome.usage if outcome.HasField("usage") else self._heard
            outcome.usage.CopyFrom(self._with(last))

    def _with(self, last: transcript_pb2.Usage) -> transcript_pb2.Usage:
        return last if self._turn.usage is None else together([self._turn.usage, last])
