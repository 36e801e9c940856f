"""Tests of `services.gateway.delivery`: clients that do not read, and how much is held."""

from __future__ import annotations

from services.gateway.delivery import FRAME_BYTES
from tests.unit.gateway.delivering import RING, sequences, setting
from tests.unit.gateway.fakes import (
    FakeClient,
    checkpoint,
    delta,
    discarded,
    event,
    settle,
)


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
