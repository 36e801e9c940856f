"""Tests of `services.gateway.connection`: no socket, a clock that a test sets."""

from __future__ import annotations

import asyncio

import pytest

from moorline.executor.v1 import backends_pb2
from moorline.gateway.v1 import frames_pb2
from moorline.session.v1 import agents_pb2
from services.chassis.failures import not_found
from services.gateway.auth.verifier import Principal, from_epoch
from services.gateway.connection import FIRST_FRAME_SECONDS
from tests.unit.gateway.fakes import (
    AGENT,
    bench,
    checkpoint,
    event,
    settle,
)
from tests.unit.gateway.talking import opened, reasons, say

KEYED = Principal(user="users/ada", key="users/ada/keys/aaaaaaaa")


class TestFirstFrame:
    """The start of a connection."""

    async def test_the_welcome_comes_first_and_then_the_reply(self) -> None:
        """In the encoding of the client's first frame."""
        async with bench() as b:
            b.peers.answers["get_agent"] = agents_pb2.GetAgentResponse(
                agent=agents_pb2.Agent(name=AGENT)
            )
            connection, socket = b.connect(Principal(user="users/ada", expire_time=from_epoch(9e9)))
            assert [] == socket.sent
            say(connection, id=5, getAgent={"name": AGENT})
            await settle()

            welcome, reply = socket.take()
            assert {
                "user": "users/ada",
                "expireTime": "2255-03-14T16:00:00Z",
                "heartbeatInterval": "20s",
                "revision": 1,
                "version": "1",
            } == {name: value for name, value in welcome["welcome"].items() if name != "limits"}
            assert {"id": 5, "getAgentResponse": {"agent": {"name": AGENT}}} == reply

    async def test_a_binary_client_gets_binary_frames(self) -> None:
        """Its first frame decides."""
        async with bench() as b:
            b.peers.answers["list_backends"] = backends_pb2.ListBackendsResponse()
            connection, socket = b.connect()
            frame = frames_pb2.ClientFrame(id=2, list_backends=backends_pb2.ListBackendsRequest())
            connection.receive(frame.SerializeToString(), binary=True)
            await settle()

            frames = [frames_pb2.ServerFrame.FromString(payload) for payload, _ in socket.sent]
            assert ["welcome", "list_backends_response"] == [
                frame.WhichOneof("reply") for frame in frames
            ]
            assert all(binary for _, binary in socket.sent)

    async def test_no_first_frame_closes(self) -> None:
        """After ten seconds, not before."""
        async with bench() as b:
            connection, socket = b.connect()
            connection.tick(b.clock.now + FIRST_FRAME_SECONDS - 1)
            assert socket.closed is None
            connection.tick(b.clock.now + FIRST_FRAME_SECONDS)

            assert socket.closed is not None
            assert 4008 == socket.closed[0]
            assert [(4008, "server")] == b.closes

    async def test_a_first_frame_that_is_none_closes_without_a_welcome(self) -> None:
        """There is no encoding to welcome in."""
        async with bench() as b:
            connection, socket = b.connect()
            connection.receive(b"hello", binary=False)

            assert (4500, []) == (socket.closed and socket.closed[0], socket.sent)

    async def test_a_bad_first_message_is_welcomed_and_refused(self) -> None:
        """It is a frame all the same."""
        async with bench() as b:
            connection, socket = b.connect()
            say(connection, id=3)

            assert ["welcome", "error"] == [list(frame)[1] for frame in socket.take()]

    def test_the_encoding_is_not_known_before(self) -> None:
        """Asking for it is a bug."""

        async def main() -> None:
            async with bench() as b:
                connection, _ = b.connect()
                with pytest.raises(RuntimeError):
                    _ = connection.encoding

        asyncio.run(main())


class TestFrames:
    """What is accepted as a frame."""

    @pytest.mark.parametrize("payload", [b"{", b"x" * 2000])
    async def test_a_bad_frame_closes(self, payload: bytes) -> None:
        """Not JSON, or over the limit."""
        async with bench(frame_bytes=1000) as b:
            connection, socket = await opened(b)
            connection.receive(payload, binary=False)
            connection.receive(b"more", binary=False)

            assert socket.closed is not None
            assert 4500 == socket.closed[0]
            assert connection.closed

    async def test_the_other_encoding_closes(self) -> None:
        """The first frame decided."""
        async with bench() as b:
            connection, socket = await opened(b)
            connection.receive(b"", binary=True)

            assert (4500, "server") == (connection.close_code, connection.close_initiator)
            assert socket.closed is not None

    async def test_a_bad_message_is_answered_and_the_connection_lives(self) -> None:
        """With its number when that could be read."""
        async with bench() as b:
            connection, socket = await opened(b)
            say(connection, id=9, nothing={})
            say(connection, listBackends={})

            assert [(9, "METHOD_UNKNOWN"), (0, "FIELD_INVALID")] == reasons(socket)
            assert socket.closed is None

    async def test_too_many_bad_messages_close(self) -> None:
        """Ten are forgiven."""
        async with bench() as b:
            connection, socket = await opened(b)
            for _ in range(10):
                say(connection)
            assert socket.closed is None
            say(connection)

            assert 4500 == connection.close_code

    async def test_what_is_not_websocket_closes(self) -> None:
        """As the socket reports it."""
        async with bench() as b:
            connection, socket = await opened(b)
            connection.violated("too large")

            assert (4500, "too large") == socket.closed


