"""Tests of `services.session.event_source` and `timeline`: gap-free, repeat-free, in order."""

from __future__ import annotations

import asyncio

import pytest

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import events_pb2
from services.chassis.failures import Failure
from tests.unit.session.fakes import store_unavailable
from tests.unit.session.following import (
    BUDGET,
    World,
    make_world,
    message,
)
from tests.unit.session.service import until


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

    async def test_one_that_is_ahead_of_what_is_published_waits(self, world: World) -> None:
        """The store has an event before its publication: there is nothing to take until then."""
        await world.say(*"123")
        late = await make_world(world.store, world.tasks)
        await world.say("4")
        client = late.client()
        late.timeline.extend("b4", "4", thought=False)
        await until(lambda: not client.take() and client.sequences == [1, 2, 3, 4])

        assert not client.take()
        assert ["event"] * 4 == client.log

        late.timeline.publish(await late.history.events(3))
        late.timeline.extend("b5", "5", thought=False)
        client.take_all()

        assert [1, 2, 3, 4] == client.sequences
        assert "5" == client.blocks["b5"]
        assert "checkpoint" == client.log[-1]

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
        source.take(BUDGET, events_pb2.WatchEventsResponse())
        assert 1 == len(world.tasks)

        source.close()

        await until(lambda: len(world.tasks) == 0)
