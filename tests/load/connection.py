"""One WebSocket of the load generator: one user, one agent, one watch.

As cheap as can be, so that the servers are measured and not the client: the frames of the watch
go to a `FragmentCounter` as bytes, only answers to calls are parsed.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, Self

import orjson
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from tests.load import frames

CALL_SECONDS = 60.0
"""Patience with one answer: an overloaded server is slow, a dead one is caught by this."""

MAX_FRAME_BYTES = 64 << 20
"""A replay of a long history may come as one frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Who connects.

    Attributes:
        user: `users/{user}`.
        token: Bearer token of that user.
    """

    user: str
    token: str


@dataclass(slots=True, kw_only=True)
class Recorder:
    """Counts what arrives on all connections of this process.

    Attributes:
        measuring: True while the window is open; latency is kept only then.
        words: Words since the start.
        frames: Frames with news since the start.
        delays_us: From the making of each word to its arrival, microseconds.
    """

    measuring: bool = False
    words: int = 0
    frames: int = 0
    delays_us: list[int] = field(default_factory=list)


class Connection(WSListener):
    """One user's connection and the agent it watches.

    Attributes:
        counter: What the watch has brought.
        first_word: Performance counter when the first word of the current turn came; 0 before.
        bytes: Bytes of all frames of the watch.
    """

    def __init__(self, *, account: Account, agent: str, recorder: Recorder) -> None:
        self.account = account
        self.agent = agent
        self.counter = frames.FragmentCounter()
        self.first_word = 0.0
        self.bytes = 0
        self._recorder = recorder
        self._loop = asyncio.get_running_loop()
        self._transport: WSTransport | None = None
        self._calls: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._last_call = frames.WATCH_ID
        self._live = self._loop.create_future()
        self._outcome: asyncio.Future[None] | None = None
        self._turn = ""

    @classmethod
    async def open(cls, *, url: str, account: Account, agent: str, recorder: Recorder) -> Self:
        """Connect and prove who it is; nothing is watched yet."""
        connection = cls(account=account, recorder=recorder, agent=agent)
        await ws_connect(
            lambda: connection,
            url,
            extra_headers={
                "Authorization": f"Bearer {account.token}",
                "Sec-WebSocket-Protocol": "moorline.v1",
            },
            max_frame_size=MAX_FRAME_BYTES,
            websocket_handshake_timeout=CALL_SECONDS,
        )
        return connection

    async def watch(self) -> None:
        """Make the agent when it does not exist, and follow it up to the present."""
        await self.request(
            "createAgent", frames.create_agent_request(self.account.user, self.agent)
        )
        await self.follow()

    async def follow(self, *, after: int = 0) -> None:
        """Follow the agent, which exists, from an event up to the present, and on."""
        self._send(frames.watch_events(self.account.user, self.agent, after=after))
        async with asyncio.timeout(CALL_SECONDS):
            await self._live

    async def request(self, name: str, request: dict[str, Any]) -> dict[str, Any]:
        """Make one unary call.

        Raises:
            RuntimeError: The server answered with an error, or the connection closed.
        """
        self._last_call += 1
        answer: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._calls[self._last_call] = answer
        self._send(frames.call(self._last_call, name, request))
        async with asyncio.timeout(CALL_SECONDS):
            reply = await answer
        if "error" in reply:
            msg = f"{name}: {reply['error']}"
            raise RuntimeError(msg)
        response: dict[str, Any] = reply[f"{name}Response"]
        return response

    async def start_turn(self, turn: str, prompt: str) -> None:
        """Start a turn; returns when it is acknowledged."""
        self.first_word = 0.0
        self._turn = turn
        self._outcome = self._loop.create_future()
        request = frames.create_turn_request(
            self.account.user, self.agent, turn=turn, prompt=prompt
        )
        await self.request("createTurn", request)

    async def turn_end(self, seconds: float) -> None:
        """Wait for the outcome of the turn last started.

        Raises:
            RuntimeError: It did not finish well, or the connection closed.
        """
        if self._outcome is None:
            return
        async with asyncio.timeout(seconds):
            await self._outcome
        state = self.counter.outcomes[self._turn]
        if state != "STATE_FINISHED":
            msg = f"turn ended as {state}"
            raise RuntimeError(msg)

    def close(self) -> None:
        """Close the connection without waiting for the other side."""
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Keep the transport."""
        self._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Count a frame of the watch, or hand an answer to whoever waits for it."""
        now = time.time_ns() // 1000
        payload = frame.get_payload_as_bytes()
        if payload.startswith(frames.WATCH_PREFIX):
            self._watched(now, payload)
        elif frame.msg_type == WSMsgType.TEXT:
            self._answered(orjson.loads(payload))
        elif frame.msg_type == WSMsgType.CLOSE:
            self._fail(f"closed by the server: {frame.get_close_code()}")
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """End every wait."""
        self._fail("connection lost")

    def _watched(self, now: int, payload: bytes) -> None:
        self.bytes += len(payload)
        counter, recorder = self.counter, self._recorder
        finished = len(counter.outcomes)
        if new := counter.take(payload):
            recorder.words += len(new)
            recorder.frames += 1
            if recorder.measuring:
                recorder.delays_us += [now - int(word) for word in new]
            if not self.first_word:
                self.first_word = time.perf_counter()
        if counter.checkpoints and not self._live.done():
            self._live.set_result(None)
        if len(counter.outcomes) > finished and self._turn in counter.outcomes:
            outcome = self._outcome
            if outcome is not None and not outcome.done():
                outcome.set_result(None)

    def _answered(self, reply: dict[str, Any]) -> None:
        answer = self._calls.pop(reply.get("id", 0), None)
        if answer is not None and not answer.done():
            answer.set_result(reply)
        elif reply.get("id") == frames.WATCH_ID:
            self._fail(f"watch ended: {reply}")

    def _fail(self, reason: str) -> None:
        for waiting in (*self._calls.values(), self._live, self._outcome):
            if waiting is not None and not waiting.done():
                waiting.set_exception(RuntimeError(reason))
                # Not every one of them has someone waiting for it.
                waiting.exception()

    def _send(self, payload: bytes) -> None:
        if self._transport is None or self._transport.is_disconnected:
            msg = "not connected"
            raise RuntimeError(msg)
        self._transport.send(WSMsgType.TEXT, payload)
