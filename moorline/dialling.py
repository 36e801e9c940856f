"""The socket itself: connects, sends and receives frames, and says how it ended.

The only module that knows the WebSocket library; it is imported when a client
connects and not before, because the library takes half of an import's time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from moorline.calls import Json
from moorline.closing import Ending, HungUp, ended_by_close, ended_by_status, lost
from moorline.decoding import parse_duration
from moorline.exceptions import InvalidRequestError, ProtocolError
from moorline.pacing import Pace

SUBPROTOCOL = Subprotocol("moorline.v1")

HEARTBEAT = timedelta(seconds=20)
GOODBYE_LIMIT = timedelta(seconds=1)

# Part of two heartbeats for which a silent socket is listened to once more.
LAST_LOOK = 0.25

# Largest frame taken: a batch of events, each at most 64 KiB of text.
FRAME_BYTES = 32 * 1024 * 1024


class Line:
    """One open socket whose server has said welcome."""

    def __init__(self, *, socket: ClientConnection, welcome: Json) -> None:
        limits: Mapping[str, Any] = welcome.get("limits", {})
        heartbeat = parse_duration(welcome.get("heartbeatInterval")) or HEARTBEAT
        self.welcome = welcome
        self._socket = socket
        self._silence_limit = 2 * heartbeat.total_seconds()
        self._pace = Pace(
            per_second=limits.get("framesPerSecond", 0),
            # The frame that asked for the welcome was the first.
            burst=limits.get("framesBurst", 0) - 1,
        )
        self._frame_bytes: int = limits.get("frameBytes", 0)
        # Unbounded: holds at most one frame and one cancel of each call there is.
        self._outgoing: asyncio.Queue[bytes] = asyncio.Queue()

    def put(self, frame: Json) -> None:
        """Queue a frame to be sent.

        Raises:
            InvalidRequestError: It is larger than the server takes; sending it
                would end the connection for every call.
        """
        payload = orjson.dumps(frame)
        if 0 < self._frame_bytes < len(payload):
            raise _too_large(frame, len(payload), self._frame_bytes)
        self._outgoing.put_nowait(payload)

    async def write(self) -> None:
        """Send what is queued, within the server's rate, until the socket ends."""
        # Whoever reads sees the end of the socket too, and judges it.
        with suppress(ConnectionClosed):
            while True:
                frame = await self._outgoing.get()
                await self._pace.wait()
                await self._socket.send(frame, text=True)

    async def receive(self) -> tuple[Json, int]:
        """The next frame and its size in bytes.

        Raises:
            HungUp: The socket ended, or was silent for two heartbeats.
        """
        try:
            message = await self._hear()
        except ConnectionClosed as closed:
            raise HungUp(_closed(closed)) from closed
        except TimeoutError:
            raise HungUp(Ending(error=lost("The server went silent."), again=True)) from None
        try:
            return orjson.loads(message), len(message)
        except orjson.JSONDecodeError as error:
            raise HungUp(_nonsense()) from error

    async def _hear(self) -> bytes:
        """The next message.

        Raises:
            TimeoutError: None came.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(self._silence_limit):
                return await self._socket.recv(decode=False)
        # Whoever stood still that long is told so before it could read what came meanwhile.
        async with asyncio.timeout(self._silence_limit * LAST_LOOK):
            return await self._socket.recv(decode=False)

    async def hang_up(self) -> None:
        """Say goodbye, and leave even when nobody answers it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_LIMIT.total_seconds()):
                await self._socket.close()

    def abort(self) -> None:
        """Cut the socket without a word."""
        self._socket.transport.abort()


async def dial(*, url: str, token: str, number: int, limit: timedelta) -> Line:
    """Connect and wait for the server's welcome.

    Args:
        url: `ws(s)://…/v1/ws`.
        token: Proof of who the client is; empty to send none.
        number: A call number nobody uses.
        limit: Longest it may take.

    Raises:
        HungUp: It did not work.
    """
    try:
        async with asyncio.timeout(limit.total_seconds()):
            return await _dial(url, token, number)
    except InvalidStatus as refusal:
        answer = refusal.response
        ending = ended_by_status(answer.status_code, answer.headers, bytes(answer.body or b""))
    except ConnectionClosed as closed:
        ending = _closed(closed)
    except TimeoutError:
        ending = Ending(
            error=lost(f"No answer from {url} within {limit.total_seconds():g} s."), again=True
        )
    except ConnectionRefusedError:
        ending = Ending(error=lost(f"Cannot reach {url}: nobody listens there."), again=True)
    except (OSError, InvalidHandshake) as broken:
        ending = Ending(error=lost(f"Cannot reach {url}: {broken}"), again=True)
    raise HungUp(ending)


async def _dial(url: str, token: str, number: int) -> Line:
    loopback = urlsplit(url).hostname in {"127.0.0.1", "::1", "localhost"}
    socket = await connect(
        url,
        additional_headers={"Authorization": f"Bearer {token}"} if token else None,
        subprotocols=[SUBPROTOCOL],
        compression=None,
        # Both are limited here: the handshake by `dial`, welcome included, and
        # silence by the server's heartbeats.
        open_timeout=None,
        ping_interval=None,
        max_size=FRAME_BYTES,
        proxy=None if loopback else True,
    )
    try:
        # The welcome answers the first frame, whatever it is: the server
        # learns from it which encoding to speak.
        await socket.send(orjson.dumps({"id": number, "cancel": {}}), text=True)
        while True:
            frame = orjson.loads(await socket.recv())
            if "welcome" in frame:
                return Line(socket=socket, welcome=frame["welcome"])
    except orjson.JSONDecodeError as error:
        socket.transport.abort()
        raise HungUp(_nonsense()) from error
    except BaseException:
        socket.transport.abort()
        raise


def _too_large(frame: Json, size: int, limit: int) -> InvalidRequestError:
    name = next(key for key in frame if key != "id")
    return InvalidRequestError(
        f"The request has {size} bytes, and {limit} bytes are allowed: send less at a time.",
        reason="FIELD_INVALID",
        code=3,
        metadata={"field": name, "limit": str(limit)},
    )


def _closed(closed: ConnectionClosed) -> Ending:
    received = closed.rcvd
    return ended_by_close(received.code if received else 1006, received.reason if received else "")


def _nonsense() -> Ending:
    error = ProtocolError("The server sent what is no JSON.", reason="METHOD_UNKNOWN", code=12)
    return Ending(error=error, again=False)