class TestCalls:
    """Unary calls."""

    async def test_a_call_is_made_for_the_user(self) -> None:
        """With the identity that the client has proven."""
        async with bench() as b:
            connection, _ = await opened(b, KEYED)
            say(connection, id=2, listAgents={"parent": "users/bob"})
            await settle()

            name, request, identity = b.peers.calls[-1]
            assert ("list_agents", "users/ada", True) == (name, identity.user, identity.keyed)
            assert agents_pb2.ListAgentsRequest(parent="users/bob") == request

    async def test_a_failure_is_an_error_frame(self) -> None:
        """As the service said it."""
        async with bench() as b:
            b.peers.answers["get_agent"] = not_found()
            connection, socket = await opened(b)
            say(connection, id=2, getAgent={"name": AGENT})
            await settle()

            assert [(2, "RESOURCE_NOT_FOUND")] == reasons(socket)

    async def test_a_bug_is_an_error_frame_without_details(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The client learns that it was one; the log has the rest."""
        async with bench() as b:
            connection, socket = await opened(b)
            b.peers.bug = True
            say(connection, id=2, getAgent={"name": AGENT})
            await settle()

            assert [(2, "INTERNAL")] == reasons(socket)
            assert "task failed" in caplog.messages

    async def test_a_number_in_use_is_refused_without_ending_its_call(self) -> None:
        """Under number 0, because an error under its own would be taken for the call's."""
        async with bench() as b:
            connection, socket = await opened(b)
            say(connection, id=2, getAgent={"name": AGENT})
            say(connection, id=2, listBackends={})
            say(connection, id=3, watchAgents={"parent": "users/ada"})
            say(connection, id=3, listBackends={})

            assert [(0, "FIELD_INVALID"), (0, "FIELD_INVALID")] == reasons(socket)
            assert 1 == len(connection.tasks)

    async def test_a_number_can_be_used_again(self) -> None:
        """Once its call is over."""
        async with bench() as b:
            connection, socket = await opened(b)
            for _ in range(2):
                say(connection, id=2, listBackends={})
                await settle()

            assert [2, 2] == [frame["id"] for frame in socket.take()]

    async def test_too_many_calls_at_once_are_refused(self) -> None:
        """For now: the client may try again."""
        async with bench(calls_in_flight=1) as b:
            connection, socket = await opened(b)
            say(connection, id=2, getAgent={"name": AGENT})
            say(connection, id=3, getAgent={"name": AGENT})

            [frame] = socket.take()
            assert (3, "1s", "callsInFlight") == (
                frame["id"],
                frame["error"]["retryDelay"],
                frame["error"]["metadata"]["limitName"],
            )
            assert ["callsInFlight"] == b.limited

    async def test_cancel_ends_a_call(self) -> None:
        """With exactly one frame; cancelling again changes nothing."""
        async with bench() as b:
            connection, socket = await opened(b)
            say(connection, id=2, getAgent={"name": AGENT})
            await settle()
            say(connection, id=2, cancel={})
            say(connection, id=2, cancel={})
            await settle()

            assert [(2, "CALL_CANCELLED")] == reasons(socket)
            assert [] == connection.tasks

    async def test_a_close_cancels_calls(self) -> None:
        """Nothing is sent for them any more."""
        async with bench() as b:
            connection, socket = await opened(b)
            say(connection, id=2, getAgent={"name": AGENT})
            await settle()
            connection.lost(1006)
            connection.lost(1006)
            await settle()

            assert [] == socket.sent
            assert 0 == len(b.surroundings.tasks)
            assert [(1006, "client")] == b.closes


class TestStreams:
    """Watches."""

    async def test_a_watch_gets_frames_until_it_is_cancelled(self) -> None:
        """Then `end`, and nothing more."""
        async with bench() as b:
            connection, socket = await opened(b)
            say(connection, id=4, watchEvents={"parent": AGENT, "includeDeltas": True})
            await settle()
            b.link.push(event(1), checkpoint(1))
            await settle()
            say(connection, id=4, cancel={})
            await settle()

            updates, end = socket.take()
            assert 2 == len(updates["watchEventsResponse"]["updates"])
            assert {"id": 4, "end": {}} == end
            assert [] == b.link.open

    async def test_a_watch_that_fails_ends_with_an_error(self) -> None:
        """Its number is free again."""
        async with bench() as b:
            b.link.failures = [not_found(), not_found()]
            connection, socket = await opened(b)
            for _ in range(2):
                say(connection, id=4, watchEvents={"parent": AGENT})
                await settle()

            assert [(4, "RESOURCE_NOT_FOUND")] * 2 == reasons(socket)

    async def test_too_many_watches_are_refused(self) -> None:
        """Waiting does not help, so there is no delay."""
        async with bench(watches=1) as b:
            connection, socket = await opened(b)
            say(connection, id=2, watchAgents={"parent": "users/ada"})
            say(connection, id=3, watchEvents={"parent": AGENT})

            assert [(3, "QUOTA_EXCEEDED")] == reasons(socket)
            assert ["watches"] == b.limited

    async def test_a_close_leaves_the_watches(self) -> None:
        """Upstream is told."""
        async with bench() as b:
            connection, _ = await opened(b)
            say(connection, id=2, watchAgents={"parent": "users/ada"})
            await settle()
            connection.close(4002, "")
            await settle()

            assert [] == b.link.open
