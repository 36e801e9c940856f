"""Calls to one other service.

Does not know the methods; the caller names them with their messages.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.chassis.identity import METADATA_KEY, TIME_KEY, Identity, Signer
from services.chassis.metrics import Metrics

R = TypeVar("R", bound=Message)

log = logging.getLogger(__name__)

# Clocks are compared by the second, with a call in between.
_SAME_SECONDS = 2

_MAX_MESSAGE_BYTES = 16 * 1024 * 1024
_OPTIONS = (
    # Windows stay at 64 KiB: what a slow reader has not taken waits where updates
    # still combine, and the pings that would measure the line cost 4 % of the CPU.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    # A peer that vanished without a word is noticed after 20 s; after 10 s when something
    # was sent to it, because the kernel gets the same timeout.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A restarted peer is found again within a second, wherever its name points then.
    # The second of the three is the time that one attempt to connect may take, too.
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Channels must not share a connection: it would share its backoff too.
    ("grpc.use_local_subchannel_pool", 1),
)


class Peer:
    """One channel to one service; open it with `async with`, or `open` and `close`.

    Calls fail at once when the service cannot be reached, and after a second when
    nothing at all comes back from its address. A peer whose clock differs
    refuses one call, which is then made again with what the peer says the time is.

    Args:
        service: The service's name, for `SERVICE_UNAVAILABLE`'s metadata.
        target: A gRPC target, for example `host:port` or `dns:///host:port`.
        signer: Signs whom calls are made for.
        metrics: Gets `rpc_client_call_duration_seconds`.
    """

    def __init__(self, *, service: str, target: str, signer: Signer, metrics: Metrics) -> None:
        self.service = service
        self.target = target
        self._signer = signer
        self._duration = metrics.histogram(
            "rpc_client_call_duration_seconds",
            "Duration of calls made to other services.",
            ("rpc_method", "rpc_status_code"),
        )
        # How much the peer's clock is ahead of ours, as far as it has told.
        self._offset_seconds = 0
        self._channel: grpc.aio.Channel | None = None
        self._unary: dict[str, Any] = {}
        self._streams: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        return self.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        await self.close()

    def open(self) -> Self:
        """Make the channel, which dials when a call needs it. Call it from the event loop."""
        self._channel = grpc.aio.insecure_channel(self.target, options=_OPTIONS)
        return self

    async def close(self) -> None:
        """Close the channel; calls in progress are cancelled."""
        channel, self._channel = self._opened(), None
        self._unary.clear()
        self._streams.clear()
        await channel.close()

    async def call(
        self,
        method: str,
        request: Message,
        response: type[R],
        *,
        identity: Identity,
        timeout: timedelta,  # noqa: ASYNC109
    ) -> R:
        """Make a unary call. A cancel of the awaiting task cancels the call.

        Args:
            method: For example `/moorline.session.v1.TurnService/CreateTurn`.
            request: What to send.
            response: Class of the answer.
            identity: Whom the call is made for.
            timeout: The call's deadline from now.

        Raises:
            Failure: What the peer answered; SERVICE_UNAVAILABLE, CALL_TIMEOUT.
        """
        multicallable = self._unary.get(method)
        if multicallable is None:
            multicallable = self._unary[method] = self._opened().unary_unary(
                method,
                request_serializer=type(request).SerializeToString,
                response_deserializer=response.FromString,
            )
        offset, left, again = self._offset_seconds, timeout.total_seconds(), False
        while True:
            start, code = time.perf_counter(), "CANCELLED"
            try:
                answer: R = await multicallable(
                    request, timeout=left, metadata=self._metadata(identity, offset)
                )
            except grpc.aio.AioRpcError as error:
                code = error.code().name
                failure = self._failure(error)
                if not self._refused_for_time(failure, offset) or again:
                    raise failure from error
            else:
                code = "OK"
                return answer
            finally:
                seconds = time.perf_counter() - start
                self._duration.labels(method, code).observe(seconds)
            offset, left, again = self._offset_seconds, left - seconds, True

    async def stream(
        self,
        method: str,
        request: Message,
        response: type[R],
        *,
        identity: Identity,
        timeout: timedelta | None = None,  # noqa: ASYNC109
    ) -> AsyncGenerator[R, None]:
        """Make a call that streams its answer. Closing the iterator cancels it.

        Args:
            method: As for `call`.
            request: What to send.
            response: Class of each answer.
            identity: Whom the call is made for.
            timeout: Deadline of the whole stream; None means none.

        Raises:
            Failure: As for `call`.
        """
        multicallable = self._streams.get(method)
        if multicallable is None:
            multicallable = self._streams[method] = self._opened().unary_stream(
                method,
                request_serializer=type(request).SerializeToString,
                response_deserializer=response.FromString,
            )
        seconds = None if timeout is None else timeout.total_seconds()
        offset, again = self._offset_seconds, False
        while True:
            start, code = time.perf_counter(), "CANCELLED"
            call = multicallable(
                request, timeout=seconds, metadata=self._metadata(identity, offset)
            )
            try:
                async for answer in call:
                    yield answer
            except grpc.aio.AioRpcError as error:
                code = error.code().name
                failure = self._failure(error)
                if not self._refused_for_time(failure, offset) or again:
                    raise failure from error
            else:
                code = "OK"
                return
            finally:
                call.cancel()
                self._duration.labels(method, code).observe(time.perf_counter() - start)
            offset, again = self._offset_seconds, True

    async def healthy(self, timeout: timedelta) -> bool:  # noqa: ASYNC109
        """Ask whether the peer is ready for calls; False when it does not answer.

        Args:
            timeout: How long to wait for the answer.
        """
        check = self._opened().unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = await check(
                health_pb2.HealthCheckRequest(service="readiness"), timeout=timeout.total_seconds()
            )
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def _opened(self) -> grpc.aio.Channel:
        if self._channel is None:
            raise RuntimeError("the peer is not open: use `async with`")
        return self._channel

    def _metadata(self, identity: Identity, offset: int) -> tuple[tuple[str, str], ...]:
        return ((METADATA_KEY, self._signer.token(identity, offset)),)

    def _refused_for_time(self, failure: Failure, used: int) -> bool:
        """Learn how the peer's clock differs; True when the call may be made again.

        Not when it was refused with the very offset that the peer asks for: then
        another attempt would be refused as well.
        """
        offset = self._signer.offset_seconds(failure)
        # Whoever calls us must not take it for our own time.
        failure.metadata.pop(TIME_KEY, None)
        if offset is None:
            return False
        if abs(offset - self._offset_seconds) > _SAME_SECONDS:
            self._offset_seconds = offset
            log.warning("clocks differ", extra={"peer": self.service, "offset_seconds": offset})
        return abs(self._offset_seconds - used) > _SAME_SECONDS

    def _failure(self, error: grpc.aio.AioRpcError) -> Failure:
        failure = Failure.from_rpc_error(error)
        if failure.reason == errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE:
            failure.metadata.setdefault("service", self.service)
        return failure
