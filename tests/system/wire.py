"""A client that speaks the WebSocket protocol and hides nothing of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

Frame = dict[str, Any]

ENDINGS = {"error", "end"}


class WireError(Exception):
    """Raised when a call was answered with an error frame.

    Attributes:
        error: The `errors.v1.Error`, in JSON.
    """

    def __init__(self, error: Frame) -> None:
        super().__init__(f"{error.get('reason')}: {error.get('message')}")
        self.error = error

    @property
    def reason(self) -> str:
        """The reason without its prefix."""
        return str(self.error.get("reason", "")).removeprefix("ERROR_REASON_")


@dataclass
class Wire:
    """One connection."""

    socket: ClientConnection
    welcome: Frame = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    waiting: dict[int, asyncio.Queue[Frame | None]] = field(default_factory=dict)
    unasked: list[Frame] = field(default_factory=list)
    reader: asyncio.Task[None] | None = None

    async def read(self) -> None:
        """Hand frames to the calls they belong to, until the socket closes."""
        try:
            async for text in self.socket:
                frame = json.loads(text)
                number = frame.get("id", 0)
                if "welcome" in frame:
                    self.welcome = frame["welcome"]
                elif number in self.waiting:
                    self.waiting[number].put_nowait(frame)
                else:
                    self.unasked.append(frame)
        except ConnectionClosed:
            pass
        finally:
            for queue in self.waiting.values():
                queue.put_nowait(None)

    async def send(self, call: str, request: Frame) -> int:
        """Send a call and return its number."""
        number = next(self.numbers)
        self.waiting[number] = asyncio.Queue()
        await self.socket.send(json.dumps({"id": number, call: request}))
        return number

    async def reply(self, number: int, patience: float = 15) -> Frame:
        """The next frame of a call.

        Raises:
            ConnectionError: The socket closed first.
            TimeoutError: Nothing came for `patience` seconds.
        """
        async with asyncio.timeout(patience):
            frame = await self.waiting[number].get()
        if frame is None:
            raise ConnectionError("closed")
        return frame

    async def call(self, call: str, request: Frame, patience: float = 15) -> Frame:
        """Make a unary call.

        Raises:
            WireError: It was answered with an error.
        """
        number = await self.send(call, request)
        frame = await self.reply(number, patience)
        del self.waiting[number]
        if "error" in frame:
            raise WireError(frame["error"])
        reply: Frame = frame[f"{call}Response"]
        return reply

    async def watch(
        self, agent: str, after: int = 0, patience: float = 15
    ) -> AsyncGenerator[Frame, None]:
        """Each update of an agent, until the socket closes.

        Raises:
            WireError: The watch ended with an error.
        """
        number = await self.send(
            "watchEvents", {"parent": agent, "afterSequence": after, "includeDeltas": True}
        )
        try:
            while True:
                frame = await self.reply(number, patience)
                if "error" in frame:
                    raise WireError(frame["error"])
                for update in frame["watchEventsResponse"].get("updates", []):
                    yield update
        finally:
            del self.waiting[number]
            with contextlib.suppress(ConnectionClosed):
                await self.socket.send(json.dumps({"id": number, "cancel": {}}))

    async def agent(self, **settings: Any) -> str:
        """Create an agent and return its name."""
        reply = await self.call("createAgent", {"parent": self.user, "agent": settings})
        return str(reply["agent"]["name"])

    async def prompt(self, agent: str, text: str, turn_id: str | None = None) -> str:
        """Start a turn and return its name."""
        reply = await self.call(
            "createTurn",
            {
                "parent": agent,
                "turnId": turn_id or uuid.uuid4().hex,
                "turn": {"prompt": {"text": text}},
            },
        )
        return str(reply["turn"]["name"])

    @property
    def user(self) -> str:
        """`users/{user}` of this connection."""
        return str(self.welcome["user"])


@contextlib.asynccontextmanager
async def open_wire(url: str, token: str) -> AsyncIterator[Wire]:
    """A connection whose welcome has arrived."""
    async with connect(
        f"{url.replace('http', 'ws', 1)}/v1/ws",
        additional_headers={"Authorization": f"Bearer {token}"},
        subprotocols=["moorline.v1"],  # type: ignore[list-item]
        compression=None,
        max_size=None,
        proxy=None,
    ) as socket:
        wire = Wire(socket)
        wire.reader = asyncio.create_task(wire.read())
        try:
            await _reach_executor(wire)
            yield wire
        finally:
            await socket.close()
            await wire.reader


async def _reach_executor(wire: Wire) -> None:
    """Wait until the gateway reaches an executor, which it may have tried before there was one."""
    async with asyncio.timeout(10):
        while True:
            try:
                await wire.call("listBackends", {})
            except WireError as error:
                if "SERVICE_UNAVAILABLE" not in str(error):
                    raise
                await asyncio.sleep(0.1)
            else:
                return


@dataclass
class Transcript:
    """What a client shows, by the client's two rules; refuses what breaks the contract.

    Attributes:
        events: Every stored event, in order.
        open: Text of each piece still being written, by turn-wide piece id.
    """

    events: list[Frame] = field(default_factory=list)
    open: dict[str, str] = field(default_factory=dict)

    @property
    def sequence(self) -> int:
        """Number of the last event."""
        return int(self.events[-1]["sequence"]) if self.events else 0

    def connected(self) -> None:
        """Forget the pieces still being written: a new watch gives them whole."""
        self.open.clear()

    def apply(self, update: Frame) -> None:
        """Take in one update.

        Raises:
            AssertionError: An event is missing or came twice, or a fragment
                came of a piece never begun, or a stored text is not the text
                that was streamed.
        """
        if "event" in update:
            self._event(update["event"])
        elif "delta" in update:
            delta = update["delta"]
            if delta.get("snapshot"):
                self.open[delta["blockId"]] = delta["text"]
            else:
                assert delta["blockId"] in self.open, "a fragment of a piece never begun"
                self.open[delta["blockId"]] += delta["text"]
        elif "messageDiscarded" in update:
            self.open.pop(update["messageDiscarded"]["blockId"], None)

    def _event(self, event: Frame) -> None:
        assert event["sequence"] == self.sequence + 1
        self.events.append(event)
        item = event["item"]
        piece = item.get("agentMessage") or item.get("agentThought")
        if piece:
            shown = self.open.pop(piece["blockId"], "")
            assert piece["text"].startswith(shown), "the text shown is not the text stored"
        if "turnOutcome" in item or "turnAttempt" in item:
            self.open.clear()

    def outcome(self, turn: str) -> Frame | None:
        """The outcome of a turn, when it has one.

        Raises:
            AssertionError: It has more than one.
        """
        outcomes = [
            event["item"]["turnOutcome"]
            for event in self.events
            if event.get("turnId") == turn.rsplit("/", 1)[-1] and "turnOutcome" in event["item"]
        ]
        assert len(outcomes) <= 1, outcomes
        return outcomes[0] if outcomes else None

    def items(self, kind: str) -> list[Frame]:
        """Every item of a kind, for example `agentMessage`."""
        return [event["item"][kind] for event in self.events if kind in event["item"]]


async def follow(
    wire: Wire, agent: str, transcript: Transcript, *turns: str, patience: float = 30
) -> Transcript:
    """Watch an agent until every one of the turns has its outcome."""
    transcript.connected()
    async with asyncio.timeout(patience):
        async with contextlib.aclosing(wire.watch(agent, transcript.sequence, patience)) as updates:
            async for update in updates:
                transcript.apply(update)
                if turns and all(transcript.outcome(turn) for turn in turns):
                    break
    return transcript
