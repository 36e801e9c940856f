"""A client that stops reading harms nobody."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import struct
import time

import pytest

from tests.system.stack import Stack
from tests.system.wire import Transcript, follow, open_wire

pytestmark = pytest.mark.alone

ALLOWED_BYTES = 2 * 1024 * 1024
"""What one client that does not read may add to the gateway; from the issue."""

SLOW_CONSUMER = 4002
"""The code the gateway closes with."""


class Sleeper:
    """A client on a bare socket, because libraries read ahead."""

    def __init__(self, stack: Stack, agent: str) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(15)
        self.socket.connect(("127.0.0.1", stack.run["ports"]["gateway"]))
        self.socket.sendall(
            "GET /v1/ws HTTP/1.1\r\n"
            "Host: 127.0.0.1\r\n"
            "Upgrade: websocket\r\n"
            "Connection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            "Sec-WebSocket-Protocol: moorline.v1\r\n"
            f"Authorization: Bearer {stack.token}\r\n\r\n".encode()
        )
        assert self.socket.recv(64).startswith(b"HTTP/1.1 101")
        frame = {"id": 1, "watchEvents": {"parent": agent, "includeDeltas": True}}
        payload = json.dumps(frame).encode()
        assert len(payload) < 126
        mask = bytes(4)
        self.socket.sendall(bytes([0x81, 0x80 | len(payload)]) + mask + payload)

    def read_everything(self) -> bytes:
        """What still comes, to the connection's end."""
        received = b""
        # The gateway waits for an answer to its close, which does not come, and resets.
        with contextlib.suppress(ConnectionResetError):
            while data := self.socket.recv(65536):
                received += data
        return received


def given_up(stack: Stack) -> bool:
    """Whether the gateway has closed a connection because nobody reads it."""
    page = http.client.HTTPConnection("127.0.0.1", stack.run["ports"]["gateway_metrics"], 15)
    page.request("GET", "/metrics")
    closes = page.getresponse().read().decode()
    page.close()
    return f'code="{SLOW_CONSUMER}"' in closes


@pytest.mark.timeout(120)
async def test_a_client_that_stops_reading_costs_little_and_delays_nobody(
    own_stack: Stack,
) -> None:
    """The gateway holds a bounded rest for it and cuts it; others see everything in time."""
    stack = own_stack
    async with open_wire(stack.url, stack.token) as wire:
        agent = await wire.agent()
        transcript = Transcript()

        async def one_turn() -> float:
            begin = time.monotonic()
            turn = await wire.prompt(agent, "/sim stream 20000 0")
            await follow(wire, agent, transcript, turn)
            return time.monotonic() - begin

        quick = [await one_turn() for _ in range(8)]
        before = stack.resident_bytes("gateway")
        sleeper = Sleeper(stack, agent)
        slow: list[float] = []
        async with asyncio.timeout(60):
            while not await asyncio.to_thread(given_up, stack):
                slow.append(await one_turn())
                await asyncio.sleep(0.2)
        grown = stack.resident_bytes("gateway") - before
        rest = await asyncio.to_thread(sleeper.read_everything)
        sleeper.socket.close()

    assert struct.pack(">H", SLOW_CONSUMER) in rest[-64:]
    assert grown < ALLOWED_BYTES
    assert sorted(slow)[len(slow) // 2] < 3 * sorted(quick)[len(quick) // 2]
