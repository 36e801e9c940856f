"""Tests of `services.executor.feed_api`, on the real server."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, timedelta

import pytest

from moorline.executor.v1 import executions_pb2, feed_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.executor import draining
from tests.unit.executor.server import Server, drained, reason, text_of

LAST = {"permission_request", "turn_outcome"}
"""Kinds of items after which nothing comes by itself."""


async def test_feed_gives_a_late_subscriber_everything(server: Server) -> None:
    """Items and a snapshot of the open text, then what happens, up to the outcome."""
    await server.create("/sim say first\n/sim stream 6000 10")
    watch = server.watch()
    watched: list[executions_pb2.ExecutionUpdate] = []
    while not [text for text in text_of(watched).values() if "w2" in text]:
        watched.append(await anext(watch))
    feed_id, stream = await server.open_feed()
    await server.subscribe(feed_id, 7)
    updates: list[executions_pb2.ExecutionUpdate] = []
    while len(deltas_of(updates)) < 2:
        updates += await news_of(stream, 7)
    await server.cancel()
    while not updates[-1].event.item.HasField("turn_outcome"):
        updates += await news_of(stream, 7)
    watched += [update async for update in watch]

    snapshot, *deltas = deltas_of(updates)
    assert "first" == updates[0].event.item.agent_message.text
    assert snapshot.snapshot
    assert snapshot.text.startswith("w1 w2")
    assert not any(delta.snapshot for delta in deltas)
    assert 2 == len(text_of(updates))
    assert text_of(watched) == text_of(updates)


def deltas_of(
    updates: list[executions_pb2.ExecutionUpdate],
) -> list[transcript_pb2.MessageDelta]:
    """Return the fragments of some updates."""
    return [update.delta for update in updates if update.HasField("delta")]


async def news_of(
    stream: AsyncIterator[feed_pb2.OpenFeedResponse], number: int
) -> list[executions_pb2.ExecutionUpdate]:
    """Return what comes next on a feed, for its one subscription."""
    while not (response := await anext(stream)).subscriptions:
        # It was silent for a while.
        pass
    (subscribed,) = response.subscriptions
    assert number == subscribed.subscription
    return list(subscribed.updates)


async def test_every_response_tells_the_executors_time(server: Server) -> None:
    """With it the events' times are understood, however wrong they are."""
    before = time.time()
    feed_id, stream = await server.open_feed()
    await server.create("/sim say first")
    await server.subscribe(feed_id, 1)
    while not (response := await anext(stream)).subscriptions:
        # It was silent for a while.
        pass

    event = response.subscriptions[0].updates[0].event
    assert before <= event.create_time.ToDatetime(UTC).timestamp()
    assert event.create_time.ToNanoseconds() <= response.time.ToNanoseconds()
    assert response.time.ToDatetime(UTC).timestamp() <= time.time()


async def test_created_execution_is_followed_from_its_beginning(server: Server) -> None:
    """The call that creates it puts it on a feed; what cannot be followed is created all the same.

    The number is used then, and freed by the outcome.
    """
    feed_id, stream = await server.open_feed()
    followed = [
        await server.create_followed("/sim say first", feed_id, 7),
        await server.create_followed("/sim say first", "no-such-feed", 8),
    ]
    updates: list[executions_pb2.ExecutionUpdate] = []
    async for response in stream:
        for subscribed in response.subscriptions:
            assert 7 == subscribed.subscription
            updates += subscribed.updates
        if updates and updates[-1].event.item.HasField("turn_outcome"):
            break
    await server.acknowledge("e1", 1)
    followed.append(await server.create_followed("/sim say first", feed_id, 7))
    with pytest.raises(Failure) as without_number:
        await server.create_followed("/sim say first", feed_id, 0)

    assert [True, False, False] == followed
    assert "first" == updates[-2].event.item.agent_message.text
    assert "FIELD_INVALID" == reason(without_number)


async def test_feed_carries_many_executions(server: Server) -> None:
    """Each under its number; one taken off falls silent, and a number is used once."""
    feed_id, stream = await server.open_feed()
    for number in range(1, 6):
        name = f"e{number}"
        script = "/sim stream 20 2" if number < 5 else "/sim hang"
        await server.create(script, name, workspace=f"workspaces/workspace{number}")
        await server.subscribe(feed_id, number, name)
    with pytest.raises(Failure) as twice:
        await server.subscribe(feed_id, 5, "e5")
    await server.unsubscribe(feed_id, 5)
    await server.unsubscribe(feed_id, 5)
    ended: set[int] = set()
    async for response in stream:
        for subscribed in response.subscriptions:
            if subscribed.updates[-1].event.item.HasField("turn_outcome"):
                ended.add(subscribed.subscription)
        if {1, 2, 3, 4} <= ended:
            break

    await server.cancel("e5")
    assert {1, 2, 3, 4} == ended
    assert "FIELD_INVALID" == reason(twice)


