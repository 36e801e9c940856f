"""A client that stops reading harms nobody."""

from __future__ import annotations

import contextlib
import socket
import time
import uuid

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.system.stack import Stack
from tests.system.wire import Transcript, follow, open_wire

ALLOWED_BYTES = 2 * 1024 * 1024
"""What one client that does not read may add to the gateway; from the issue."""

CUT_SECONDS = 17
"""How long it does not read: a little more than the gateway waits for it."""


@pytest.mark.timeout(120)
async def test_a_client_that_stops_reading_costs_little_and_delays_nobody(
    own_stack: Stack,
) -> None:
    """The gateway holds a bounded rest for it and cuts it; others see everything in time."""
    stack = own_stack
    async with open_wire(stack.url, stack.token) as wire:
        agent = await wire.agent()
        warm = await wire.prompt(agent, "/sim stream 20000 0")
        await follow(wire, agent, Transcript(), warm)
        raw = socket.create_connection(("127.0.0.1", stack.run["ports"]["gateway"]))
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)
        async with connect(
            f"{stack.url.replace('http', 'ws', 1)}/v1/ws",
            sock=raw,
            additional_headers={"Authorization": f"Bearer {stack.token}"},
            subprotocols=["moorline.v1"],  # type: ignore[list-item]
            compression=None,
            max_size=None,
            max_queue=1,
            ping_interval=None,
            proxy=None,
        ) as stalled:
            await stalled.send(
                f'{{"id": 1, "watchEvents": {{"parent": "{agent}", "includeDeltas": true}}}}'
            )
            await stalled.recv()
            stalled.transport.pause_reading()
            before = stack.resident_bytes("gateway")
            slowest = 0.0
            stalled_since = time.monotonic()
            while time.monotonic() < stalled_since + CUT_SECONDS:
                turn = await wire.prompt(agent, "/sim stream 20000 0", uuid.uuid4().hex)
                begin = time.monotonic()
                transcript = Transcript(events=[])
                await follow(wire, agent, transcript, turn)
                slowest = max(slowest, time.monotonic() - begin)
            grown = stack.resident_bytes("gateway") - before
            stalled.transport.resume_reading()
            with contextlib.suppress(ConnectionClosed):
                async for _ in stalled:
                    pass

    assert 4002 == stalled.close_code
    assert grown < ALLOWED_BYTES + 2 * 1024 * 1024, "the watch of the good client is in it too"
    assert slowest < 10
