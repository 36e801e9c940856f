"""Tests of `services.gateway.delivery`: positions in one history are none in another."""

from __future__ import annotations

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import agents_pb2
from services.chassis.failures import Failure
from tests.unit.gateway.delivering import RING, SlowClient, sequences, setting
from tests.unit.gateway.fakes import (
    FakeClient,
    agent,
    agents_checkpoint,
    checkpoint,
    event,
    settle,
)


def unknown() -> Failure:
    """What the session service answers about a position in another history."""
    return Failure(errors_pb2.ERROR_REASON_SEQUENCE_UNKNOWN, "another one", headSequence="1")


async def test_the_history_is_told_and_asked_for() -> None:
    """To clients with the checkpoint; upstream with the position, after each break."""
    async with setting() as s:
        client = FakeClient()
        await s.watch(client)
        await s.push(event(1), checkpoint(1, "one"))
        s.link.break_off()

        assert {"checkpoint": {"sequence": 1, "logId": "one"}} == client.updates()[-1]
        asked = [request.watch_events for request in s.link.requests]
        assert [(0, ""), (1, "one")] == [(watch.after_sequence, watch.log_id) for watch in asked]


async def test_a_client_of_the_same_history_shares_the_stream() -> None:
    """With or without saying so."""
    async with setting() as s:
        await s.watch(FakeClient())
        await s.push(event(1), checkpoint(1, "one"))
        await s.watch(FakeClient(), after=1, log_id="one")
        await s.watch(FakeClient(), after=1)

        assert 1 == len(s.link.open)


async def test_a_client_of_another_history_gets_a_subscription_of_its_own() -> None:
    """The session service refuses that, and nobody else notices."""
    async with setting() as s:
        reader, stranger = FakeClient(), FakeClient()
        await s.watch(reader)
        await s.push(event(1), checkpoint(1, "two"))
        s.link.failures.append(unknown())
        await s.watch(stranger, after=1, log_id="one")
        await s.push(event(2))

        assert "one" == s.link.requests[-1].watch_events.log_id
        assert [] == stranger.updates()
        assert ["SEQUENCE_UNKNOWN"] == [failure.reason_name for _, failure in stranger.ended]
        assert [1, 2] == sequences(reader.updates())
        assert [] == reader.ended


async def test_a_client_does_not_join_before_the_history_is_known() -> None:
    """It would be shown what has come so far, of whichever history; later it does."""
    async with setting() as s:
        early, late = FakeClient(), FakeClient()
        await s.watch(early)
        await s.push(event(1))
        await s.watch(late, after=1, log_id="one")
        assert 2 == len(s.link.open)
        await s.push(checkpoint(1, "one"), to=0)
        await s.push(checkpoint(1, "one"), to=1)

        assert 1 == len(s.link.open)
        await s.push(event(2))
        assert [2] == sequences(late.updates())


async def test_readers_of_a_history_that_is_gone_are_told_so() -> None:
    """When upstream says that the position is none: an error, and nothing of the new one.

    Whoever begins anew gets a stream of the new history.
    """
    async with setting() as s:
        client = FakeClient()
        await s.watch(client)
        await s.push(event(1), event(2), checkpoint(2, "one"))
        client.updates()
        s.link.end(unknown())
        await settle()
        assert ["SEQUENCE_UNKNOWN"] == [failure.reason_name for _, failure in client.ended]
        assert [] == client.updates()
        await s.watch(client)
        await s.push(event(1), checkpoint(1, "two"))

        assert ("", 0) == (
            s.link.requests[-1].watch_events.log_id,
            s.link.requests[-1].watch_events.after_sequence,
        )
        assert {"checkpoint": {"sequence": 1, "logId": "two"}} == client.updates()[-1]


async def test_a_reader_that_fell_behind_asks_for_its_own_history() -> None:
    """Its new stream begins where it stood, in the history it stood in."""
    async with setting(RING) as s:
        slow, fast = SlowClient(), FakeClient()
        slow.delivery = s.delivery
        slow.watches.append(await s.watch(slow))
        await s.watch(fast)
        await s.push(event(1), checkpoint(1, "one"))
        slow.can_write = False
        for number in range(2, 8):
            await s.push(event(number, size=RING))
        slow.unread = 0
        slow.can_write = True
        s.delivery.resume(slow.watches[0])
        await settle()

        watch = s.link.requests[-1].watch_events
        assert (1, "one") == (watch.after_sequence, watch.log_id)


async def test_agents_that_an_emptied_database_does_not_have_are_removed() -> None:
    """By the checkpoint of the next subscription, which sends the list anew."""
    async with setting() as s:
        client = FakeClient()
        s.delivery.watch(
            client, 1, agents_pb2.WatchAgentsRequest(parent="users/ada"), user="users/ada"
        )
        await settle()
        await s.push(agent("users/ada/agents/a"), agent("users/ada/agents/b"), agents_checkpoint())
        client.updates()
        s.link.break_off()
        await s.push(agent("users/ada/agents/b", version=9), agents_checkpoint())

        assert [
            {"agent": {"name": "users/ada/agents/b", "headSequence": 9}},
            {"removed": "users/ada/agents/a"},
        ] == client.updates()
