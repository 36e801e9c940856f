"""What happens around every call at the serving side, in one place.

Who the caller is, how long a call may take, what is logged and measured, and how
what a method raises becomes a gRPC status. Does not know what methods do.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import grpc
from grpc_status import rpc_status

from moorline.errors.v1 import errors_pb2
from services.chassis import identity
from services.chassis.failures import Failure
from services.chassis.metrics import Metrics

log = logging.getLogger(__name__)

OTHER_METHOD = "_OTHER"
"""Label of methods that are not ours, so that callers make no labels."""

_EXEMPT = ("/grpc.health.", "/grpc.reflection.")
_QUIET = ("/Subscribe", "/Unsubscribe", "/AcknowledgeExecutions", "/ListRevocations")

Handler = Any  # grpc.RpcMethodHandler, which is not subscriptable at run time
Context = Any  # grpc.aio.ServicerContext; types-grpcio gives handlers the blocking one


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Surrounds unary calls and server streams; lets other kinds pass.

    A `Failure` becomes its status with ErrorInfo and RetryInfo. Any other
    exception becomes INTERNAL: the caller learns an `errorId` and nothing else,
    the log has the traceback beside that id.

    Args:
        checker: Checks whom a call is made for.
        metrics: Gets `rpc_server_call_duration_seconds`.
        deadline: How long a unary call may take whose caller set no deadline.
    """

    def __init__(
        self,
        *,
        checker: identity.Checker,
        metrics: Metrics,
        deadline: timedelta = timedelta(seconds=30),
    ) -> None:
        self._checker = checker
        self._deadline = deadline.total_seconds()
        self._duration = metrics.histogram(
            "rpc_server_call_duration_seconds",
            "Duration of calls served.",
            ("rpc_method", "rpc_status_code"),
        )
        self._wrapped: dict[str, tuple[Handler, Handler]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Return the method's own code with this class around it."""
        method = handler_call_details.method
        handler = await continuation(handler_call_details)
        if handler is None:
            return grpc.unary_unary_rpc_method_handler(self._unknown)
        cached = self._wrapped.get(method)
        if cached is None or cached[0] is not handler:
            cached = self._wrapped[method] = (handler, self._wrap(handler, method))
        return cached[1]

    def _wrap(self, handler: Handler, method: str) -> Handler:
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(
                self._unary(handler.unary_unary, method),
                handler.request_deserializer,
                handler.response_serializer,
            )
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(
                self._stream(handler.unary_stream, method),
                handler.request_deserializer,
                handler.response_serializer,
            )
        return handler

    def _unary(self, inner: Any, method: str) -> Any:
        async def unary(request: Any, context: Context) -> Any:
            call = _Call(method, self._duration)
            try:
                self._admit(call, context)
                if context.time_remaining() is not None:
                    return await inner(request, context)
                async with asyncio.timeout(self._deadline) as deadline:
                    call.deadline = deadline
                    return await inner(request, context)
            except Exception as error:  # noqa: BLE001 - the door of all doors
                await call.abort(error, context)
            except asyncio.CancelledError:
                call.code = "CANCELLED"
                raise
            finally:
                # After the answer is on its way: the caller need not wait for a log line.
                asyncio.get_running_loop().call_soon(call.end, call.seconds)

        return unary

    def _stream(self, inner: Any, method: str) -> Any:
        # A coroutine that writes, not a generator that yields: it is cheaper a
        # message, and a cancelled call closes `inner` now, not when collected.
        async def stream(request: Any, context: Context) -> None:
            call = _Call(method, self._duration)
            try:
                self._admit(call, context)
                responses = inner(request, context)
                if not hasattr(responses, "__aiter__"):
                    await responses
                    return
                write = context.write
                async with aclosing(responses):
                    async for response in responses:
                        await write(response)
            except Exception as error:  # noqa: BLE001 - the door of all doors
                await call.abort(error, context)
            except asyncio.CancelledError:
                call.code = "CANCELLED"
                raise
            finally:
                call.end(call.seconds)

        return stream

    def _admit(self, call: _Call, context: Context) -> None:
        if call.exempt:
            return
        for key, value in context.invocation_metadata() or ():
            if key == identity.METADATA_KEY:
                caller = self._checker.check(str(value))
                identity.act_as(caller)
                call.user = caller.user
                return
        raise Failure(
            errors_pb2.ERROR_REASON_TOKEN_INVALID,
            f"The call carries no identity. Send a token as metadata `{identity.METADATA_KEY}`.",
        )

    async def _unknown(self, _request: bytes, context: Context) -> None:
        call = _Call(OTHER_METHOD, self._duration)
        failure = Failure(
            errors_pb2.ERROR_REASON_METHOD_UNKNOWN,
            "This server does not know the method. Compare the releases of caller and server.",
        )
        try:
            await call.abort(failure, context)
        finally:
            call.end(call.seconds)


class _Call:
    """One call from its beginning to its log line."""

    __slots__ = ("code", "deadline", "duration", "exempt", "method", "reason", "start", "user")

    def __init__(self, method: str, duration: Any) -> None:
        self.method = method
        self.duration = duration
        self.exempt = method.startswith(_EXEMPT)
        self.start = time.perf_counter()
        self.deadline: asyncio.Timeout | None = None
        self.code = "OK"
        self.reason = ""
        self.user = ""

    async def abort(self, error: Exception, context: Context) -> None:
        if isinstance(error, grpc.aio.AbortError):
            # Only servicers that are not ours abort by themselves.
            self.code = context.code().name if context.code() else "UNKNOWN"
            raise error
        task = asyncio.current_task()
        if isinstance(error, grpc.aio.InternalError) or (task and task.cancelling()):
            # The caller is gone: a write to it failed before the cancel came, or
            # the method made something else of the cancel.
            self.code = "CANCELLED"
            raise asyncio.CancelledError from error
        failure = error if isinstance(error, Failure) else self._translate(error)
        status = rpc_status.to_status(failure.to_status())
        self.code, self.reason = status.code.name, failure.reason_name
        try:
            await context.abort_with_status(status)
        except grpc.aio.InternalError as gone:
            # So is the caller here, and nobody is left to be told.
            self.code = "CANCELLED"
            raise asyncio.CancelledError from gone

    def _translate(self, error: Exception) -> Failure:
        if isinstance(error, TimeoutError) and self.deadline and self.deadline.expired():
            return Failure(
                errors_pb2.ERROR_REASON_CALL_TIMEOUT,
                "The call took too long. Set a deadline when it may take longer.",
            )
        error_id = uuid.uuid4().hex
        log.error(
            "unexpected error",
            exc_info=error,
            extra={"method": self.method, "error_id": error_id, "user": self.user},
        )
        return Failure(
            errors_pb2.ERROR_REASON_INTERNAL,
            f"An unexpected error; the server's log has it under {error_id}.",
            errorId=error_id,
        )

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.start

    def end(self, seconds: float) -> None:
        self.duration.labels(self.method, self.code).observe(seconds)
        quiet = self.exempt or self.method.endswith(_QUIET)
        level = logging.DEBUG if quiet else logging.INFO
        if not log.isEnabledFor(level):
            return
        facts = {
            "method": self.method,
            "code": self.code,
            "duration_ms": round(seconds * 1000, 2),
            "user": self.user,
        }
        if self.reason:
            facts["reason"] = self.reason
        log.log(level, "call", extra=facts)
