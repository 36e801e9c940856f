"""One client's connection as a state machine: frames in, frames and a close out.

Knows the protocol of `gateway/v1/frames.proto` and nothing of sockets: whatever
carries the frames calls it and is called by it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from moorline.errors.v1 import errors_pb2
from moorline.gateway.v1 import frames_pb2
from services.chassis.failures import Failure, field_invalid
from services.gateway.auth.verifier import Principal
from services.gateway.calls import AUTHENTICATE, CALLS, CANCEL
from services.gateway.closing import CloseCode
from services.gateway.conduct import Conduct
from services.gateway.encoding import JSON, PROTOBUF, BadFrame, BadMessage, Encoding, Frame
from services.gateway.surroundings import Socket, Surroundings
from services.gateway.watches import Watch

REVISION = 1
"""Revision of the protocol, for `Welcome`."""
FIRST_FRAME_SECONDS = 10.0
"""How long a client has for its first frame."""
MAX_BUFFERED = 768 * 1024
"""Bytes that may wait for a client to read; with `delivery.HELD_BYTES` for each of its
watches less than 2 MiB."""
RECHECK_SECONDS = 600.0
"""The API key behind a live connection is checked again after so long at most: who is told of
revocations does not hear of what a database put back from a copy has forgotten."""
DOUBT_SECONDS = 12.0
"""The same when it may have been revoked unheard; half of it is longer than a good answer is
remembered."""
REVOKED = "the proof of who you are was revoked"
"""Why such a connection is closed."""


class Connection:
    """The state of one connection.

    Everything is called from the event loop and returns at once. After a close
    every call is harmless and does nothing.

    Args:
        socket: Carries the frames.
        principal: Who the client is.
        recheck: Verifies that again, for a proof that can be revoked; else None.
        surroundings: What all connections share.
    """

    __slots__ = (
        "_calls", "_conduct", "_encoding", "_opened", "_recheck", "_recheck_at", "_rechecking",
        "_sent", "_silent_since",
        "_socket", "_surroundings", "_watches", "close_code", "close_initiator", "closed",
        "frames", "principal",
    )  # fmt: skip

    def __init__(
        self,
        *,
        socket: Socket,
        principal: Principal,
        recheck: Callable[[], Awaitable[Principal]] | None,
        surroundings: Surroundings,
    ) -> None:
        now = surroundings.clock()
        self.principal = principal
        self.closed = False
        self.close_code = 0
        self.close_initiator = ""
        self.frames = 0
        self._socket = socket
        self._surroundings = surroundings
        self._recheck = recheck
        self._recheck_at = now + _within(RECHECK_SECONDS)
        self._rechecking: asyncio.Task[None] | None = None
        self._encoding: Encoding | None = None
        self._opened = now
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._watches: dict[int, Watch] = {}
        self._conduct = Conduct(limits=surroundings.limits, now=now)
        # Whether anything was sent since the last tick, and since when nothing was.
        self._sent = False
        self._silent_since = now

    @property
    def encoding(self) -> Encoding:
        """The encoding of its frames; known once the client's first frame came."""
        if self._encoding is None:
            raise RuntimeError("no frame has come yet")
        return self._encoding

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The calls in progress."""
        return list(self._calls.values())

    # From the socket.

    def receive(self, payload: bytes, *, binary: bool) -> None:
        """Take a message from the client."""
        if self.closed:
            return
        self.frames += 1
        if len(payload) > self._surroundings.limits.frame_bytes:
            limit = self._surroundings.limits.frame_bytes
            self.close(CloseCode.BAD_FRAME, f"a frame has more than {limit} bytes")
            return
        encoding = self._encoding or (PROTOBUF if binary else JSON)
        if binary != encoding.binary:
            self.close(CloseCode.BAD_FRAME, "the first frame decided between text and binary")
            return
        now = self._surroundings.clock()
        allowed = self._allows(now)
        if self.closed:
            return
        try:
            frame = encoding.parse(payload)
        except BadFrame as bad:
            self.close(CloseCode.BAD_FRAME, str(bad))
            return
        except BadMessage as bad:
            self._welcome(encoding)
            self._refuse_message(bad.id, bad.failure, now)
            return
        self._welcome(encoding)
        if frame.name == CANCEL:
            # Never refused: a client in trouble must be able to stop what it began.
            self._cancel(frame.id)
        elif not allowed:
            self._refuse(frame.id, "frames", self._surroundings.limits.frames_per_second)
        else:
            self._accept(frame, now)

    def pinged(self) -> bool:
        """Count a ping or a pong; False when it is not to be answered."""
        return not self.closed and self._allows(self._surroundings.clock())

    def resumed(self) -> None:
        """Note that the socket is writable again."""
        self._surroundings.stalls.discard(self)
        for watch in self._watches.values():
            self._surroundings.delivery.resume(watch)

    def lost(self, code: int) -> None:
        """Note that the client is gone, with the close code it gave or 1006."""
        if not self.closed:
            self._end(code, "client")

    def violated(self, reason: str) -> None:
        """Note that the client broke the WebSocket protocol or sent too large a message."""
        self.close(CloseCode.BAD_FRAME, reason)

    # From the server.

    def tick(self, now: float) -> None:
        """Do what is due by time; called about once a second."""
        if self.closed:
            return
        if self.principal.expired(self._surroundings.wall_clock()):
            self.close(CloseCode.TOKEN_EXPIRED, "the token has expired; reconnect with a new one")
        elif self._encoding is None:
            if now - self._opened >= FIRST_FRAME_SECONDS:
                self.close(CloseCode.NO_FIRST_FRAME, "no frame came")
        elif self._sent:
            self._sent = False
            self._silent_since = now
        elif now - self._silent_since >= self._surroundings.limits.heartbeat.total_seconds():
            self._send_frame(frames_pb2.ServerFrame(heartbeat=frames_pb2.Heartbeat()))
        if self._recheck is not None and now >= self._recheck_at and not self.closed:
            self._recheck_at = now + _within(RECHECK_SECONDS)
            if self._rechecking is None:
                self._rechecking = self._surroundings.tasks.spawn(
                    self._check_again(self._recheck), name="recheck"
                )

    def doubt(self, now: float) -> None:
        """Check soon whether what the client proved who it is with is still good."""
        self._recheck_at = min(self._recheck_at, now + _within(DOUBT_SECONDS))

    def go_away(self, reconnect_delay: timedelta) -> None:
        """Tell the client that the server is about to close the connection."""
        if self._encoding is not None:
            message = frames_pb2.GoAway()
            message.reconnect_delay.FromTimedelta(reconnect_delay)
            self._send_frame(frames_pb2.ServerFrame(go_away=message))

    def close(self, code: int, reason: str) -> None:
        """Close the connection; only the first close counts.

        Args:
            code: One of `CloseCode`.
            reason: For people; at most 123 bytes of it arrive.
        """
        if not self.closed:
            self._end(code, "server")
            self._socket.shut(code, reason)

    # From delivery and the stalls.

    def writable(self) -> bool:
        """See `Outlet`."""
        return self._socket.writable()

    def buffered(self) -> int:
        """See `Outlet`."""
        return self._socket.buffered()

    def too_slow(self) -> None:
        """See `Outlet`."""
        self.close(CloseCode.SLOW_CONSUMER, "the client does not read")

    def send(self, payload: bytes) -> None:
        """Send a frame, or give the client up when too much waits for it already."""
        if self.closed:
            return
        buffered = self._socket.buffered()
        if buffered and buffered + len(payload) > MAX_BUFFERED:
            self.too_slow()
            return
        self._socket.send(payload, binary=self.encoding.binary)
        self._sent = True
        if not self._socket.writable():
            self._surroundings.stalls.add(self)

    def watch_ended(self, id: int, failure: Failure) -> None:  # noqa: A002
        """See `delivery.Client`."""
        self._watches.pop(id, None)
        self._fail(id, failure)

    # The machine.

    def _allows(self, now: float) -> bool:
        allowed = self._conduct.allows(now)
        if not allowed and self._conduct.abusive:
            self._surroundings.limited("frames")
            self.close(CloseCode.RATE_LIMITED, "too many frames for too long")
        return allowed

    def _welcome(self, encoding: Encoding) -> None:
        if self._encoding is not None:
            return
        self._encoding = encoding
        limits = self._surroundings.limits
        welcome = frames_pb2.Welcome(
            user=self.principal.user,
            limits=limits.to_message(),
            revision=REVISION,
            version=self._surroundings.version,
        )
        if self.principal.expire_time is not None:
            welcome.expire_time.FromDatetime(self.principal.expire_time)
        welcome.heartbeat_interval.FromTimedelta(limits.heartbeat)
        self._send_frame(frames_pb2.ServerFrame(welcome=welcome))

    def _accept(self, frame: Frame, now: float) -> None:
        limits = self._surroundings.limits
        if frame.id in self._calls or frame.id in self._watches:
            # Under id 0: an error under its own would end the call that has it.
            rule = f"not be the number of a call in flight, as {frame.id} is"
            self._refuse_message(0, field_invalid("id", rule), now)
        elif frame.name != AUTHENTICATE and CALLS[frame.name].streams:
            if len(self._watches) >= limits.watches:
                self._surroundings.limited("watches")
                self._fail(frame.id, _quota("watches", limits.watches))
                return
            self._watches[frame.id] = self._surroundings.delivery.watch(
                self, frame.id, frame.request, user=self.principal.user
            )
        elif len(self._calls) >= limits.calls_in_flight:
            self._refuse(frame.id, "callsInFlight", limits.calls_in_flight)
        else:
            self._calls[frame.id] = self._surroundings.tasks.spawn(self._answer(frame), name="call")

    def _cancel(self, id: int) -> None:  # noqa: A002
        call = self._calls.pop(id, None)
        if call is not None:
            call.cancel()
            self._fail(id, _cancelled())
        watch = self._watches.pop(id, None)
        if watch is not None:
            self._surroundings.delivery.leave(watch)
            self._send_frame(frames_pb2.ServerFrame(id=id, end=frames_pb2.End()))
        # Else it is over already: its last frame and this one crossed.

    async def _answer(self, frame: Frame) -> None:
        # What the client is told if a bug passes through here on its way to the log.
        reply: dict[str, Any] = {"error": _internal().to_error()}
        try:
            if frame.name == AUTHENTICATE:
                reply = await self._authenticate(frame.request)
            else:
                call = CALLS[frame.name]
                response = await self._surroundings.peers.call(
                    call, frame.request, identity=self.principal.identity
                )
                reply = {call.reply: response}
        except Failure as failure:
            reply = {"error": failure.to_error()}
        finally:
            if self._calls.pop(frame.id, None) is not None:
                self._send_frame(frames_pb2.ServerFrame(id=frame.id, **reply))

    async def _authenticate(self, request: Any) -> dict[str, Any]:
        token = request.token
        verifier = self._surroundings.verifier
        principal = await verifier.verify(token)
        if principal.user != self.principal.user:
            raise Failure(
                errors_pb2.ERROR_REASON_FORBIDDEN,
                "The token is another user's. Open another connection for that user.",
                rule="the user must stay the same",
            )
        self.principal = principal
        self._recheck = (lambda: verifier.verify(token)) if principal.key else None
        message = frames_pb2.Authenticated(user=principal.user)
        if principal.expire_time is not None:
            message.expire_time.FromDatetime(principal.expire_time)
        return {"authenticated": message}

    async def _check_again(self, recheck: Callable[[], Awaitable[Principal]]) -> None:
        try:
            await recheck()
        except Failure as failure:
            if failure.reason != errors_pb2.ERROR_REASON_TOKEN_INVALID:
                # It says nothing about the proof.
                self.doubt(self._surroundings.clock())
            elif recheck is self._recheck:
                self.close(CloseCode.UNAUTHENTICATED, REVOKED)
        finally:
            self._rechecking = None

    def _refuse_message(self, id: int, failure: Failure, now: float) -> None:  # noqa: A002
        if self._conduct.forgives(now):
            self._fail(id, failure)
        else:
            self.close(CloseCode.BAD_FRAME, "too many messages that are no calls")

    def _refuse(self, id: int, limit: str, value: int) -> None:  # noqa: A002
        self._surroundings.limited(limit)
        delay = self._conduct.wait if limit == "frames" else timedelta(seconds=1)
        failure = Failure(
            errors_pb2.ERROR_REASON_RATE_LIMITED,
            "Too much at once on this connection. Wait, then send it again.",
            retry_delay=delay,
            limit=str(value),
            limitName=limit,
        )
        self._fail(id, failure)

    def _fail(self, id: int, failure: Failure) -> None:  # noqa: A002
        self._send_frame(frames_pb2.ServerFrame(id=id, error=failure.to_error()))

    def _send_frame(self, frame: frames_pb2.ServerFrame) -> None:
        if not self.closed:
            self.send(self.encoding.encode(frame))

    def _end(self, code: int, initiator: str) -> None:
        self.closed = True
        self.close_code = code
        self.close_initiator = initiator
        self._surroundings.closed(code, initiator)
        self._surroundings.stalls.discard(self)
        for call in self._calls.values():
            call.cancel()
        self._calls.clear()
        for watch in self._watches.values():
            self._surroundings.delivery.leave(watch)
        self._watches.clear()
        if self._rechecking is not None:
            self._rechecking.cancel()


def _quota(name: str, value: int) -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_QUOTA_EXCEEDED,
        "This connection follows as much as it may. Cancel a stream first.",
        limit=str(value),
        limitName=name,
    )


def _cancelled() -> Failure:
    return Failure(errors_pb2.ERROR_REASON_CALL_CANCELLED, "The call was cancelled.")


def _internal() -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_INTERNAL, "The call failed because of a bug. Please report it."
    )


def _within(seconds: float) -> float:
    # Those who came back together, after a restart, are not all checked together.
    return seconds * random.uniform(0.5, 1)  # noqa: S311 - guards nothing
