"""Tests of `services.gateway.delivery`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import agents_pb2, events_pb2, turns_pb2
from services.chassis.failures import Failure, not_found
from services.chassis.metrics import Metrics
from services.chassis.tasks import Tasks
from services.gateway.delivery import FRAME_BYTES, Delivery, Watch
from services.gateway.encoding import PROTOBUF
from services.gateway.stalls import Stalls
from services.gateway.streams import AgentStream
from tests.unit.gateway.fakes import (
    AGENT,
    FakeClient,
    FakeLink,
    agent,
    agents_checkpoint,
    checkpoint,
    delta,
    discarded,
    event,
    settle,
    until,
)

RING = 2000


class Setting:
    """A delivery with a link that a test speaks for."""

    def __init__(self, tasks: Tasks, ring: int) -> None:
        loop = asyncio.get_running_loop()
        self.link = FakeLink()
        self.stalls = Stalls(loop=loop)
        self.metrics = Metrics(service="test")
        self.delivery = Delivery(
            link=self.link,
            stalls=self.stalls,
            tasks=tasks,
            loop=loop,
            metrics=self.metrics,
            ring_bytes=ring,
            retry_seconds=0.001,
        )

    async def watch(
        self, client: FakeClient, *, after: int = 0, deltas: bool = True, user: str = "users/ada"
    ) -> Watch:
        """Watch the agent's events."""
        request = events_pb2.WatchEventsRequest(
            parent=AGENT, after_sequence=after, include_deltas=deltas
        )
        watch = self.delivery.watch(client, 7, request, user=user)
        await settle()
        return watch

    async def push(self, *updates: Any, to: int = -1) -> None:
        """Bring updates and let them through."""
        self.link.push(*updates, to=to)
        await settle()


@asynccontextmanager
async def setting(ring: int = 1 << 20) -> AsyncIterator[Setting]:
    """Yield a delivery; its tasks end with it."""
    async with Tasks() as tasks:
        yield Setting(tasks, ring)


def unavailable() -> Failure:
    """A failure that passes."""
    return Failure(errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE, "gone")


def sequences(updates: list[Any]) -> list[int]:
    """The numbers of the events among updates."""
    return [update["event"]["sequence"] for update in updates if "event" in update]


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


async def test_a_stalled_client_gets_the_rest_merged() -> None:
    """While it does not read, its fragments wait as one; others are not delayed."""
    async with setting() as s:
        slow, fast = FakeClient(), FakeClient()
        watch = await s.watch(slow)
        await s.watch(fast)
        await s.push(checkpoint(0), delta("a"))
        slow.updates()
        slow.can_write = False
        for text in "bcd":
            await s.push(delta(text))
        assert 4 == len(fast.sent)
        assert ([], 1) == (slow.sent, len(s.stalls))
        slow.can_write = True
        s.delivery.resume(watch)
        s.delivery.resume(watch)
        await settle()

        assert [{"delta": {"blockId": "b1", "text": "bcd"}}] == slow.updates()


async def test_a_long_replay_comes_in_several_frames() -> None:
    """No frame is much larger than the limit, and all arrive."""
    async with setting() as s:
        client = FakeClient()
        await s.watch(client)
        await s.push(*(event(n, size=20_000) for n in range(1, 11)), checkpoint(10))

        assert 3 <= len(client.sent)
        assert max(map(len, client.sent)) < FRAME_BYTES + 25_000
        assert list(range(1, 11)) == sequences(client.updates())


async def test_the_ring_is_bounded_and_a_reader_that_falls_out_gets_its_own_stream() -> None:
    """The one that reads goes on; the other one later continues where it was."""
    async with setting(RING) as s:
        slow, fast = FakeClient(), FakeClient()
        watch = await s.watch(slow)
        await s.watch(fast)
        await s.push(event(1), checkpoint(1), delta("ab"))
        slow.updates()
        slow.can_write = False
        for number in range(2, 12):
            await s.push(event(number, size=RING // 4))
        await s.push(discarded())
        assert list(range(1, 12)) == sequences(fast.updates())
        slow.can_write = True
        s.delivery.resume(watch)
        await settle()
        assert [0, 1] == [request.watch_events.after_sequence for request in s.link.requests]
        await s.push(*(event(number) for number in range(2, 12)), checkpoint(11))

        updates = slow.updates()
        assert list(range(2, 12)) == sequences(updates)
        assert {"messageDiscarded": {"blockId": "b1"}} == updates[-1]


async def test_a_watch_that_has_caught_up_shares_again() -> None:
    """Two streams of an agent are one again as soon as nothing has to be repeated for it."""
    async with setting(RING) as s:
        first, late = FakeClient(), FakeClient()
        await s.watch(first)
        await s.push(checkpoint(0))
        for number in range(1, 9):
            await s.push(event(number, size=RING // 4))
        await s.watch(late)
        assert 2 == len(s.link.open)
        await s.push(delta("abc"), to=0)
        await s.push(*(event(n) for n in range(1, 9)), delta("abcd"), to=1)
        await s.push(checkpoint(8), to=1)
        assert 2 == len(s.delivery)
        await s.push(delta("de"), to=0)
        await s.push(delta("e"), to=1)
        assert 1 == len(s.link.open)
        await s.push(delta("f"), event(9, block_id="b1"))

        assert [*range(1, 10)] == sequences(late.updates()) == sequences(first.updates())


async def test_while_every_reader_is_stalled_upstream_waits() -> None:
    """Little more than the ring is ever held, and nothing is lost."""
    async with setting(RING) as s:
        client = FakeClient()
        watch = await s.watch(client)
        client.can_write = False
        await s.push(*(event(number, size=RING // 4) for number in range(1, 8)))
        assert [] == s.link.open
        client.can_write = True
        s.delivery.resume(watch)
        await settle()
        assert list(range(1, 8)) == sequences(client.updates())
        assert 7 == s.link.requests[-1].watch_events.after_sequence
        await s.push(event(8), checkpoint(8))

        assert [8] == sequences(client.updates())


async def test_readers_that_keep_up_never_pause_upstream() -> None:
    """A full ring is trimmed from its old end."""
    async with setting(RING) as s:
        client = FakeClient()
        await s.watch(client)
        for number in range(1, 30):
            await s.push(event(number, size=RING // 4))

        assert 1 == len(s.link.requests)
        assert list(range(1, 30)) == sequences(client.updates())


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
