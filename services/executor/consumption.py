"""What one turn consumes: begun and ended with it, told while it runs.

Does not know what is consumed, nor who counts it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from moorline.transcript.v1 import transcript_pb2
from services.executor.agent_process import Budget
from services.executor.metering import Meter

_TELL_SECONDS = 0.25
"""How long news of a meter are gathered before they are told."""


class Consumption:
    """One turn at a meter.

    Args:
        meter: The meter of the turn's agent.
        tell: Hears what was consumed so far, a few times a second at most. Must not fail.
        record: Hears what the meter records; None when nobody keeps it.
    """

    def __init__(
        self,
        *,
        meter: Meter,
        tell: Callable[[transcript_pb2.Usage], None],
        record: Callable[[bytes], None] | None,
    ) -> None:
        self._meter = meter
        self._tell = tell
        self._record = record
        self._telling: asyncio.TimerHandle | None = None

    def begin(self, budget: Budget, *, records: tuple[bytes, ...]) -> None:
        """Begin the turn.

        Args:
            budget: What it may cost.
            records: What another executor's meter has recorded of it.
        """
        self._meter.begin(budget)
        if records:
            self._meter.recall(records)
        self._meter.record = self._record
        self._meter.changed = self._changed

    def end(self) -> tuple[transcript_pb2.Usage, str]:
        """End the turn; return what it consumed, and the budget that is spent, if one is."""
        if self._telling is not None:
            self._telling.cancel()
        self._meter.changed = self._meter.record = None
        exhausted = self._meter.exhausted
        return self._meter.end(), exhausted

    def _changed(self) -> None:
        if self._telling is None:
            loop = asyncio.get_running_loop()
            self._telling = loop.call_later(_TELL_SECONDS, self._tell_now)

    def _tell_now(self) -> None:
        self._telling = None
        self._tell(self._meter.usage)
