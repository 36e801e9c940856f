"""One WebSocket to the gateway that comes back by itself.

Numbers calls, sends again what is safe to send again after a reconnect, and
ends what is not with an error. Does not know what a call means.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from moorline import exceptions
from moorline.address import socket_url
from moorline.calls import Json, StreamCall, UnaryCall
from moorline.closing import Ending, HungUp, backoff, lost
from moorline.decoding import parse_duration, parse_time

if TYPE_CHECKING:
    from moorline.dialling import Line

log = logging.getLogger(__name__)


# Until the server's welcome says otherwise.
CALLS_IN_FLIGHT = 32


class ConnectionState(StrEnum):
    """What the connection is doing."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait for what.

    Attributes:
        connect: For the first connection, attempts included.
        handshake: For one attempt. Others were seen waiting minutes for an
            answer that never came.
        reconnect: For a lost connection to come back; None for ever.
        call: For the reply of a call, reconnects included.
    """

    connect: timedelta = timedelta(seconds=5)
    handshake: timedelta = timedelta(seconds=10)
    reconnect: timedelta | None = timedelta(minutes=5)
    call: timedelta = timedelta(seconds=30)


class Connection:
    """Keeps one socket open and carries calls over it.

    After an ending that cannot be mended (`failure` tells which) every call
    raises that error; make another connection then.
    """

    def __init__(
        self,
        *,
        url: str,
        token: Callable[[], str],
        patience: Patience,
        on_state: Callable[[ConnectionState], None],
    ) -> None:
        self.url = socket_url(url)
        self.welcome: Json = {}
        self.failure: exceptions.MoorlineError | None = None
        self.stall_limit = patience.reconnect
        self._token = token
        self._patience = patience
        self._on_state = on_state
        self._numbers = itertools.count(1)
        self._calls: dict[int, UnaryCall | StreamCall] = {}
        self._line: Line | None = None
        self._opened: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._progressed = False
        self._delay = timedelta(0)
        self._shown = ""
        self._slots = asyncio.Semaphore(CALLS_IN_FLIGHT)

    def token(self) -> str:
        """Return the proof of who the client is, as it is now."""
        return self._token()

    async def open(self) -> None:
        """Connect.

        Raises:
            MoorlineError: The server cannot be reached within the patience for
                it, or refuses.
        """
        self._opened = asyncio.get_running_loop().create_future()
        self._on_state(ConnectionState.CONNECTING)
        self._task = asyncio.create_task(self._run(), name="moorline connection")
        try:
            await self._opened
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Leave the server; what runs there goes on. Calls in flight are ended."""
        self._finish(lost("The client is closed."))
        if self._line is not None:
            await self._line.hang_up()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def call(
        self,
        name: str,
        request: Json,
        *,
        repeatable: bool = True,
        limit: timedelta | None = None,
    ) -> Json:
        """Make a call and wait for its reply.

        Args:
            name: Member of `gateway.v1.ClientFrame`.
            request: Its JSON.
            repeatable: True to send it again after a reconnect and after an
                answer that says it may succeed later.
            limit: For all of it; None for the patience of the connection.

        Raises:
            MoorlineError: As the server says; `InvalidRequestError` when the
                request is larger than it takes; `CallTimeoutError` after
                `limit`; `ConnectionLostError` when it is not known whether a
                call that is not repeatable was done.
        """
        limit = limit or self._patience.call
        failures = 0
        refusal: exceptions.MoorlineError | None = None
        try:
            async with asyncio.timeout(limit.total_seconds()):
                while True:
                    try:
                        return await self._ask(name, request, repeatable, before=failures)
                    except (exceptions.UnavailableError, exceptions.ConflictError) as error:
                        if not (repeatable and error.retryable):
                            raise
                        refusal = error
                    wait = max(backoff(failures), refusal.retry_after or timedelta(0))
                    failures += 1
                    await asyncio.sleep(wait.total_seconds())
        except TimeoutError:
            if refusal is not None:
                raise refusal from None
            message = f"No answer to {name} within {limit.total_seconds():g} s."
            raise exceptions.CallTimeoutError(message, reason="CALL_TIMEOUT", code=4) from None

    def stream(self, name: str, request: Callable[[], Json]) -> StreamCall:
        """Make a call with many replies, not yet begun; reading it begins it.

        Args:
            name: Member of `gateway.v1.ClientFrame`.
            request: Makes its JSON anew for each subscription.
        """
        return StreamCall(name=name, request=request, streams=self)

    def begin(self, call: StreamCall) -> None:
        """Send a streaming call under a new number."""
        if self.failure is not None:
            raise self.failure
        self._register(call)

    def abandon(self, call: StreamCall) -> None:
        """Tell the server to stop a streaming call and forget it."""
        for number, other in list(self._calls.items()):
            if other is call:
                self._cancel(number)

    def drop(self) -> None:
        """Cut the socket, as a broken network would; the connection comes back."""
        if self._line is not None:
            self._line.abort()

    async def _ask(self, name: str, request: Json, repeatable: bool, *, before: int) -> Json:
        if self.failure is not None:
            raise self.failure
        reply: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        call = UnaryCall(
            name=name, request=request, repeatable=repeatable, reply=reply, sends=before
        )
        # The server refuses more at a time than it announced.
        async with self._slots:
            return await self._await_reply(call)

    async def _await_reply(self, call: UnaryCall) -> Json:
        if self.failure is not None:
            raise self.failure
        reply = call.reply
        self._register(call)
        try:
            return await reply
        finally:
            if not reply.done() or reply.cancelled():
                for number, other in list(self._calls.items()):
                    if other is call:
                        self._cancel(number)

    def _register(self, call: UnaryCall | StreamCall) -> None:
        number = next(self._numbers)
        self._calls[number] = call
        if self._line is not None:
            self._send(self._line, number, call)

    def _cancel(self, number: int) -> None:
        del self._calls[number]
        if self._line is not None:
            self._line.put({"id": number, "cancel": {}})

    def _send(self, line: Line, number: int, call: UnaryCall | StreamCall) -> None:
        if isinstance(call, StreamCall):
            request = call.request()
            call.restart()
        else:
            request = call.request
            call.sends += 1
        try:
            line.put({"id": number, call.name: request})
        except exceptions.InvalidRequestError as error:
            del self._calls[number]
            call.fail(error)

    async def _run(self) -> None:
        try:
            await self._keep_alive()
        finally:
            # Whatever ended it, a bug included, nobody waits for it for ever.
            self._finish(lost("The client stopped."))

    async def _keep_alive(self) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        give_up: float | None = loop.time() + self._patience.connect.total_seconds()
        while True:
            self._progressed = False
            ending = await self._live()
            if self.failure is not None:
                return
            if self._progressed:
                failures = 0
                limit = self._patience.reconnect
                give_up = None if limit is None else loop.time() + limit.total_seconds()
            wait = max(backoff(failures), ending.delay, self._delay)
            self._delay = timedelta(0)
            failures += 1
            late = give_up is not None and loop.time() + wait.total_seconds() > give_up
            if late or not ending.again:
                self._finish(ending.error)
                return
            if self.welcome:
                self._on_state(ConnectionState.RECONNECTING)
            log.info("reconnecting", extra={"why": ending.error.message, "failures": failures})
            await asyncio.sleep(wait.total_seconds())

    async def _live(self) -> Ending:
        """Connect, carry calls until the socket ends, and tell how it ended."""
        # Here and not at the top: a program that only imports moorline, as the
        # command line does for `--help`, need not pay for the WebSocket library.
        from moorline.dialling import dial  # noqa: PLC0415

        try:
            self._shown = self._token()
            line = await dial(
                url=self.url,
                token=self._shown,
                number=next(self._numbers),
                limit=self._patience.handshake,
            )
        except exceptions.MoorlineError as error:
            return Ending(error=error, again=False)
        except HungUp as hung_up:
            return hung_up.ending
        try:
            return await self._serve(line)
        finally:
            self._line = None
            self._end_unsafe()
            line.abort()

    async def _serve(self, line: Line) -> Ending:
        self._line = line
        self.welcome = line.welcome
        for number, call in list(self._calls.items()):
            self._send(line, number, call)
        if self._opened is not None and not self._opened.done():
            self._progressed = True
            limits = self.welcome.get("limits", {})
            self._slots = asyncio.Semaphore(limits.get("callsInFlight", CALLS_IN_FLIGHT))
            self._opened.set_result(None)
        self._on_state(ConnectionState.CONNECTED)
        writer = asyncio.create_task(line.write(), name="moorline writer")
        renewer = asyncio.create_task(self._renew(), name="moorline token renewer")
        try:
            while True:
                frame, size = await line.receive()
                self._receive(frame, size)
        except HungUp as hung_up:
            return hung_up.ending
        finally:
            writer.cancel()
            renewer.cancel()
            await asyncio.gather(writer, renewer, return_exceptions=True)

    async def _renew(self) -> None:
        """Prove who we are again when four fifths of the present proof's life are over."""
        expire_time = parse_time(self.welcome.get("expireTime"))
        while expire_time is not None:
            left = expire_time.timestamp() - time.time()
            await asyncio.sleep(max(left * 0.8, 1.0))
            # Without anything better to show the server ends the socket at expiry.
            with suppress(exceptions.MoorlineError):
                token = self._token()
                if token == self._shown:
                    continue
                reply = await self.call("authenticate", {"token": token}, repeatable=False)
                self._shown = token
                expire_time = parse_time(reply.get("expireTime"))

    def _receive(self, frame: Json, size: int) -> None:
        number = frame.get("id", 0)
        if number == 0:
            if "goAway" in frame:
                self._delay = parse_duration(frame["goAway"].get("reconnectDelay")) or timedelta(0)
            elif "error" in frame:
                log.warning("frame refused", extra={"reason": frame["error"].get("reason")})
            return
        call = self._calls.get(number)
        if call is None:
            # The reply to a call given up in the meantime.
            return
        self._progressed = True
        if isinstance(call, UnaryCall):
            del self._calls[number]
            if "error" in frame:
                error = exceptions.from_error(frame["error"])
                error.repeated = call.sends > 1
                call.fail(error)
            elif not call.reply.done():
                call.reply.set_result(_payload(frame))
        elif "error" in frame:
            del self._calls[number]
            call.fail(exceptions.from_error(frame["error"]))
        elif "end" in frame:
            del self._calls[number]
            call.fail(lost("The server ended the stream."))
        else:
            call.push(_payload(frame), size)

    def _end_unsafe(self) -> None:
        """End each call of which it is not known whether it was done."""
        for number, call in list(self._calls.items()):
            if isinstance(call, UnaryCall) and call.sends and not call.repeatable:
                del self._calls[number]
                message = f"The connection broke; it is not known whether {call.name} was done."
                call.fail(lost(message))

    def _finish(self, error: exceptions.MoorlineError) -> None:
        if self.failure is not None:
            return
        self.failure = error
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.fail(error)
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(error)
        self._on_state(ConnectionState.CLOSED)


def _payload(frame: Json) -> Json:
    payload: Json = next(value for key, value in frame.items() if key != "id")
    return payload
