"""Tests of `moorline.dialling`: when a socket that says nothing is dead."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from moorline.closing import HungUp
from moorline.dialling import Line
from tests.unit.jumping import JumpingLoop

HEARTBEAT = b'{"id":0,"heartbeat":{}}'


class Socket:
    """A socket on which nothing comes but what the test puts there."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[bytes] = asyncio.Queue()

    async def recv(self, *, decode: bool) -> bytes:
        """Return the next frame; cancelling loses none."""
        assert not decode
        return await self.frames.get()


@pytest.fixture
async def loop() -> JumpingLoop:
    """The loop of the test, whose time can be made to pass."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, JumpingLoop)
    return loop


@pytest.fixture
async def socket() -> Socket:
    """What the line hears."""
    return Socket()


@pytest.fixture
async def line(socket: Socket) -> Line:
    """A line whose server beats every 20 s."""
    return Line(socket=cast("Any", socket), welcome={"heartbeatInterval": "20s"})


async def test_heartbeats_keep_a_line(socket: Socket, line: Line, loop: JumpingLoop) -> None:
    """Each may come late, and a server with nothing else to say is not left."""
    for _ in range(20):
        loop.call_later(39, socket.frames.put_nowait, HEARTBEAT)
        assert {"id": 0, "heartbeat": {}} == (await line.receive())[0]
    assert pytest.approx(20 * 39) == loop.time()


async def test_a_line_without_a_frame_for_two_heartbeats_is_dead(
    line: Line, loop: JumpingLoop
) -> None:
    """Soon after, and not before."""
    with pytest.raises(HungUp) as hung_up:
        await line.receive()
    assert "silent" in hung_up.value.ending.error.message
    assert hung_up.value.ending.again
    assert 40 <= loop.time() <= 60


async def test_a_client_that_stood_still_hears_what_came_meanwhile(
    socket: Socket, line: Line, loop: JumpingLoop
) -> None:
    """A frame that was there in time, and could not be read, keeps the line."""
    # The loop comes back when the frame and the end of the patience are both due, in this order.
    loop.call_later(25, loop.jump, 60)
    loop.call_later(30, socket.frames.put_nowait, HEARTBEAT)
    assert {"id": 0, "heartbeat": {}} == (await line.receive())[0]
