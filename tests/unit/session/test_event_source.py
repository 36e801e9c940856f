"""Tests of `services.session.event_source` and `timeline`: gap-free, repeat-free, in order."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import events_pb2, feed_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure, not_found
from services.chassis.tasks import Tasks
from services.session.clock import DatabaseClock
from services.session.event_source import EventSource
from services.session.forms import FeedEvents, MessageEvents
from services.session.history import History
from services.session.log import Log
from services.session.names import AgentName
from services.session.timeline import Timeline
from tests.unit.session.fakes import FaultyStore, store_unavailable
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

    source: EventSource[events_pb2.EventUpdate]
    sequences: list[int] = field(default_factory=list)
    blocks: dict[str, str] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    def take(self, budget: int = BUDGET) -> bool:
        """Take once; return whether there was more."""
        updates, more = self.source.take(budget)
        for update in updates:
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
            tasks=self.tasks,
            form=form or MessageEvents(),
            after_sequence=after,
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
    history = History(store=store, agent=NAME)
    clock = DatabaseClock(monotonic=time.monotonic)
    clock.observe(await store.now())
    tail = await history.tail()
    timeline = Timeline(head=tail.end.sequence - 1 if tail is not None else 0)
    log = Log(
        store=store,
        agent=NAME,
        clock=clock,
        tasks=tasks,
        tail=tail,
        committed=lambda events, cursors: timeline.publish(events),
        fenced=lambda: None,
    )
    return World(store, tasks, timeline, history, log)


@pytest.fixture
async def world(store: FaultyStore, tasks: Tasks) -> World:
    """An agent without a history."""
    return await make_world(store, tasks)


class TestReplay:
    async def test_recent_events_come_at_once(self, world: World) -> None:
        """What is in memory needs no store."""
        await world.say("1", "2", "3")
        world.store.unreadable = [store_unavailable()]

        client = world.client(1)
        client.take_all()

        assert [2, 3] == client.sequences
        assert ["event", "event", "checkpoint"] == client.log

    async def test_older_events_come_from_the_store(self, world: World) -> None:
        """A fresh process has none in memory."""
        await world.say(*"12345")
        fresh = await make_world(world.store, world.tasks)

        client = fresh.client(2)
        await fresh.loaded(client)

        assert [3, 4, 5] == client.sequences

    async def test_a_long_history_comes_in_order_while_it_grows(self, world: World) -> None:
        """Old from the store, new from memory, no gap and no repeat between."""
        for number in range(150):
            await world.say(str(number))
        client = world.client()
        marks = asyncio.Event()
        client.source.mark = marks.set
        for number in range(150):
            await world.say(str(number))
            client.take(1000)
        await until(lambda: not client.take() and len(client.sequences) == 300)

        assert list(range(1, 301)) == client.sequences
        assert 1 == client.log.count("checkpoint")
        assert marks.is_set()

    async def test_one_that_fell_behind_goes_on_from_the_store(self, world: World) -> None:
        """A reader that was away for long has lost nothing."""
        client = world.client()
        client.take_all()
        for number in range(200):
            await world.say(str(number))

        await until(lambda: not client.take() and len(client.sequences) == 200)

        assert list(range(1, 201)) == client.sequences

    async def test_reading_ahead_is_bounded(self, world: World) -> None:
        """A reader that does not take does not fill the memory."""
        for _ in range(100):
            await world.log.append("t", [message("x" * 20_000)])
        fresh = await make_world(world.store, world.tasks)
        client = fresh.client()
        client.take(1)
        await until(lambda: client.source._replay_bytes > 256 * 1024)
        await asyncio.sleep(0.02)
        assert client.source._replay_bytes < 1024 * 1024

        def done() -> bool:
            client.take(50_000)
            return "checkpoint" in client.log

        await until(done)
        assert list(range(1, 101)) == client.sequences

    async def test_a_budget_is_kept_but_for_one_update(self, world: World) -> None:
        """Many small takes give the same as one great one."""
        await world.say(*"abcdef")
        client = world.client()
        takes = 0
        while client.take(1):
            takes += 1

        assert [1, 2, 3, 4, 5, 6] == client.sequences
        assert takes >= 5

    async def test_a_position_ahead_of_the_history_is_refused(self, world: World) -> None:
        """The caller learns where the history ends."""
        await world.say("1")

        with pytest.raises(Failure) as raised:
            world.source(2)

        assert errors_pb2.ERROR_REASON_SEQUENCE_UNKNOWN == raised.value.reason
        assert {"headSequence": "1"} == raised.value.metadata
        assert not world.timeline.followed

    async def test_a_store_that_is_away_ends_the_subscription(self, world: World) -> None:
        """With the typed reason, which tells to try again."""
        await world.say("1")
        fresh = await make_world(world.store, world.tasks)
        world.store.unreadable = [store_unavailable()]
        client = fresh.client()
        client.take()
        await until(lambda: client.source.failure is not None)

        client.take()

        assert client.source.done
        assert errors_pb2.ERROR_REASON_STORE_UNAVAILABLE == client.source.failure.reason  # type: ignore[union-attr]

    async def test_a_log_that_vanished_ends_it_too(self, world: World) -> None:
        """The agent was deleted while its events were read."""
        world.timeline.head = 5
        client = world.client()
        client.take()

        await until(lambda: client.source.failure is not None)

        assert errors_pb2.ERROR_REASON_RESOURCE_NOT_FOUND == client.source.failure.reason  # type: ignore[union-attr]


class TestText:
    async def test_a_late_comer_gets_all_text_so_far(self, world: World) -> None:
        """After the events, before the checkpoint, as one snapshot for each block."""
        await world.say("1")
        for text in ("a", "b", "c"):
            world.timeline.extend("b1", text, thought=False)
        world.timeline.extend("b2", "x", thought=True)

        client = world.client()
        client.take_all()

        assert ["event", "delta", "delta", "checkpoint"] == client.log
        assert {"b1": "abc", "b2": "x"} == client.blocks

    async def test_fragments_are_joined(self, world: World) -> None:
        """What came between two takes is one delta, marked at each fragment."""
        marks: list[None] = []
        client = world.client(mark=lambda: marks.append(None))
        client.take_all()
        world.timeline.extend("b1", "a", thought=False)
        client.take_all()
        for text in "bcd":
            world.timeline.extend("b1", text, thought=False)
        client.take_all()

        assert ["checkpoint", "delta", "delta"] == client.log
        assert {"b1": "abcd"} == client.blocks
        assert 4 == len(marks)

    async def test_the_item_wins(self, world: World) -> None:
        """Text that an item has replaced is not sent any more."""
        client = world.client()
        world.timeline.extend("b1", "half", thought=False)
        await world.log.append("t", [message("whole", "b1")])
        client.take_all()

        assert ["event", "checkpoint"] == client.log
        assert {} == world.timeline.blocks

    async def test_an_outcome_withdraws_what_is_open(self, world: World) -> None:
        """And a later block of the same id begins anew, as a snapshot."""
        client = world.client()
        world.timeline.extend("b1", "old", thought=False)
        client.take_all()
        await world.log.append("t", [OUTCOME])
        world.timeline.extend("b1", "new", thought=False)
        client.take_all()

        assert {"b1": "new"} == client.blocks

    async def test_a_block_taken_back_is_told(self, world: World) -> None:
        """To those who have seen some of it, and to nobody else."""
        seen, late = world.client(), world.client()
        seen.take_all()
        world.timeline.extend("b1", "no", thought=False)
        seen.take_all()

        world.timeline.discard("b1")
        world.timeline.discard("b9")
        seen.take_all()
        late.take_all()

        assert {} == seen.blocks
        assert "message_discarded" in seen.log
        assert "message_discarded" not in late.log

    async def test_a_snapshot_that_goes_on_is_an_append(self, world: World) -> None:
        """After a break the executor tells everything; readers need only the rest."""
        client = world.client()
        world.timeline.extend("b1", "ab", thought=False)
        client.take_all()

        world.timeline.replace("b1", "abcd", thought=False)
        client.take_all()
        world.timeline.replace("b1", "abcd", thought=False)
        client.take_all()

        assert ["delta", "checkpoint", "delta"] == client.log
        assert {"b1": "abcd"} == client.blocks

    async def test_a_snapshot_of_other_text_replaces(self, world: World) -> None:
        """The new text is sent whole."""
        client = world.client()
        world.timeline.extend("b1", "ab", thought=False)
        client.take_all()

        world.timeline.replace("b1", "xyz", thought=False)
        client.take_all()

        assert {"b1": "xyz"} == client.blocks

    async def test_deltas_can_be_left_out(self, world: World) -> None:
        """Who wants events only gets no text, and no withdrawal of text."""
        client = world.client(deltas=False)
        world.timeline.extend("b1", "ab", thought=False)
        world.timeline.discard("b1")
        await world.say("1")
        client.take_all()

        assert ["event", "checkpoint"] == client.log

    async def test_a_budget_stops_between_blocks(self, world: World) -> None:
        """The rest comes with the next take."""
        for number in range(4):
            world.timeline.extend(f"b{number}", "x" * 100, thought=False)
        client = world.client()

        assert client.take(150)
        client.take_all(150)

        assert 4 == len(client.blocks)
        assert "checkpoint" == client.log[-1]

    async def test_readers_of_any_pace_see_the_same(self, world: World) -> None:
        """Whatever is written and however it is taken, each ends with the same view."""
        dice = random.Random(7)
        clients = [world.client() for _ in range(5)]
        for step in range(300):
            block = f"b{dice.randrange(3)}"
            match dice.randrange(12):
                case 0:
                    await world.log.append("t", [message("whole", block)])
                case 1:
                    world.timeline.discard(block)
                case 2:
                    await world.log.append("t", [OUTCOME])
                case 3:
                    clients.append(world.client(dice.randrange(world.log.head + 1)))
                case _:
                    world.timeline.extend(block, f"{step} ", thought=False)
            for client in clients:
                if dice.random() < 0.3:
                    client.take(dice.choice([1, 100, BUDGET]))
        texts = {block.block_id: block.text() for block in world.timeline.blocks.values()}
        for client in clients:
            await until(lambda client=client: not client.take() and _current(world, client))  # type: ignore[misc]

            assert texts == client.blocks
            first = client.sequences[0] if client.sequences else world.log.head + 1
            assert list(range(first, world.log.head + 1)) == client.sequences


class TestForms:
    @pytest.mark.parametrize("json", [True, False])
    async def test_a_feed_carries_the_same(self, world: World, json: bool) -> None:
        """Encoded events, text apart from its frame, discards and the checkpoint."""
        await world.log.append("t", [message('"hi"', "b0")])
        world.timeline.extend("b1", '"x"\n', thought=True)
        source = world.source(form=FeedEvents(json=json))
        updates: list[feed_pb2.EncodedUpdate] = list(source.take(BUDGET)[0])
        world.timeline.discard("b1")
        await world.log.append("t", [OUTCOME])
        updates += source.take(BUDGET)[0]

        event, delta, checkpoint, discard, outcome = updates
        assert (1, "b0", False) == (
            event.event.sequence,
            event.event.block_id,
            event.event.closes_blocks,
        )
        assert ("b1", True, True) == (
            delta.delta.block_id,
            delta.delta.thought,
            delta.delta.snapshot,
        )
        text = delta.delta.text
        assert '"x"\n' == (orjson.loads(b'"' + text + b'"') if json else text.decode())
        assert 1 == checkpoint.checkpoint
        assert "b1" == discard.discarded_block_id
        assert outcome.event.closes_blocks

    async def test_a_feed_ends_with_an_error(self, world: World) -> None:
        """As the only update, in place of whatever was left."""
        source = world.source(form=FeedEvents(json=True))

        world.timeline.end(not_found())
        world.timeline.end(not_found())

        (error,), more = source.take(BUDGET)
        assert errors_pb2.ERROR_REASON_RESOURCE_NOT_FOUND == error.reason
        assert not more
        assert source.done


class TestClosing:
    async def test_a_closed_source_is_followed_by_nothing(self, world: World) -> None:
        """Closing twice is the same as once."""
        source = world.source()
        assert world.timeline.followed

        source.close()
        source.close()

        assert not world.timeline.followed

    async def test_closing_stops_reading(self, world: World) -> None:
        """No task is left behind."""
        await world.say("1")
        fresh = await make_world(world.store, world.tasks)
        source = fresh.source()
        source.take(BUDGET)
        assert 1 == len(world.tasks)

        source.close()

        await until(lambda: len(world.tasks) == 0)


def _current(world: World, client: Client) -> bool:
    return (client.sequences[-1] if client.sequences else world.log.head) == world.log.head
