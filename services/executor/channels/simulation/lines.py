"""Lines a simulated process has printed, on their way. Does not know what they say."""

from __future__ import annotations

import asyncio

from services.executor.channel import Exit, Receiver

LIMIT = 256
"""Lines that wait before the process is held back; as good as a pipe of 64 KiB."""


class Lines:
    """Hands printed lines over, several at a time, unless they are held.

    Printing never waits. A writer calls `room` now and then, which gives others a turn and waits
    while too many lines are held.
    """

    __slots__ = ("_ended", "_flush_due", "_held", "_loop", "_receiver", "_waiting", "_writer")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._receiver: Receiver | None = None
        self._waiting: list[bytes] = []
        self._held = False
        self._flush_due = False
        self._ended: Exit | None = None
        self._writer: asyncio.Future[None] | None = None

    @property
    def full(self) -> bool:
        """Whether a writer should wait for room."""
        return len(self._waiting) >= LIMIT

    def connect(self, receiver: Receiver) -> None:
        """Hand over to `receiver` from now on. Called once; lines wait until then."""
        self._receiver = receiver
        self._flush_soon()

    def put(self, line: bytes) -> None:
        """Add a line, which goes out soon with those that follow at once."""
        self._waiting.append(line)
        self._flush_soon()

    def add(self, line: bytes) -> None:
        """Add a line of many; whoever writes them calls `flush` or `room` after the last one."""
        self._waiting.append(line)

    def flush(self) -> None:
        """Hand over what waits, unless it is held."""
        receiver = self._receiver
        if self._held or receiver is None:
            return
        if self._waiting:
            batch, self._waiting = self._waiting, []
            receiver.receive(batch)
            if self._writer is not None:
                self._wake_writer()
        if self._ended is not None and not self._held:
            self._receiver = None
            receiver.exited(self._ended)

    def hold(self) -> None:
        """Hand over nothing until `release`."""
        self._held = True

    def release(self) -> None:
        """Hand over what waits, and go on."""
        self._held = False
        self.flush()

    async def room(self) -> None:
        """Hand over what waits, let others run, and wait while too much is held."""
        self.flush()
        if not self.full or self._ended is not None:
            await asyncio.sleep(0)
        while self.full and self._ended is None:
            if self._writer is None:
                self._writer = self._loop.create_future()
            await self._writer

    def end(self, ended: Exit) -> None:
        """Tell the receiver, after what waits, that nothing follows."""
        self._ended = ended
        self._wake_writer()
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self._flush_due = False
        self.flush()

    def _wake_writer(self) -> None:
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)
        self._writer = None
