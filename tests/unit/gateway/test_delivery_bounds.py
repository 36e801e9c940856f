"""Tests of `services.gateway.delivery`: clients that do not read, and how much is held."""

from __future__ import annotations

import orjson

from services.chassis.failures import not_found
from services.gateway.connection import MAX_BUFFERED
from services.gateway.delivery import FRAME_BYTES, HELD_BYTES
from tests.unit.gateway.delivering import RING, Log, SlowClient, held, sequences, setting
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
    """No more than the ring is ever held, and nothing is lost."""
    async with setting(held=RING) as s:
        client = FakeClient()
        watch = await s.watch(client)
        client.can_write = False
        await s.push(*(event(number, size=RING // 4) for number in range(1, 8)))
        assert [] == s.link.open
        client.can_write = True
        s.delivery.resume(watch)
        await settle()
        assert [1, 2, 3] == sequences(client.updates())
        assert 3 == s.link.requests[-1].watch_events.after_sequence
        await s.push(*(event(number) for number in range(4, 9)), checkpoint(8))

        assert list(range(4, 9)) == sequences(client.updates())


async def test_a_client_that_does_not_read_holds_less_than_2_mib_with_all_its_watches() -> None:
    """Its watches wait upstream; later each gets every event once."""
    async with setting() as s:
        client = SlowClient()
        client.delivery, client.can_write = s.delivery, False
        client.watches = [
            await s.watch(client, parent=f"users/ada/agents/a{number}", id=number)
            for number in range(1, 51)
        ]
        # A batch is what the feed brings at once for one subscription.
        log = Log(s.link, [event(n, size=8000) for n in range(1, 41)], batch=4)
        for _ in range(5):
            await log.step()
            assert sum(held(watch) for watch in client.watches) + MAX_BUFFERED < 2 << 20
        assert [] == s.link.open
        assert [] == client.sent

        frames: list[bytes] = []
        for _ in range(1000):
            client.read(1 << 20)
            await log.step()
            frames += client.sent
            client.sent.clear()
        received: dict[int, list[int]] = {}
        for frame in map(orjson.loads, frames):
            updates = frame["watchEventsResponse"]["updates"]
            received.setdefault(frame["id"], []).extend(sequences(updates))

        assert {number: list(range(1, 41)) for number in range(1, 51)} == received


async def test_an_event_larger_than_what_is_held_comes_when_the_client_reads() -> None:
    """It is not kept while nobody takes it, however large."""
    async with setting() as s:
        client = FakeClient()
        watch = await s.watch(client)
        client.can_write = False
        await s.push(event(1, size=2 * HELD_BYTES), checkpoint(1))
        assert (0, []) == (held(watch), s.link.open)
        client.can_write = True
        s.delivery.resume(watch)
        await settle()
        assert 0 == s.link.requests[-1].watch_events.after_sequence
        await s.push(event(1, size=2 * HELD_BYTES), checkpoint(1))

        assert [1] == sequences(client.updates())


async def test_what_comes_at_once_may_be_larger_than_the_ring() -> None:
    """The reader that is furthest gets it."""
    async with setting(RING) as s:
        client = FakeClient()
        await s.watch(client)
        await s.push(event(1, size=2 * RING), event(2, size=2 * RING), checkpoint(2))

        assert [1, 2] == sequences(client.updates())
        assert 1 == len(s.link.requests)


async def test_a_long_piece_is_not_kept_for_nobody() -> None:
    """It comes whole once more when the client reads."""
    async with setting() as s:
        client = FakeClient()
        watch = await s.watch(client)
        await s.push(checkpoint(0), delta("ab"))
        client.updates()
        client.can_write = False
        await s.push(delta("c" * HELD_BYTES))
        assert (0, []) == (held(watch), s.link.open)
        client.can_write = True
        s.delivery.resume(watch)
        await settle()
        assert [] == client.updates()
        await s.push(delta("abcc", snapshot=True), checkpoint(0))

        assert [{"delta": {"blockId": "b1", "snapshot": True, "text": "abcc"}}] == client.updates()


async def test_a_client_that_reads_slowly_gets_on_without_a_subscription_a_frame() -> None:
    """Upstream waits only when the connection is full, and goes on when it is nearly empty."""
    async with setting() as s:
        client = SlowClient()
        client.delivery, client.watches = s.delivery, [await s.watch(client)]
        log = Log(s.link, [event(n, size=2000) for n in range(1, 1001)], batch=16)
        received: list[int] = []
        frames = 0
        for _ in range(1000):
            await log.step()
            client.read(5000)
            frames += len(client.sent)
            received += sequences(client.updates())

        assert list(range(1, 1001)) == received
        assert 3 * len(s.link.requests) < frames


async def test_little_is_held_behind_readers_that_keep_up() -> None:
    """Enough for who joins with a recent position; one that does not read holds nothing."""
    async with setting() as s:
        fast, slow = FakeClient(), FakeClient()
        watch, stalled = await s.watch(fast), await s.watch(slow)
        await s.push(checkpoint(0))
        slow.can_write = False
        log = Log(s.link, [event(n, size=1000) for n in range(1, 201)], batch=20)
        for _ in range(10):
            await log.step()
        await s.push(event(201))
        assert held(watch) <= HELD_BYTES
        assert list(range(1, 202)) == sequences(fast.updates())
        joined = FakeClient()
        await s.watch(joined, after=195)
        assert 1 == len(s.link.requests)
        assert list(range(196, 202)) == sequences(joined.updates())
        slow.updates()
        slow.can_write = True
        s.delivery.resume(stalled)
        await settle()
        await s.push(*(event(n) for n in range(1, 202)), checkpoint(201))

        assert list(range(1, 202)) == sequences(slow.updates())
        assert 1 == len(s.delivery)


async def test_an_ended_stream_keeps_its_last_events_for_who_does_not_read() -> None:
    """Nobody could bring them again."""
    async with setting() as s:
        client = FakeClient()
        watch = await s.watch(client)
        client.can_write = False
        s.link.push(event(1, size=2 * HELD_BYTES))
        s.link.end(not_found())
        await settle()
        client.can_write = True
        s.delivery.resume(watch)
        await settle()

        assert [1] == sequences(client.updates())
        assert 1 == len(client.ended)


async def test_readers_that_keep_up_never_pause_upstream() -> None:
    """A full ring is trimmed from its old end."""
    async with setting(RING) as s:
        client = FakeClient()
        await s.watch(client)
        for number in range(1, 30):
            await s.push(event(number, size=RING // 4))

        assert 1 == len(s.link.requests)
        assert list(range(1, 30)) == sequences(client.updates())
