"""A TCP proxy that misbehaves on request: what a network does to a connection."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

_CHUNK = 65536
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: closing sends RST.


@dataclass(slots=True, eq=False)
class _Pair:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    lost: bool = False  # Bytes of it were thrown away, so it is of no use any more.


class FaultProxy:
    """Passes bytes between clients and one server; an async context manager.

    Every fault holds until `heal`, also for connections made meanwhile. All
    methods may be called from the loop's thread only, and none waits.

    Args:
        target: The server, `host:port`.
        port: Where to listen, on the loopback address; 0 takes a free one.

    Attributes:
        latency: Seconds that every answer is held back.
        accepted: Connections so far.
        dropped: Bytes of answers thrown away so far.
    """

    def __init__(self, *, target: str, port: int = 0) -> None:
        host, _, target_port = target.rpartition(":")
        self._target = (host, int(target_port))
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._dropping = False
        self._pairs: set[_Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()
        self.port = port
        self.latency = 0.0
        self.accepted = 0
        self.dropped = 0

    @property
    def host(self) -> str:
        """Where clients connect, `host:port`."""
        return f"127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        """Listen."""
        self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Break every connection and stop listening."""
        self.refuse()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def refuse(self) -> None:
        """Nothing listens any more, and every connection is reset: the server is down."""
        if self._accepting is not None:
            self._accepting.cancel()
            self._accepting = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self.reset()

    def hang(self) -> None:
        """Connections are accepted and stay, and no byte passes either way: a black hole."""
        self._flowing.clear()

    def drop_answers(self) -> None:
        """Requests arrive, answers are thrown away: what was asked for happens unheard."""
        self._dropping = True
        self._lost.clear()

    async def answer_lost(self) -> None:
        """Wait until bytes of an answer were thrown away since `drop_answers`."""
        await self._lost.wait()

    def reset(self) -> None:
        """Reset every connection, once; new ones are accepted."""
        for pair in list(self._pairs):
            _abort(pair)

    def heal(self) -> None:
        """End every fault; connections that lost bytes are reset, the others go on."""
        self._dropping = False
        self._flowing.set()
        self.latency = 0.0
        for pair in list(self._pairs):
            if pair.lost:
                _abort(pair)
        self._listen()

    def _listen(self) -> None:
        if self._listener is not None:
            return
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(128)
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._accepting = self._spawn(self._accept(listener))

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(listener)
            self.accepted += 1
            self._spawn(self._serve(client))

    async def _serve(self, client: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=client)
        try:
            upstream_reader, upstream = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        pair = _Pair(writer, upstream)
        self._pairs.add(pair)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(pair, reader, upstream, answers=False))
                group.create_task(self._pump(pair, upstream_reader, writer, answers=True))
        except* OSError:
            pass
        finally:
            self._pairs.discard(pair)
            _abort(pair)

    async def _pump(
        self,
        pair: _Pair,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        answers: bool,
    ) -> None:
        while chunk := await reader.read(_CHUNK):
            if answers and self.latency:
                await asyncio.sleep(self.latency)
            await self._flowing.wait()
            if answers and self._dropping:
                pair.lost = True
                self.dropped += len(chunk)
                self._lost.set()
                continue
            writer.write(chunk)
            await writer.drain()
        with suppress(OSError, RuntimeError):
            writer.write_eof()


def _abort(pair: _Pair) -> None:
    for writer in (pair.client, pair.server):
        connected = writer.get_extra_info("socket")
        if connected is not None and not writer.is_closing():
            with suppress(OSError):
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        writer.transport.abort()
