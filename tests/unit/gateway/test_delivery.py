"""Tests of `services.gateway.delivery`."""

from __future__ import annotations

import pytest

from moorline.session.v1 import agents_pb2, turns_pb2
from services.chassis.failures import not_found
from services.gateway.agent_streams import AgentStream
from services.gateway.encoding import PROTOBUF
from tests.unit.gateway.delivering import sequences, setting, unavailable
from tests.unit.gateway.fakes import (
    AGENT,
    FakeClient,
    agent,
    agents_checkpoint,
    checkpoint,
    delta,
    discarded,
    event,
    settle,
    until,
)


async def test_updates_reach_the_client_in_one_frame_a_turn_of_the_loop() -> None:
    """What arrives together goes out together."""
    async with setting() as s:
        client = FakeClient()
        await s.watch(client)
        s.link.push(event(1), checkpoint(1))
        s.link.push(delta("a"))
        await settle()

        assert 1 == len(client.sent)
        assert b'{"id":7,"watchEventsResponse":{"updates":[{' == client.sent[0][:43]
        assert 3 == len(client.updates())
        value = s.metrics.registry.get_sample_value
        assert 3 == value("moorline_updates_sent_total", {"kind": "event"})


async def test_the_session_service_is_told_the_user() -> None:
    """And nothing more about the client than that."""
    async with setting() as s:
        await s.watch(FakeClient(), after=4)

        assert "users/ada" == s.link.identities[0].user
        assert 4 == s.link.requests[0].watch_events.after_sequence


async def test_connections_of_a_user_share_a_subscription() -> None:
    """A second tab is served from what is held, pieces being written included."""
    async with setting() as s:
        first, second = FakeClient(), FakeClient()
        await s.watch(first)
        await s.push(event(1), event(2), checkpoint(2), delta("ab"))
        await s.watch(second, after=1)

        assert 1 == len(s.link.open)
        assert [
            {"event": {"sequence": 2}},
            {"delta": {"blockId": "b1", "snapshot": True, "text": "ab"}},
            {"checkpoint": {"sequence": 2}},
        ] == second.updates()


async def test_users_and_encodings_do_not_share() -> None:
    """Nothing of one user's is held for another."""
    async with setting() as s:
        await s.watch(FakeClient())
        await s.watch(FakeClient(), user="users/bob")
        await s.watch(FakeClient(PROTOBUF))

        assert 3 == len(s.link.open)
        assert 3 == len(s.delivery)


async def test_a_position_that_is_not_held_gets_a_subscription_of_its_own() -> None:
    """Whether it exists, the session service says."""
    async with setting() as s:
        await s.watch(FakeClient())
        await s.push(event(1), checkpoint(1))
        await s.watch(FakeClient(), after=9)

        assert [0, 9] == [request.watch_events.after_sequence for request in s.link.requests]


async def test_the_last_reader_ends_the_subscription() -> None:
    """Leaving twice changes nothing."""
    async with setting() as s:
        one, two = await s.watch(FakeClient()), await s.watch(FakeClient())
        s.delivery.leave(one)
        await settle()
        assert 1 == len(s.link.open)
        s.delivery.leave(two)
        s.delivery.leave(two)
        await settle()

        assert (0, 0) == (len(s.link.open), len(s.delivery))


async def test_leaving_before_the_subscription_is_there_takes_it_back() -> None:
    """Nothing is left behind upstream."""
    async with setting() as s:
        s.link.gate.clear()
        watch = await s.watch(FakeClient())
        s.delivery.leave(watch)
        s.link.gate.set()
        await settle()

        assert [] == s.link.open


async def test_a_watch_that_left_gets_nothing_more() -> None:
    """Not even what was marked for it already."""
    async with setting() as s:
        client = FakeClient()
        watch = await s.watch(client)
        await s.watch(FakeClient())
        s.link.push(event(1))
        s.delivery.leave(watch)
        await settle()

        assert [] == client.sent


async def test_a_refused_subscription_ends_the_watch() -> None:
    """The client is told the session service's reason."""
    async with setting() as s:
        s.link.failures = [not_found()]
        client = FakeClient()
        await s.watch(client)

        assert [7] == [number for number, _ in client.ended]
        assert "RESOURCE_NOT_FOUND" == client.ended[0][1].reason_name
        assert 0 == len(s.delivery)


async def test_a_subscription_that_cannot_be_made_now_is_made_later() -> None:
    """A client notices an outage of the session service as a pause."""
    async with setting() as s:
        s.link.failures = [unavailable(), unavailable()]
        client = FakeClient()
        await s.watch(client)
        await until(lambda: bool(s.link.open))
        await s.push(event(1))

        assert [] == client.ended
        assert [1] == sequences(client.updates())


