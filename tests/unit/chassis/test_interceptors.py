"""Tests of `services.chassis.interceptors`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from moorline.errors.v1 import errors_pb2
from services.chassis.client import Peer
from services.chassis.failures import Failure, not_found
from services.chassis.identity import METADATA_KEY, Checker, Signer, caller
from services.chassis.interceptors import CallInterceptor
from services.chassis.metrics import Metrics
from tests.unit.chassis.service import (
    ADA,
    KEY,
    SERVICE,
    SOON,
    Message,
    Running,
    call,
    handlers,
    method,
    peer_of,
    running,
    until,
)


class Service:
    """Methods that do what their request says, and note what became of them."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.left = asyncio.Event()

    async def answer(self, request: Message, context: Any) -> Message:
        """Answer, fail or hang."""
        match request.message:
            case "caller":
                return Message(message=caller().user)
            case "failure":
                raise Failure(
                    errors_pb2.ERROR_REASON_RATE_LIMITED,
                    "Too fast.",
                    retry_delay=timedelta(seconds=2),
                    limit="20",
                )
            case "bug":
                raise KeyError("a secret detail")
            case "timeout":
                raise TimeoutError
            case "abort":
                await context.abort(grpc.StatusCode.ABORTED, "by itself")
            case "hang":
                await self._hang()
            case "hide":
                try:
                    await self._hang()
                except asyncio.CancelledError:
                    raise not_found() from None
        return request

    async def stream(self, request: Message, context: Any) -> AsyncIterator[Message]:
        """Stream two answers, then do what the request says."""
        yield Message(message=caller().user)
        yield request
        yield await self.answer(request, context)

    async def write(self, request: Message, context: Any) -> None:
        """Stream in the style of a coroutine that writes."""
        await context.write(request)

    def delegate(self, request: Message, context: Any) -> AsyncIterator[Message]:
        """Stream by returning another's iterator."""
        return self.stream(request, context)

    async def _hang(self) -> None:
        self.entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.left.set()


@pytest.fixture
def service() -> Service:
    """The service's methods."""
    return Service()


@pytest.fixture
async def server(service: Service) -> AsyncIterator[Running]:
    """A server with the service."""
    register = handlers(
        dict.fromkeys(("Answer", "Subscribe", "AcknowledgeExecutions"), service.answer),
        {"Stream": service.stream, "Write": service.write, "Delegate": service.delegate},
    )
    async with running(register) as server:
        yield server


@pytest.fixture
async def peer(server: Running) -> AsyncIterator[Peer]:
    """A peer of the server."""
    async with peer_of(server.target) as peer:
        yield peer


def raw(multicallable: Any) -> Any:
    """Return what takes and gives bytes; types-grpcio has no type for it."""
    return multicallable


async def stream(peer: Peer, name: str, message: str = "") -> list[str]:
    """Return the texts a stream yields."""
    request = Message(message=message)
    return [
        answer.message
        async for answer in peer.stream(method(name), request, Message, identity=ADA, timeout=SOON)
    ]


async def ask(peer: Peer, name: str, message: str) -> None:
    """Make either kind of call."""
    await (call(peer, name, message) if name == "Answer" else stream(peer, name, message))


async def calls(server: Running, code: str, name: str = method("Answer")) -> float:
    """Return how many calls ended with a code, once one has."""

    def count() -> float:
        labels = {"rpc_method": name, "rpc_status_code": code}
        return server.count("rpc_server_call_duration_seconds_count", **labels)

    await until(lambda: count() > 0)
    return count()


async def test_a_method_knows_its_caller(peer: Peer) -> None:
    """The identity in the metadata is the caller inside the method."""
    assert (await call(peer, "Answer", "caller")).message == "users/ada"
    assert (await stream(peer, "Stream", "x"))[0] == "users/ada"


@pytest.mark.parametrize("key", [None, "another key that is long enough!"])
@pytest.mark.parametrize("name", ["Answer", "Stream"])
async def test_a_call_without_a_valid_identity_is_refused(
    server: Running, key: str | None, name: str
) -> None:
    """Both kinds of call get TOKEN_INVALID, and the method does not run."""
    metadata = [("other", "x")] + ([(METADATA_KEY, Signer(key=key).token(ADA))] if key else [])
    async with grpc.aio.insecure_channel(server.target) as channel:
        if name == "Answer":
            answer = raw(channel.unary_unary(method(name)))(b"", metadata=metadata)
        else:
            answer = raw(channel.unary_stream(method(name)))(b"", metadata=metadata).read()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await answer

    assert Failure.from_rpc_error(caught.value).reason_name == "TOKEN_INVALID"


