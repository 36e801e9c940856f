"""Fifty of two hundred clients stop reading: the others see all, as soon as before."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.system.conftest import key_for
from tests.system.stack import Stack, running
from tests.system.wire import Frame, Transcript, Wire, follow, open_wire

pytestmark = [pytest.mark.alone, pytest.mark.timeout(180)]

USERS = 20
CLIENTS = 10
"""Of each user; the last of four does not always read."""
SLOW = 4
GROWN_BYTES = 30 * 1024 * 1024
"""What those who do not read may add to the gateway; from the issue."""
CYCLES = 3
SETTLE_SECONDS = 1.5
WINDOW_SECONDS = 3
CUT_SECONDS = 17.0
"""How long they do not read in the end: a little more than the gateway waits for them."""
CLOSED_SECONDS = 15.0
"""Who was cut has read by then what was on its way."""
LATER = 1.2
"""By how much the others' p99 may grow; from the issue."""
NOISE_SECONDS = 0.1
"""What a machine that other work shares does by itself, even in its quietest second."""
HISTORY = "\n".join(["x" * 95_000, "/sim say kept"])


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A platform of its own."""
    with running(tmp_path / "data") as stack:
        yield stack


class Sleeper:
    """A client on a bare socket, which reads or does not.

    Args:
        stack: Where it connects.
        key: Says for whom.
        history: The agent it follows to have more to read than fits anywhere.
    """

    def __init__(self, stack: Stack, key: str, history: str) -> None:
        self._connection = socket.socket()
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._connection.settimeout(10)
        self._connection.connect(("127.0.0.1", stack.run["ports"]["gateway"]))
        self._connection.sendall(
            "GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            f"Sec-WebSocket-Protocol: moorline.v1\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
        )
        assert self._connection.recv(64).startswith(b"HTTP/1.1 101")
        self._connection.setblocking(False)
        self.history = history
        self.closed = False
        self.number = 0

    def send(self, frame: Frame) -> None:
        """Send a frame."""
        payload = json.dumps(frame).encode()
        assert len(payload) < 126
        self._connection.sendall(bytes([0x81, 0x80 | len(payload)]) + bytes(4) + payload)

    def watch(self, agent: str) -> None:
        """Follow an agent."""
        self.number += 1
        request = {"parent": agent, "includeDeltas": True}
        self.send({"id": self.number, "watchEvents": request})

    def read(self) -> None:
        """Read whatever comes, from now on."""
        asyncio.get_running_loop().add_reader(self._connection, self._take)

    def sleep(self) -> None:
        """Read no more."""
        asyncio.get_running_loop().remove_reader(self._connection)

    def close(self) -> None:
        """Leave."""
        self.sleep()
        self._connection.close()

    def _take(self) -> None:
        try:
            self.closed = not self._connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            self.closed = True
        if self.closed:
            self.sleep()


class Reader:
    """A client that reads, and notes by how much each word is late."""

    def __init__(self, wire: Wire, agent: str) -> None:
        self.wire = wire
        self.agent = agent
        self.transcript = Transcript()
        self.late: list[tuple[float, float]] = []

    async def run(self, turn: str) -> None:
        """Follow a turn whose words are the time, to its end."""
        async for update in self.wire.watch(self.agent, patience=90):
            self.transcript.apply(update)
            delta = update.get("delta", {})
            if delta and not delta.get("snapshot"):
                now = time.time()
                self.late += [(now, now - int(word) / 1e6) for word in delta["text"].split()]
            if self.transcript.outcome(turn):
                return


def p99(readers: list[Reader], begin: float, end: float) -> float | None:
    """Return by how much all but a hundredth of a window's words were late at most.

    None when not one came, as when this process did not run.
    """
    late = sorted(late for reader in readers for at, late in reader.late if begin <= at < end)
    return late[int(0.99 * len(late))] if late else None


async def test_fifty_clients_that_stop_reading_cost_the_others_nothing(
    stack: Stack, record_property: Callable[[str, object], None]
) -> None:
    """In turns: all read, then fifty do not for a while; at last they never do again."""
    words = 10 * int(2 * CYCLES * (SETTLE_SECONDS + WINDOW_SECONDS) + CUT_SECONDS + 8)
    async with AsyncExitStack() as exits:
        readers, sleepers = await crowd(stack, exits)
        assert (150, 50) == (len(readers), len(sleepers))
        turns: dict[str, str] = {}
        for reader in readers:
            if reader.agent not in turns:
                prompt = f"/sim clock {words} 100"
                turns[reader.agent] = await reader.wire.prompt(reader.agent, prompt)
        following = [asyncio.create_task(reader.run(turns[reader.agent])) for reader in readers]
        await asyncio.sleep(2)

        before = stack.resident_bytes("gateway")
        quick, slow = await in_turns(readers, sleepers)
        for sleeper in sleepers:
            sleeper.sleep()
        most = 0
        for _ in range(int(CUT_SECONDS / 0.5)):
            await asyncio.sleep(0.5)
            most = max(most, stack.resident_bytes("gateway"))
        await asyncio.gather(*following)
        for sleeper in sleepers:
            sleeper.read()
        async with asyncio.timeout(CLOSED_SECONDS):
            # Who was not cut reads on and on.
            while not all(sleeper.closed for sleeper in sleepers):  # noqa: ASYNC110 - their news
                await asyncio.sleep(0.05)

    for name, value in (
        ("p99_all_read", quick),
        ("p99_some_do_not", slow),
        ("grown", most - before),
    ):
        record_property(name, value)
    assert most - before <= GROWN_BYTES
    for reader in readers:
        (text,) = reader.transcript.items("agentMessage")
        assert words == len(text["text"].split())
        assert words - len(reader.late) <= words / 10
    assert slow < LATER * quick + NOISE_SECONDS


async def crowd(stack: Stack, exits: AsyncExitStack) -> tuple[list[Reader], list[Sleeper]]:
    """Connect everybody; each user has an agent to follow and one with a long history."""
    readers: list[Reader] = []
    sleepers: list[Sleeper] = []
    admin = await exits.enter_async_context(open_wire(stack.url, stack.token))
    for number in range(USERS):
        key = await key_for(admin, f"user-{number}")
        clients = range(number * CLIENTS, (number + 1) * CLIENTS)
        wires = [
            await exits.enter_async_context(open_wire(stack.url, key))
            for client in clients
            if client % SLOW
        ]
        history, agent = await wires[0].agent(), await wires[0].agent()
        turns = [await wires[0].prompt(history, HISTORY) for _ in range(3)]
        await follow(wires[0], history, Transcript(), *turns)
        readers += [Reader(wire, agent) for wire in wires]
        for _ in range(CLIENTS - len(wires)):
            sleeper = Sleeper(stack, key, history)
            exits.callback(sleeper.close)
            sleeper.watch(agent)
            sleeper.read()
            sleepers.append(sleeper)
    return readers, sleepers


async def in_turns(readers: list[Reader], sleepers: list[Sleeper]) -> tuple[float, float]:
    """Return the p99 while all read, and while some do not; leave those with much to read."""
    quick: list[float] = []
    slow: list[float] = []
    for cycle in range(CYCLES):
        quick += await window(readers)
        for sleeper in sleepers:
            sleeper.sleep()
            sleeper.watch(sleeper.history)
        slow += await window(readers)
        for sleeper in sleepers:
            if cycle < CYCLES - 1:
                sleeper.send({"id": sleeper.number, "cancel": {}})
                sleeper.read()
    assert quick
    assert slow
    # Other work on the machine makes a second worse and never better.
    return min(quick), min(slow)


async def window(readers: list[Reader]) -> list[float]:
    """Return the p99 of each of a few seconds, but for those in which something changes."""
    await asyncio.sleep(SETTLE_SECONDS)
    found = []
    for _ in range(WINDOW_SECONDS):
        begin = time.time()
        await asyncio.sleep(1)
        found.append(p99(readers, begin, time.time()))
    return [late for late in found if late is not None]
