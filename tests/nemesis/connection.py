"""One WebSocket connection as the history needs it: every frame both ways is recorded.

Speaks the product's protocol. Does not know turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.nemesis.history import CLOSED, GIVEN_UP, SILENCE, History, Kind

Frame = dict[str, Any]

CALL_SECONDS = 10.0
"""What the gateways allow for a call."""
_PATIENCE = CALL_SECONDS + 3.0
_DEAD_SECONDS = 6.0
"""Without a frame for so long, a few heartbeats, the connection is given up."""
_OPEN_SECONDS = 5.0
_CALLS = itertools.count(1)
_WATCHES = itertools.count(1)


class AnswerError(Exception):
    """Raised when a call did not succeed.

    Attributes:
        reason: Of the error frame, without its prefix; CLOSED or SILENCE without one.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(slots=True)
class _Waiting:
    frames: asyncio.Queue[Frame | None]
    agent: str = ""
    watch: int = 0


class Connection:
    """A connection whose welcome has arrived; see `open_connection`."""

    def __init__(
        self, socket: ClientConnection, *, history: History, client: str, gateway: str
    ) -> None:
        self.gateway = gateway
        self.user = ""
        self.closed = asyncio.Event()
        self._socket = socket
        self._history = history
        self._client = client
        self._ids = itertools.count(1)
        self._waiting: dict[int, _Waiting] = {}
        self._welcome = asyncio.Event()

    async def ready(self) -> None:
        """Wait for the welcome.

        Raises:
            AnswerError: It did not come.
        """
        await self.call("listBackends", {})
        if not self._welcome.is_set():
            raise AnswerError(CLOSED)

    async def read(self) -> None:
        """Hand frames to whom they belong, until the connection ends or is silent."""
        try:
            while True:
                async with asyncio.timeout(_DEAD_SECONDS):
                    text = await self._socket.recv()
                self._take(str(text))
        except (ConnectionClosed, TimeoutError):
            pass
        finally:
            self.closed.set()
            for waiting in self._waiting.values():
                waiting.frames.put_nowait(None)

    def _take(self, text: str) -> None:
        frame: Frame = json.loads(text)
        waiting = self._waiting.get(frame.get("id", 0))
        about = {"watch": waiting.watch} if waiting and waiting.watch else {}
        agent = waiting.agent if waiting else ""
        if "heartbeat" not in frame:
            self._history.add(Kind.FRAME, self._client, agent, text=text, **about)
        if "welcome" in frame:
            self.user = frame["welcome"]["user"]
            self._welcome.set()
        if waiting is not None:
            waiting.frames.put_nowait(frame)

    async def call(self, method: str, request: Frame) -> Frame:
        """Make a unary call.

        Raises:
            AnswerError: It did not succeed.
        """
        number, began = next(_CALLS), self._history.seconds
        self._history.add(Kind.CALL, self._client, number=number, method=method, request=request)
        reason = GIVEN_UP
        try:
            async with asyncio.timeout(_PATIENCE):
                reply = await self._ask(method, request)
        except TimeoutError:
            reason = SILENCE
        except AnswerError as error:
            reason = error.reason
        else:
            reason = ""
            return reply
        finally:
            self._history.add(
                Kind.ANSWER,
                self._client,
                number=number,
                method=method,
                seconds=self._history.seconds - began,
                deadline=CALL_SECONDS,
                reason=reason,
                gateway=self.gateway,
            )
        raise AnswerError(reason)

    async def _ask(self, method: str, request: Frame) -> Frame:
        call_id, frames = await self._send(method, request)
        try:
            frame = await frames.get()
        finally:
            del self._waiting[call_id]
        if frame is None:
            raise AnswerError(CLOSED)
        if "error" in frame:
            raise AnswerError(_reason(frame))
        reply: Frame = frame[f"{method}Response"]
        return reply

    async def watch(self, agent: str, *, after: int, log_id: str) -> AsyncIterator[Frame]:
        """Follow an agent: each update, until the watch or the connection ends.

        Raises:
            AnswerError: The watch ended with an error.
        """
        watch = next(_WATCHES)
        self._history.add(Kind.WATCH, self._client, agent, watch=watch, after=after, log=log_id)
        request: Frame = {"parent": agent, "afterSequence": after, "includeDeltas": True}
        if log_id:
            request["logId"] = log_id
        reason = ""
        try:
            call_id, frames = await self._send("watchEvents", request, agent, watch)
            try:
                while (frame := await frames.get()) is not None:
                    if "error" in frame:
                        raise AnswerError(_reason(frame))
                    for update in frame.get("watchEventsResponse", {}).get("updates", []):
                        yield update
                raise AnswerError(CLOSED)
            finally:
                del self._waiting[call_id]
                with contextlib.suppress(ConnectionClosed):
                    await self._socket.send(json.dumps({"id": call_id, "cancel": {}}))
        except AnswerError as error:
            reason = error.reason
            raise
        finally:
            self._history.add(Kind.WATCH_END, self._client, agent, watch=watch, reason=reason)

    async def _send(
        self, method: str, request: Frame, agent: str = "", watch: int = 0
    ) -> tuple[int, asyncio.Queue[Frame | None]]:
        if self.closed.is_set():
            raise AnswerError(CLOSED)
        call_id = next(self._ids)
        # Unbounded: this client takes whatever comes, and the run is short.
        waiting = self._waiting[call_id] = _Waiting(asyncio.Queue(), agent, watch)
        try:
            await self._socket.send(json.dumps({"id": call_id, method: request}))
        except ConnectionClosed:
            del self._waiting[call_id]
            raise AnswerError(CLOSED) from None
        return call_id, waiting.frames


@contextlib.asynccontextmanager
async def open_connection(
    url: str, token: str, *, history: History, client: str, gateway: str
) -> AsyncIterator[Connection]:
    """A connection whose welcome has arrived, closed with the block.

    Raises:
        AnswerError: There is no connection to be had.
    """
    try:
        socket = await connect(
            f"{url.replace('http', 'ws', 1)}/v1/ws",
            additional_headers={"Authorization": f"Bearer {token}"},
            subprotocols=["moorline.v1"],  # type: ignore[list-item]
            compression=None,
            max_size=None,
            ping_interval=None,
            open_timeout=_OPEN_SECONDS,
            close_timeout=1,
            proxy=None,
        )
    except (OSError, TimeoutError, InvalidHandshake, ConnectionClosed) as error:
        raise AnswerError(f"{CLOSED} {error}") from None
    connection = Connection(socket, history=history, client=client, gateway=gateway)
    reader = asyncio.create_task(connection.read(), name=f"{client} reads")
    try:
        await connection.ready()
        yield connection
    finally:
        await socket.close()
        await reader


def _reason(frame: Frame) -> str:
    return str(frame["error"].get("reason", "")).removeprefix("ERROR_REASON_")
