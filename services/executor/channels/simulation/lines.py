"""Lines a simulated process has printed and nobody has read. Does not know what they say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

LIMIT = 256
"""Lines that wait before the process is held back; as good as a pipe of 64 KiB."""


class Lines:
    """A queue that hands over everything at once, so that a burst costs its reader one wake-up.

    `put` never waits. A writer calls `room` now and then, which gives others a turn and waits
    while the queue is full.
    """

    def __init__(self) -> None:
        self._waiting: list[bytes] = []
        self._ended = False
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None

    @property
    def full(self) -> bool:
        """Whether a writer should wait for room."""
        return len(self._waiting) >= LIMIT

    def put(self, line: bytes) -> None:
        """Add a line."""
        self._waiting.append(line)
        if self._reader is not None:
            self._wake_reader()

    async def room(self) -> None:
        """Let others run, and wait until the queue is not full or is ended."""
        if not self.full or self._ended:
            await asyncio.sleep(0)
        while self.full and not self._ended:
            if self._writer is None:
                self._writer = asyncio.get_running_loop().create_future()
            await self._writer

    def end(self) -> None:
        """Let the reader finish with what is there. A second call changes nothing."""
        self._ended = True
        self._wake_reader()
        self._wake_writer()

    async def batches(self) -> AsyncIterator[Sequence[bytes]]:
        """Yield all waiting lines, again and again, until the end."""
        while True:
            if self._waiting:
                batch, self._waiting = self._waiting, []
                self._wake_writer()
                yield batch
            elif self._ended:
                return
            else:
                self._reader = asyncio.get_running_loop().create_future()
                await self._reader

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
        self._reader = None

    def _wake_writer(self) -> None:
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)
        self._writer = None