async def test_a_subscription_that_ends_ends_its_watches_after_the_last_update() -> None:
    """As when the agent is deleted."""
    async with setting() as s:
        client = FakeClient()
        await s.watch(client)
        s.link.push(event(1))
        s.link.end(not_found())
        await settle()

        assert [1] == sequences(client.updates())
        assert 1 == len(client.ended)


async def test_a_stream_that_has_ended_is_not_joined() -> None:
    """The next watch asks again, while the old one waits for its client."""
    async with setting() as s:
        slow = FakeClient()
        await s.watch(slow)
        slow.can_write = False
        s.link.push(checkpoint(0))
        s.link.end(not_found())
        await settle()
        await s.watch(FakeClient())

        assert 2 == len(s.link.requests)


async def test_after_a_break_the_position_reached_is_asked_for() -> None:
    """The client sees neither a gap nor a repeat nor a second checkpoint."""
    async with setting() as s:
        client = FakeClient()
        await s.watch(client)
        await s.push(event(1), checkpoint(1), delta("ab"))
        client.updates()
        s.link.break_off()
        await s.push(event(2), delta("abc", snapshot=True), checkpoint(2))

        assert 1 == s.link.requests[-1].watch_events.after_sequence
        assert [
            {"event": {"sequence": 2}},
            {"delta": {"blockId": "b1", "text": "c"}},
        ] == client.updates()


async def test_a_hole_makes_it_subscribe_again() -> None:
    """What is missing is asked for, and what the old subscription says is ignored."""
    async with setting() as s:
        client = FakeClient()
        await s.watch(client)
        old = s.link.open[0]
        await s.push(event(1), checkpoint(1), event(3))
        old.on_updates([event(2)])
        old.on_end(not_found())
        await s.push(event(2), event(3), checkpoint(3))

        assert 1 == s.link.requests[-1].watch_events.after_sequence
        assert [1, 2, 3] == sequences(client.updates())
        assert [] == client.ended


async def test_a_list_of_agents_is_shared_and_followed() -> None:
    """With its own kind of frame."""
    async with setting() as s:
        one, two = FakeClient(), FakeClient()
        request = agents_pb2.WatchAgentsRequest(parent="users/ada")
        s.delivery.watch(one, 1, request, user="users/ada")
        await settle()
        await s.push(agent("a"), agents_checkpoint())
        s.delivery.watch(two, 2, request, user="users/ada")
        await settle()

        assert 1 == len(s.link.open)
        assert one.sent[0].startswith(b'{"id":1,"watchAgentsResponse":')
        assert one.updates() == two.updates()


async def test_removed_agents_do_not_pile_up() -> None:
    """Once every reader knows of them they are forgotten."""
    async with setting() as s:
        client = FakeClient()
        request = agents_pb2.WatchAgentsRequest(parent="users/ada")
        watch = s.delivery.watch(client, 1, request, user="users/ada")
        await settle()
        await s.push(agents_checkpoint())
        for number in range(150):
            await s.push(agent(f"a{number}"), agent(f"a{number}", removed=True))

        assert watch.source is not None
        assert isinstance(watch.source.stream, AgentStream)
        assert watch.source.stream.removed <= 101
        assert {"removed": "a149"} == client.updates()[-1]


async def test_events_of_a_list_and_agents_of_a_log_do_not_mix() -> None:
    """The same name asked for in both ways makes two subscriptions."""
    async with setting() as s:
        client = FakeClient()
        s.delivery.watch(client, 1, agents_pb2.WatchAgentsRequest(parent=AGENT), user="users/ada")
        await s.watch(client)
        s.delivery.watch(client, 2, agents_pb2.WatchAgentsRequest(parent=AGENT), user="users/ada")
        await settle()

        assert 2 == len(s.link.open)


async def test_another_request_is_a_bug() -> None:
    """Only the two streams of the protocol can be watched."""
    async with setting() as s:
        with pytest.raises(TypeError):
            s.delivery.watch(FakeClient(), 1, turns_pb2.GetTurnRequest(), user="users/ada")


async def test_a_piece_taken_back_is_told() -> None:
    """Through the whole path."""
    async with setting() as s:
        client = FakeClient()
        await s.watch(client)
        await s.push(checkpoint(0), delta("a"))
        client.updates()
        await s.push(discarded())

        assert [{"messageDiscarded": {"blockId": "b1"}}] == client.updates()
