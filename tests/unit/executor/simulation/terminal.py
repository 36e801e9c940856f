"""Someone who talks to a simulated process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from services.executor.channel import Exit
from services.executor.channels.simulation.cli import SimulatedCli


class Terminal:
    """Talks to one simulated process; holds it back while nobody reads."""

    def __init__(self, cli: SimulatedCli) -> None:
        self.cli = cli
        self.seen: list[dict[str, Any]] = []
        self._waiting: list[bytes] = []
        self._news = asyncio.Event()
        self._ended = False
        cli.lines.connect(self)
        cli.lines.hold()

    def send(self, **frame: Any) -> None:
        """Write a line."""
        self.cli.receive(orjson.dumps(frame))

    def prompt(self, text: str, message_id: str = "u1") -> None:
        """Begin a turn."""
        message = {"role": "user", "content": text}
        self.send(type="user", uuid=message_id, message=message)

    def request(self, subtype: str, **fields: str) -> None:
        """Write a control request."""
        request = {"subtype": subtype, **fields}
        self.send(type="control_request", request_id=subtype, request=request)

    def allow(self, asked: dict[str, Any], **answer: Any) -> None:
        """Answer a request to let a tool run."""
        response = {"behavior": "allow", "updatedInput": asked["request"]["input"], **answer}
        answered = {"request_id": asked["request_id"], "response": response}
        self.send(type="control_response", response=answered)

    def receive(self, lines: Sequence[bytes]) -> None:
        """Take lines; see `Receiver`."""
        self._waiting += lines
        self._news.set()
        self.cli.lines.hold()

    def exited(self, ended: Exit) -> None:
        """Hear of the end; see `Receiver`."""
        assert self.cli.exited.result() is ended
        self._ended = True
        self._news.set()

    async def until(self, kind: str) -> dict[str, Any]:
        """Read up to a frame of a type or subtype.

        Raises:
            EOFError: The process has ended before.
        """
        while True:
            while not self._waiting:
                if self._ended:
                    raise EOFError
                self._news.clear()
                self.cli.lines.release()
                await self._news.wait()
            frame: dict[str, Any] = orjson.loads(self._waiting.pop(0))
            self.seen.append(frame)
            if kind in (frame["type"], frame.get("subtype"), frame.get("state")):
                return frame

    async def turn(self, text: str, message_id: str = "u1") -> dict[str, Any]:
        """Run a turn and return its result."""
        self.prompt(text, message_id)
        result = await self.until("result")
        await self.until("idle")
        return result

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the stream events of a type."""
        events = [frame["event"] for frame in self.seen if frame["type"] == "stream_event"]
        return [event for event in events if event["type"] == kind]

    def deltas(self) -> list[str]:
        """Return the fragments of text and thought."""
        deltas = [event["delta"] for event in self.events("content_block_delta")]
        return [delta.get("text", delta.get("thinking")) for delta in deltas]

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        """Return the frames of a type or subtype."""
        return [frame for frame in self.seen if kind in (frame["type"], frame.get("subtype"))]


Start = Callable[..., Terminal]
