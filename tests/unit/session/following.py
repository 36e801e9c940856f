"""An agent's log and timeline without the rest, and a client that follows by the rules."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from moorline.session.v1 import events_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.tasks import Tasks
from services.session.clock import DatabaseClock
from services.session.event_source import EventSource
from services.session.forms import MessageEvents
from services.session.history import History
from services.session.log import Log
from services.session.names import AgentName
from services.session.ownership.ownership import Lease, SoleLease
from services.session.timeline import Timeline
from services.session.transcripts.mirror import Mirror
from tests.unit.session.fakes import FaultyStore
from tests.unit.session.service import until

NAME = AgentName("ada", "a1")


Item = transcript_pb2.Item


BUDGET = 1 << 20


def message(text: str, block_id: str = "") -> Item:
    """Return a message."""
    return Item(agent_message=transcript_pb2.AgentMessage(block_id=block_id, text=text))


OUTCOME = Item(
    turn_outcome=transcript_pb2.TurnOutcome(state=transcript_pb2.TurnOutcome.STATE_FINISHED)
)


@dataclass
class Client:
    """Follows by the client's rule: replace on a snapshot, append, the item wins."""

    source: EventSource[events_pb2.WatchEventsResponse]
    sequences: list[int] = field(default_factory=list)
    blocks: dict[str, str] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    def take(self, budget: int = BUDGET) -> bool:
        """Take once; return whether there was more."""
        news = events_pb2.WatchEventsResponse()
        taken, more = self.source.take(budget, news)
        assert bool(news.updates) == bool(taken)
        for update in news.updates:
            self._apply(update)
        return more

    def take_all(self, budget: int = BUDGET) -> None:
        """Take until nothing is left at once."""
        while self.take(budget):
            pass

    def _apply(self, update: events_pb2.EventUpdate) -> None:
        kind = update.WhichOneof("update") or ""
        self.log.append(kind)
        match kind:
            case "event":
                self.sequences.append(update.event.sequence)
                self.blocks.pop(update.event.item.agent_message.block_id, None)
                if update.event.item.HasField("turn_outcome"):
                    self.blocks.clear()
            case "delta":
                delta = update.delta
                known = "" if delta.snapshot else self.blocks[delta.block_id]
                self.blocks[delta.block_id] = known + delta.text
            case "message_discarded":
                del self.blocks[update.message_discarded.block_id]


@dataclass
class World:
    """An agent's log and timeline, wired as the service wires them."""

    store: FaultyStore
    tasks: Tasks
    timeline: Timeline
    history: History
    log: Log
    lease: Lease

    async def say(self, *texts: str) -> None:
        """Append messages, each a segment."""
        for text in texts:
            await self.log.append("t", [message(text)])

    def source(
        self, after: int = 0, *, deltas: bool = True, form: Any = None, mark: Any = lambda: None
    ) -> EventSource[Any]:
        """Follow."""
        return EventSource(
            timeline=self.timeline,
            history=self.history,
            lease=self.lease,
            log_id="log",
            tasks=self.tasks,
            form=form or MessageEvents(),
            after_sequence=after,
            known_log_id="",
            include_deltas=deltas,
            mark=mark,
        )

    def client(self, after: int = 0, **options: Any) -> Client:
        """Follow as a client."""
        return Client(self.source(after, **options))

    async def loaded(self, client: Client) -> None:
        """Take until stored events are in."""

        def done() -> bool:
            client.take_all()
            return "checkpoint" in client.log

        await until(done)


async def make_world(store: FaultyStore, tasks: Tasks) -> World:
    """Return an agent as it is when it was just loaded."""
    history = History(store=store, agent=NAME, log="log")
    lease = SoleLease()
    clock = DatabaseClock(monotonic=time.monotonic)
    clock.observe(await store.now())
    tail = await history.tail()
    timeline = Timeline(head=tail.end.sequence - 1 if tail is not None else 0)
    log = Log(
        store=store,
        agent=NAME,
        history=history,
        lease=lease,
        clock=clock,
        tasks=tasks,
        tail=tail,
        mirror=Mirror(store=store, agent=NAME, log="log"),
        gather=timedelta(0),
        pace=timedelta(0),
        committed=lambda events, cursors: timeline.publish(events),
        fenced=lambda: None,
    )
    return World(store, tasks, timeline, history, log, lease)


def current(world: World, client: Client) -> bool:
    """Return whether a client has every event."""
    return (client.sequences[-1] if client.sequences else world.log.head) == world.log.head