async def test_new_subscription_after_a_break_misses_nothing(server: Server) -> None:
    """From the last number stored it gets exactly the rest; what was acknowledged is gone."""
    says = [f"/sim say message {number}\n" for number in range(30)]
    parts = ["".join(says[start : start + 5]) for start in range(0, 30, 5)]
    await server.create("/sim ask Bash x\n".join(parts))
    seen = await events_of(server, after=0)
    breaks = 0
    while seen[-1].item.HasField("permission_request"):
        breaks += 1
        await server.acknowledge("e1", seen[-1].sequence)
        # What is said now is said while nobody follows, or while somebody subscribes.
        await server.resolve(seen[-1].item.permission_request.permission_id, allowed=True)
        seen += await events_of(server, after=seen[-1].sequence)
    with pytest.raises(Failure) as forgotten:
        await server.items(after=0)

    assert 5 == breaks
    assert list(range(1, len(seen) + 1)) == [event.sequence for event in seen]
    assert [f"message {n}" for n in range(30)] == [
        event.item.agent_message.text for event in seen if event.item.HasField("agent_message")
    ]
    assert "SEQUENCE_UNKNOWN" == reason(forgotten)


async def events_of(server: Server, *, after: int) -> list[executions_pb2.ExecutionEvent]:
    """Follow execution e1 on a feed of its own until it asks for something, or ends."""
    feed_id, stream = await server.open_feed()
    await server.subscribe(feed_id, 1, after=after)
    events: list[executions_pb2.ExecutionEvent] = []
    while not events or events[-1].item.WhichOneof("kind") not in LAST:
        events += [one.event for one in await news_of(stream, 1) if one.HasField("event")]
    return events


async def test_subscription_to_nothing_is_refused(server: Server) -> None:
    """An unknown feed and an unknown execution are told apart."""
    feed_id, _ = await server.open_feed()
    with pytest.raises(Failure) as no_feed:
        await server.subscribe("closed", 1)
    with pytest.raises(Failure) as no_execution:
        await server.subscribe(feed_id, 1, "e404")

    assert "FEED_UNKNOWN" == reason(no_feed)
    assert "RESOURCE_NOT_FOUND" == reason(no_execution)


@pytest.mark.parametrize("drain_seconds", [30])
async def test_shutdown_lets_a_turn_end(server: Server) -> None:
    """Who follows it already, or only now, sees the rest; it ends when the outcome is stored."""
    await server.create("/sim ask Bash x\n/sim stream 30 10")
    feed_id, stream = await server.open_feed()
    await server.subscribe(feed_id, 1)
    asked = await server.asked()
    server.stop()
    with pytest.raises(Failure) as refused:
        await until_refused(server)
    late_id, late = await server.open_feed()
    await server.subscribe(late_id, 1)
    await server.resolve(asked, allowed=True)
    early, later = await outcome_of(stream), await outcome_of(late)
    text = " ".join(f"w{n}" for n in range(1, 31))

    assert [text] == list(text_of(early).values()) == list(text_of(later).values())
    assert "executions/e1" == (await server.get()).name
    await server.acknowledge("e1", early[-1].event.sequence)
    with pytest.raises(Failure) as ended:
        await drained(stream)
    await server.ended()
    assert ("DRAINING", "DRAINING") == (reason(refused), reason(ended))


async def until_refused(server: Server) -> None:
    """Make executions, one after the other, until no more are taken."""
    for number in range(1000):
        await server.create("/sim say x", f"x{number}", workspace="workspaces/another1")
        await server.items(f"x{number}")
        await server.acknowledge(f"x{number}", 2)


async def outcome_of(
    stream: AsyncIterator[feed_pb2.OpenFeedResponse],
) -> list[executions_pb2.ExecutionUpdate]:
    """Read the one subscription of a feed up to its outcome."""
    updates: list[executions_pb2.ExecutionUpdate] = []
    while not updates or not updates[-1].event.item.HasField("turn_outcome"):
        updates += await news_of(stream, 1)
    return updates


@pytest.mark.parametrize("drain_seconds", [20])
async def test_who_asks_before_hearing_of_the_end_is_told(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off, they could not know whether they had begun an execution."""
    monkeypatch.setattr(draining, "TOLD_WITHIN", timedelta(seconds=5))
    monkeypatch.setattr(draining, "ENDED_WITHIN", timedelta(seconds=10))
    _, stream = await server.open_feed()
    server.stop()
    with pytest.raises(Failure):
        await drained(stream)
    with pytest.raises(Failure) as late:
        await server.create("/sim say late")

    assert "DRAINING" == reason(late)


@pytest.mark.parametrize("drain_seconds", [4])
async def test_shutdown_sends_followers_away(server: Server) -> None:
    """They learn that this executor goes, and not of an outcome that is only its end."""
    await server.create("/sim stream 6000 10")
    feed_id, stream = await server.open_feed()
    await server.subscribe(feed_id, 1)
    watch = server.watch()
    seen = [await anext(watch)]
    server.stop()
    with pytest.raises(Failure) as watching:
        seen.extend([update async for update in watch])
    with pytest.raises(Failure) as fed:
        await drained(stream)
    await server.ended()

    assert ("DRAINING", "DRAINING") == (reason(watching), reason(fed))
    assert not [update for update in seen if update.HasField("event")]
