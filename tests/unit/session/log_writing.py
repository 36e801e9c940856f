"""A log of one agent, and what it tells whoever has opened it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from moorline.transcript.v1 import transcript_pb2
from services.chassis.tasks import Tasks
from services.session.clock import DatabaseClock
from services.session.encoding import LoggedEvent
from services.session.history import History
from services.session.log import Log
from services.session.names import AgentName
from services.session.ownership.ownership import Lease, SoleLease
from services.session.transcripts.mirror import Mirror
from tests.unit.session.fakes import FaultyStore

NAME = AgentName("ada", "a1")


def message(text: str) -> transcript_pb2.Item:
    """Return an item."""
    return transcript_pb2.Item(agent_message=transcript_pb2.AgentMessage(text=text))


@dataclass
class Writer:
    """A log and what it has told."""

    store: FaultyStore
    tasks: Tasks
    published: list[LoggedEvent] = field(default_factory=list)
    cursors: dict[str, int] = field(default_factory=dict)
    fences: int = 0
    lease: Lease = field(default_factory=SoleLease)
    gather: timedelta = timedelta(0)
    linger: timedelta = timedelta(0)
    pace: timedelta = timedelta(0)
    mirror: Mirror | None = None

    async def open(self) -> Log:
        """Return the log, from its newest segment on."""
        clock = DatabaseClock(monotonic=time.monotonic)
        clock.observe(await self.store.now())
        history = History(store=self.store, agent=NAME, log="log")
        return Log(
            store=self.store,
            agent=NAME,
            history=history,
            lease=self.lease,
            clock=clock,
            tasks=self.tasks,
            tail=await history.tail(),
            mirror=self.mirror or Mirror(store=self.store, agent=NAME, log="log"),
            gather=self.gather,
            linger=self.linger,
            pace=self.pace,
            committed=self._committed,
            fenced=self._fenced,
        )

    def _committed(self, events: Sequence[LoggedEvent], cursors: Mapping[str, int]) -> None:
        self.published += events
        self.cursors.update(cursors)

    def _fenced(self) -> None:
        self.fences += 1