@pytest.mark.parametrize("name", ["Answer", "Stream"])
async def test_a_failure_arrives_as_it_was_raised(peer: Peer, name: str) -> None:
    """Reason, message, delay and metadata cross the wire."""
    with pytest.raises(Failure, match=r"Too fast\.") as caught:
        await ask(peer, name, "failure")

    assert caught.value.reason_name == "RATE_LIMITED"
    assert caught.value.retry_delay == timedelta(seconds=2)
    assert caught.value.metadata == {"limit": "20"}


@pytest.mark.parametrize("message", ["bug", "timeout"])
@pytest.mark.parametrize("name", ["Answer", "Stream"])
async def test_a_bug_is_told_by_its_number_only(
    peer: Peer, name: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller gets an `errorId`; the log has it beside the traceback."""
    with pytest.raises(Failure) as caught:
        await ask(peer, name, message)

    assert caught.value.reason_name == "INTERNAL"
    assert "secret" not in caught.value.message
    (record,) = [record for record in caplog.records if record.message == "unexpected error"]
    assert caught.value.metadata == {"errorId": record.__dict__["error_id"]}
    assert record.exc_info is not None


async def test_an_unknown_method_is_told_so(server: Running, peer: Peer) -> None:
    """The answer is METHOD_UNKNOWN, and the caller makes no label."""
    with pytest.raises(Failure) as caught:
        await call(peer, "Nonsense")

    assert caught.value.reason_name == "METHOD_UNKNOWN"
    assert await calls(server, "UNIMPLEMENTED", "_OTHER") == 1


async def test_a_stream_may_be_written_or_returned(peer: Peer) -> None:
    """Handlers that write, and handlers that return an iterator, work like generators."""
    assert await stream(peer, "Write", "x") == ["x"]
    assert await stream(peer, "Delegate", "x") == ["users/ada", "x", "x"]


@pytest.mark.parametrize("message", ["hang", "hide"])
async def test_a_cancelled_call_ends_its_method(
    server: Running, peer: Peer, service: Service, message: str
) -> None:
    """The method is cancelled, and counts as cancelled whatever it raises then."""
    task = asyncio.create_task(call(peer, "Answer", message))
    await service.entered.wait()

    task.cancel()

    await service.left.wait()
    assert await calls(server, "CANCELLED") == 1


async def test_a_cancelled_stream_ends_its_method(
    server: Running, peer: Peer, service: Service
) -> None:
    """Closing the iterator reaches the generator at the serving side."""
    request = Message(message="hang")
    async with aclosing(peer.stream(method("Stream"), request, Message, identity=ADA)) as answers:
        await anext(answers)
        await service.entered.wait()

    await service.left.wait()
    assert await calls(server, "CANCELLED", method("Stream")) == 1


async def test_a_deadline_ends_the_method(peer: Peer, service: Service) -> None:
    """The caller's deadline holds at the serving side."""
    # A deadline may be over before the method has begun, which says nothing about it.
    while not service.entered.is_set():
        with pytest.raises(Failure) as caught:
            await call(peer, "Answer", "hang", timedelta(milliseconds=100))
        assert caught.value.reason_name == "CALL_TIMEOUT"

    await service.left.wait()


async def test_the_method_may_abort_by_itself(server: Running, peer: Peer) -> None:
    """What a servicer that is not ours aborts with passes unchanged."""
    with pytest.raises(Failure, match="by itself"):
        await call(peer, "Answer", "abort")

    assert await calls(server, "ABORTED") == 1


async def test_one_line_is_logged_for_a_call(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    """It has method, code, duration, user and reason; what makes no difference is quiet."""
    with caplog.at_level(logging.INFO, "services.chassis.interceptors"):
        for name in ("Answer", "Subscribe", "AcknowledgeExecutions"):
            await call(peer, name)
        with pytest.raises(Failure):
            await call(peer, "Answer", "failure")
        # The line is written after the answer has left.
        await until(lambda: "RATE_LIMITED" in [vars(each).get("reason") for each in caplog.records])

    lines = [record.__dict__ for record in caplog.records if record.message == "call"]
    facts = [(line["method"], line["code"], line["user"], line.get("reason")) for line in lines]
    assert facts == [
        (method("Answer"), "OK", "users/ada", None),
        (method("Answer"), "RESOURCE_EXHAUSTED", "users/ada", "RATE_LIMITED"),
    ]
    assert lines[0]["duration_ms"] >= 0


async def test_calls_are_measured(server: Running, peer: Peer) -> None:
    """The duration is observed by method and code."""
    await call(peer, "Answer")
    await call(peer, "Answer")

    assert await calls(server, "OK") == 2


async def test_health_needs_no_identity(server: Running) -> None:
    """Probes carry no token, and an unknown service gets the health service's answer."""
    async with grpc.aio.insecure_channel(server.target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service="liveness"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Check(health_pb2.HealthCheckRequest(service="nonsense"))

    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@asynccontextmanager
async def bare_server(deadline: timedelta, methods: dict[str, Any]) -> AsyncIterator[str]:
    """Serve methods through an interceptor with a deadline of its own."""
    interceptor = CallInterceptor(
        checker=Checker(key=KEY), metrics=Metrics(service="test"), deadline=deadline
    )
    server = grpc.aio.server(interceptors=[interceptor])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@pytest.mark.parametrize(("name", "message"), [("hang", "took too long"), ("fast", "")])
async def test_a_call_without_a_deadline_gets_one(
    service: Service, name: str, message: str
) -> None:
    """No unary call runs for ever."""
    codec = (Message.FromString, Message.SerializeToString)
    methods = {"Answer": grpc.unary_unary_rpc_method_handler(service.answer, *codec)}
    metadata = [(METADATA_KEY, Signer(key=KEY).token(ADA))]
    request = Message(message=name).SerializeToString()
    async with (
        bare_server(timedelta(milliseconds=50), methods) as target,
        grpc.aio.insecure_channel(target) as channel,
    ):
        answer = raw(channel.unary_unary(method("Answer")))(request, metadata=metadata)
        if message:
            with pytest.raises(grpc.aio.AioRpcError, match=message) as caught:
                await answer
            assert Failure.from_rpc_error(caught.value).reason_name == "CALL_TIMEOUT"
        else:
            assert await answer == request


def gone() -> Any:
    """The context of a call whose connection is dead, which nobody has noticed."""

    async def fail(*_: Any) -> None:
        raise grpc.aio.InternalError

    token = ((METADATA_KEY, Signer(key=KEY).token(ADA)),)
    return SimpleNamespace(invocation_metadata=lambda: token, write=fail, abort_with_status=fail)


async def intercepted(name: str, handler: Any) -> Any:
    """A method's handler with the interceptor around it."""

    async def find(details: Any) -> Any:
        return handler

    interceptor = CallInterceptor(checker=Checker(key=KEY), metrics=Metrics(service="test"))
    details: Any = SimpleNamespace(method=method(name))
    return await interceptor.intercept_service(find, details)


async def test_a_write_to_a_caller_that_is_gone_is_no_bug(caplog: pytest.LogCaptureFixture) -> None:
    """A peer that was killed may be noticed by a write before its call is cancelled."""

    async def stream(request: Any, context: Any) -> AsyncIterator[Message]:
        yield Message()

    handler = await intercepted("Stream", grpc.unary_stream_rpc_method_handler(stream))

    with pytest.raises(asyncio.CancelledError):
        await handler.unary_stream(Message(), gone())

    assert "unexpected error" not in caplog.messages


async def test_a_failure_that_cannot_be_told_to_a_caller_that_is_gone_is_no_bug() -> None:
    """The status of a call may be the first thing that a dead connection does not take."""

    async def answer(request: Any, context: Any) -> Message:
        raise not_found()

    handler = await intercepted("Answer", grpc.unary_unary_rpc_method_handler(answer))

    with pytest.raises(asyncio.CancelledError):
        await handler.unary_unary(Message(), gone())


async def test_other_kinds_of_call_pass() -> None:
    """Client streams are not touched; their methods check for themselves."""

    async def count(requests: AsyncIterator[bytes], context: Any) -> bytes:
        return str(len([request async for request in requests])).encode()

    methods: dict[str, Any] = {"Count": grpc.stream_unary_rpc_method_handler(count)}
    async with (
        bare_server(SOON, methods) as target,
        grpc.aio.insecure_channel(target) as channel,
    ):
        assert await raw(channel.stream_unary(method("Count")))(iter([b"a", b"b"])) == b"2"
