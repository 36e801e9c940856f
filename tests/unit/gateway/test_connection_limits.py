"""Tests of `services.gateway.connection`: slow clients, floods, time, and proofs that end."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure, not_found
from services.gateway.auth.keys import GOOD_SECONDS
from services.gateway.auth.verifier import Principal, from_epoch, token_invalid
from services.gateway.conduct import ABUSE_FRAMES
from services.gateway.connection import DOUBT_SECONDS, MAX_BUFFERED, RECHECK_SECONDS
from tests.unit.gateway.fakes import (
    ADA,
    AGENT,
    bench,
    checkpoint,
    delta,
    settle,
)
from tests.unit.gateway.talking import opened, reasons, say

KEYED = Principal(user="users/ada", key="users/ada/keys/aaaaaaaa")


class TestRate:
    """How fast frames may come."""

    async def test_a_frame_too_fast_is_refused(self) -> None:
        """With the time after which to try again."""
        async with bench(frames_per_second=2, frames_burst=2) as b:
            connection, socket = await opened(b)
            say(connection, id=2, listBackends={})
            say(connection, id=3, listBackends={})
            await settle()

            frames = socket.take()
            assert [3, 2] == [frame["id"] for frame in frames]
            assert "0.500s" == frames[0]["error"]["retryDelay"]

    async def test_a_cancel_is_never_refused(self) -> None:
        """Stopping must work above all when too much was begun."""
        async with bench(frames_per_second=1, frames_burst=2) as b:
            connection, socket = await opened(b)
            say(connection, id=2, getAgent={"name": AGENT})
            say(connection, id=2, cancel={})

            assert [(2, "CALL_CANCELLED")] == reasons(socket)

    async def test_not_slowing_down_closes(self) -> None:
        """After five seconds of it."""
        async with bench(frames_per_second=1, frames_burst=1) as b:
            connection, socket = await opened(b)
            for _ in range(70):
                b.clock.now += 0.1
                say(connection, id=2, listBackends={})
                await settle()

            assert socket.closed is not None
            assert 4005 == socket.closed[0]

    async def test_pings_count_as_frames(self) -> None:
        """One too fast is not answered, and a flood of them closes."""
        async with bench(frames_per_second=1, frames_burst=2) as b:
            connection, socket = await opened(b)
            assert [True, False] == [connection.pinged(), connection.pinged()]
            for _ in range(ABUSE_FRAMES):
                connection.pinged()

            assert socket.closed is not None
            assert 4005 == socket.closed[0]
            b.clock.now += 60
            assert not connection.pinged()


class TestSlowness:
    """Clients that do not read."""

    async def test_streams_wait_and_go_on(self) -> None:
        """What was written meanwhile comes as one."""
        async with bench() as b:
            connection, socket = await opened(b)
            say(connection, id=4, watchEvents={"parent": AGENT, "includeDeltas": True})
            await settle()
            socket.can_write = False
            b.link.push(checkpoint(0), delta("a"))
            await settle()
            b.link.push(delta("b"))
            await settle()
            assert ([], 1) == (socket.sent, len(b.surroundings.stalls))
            socket.can_write = True
            connection.resumed()
            await settle()

            [frame] = socket.take()
            assert "ab" == frame["watchEventsResponse"]["updates"][0]["delta"]["text"]
            assert 0 == len(b.surroundings.stalls)

    async def test_replies_pile_up_to_a_limit(self) -> None:
        """Then the client is closed; one reply of any size always passes."""
        async with bench() as b:
            connection, socket = await opened(b)
            connection.send(b"x" * (MAX_BUFFERED + 1))
            assert socket.closed is None
            socket.unread, socket.can_write = MAX_BUFFERED, False
            assert MAX_BUFFERED == connection.buffered()
            say(connection, id=2, listBackends={})
            await settle()

            assert socket.closed is not None
            assert 4002 == socket.closed[0]

    async def test_a_reply_that_is_not_read_is_watched(self) -> None:
        """Also without any stream."""
        async with bench() as b:
            connection, socket = await opened(b)
            socket.can_write = False
            say(connection, id=2, listBackends={})
            await settle()

            assert 1 == len(b.surroundings.stalls)

    async def test_giving_up_closes(self) -> None:
        """As the stalls decide."""
        async with bench() as b:
            connection, _ = await opened(b)
            connection.too_slow()

            assert 4002 == connection.close_code

    async def test_nothing_is_sent_after_a_close(self) -> None:
        """Whoever tries does no harm."""
        async with bench() as b:
            connection, socket = await opened(b)
            connection.close(4002, "")
            connection.close(4500, "")
            connection.send(b"x")
            connection.watch_ended(1, not_found())
            connection.go_away(timedelta(0))
            connection.tick(b.clock.now + 1000)

            assert ([], 4002) == (socket.sent, connection.close_code)


class TestTime:
    """What happens by itself."""

    async def test_silence_brings_a_heartbeat(self) -> None:
        """Once for each interval of silence."""
        async with bench() as b:
            connection, socket = await opened(b)
            start = b.clock.now
            beats = []
            for second in range(1, 60):
                connection.tick(start + second)
                beats += [second for _ in socket.take()]

            assert [21, 42] == beats

    async def test_a_proof_that_ends_closes(self) -> None:
        """At its expiry."""
        async with bench() as b:
            end = from_epoch(b.wall_clock.now + 10)
            connection, _ = await opened(b, Principal(user="users/ada", expire_time=end))
            connection.tick(b.clock.now)
            assert not connection.closed
            b.wall_clock.now += 10
            connection.tick(b.clock.now)

            assert 4003 == connection.close_code

    async def test_go_away_tells_the_delay(self) -> None:
        """To who has an encoding to be told in."""
        async with bench() as b:
            silent, mute = b.connect()
            silent.go_away(timedelta(seconds=3))
            assert [] == mute.sent
            connection, socket = await opened(b)
            connection.go_away(timedelta(seconds=3))

            assert [{"id": 0, "goAway": {"reconnectDelay": "3s"}}] == socket.take()


class TestProof:
    """Renewing and revoking."""

    async def test_a_new_token_renews(self) -> None:
        """The connection lives until the new one ends."""
        async with bench() as b:
            end = from_epoch(b.wall_clock.now + 10)
            connection, socket = await opened(b, Principal(user="users/ada", expire_time=end))
            later = from_epoch(b.wall_clock.now + 100)
            b.verifier.known["good"] = Principal(user="users/ada", expire_time=later)
            say(connection, id=2, authenticate={"token": "good"})
            await settle()
            b.wall_clock.now += 50
            connection.tick(b.clock.now)

            assert "2023-11-14T22:15:00Z" == socket.take()[0]["authenticated"]["expireTime"]
            assert not connection.closed

    async def test_a_token_without_end_renews_for_ever(self) -> None:
        """No time is told then."""
        async with bench() as b:
            connection, socket = await opened(b)
            b.verifier.known["good"] = ADA
            say(connection, id=2, authenticate={"token": "good"})
            await settle()

            assert [{"id": 2, "authenticated": {"user": "users/ada"}}] == socket.take()

    async def test_a_bad_token_changes_nothing(self) -> None:
        """The old proof holds."""
        async with bench() as b:
            connection, socket = await opened(b)
            say(connection, id=2, authenticate={"token": "bad"})
            await settle()

            assert [(2, "TOKEN_INVALID")] == reasons(socket)
            assert not connection.closed

    async def test_another_users_token_is_refused(self) -> None:
        """The user of a connection stays the same."""
        async with bench() as b:
            connection, socket = await opened(b)
            b.verifier.known["bobs"] = Principal(user="users/bob", admin=True)
            say(connection, id=2, authenticate={"token": "bobs"})
            await settle()

            assert [(2, "FORBIDDEN")] == reasons(socket)
            assert ADA == connection.principal

    async def test_a_revoked_key_closes(self) -> None:
        """Within ten minutes even when nobody tells of it."""
        async with bench() as b:
            connection, _ = await opened(b)
            b.verifier.known["key"] = KEYED
            say(connection, id=2, authenticate={"token": "key"})
            await settle()
            b.clock.now += RECHECK_SECONDS
            connection.tick(b.clock.now)
            await settle()
            assert not connection.closed
            del b.verifier.known["key"]
            connection.tick(b.clock.now + RECHECK_SECONDS / 2 - 1)
            await settle()
            assert not connection.closed
            connection.tick(b.clock.now + RECHECK_SECONDS)
            await settle()

            assert 4501 == connection.close_code

    async def test_a_key_in_doubt_is_checked_soon(self) -> None:
        """But not before a good answer from earlier is forgotten."""
        async with bench() as b:
            connection, _ = await opened(b)
            b.verifier.known["key"] = KEYED
            say(connection, id=2, authenticate={"token": "key"})
            await settle()
            del b.verifier.known["key"]
            connection.doubt(b.clock.now)
            connection.tick(b.clock.now + GOOD_SECONDS)
            await settle()
            assert not connection.closed
            connection.tick(b.clock.now + DOUBT_SECONDS)
            await settle()

            assert 4501 == connection.close_code

    async def test_an_outage_revokes_nothing(self) -> None:
        """What cannot be asked is asked again soon."""
        async with bench() as b:
            asked = 0

            async def recheck() -> Principal:
                nonlocal asked
                asked += 1
                if asked == 1:
                    raise Failure(errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE, "gone")
                raise token_invalid()

            connection, _ = b.connect(KEYED, recheck)
            say(connection, id=1, listBackends={})
            b.clock.now += RECHECK_SECONDS
            connection.tick(b.clock.now)
            await settle()
            assert not connection.closed
            connection.tick(b.clock.now + DOUBT_SECONDS)
            await settle()

            assert 4501 == connection.close_code

    async def test_those_who_came_together_are_not_all_checked_together(self) -> None:
        """A thousand that a restart brought back would else ask at once, time and again."""
        async with bench() as b:
            begun = 0

            async def recheck() -> Principal:
                nonlocal begun
                begun += 1
                return KEYED

            connections = [b.connect(KEYED, recheck)[0] for _ in range(200)]
            counts = []
            for connection in connections:
                say(connection, id=1, listBackends={})
            for part in (0.49, 0.75, 1):
                for connection in connections:
                    connection.tick(b.clock.now + part * RECHECK_SECONDS)
                await settle()
                counts.append(begun)

            assert 0 == counts[0]
            assert 50 < counts[1] < 150
            assert 200 <= counts[2]

    async def test_a_check_that_takes_long_is_not_begun_twice(self) -> None:
        """And ends with the connection."""
        async with bench() as b:
            begun = 0

            async def recheck() -> Principal:
                nonlocal begun
                begun += 1
                await asyncio.get_running_loop().create_future()
                raise token_invalid()

            connection, _ = b.connect(KEYED, recheck)
            say(connection, id=1, listBackends={})
            for times in (1, 2, 3):
                connection.tick(b.clock.now + times * RECHECK_SECONDS)
                await settle()
            connection.lost(1001)
            await settle()

            assert 1 == begun
            assert 0 == len(b.surroundings.tasks)
