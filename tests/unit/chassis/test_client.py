"""Tests of `services.chassis.client`."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, aclosing
from datetime import timedelta
from typing import Any

import pytest

from services.chassis.client import Peer
from services.chassis.failures import Failure, not_found
from services.chassis.metrics import Metrics
from tests.unit.chassis.service import (
    ADA,
    SOON,
    Message,
    call,
    handlers,
    method,
    peer_of,
    running,
    until,
)


async def answer(request: Message, context: Any) -> Message:
    """Answer with the request, or not at all."""
    if request.message == "hang":
        await asyncio.Event().wait()
    return request


async def stream(request: Message, context: Any) -> AsyncIterator[Message]:
    """Stream three numbers, then end or fail."""
    for number in range(3):
        yield Message(message=str(number))
    if request.message == "fail":
        raise not_found()


REGISTER = handlers({"Answer": answer}, {"Stream": stream})


def count(metrics: Metrics, name: str, code: str) -> float:
    """Return how many calls a metric has."""
    labels = {"rpc_method": method(name), "rpc_status_code": code}
    name = "rpc_client_call_duration_seconds_count"
    return metrics.registry.get_sample_value(name, labels) or 0.0


async def test_a_call_gets_its_answer() -> None:
    """Calls of a method are counted by their code."""
    metrics = Metrics(service="client")
    async with running(REGISTER) as server, peer_of(server.target, metrics) as peer:
        for text in ("a", "b"):
            assert (await call(peer, "Answer", text)).message == text

    assert count(metrics, "Answer", "OK") == 2


async def test_a_call_that_takes_too_long_fails() -> None:
    """The timeout is the call's deadline."""
    metrics = Metrics(service="client")
    async with running(REGISTER) as server, peer_of(server.target, metrics) as peer:
        with pytest.raises(Failure) as caught:
            await peer.call(
                method("Answer"),
                Message(message="hang"),
                Message,
                identity=ADA,
                timeout=timedelta(milliseconds=20),
            )

    assert caught.value.reason_name == "CALL_TIMEOUT"
    assert count(metrics, "Answer", "DEADLINE_EXCEEDED") == 1


async def test_a_peer_that_is_not_there_is_named() -> None:
    """The failure comes at once and says which service, and when to try again."""
    async with running(REGISTER) as server:
        target = server.target
    async with peer_of(target) as peer:
        with pytest.raises(Failure) as caught:
            await call(peer, "Answer")

        assert not await peer.healthy(SOON)

    assert caught.value.reason_name == "SERVICE_UNAVAILABLE"
    assert caught.value.metadata == {"service": "test"}
    assert caught.value.retry_delay == timedelta(seconds=1)


async def test_an_address_that_swallows_everything_is_given_up() -> None:
    """The first call waits a second for the connection, those after it do not."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        # Nobody accepts: when the queue is full, the kernel drops further attempts.
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        target = f"127.0.0.1:{listener.getsockname()[1]}"

        async def first_is_soon() -> bool:
            async with peer_of(target) as peer:
                return await refusal_seconds(peer) < 2.0

        # Looked at again: a busy machine adds time to some calls, not to every one.
        await until(first_is_soon)
        async with peer_of(target) as peer:

            async def next_is_at_once() -> bool:
                return await refusal_seconds(peer) < 0.9

            await refusal_seconds(peer)
            await until(next_is_at_once)


async def refusal_seconds(peer: Peer) -> float:
    """Make a call that finds nobody; how long it took."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    with pytest.raises(Failure) as caught:
        await call(peer, "Answer")
    assert caught.value.reason_name == "SERVICE_UNAVAILABLE"
    return loop.time() - start


async def test_a_stream_yields_until_it_ends() -> None:
    """All answers arrive, then the end or the failure."""
    metrics = Metrics(service="client")
    seen: list[Message] = []

    async def read(peer: Peer, message: str) -> None:
        request = Message(message=message)
        answers = peer.stream(method("Stream"), request, Message, identity=ADA, timeout=SOON)
        async for each in answers:
            seen.append(each)  # noqa: PERF401 - a comprehension would lose what came before an error

    async with running(REGISTER) as server, peer_of(server.target, metrics) as peer:
        await read(peer, "")
        with pytest.raises(Failure, match="does not exist"):
            await read(peer, "fail")

    assert [each.message for each in seen] == ["0", "1", "2"] * 2
    assert count(metrics, "Stream", "OK") == 1
    assert count(metrics, "Stream", "NOT_FOUND") == 1


async def test_closing_a_stream_cancels_it() -> None:
    """An iterator that is closed early counts as cancelled."""
    metrics = Metrics(service="client")
    async with (
        running(REGISTER) as server,
        peer_of(server.target, metrics) as peer,
        aclosing(peer.stream(method("Stream"), Message(), Message, identity=ADA)) as answers,
    ):
        assert (await anext(answers)).message == "0"

    assert count(metrics, "Stream", "CANCELLED") == 1


async def test_a_peer_is_healthy_when_it_is_ready() -> None:
    """Health is the peer's readiness, not its life."""
    ready = asyncio.Event()
    async with running(REGISTER, ready=ready) as server, peer_of(server.target) as peer:
        assert not await peer.healthy(SOON)

        ready.set()
        await until(lambda: peer.healthy(SOON))


async def test_a_peer_must_be_open() -> None:
    """Using a peer outside of its block is a mistake of the code."""
    with pytest.raises(RuntimeError, match="not open"):
        await call(peer_of("127.0.0.1:1"), "Answer")


async def test_a_peer_can_be_opened_without_a_block() -> None:
    """For a member of a pool, which is made at once and closed later."""
    async with running(REGISTER) as server:
        peer = peer_of(server.target).open()

        assert (await call(peer, "Answer", "a")).message == "a"
        await peer.close()

    with pytest.raises(RuntimeError, match="not open"):
        await peer.healthy(SOON)
