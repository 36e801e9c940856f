"""Tests of `services.session.event_source` and `forms`: text being written, and its encodings."""

from __future__ import annotations

import random

import orjson
import pytest

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import feed_pb2
from services.chassis.failures import not_found
from services.session.forms import FeedEvents
from tests.unit.session.following import (
    BUDGET,
    OUTCOME,
    World,
    current,
    message,
)
from tests.unit.session.service import until


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
            await until(lambda client=client: not client.take() and current(world, client))  # type: ignore[misc]

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
        news = feed_pb2.SubscribedUpdates()
        source.take(BUDGET, news)
        world.timeline.discard("b1")
        await world.log.append("t", [OUTCOME])
        source.take(BUDGET, news)

        event, delta, checkpoint, discard, outcome = news.updates
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
        assert 1 == checkpoint.checkpoint.sequence
        assert "b1" == discard.discarded_block_id
        assert outcome.event.closes_blocks

    async def test_a_feed_ends_with_an_error(self, world: World) -> None:
        """In place of whatever was left."""
        source = world.source(form=FeedEvents(json=True))
        news = feed_pb2.SubscribedUpdates()

        world.timeline.end(not_found())
        world.timeline.end(not_found())

        taken, more = source.take(BUDGET, news)
        assert errors_pb2.ERROR_REASON_RESOURCE_NOT_FOUND == news.end.reason
        assert not news.updates
        assert taken
        assert not more
        assert source.done
