"""Reads the frames of one process, when the test asks for them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson

from services.executor.channel import Channel, Exit

PATIENCE_SECONDS = 15
"""Ample for a cold container; a channel that needs it all has failed."""


class Reader:
    """The receiver of a channel; lets it go on only while somebody reads."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.batches = 0
        self.ended: Exit | None = None
        self._held = False
        self._lines: list[bytes] = []
        self._news = asyncio.Event()

    def receive(self, lines: Sequence[bytes]) -> None:
        """Take lines; see `Receiver`."""
        assert lines
        assert self.ended is None
        assert not self._held
        self.batches += 1
        self._lines += lines
        self._news.set()

    def exited(self, ended: Exit) -> None:
        """Hear of the end; see `Receiver`."""
        assert self.ended is None
        assert not self._held
        self.ended = ended
        self._news.set()

    async def until(self, **wanted: Any) -> list[dict[str, Any]]:
        """Return the frames up to one with these members."""
        seen: list[dict[str, Any]] = []
        async with asyncio.timeout(PATIENCE_SECONDS):
            while line := await self._next():
                assert b"\n" not in line
                frame: dict[str, Any] = orjson.loads(line)
                seen.append(frame)
                if wanted.items() <= frame.items():
                    break
        self.hold()
        return seen

    async def rest(self) -> list[dict[str, Any]]:
        """Return the frames up to the end of the process."""
        return await self.until(type="none such")

    def hold(self) -> None:
        """Let it go on no more until somebody reads."""
        self._held = True
        self.channel.hold()

    async def _next(self) -> bytes:
        while not self._lines and self.ended is None:
            self._news.clear()
            self._held = False
            self.channel.release()
            await self._news.wait()
        return self._lines.pop(0) if self._lines else b""
