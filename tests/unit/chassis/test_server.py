"""Tests of `services.chassis.server`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.chassis import server as module
from services.chassis.failures import Failure
from services.chassis.identity import Checker
from services.chassis.metrics import Metrics
from tests.unit.chassis.service import (
    ADA,
    KEY,
    SERVICE,
    SOON,
    Message,
    call,
    handlers,
    method,
    peer_of,
    running,
    settings,
    until,
)


class Service:
    """A method that waits until it may answer."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.release = asyncio.Event()
        self.drained = False

    async def answer(self, request: Message, context: Any) -> Message:
        """Answer when released."""
        self.entered.set()
        await self.release.wait()
        return request

    async def stream(self, request: Message, context: Any) -> AsyncIterator[Message]:
        """Stream one answer, then nothing."""
        yield request
        await asyncio.Event().wait()

    async def draining(self) -> None:
        """Release what waits."""
        self.drained = True
        self.release.set()

    def register(self, to: Any) -> None:
        """Add the methods to a server."""
        handlers({"Answer": self.answer}, {"Stream": self.stream})(to)


@pytest.fixture
def service() -> Service:
    """The service's methods."""
    return Service()


async def status_of(target: str, name: str) -> Any:
    """Return a health status as the enum's number."""
    async with grpc.aio.insecure_channel(target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status


async def test_health_has_three_names(service: Service) -> None:
    """Everything is NOT_SERVING until the service is ready, but for liveness."""
    ready = asyncio.Event()
    async with running(service.register, ready=ready) as server:
        assert [await status_of(server.target, name) for name in ("", "readiness")] == [2, 2]
        assert await status_of(server.target, "liveness") == 1

        ready.set()
        await until(partial(has_status, server.target, "readiness", 1))
        assert await status_of(server.target, "") == 1


async def has_status(target: str, name: str, status: int) -> bool:
    """Tell whether a health status is this one."""
    return bool(await status_of(target, name) == status)


async def test_connections_age_and_nobody_notices(service: Service) -> None:
    """Over many ages an open stream goes on, and every call gets its answer."""
    callers: set[str] = set()
    news: asyncio.Queue[str] = asyncio.Queue()

    async def who(request: Message, context: Any) -> Message:
        callers.add(context.peer())
        return request

    async def follow(request: Message, context: Any) -> AsyncIterator[Message]:
        while True:
            yield Message(message=await news.get())

    register = handlers({"Who": who}, {"Follow": follow})
    async with (
        running(register, connection_age=timedelta(seconds=0.2)) as server,
        peer_of(server.target) as peer,
        asyncio.timeout(15),
    ):
        answers = peer.stream(method("Follow"), Message(), Message, identity=ADA)
        number = 0
        while len(callers) < 8:
            number += 1
            calls = [call(peer, "Who", str(number)) for _ in range(5)]
            assert {answer.message for answer in await asyncio.gather(*calls)} == {str(number)}
            news.put_nowait(str(number))
            assert (await anext(answers)).message == str(number)
        await answers.aclose()


@pytest.mark.parametrize("production", [True, False])
async def test_reflection_is_for_developers(service: Service, production: bool) -> None:
    """Outside of production the server lists what it serves, without an identity."""
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    async with (
        running(service.register, production=production) as server,
        grpc.aio.insecure_channel(server.target) as channel,
    ):
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        names: list[str] = []
        with suppress(grpc.aio.AioRpcError):
            async for answer in stub.ServerReflectionInfo(iter([request])):
                names += [each.name for each in answer.list_services_response.service]

    assert (SERVICE in names) == (not production)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_calls_finish(service: Service, number: signal.Signals) -> None:
    """A call in progress gets its answer; the service is told to drain; then it returns."""
    duck = timedelta(milliseconds=10)
    async with running(service.register, draining=service.draining, lame_duck=duck) as server:
        async with peer_of(server.target) as peer:
            answer = asyncio.create_task(call(peer, "Answer", "last words"))
            await service.entered.wait()

            os.kill(os.getpid(), number)

            assert (await answer).message == "last words"
            await server.task
        assert service.drained


async def test_readiness_goes_first(service: Service) -> None:
    """In the lame duck time calls are still served, and liveness stays."""
    async with (
        running(service.register, lame_duck=timedelta(seconds=60)) as server,
        peer_of(server.target) as peer,
    ):
        service.release.set()
        os.kill(os.getpid(), signal.SIGTERM)
        await until(partial(has_status, server.target, "readiness", 2))

        assert await status_of(server.target, "liveness") == 1
        assert (await call(peer, "Answer", "x")).message == "x"
        assert not service.drained


async def test_an_open_stream_does_not_hold_the_process(service: Service) -> None:
    """What has not ended after `drain_seconds` is cancelled."""
    async with (
        running(service.register, drain_seconds=timedelta(seconds=0.05)) as server,
        peer_of(server.target) as peer,
    ):
        answers = peer.stream(method("Stream"), Message(), Message, identity=ADA)
        await anext(answers)

        os.kill(os.getpid(), signal.SIGTERM)

        with pytest.raises(Failure):
            await anext(answers)
        await server.task


async def test_a_service_that_does_not_drain_is_not_waited_for(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """The service's own draining has the same limit."""

    async def never() -> None:
        await asyncio.Event().wait()

    async with running(
        service.register, draining=never, drain_seconds=timedelta(seconds=0.05)
    ) as server:
        os.kill(os.getpid(), signal.SIGTERM)
        await server.task

    assert "draining took too long" in caplog.messages


async def test_a_port_in_use_is_refused(service: Service) -> None:
    """Two processes never share a port by mistake."""
    async with running(service.register) as server:
        with pytest.raises(RuntimeError, match="bind"):
            async with running(service.register, listen=server.target):
                pass


async def test_nobody_needs_to_know_the_port(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """`on_listening` may be left out; the log has the port all the same."""
    caplog.set_level(logging.INFO)
    task = asyncio.create_task(
        module.serve(
            settings=settings(),
            service="test",
            register=service.register,
            checker=Checker(key=KEY),
            metrics=Metrics(service="test"),
            draining=service.draining,
        )
    )
    await until(lambda: "serving" in caplog.messages)
    os.kill(os.getpid(), signal.SIGTERM)

    async with asyncio.timeout(5):
        await task


def test_run_uses_uvloop() -> None:
    """`run` returns when `main` does."""
    loops: list[str] = []

    async def main() -> None:
        loops.append(type(asyncio.get_running_loop()).__module__)

    module.run(main)

    assert loops == ["uvloop"]


PROGRAM = """
    import asyncio
    from services.chassis import logs, server
    from services.chassis.identity import Checker
    from services.chassis.metrics import Metrics
    from tests.unit.chassis.service import KEY, Message, handlers, settings
    from datetime import timedelta

    async def stream(request, context):
        yield request
        await asyncio.Event().wait()

    async def draining():
        print("draining", flush=True)

    async def main():
        await server.serve(
            settings=settings(drain_seconds=timedelta(seconds=DRAIN)),
            service="test",
            register=handlers({}, {"Stream": stream}),
            checker=Checker(key=KEY),
            metrics=Metrics(service="test"),
            draining=draining,
            on_listening=lambda port: print(port, flush=True),
        )

    server.run(main)
    print("end", flush=True)
"""


@pytest.mark.parametrize(("drain", "signals", "code"), [("0.1", 1, 0), ("60", 2, 143)])
async def test_a_process_ends_on_sigterm(drain: str, signals: int, code: int) -> None:
    """With an open stream it drains and exits with 0; told twice, it exits at once."""
    program = textwrap.dedent(PROGRAM).replace("DRAIN", drain)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", program, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    port = int(await process.stdout.readline())
    async with peer_of(f"127.0.0.1:{port}") as peer:
        answers = peer.stream(method("Stream"), Message(), Message, identity=ADA)
        await anext(answers)
        process.send_signal(signal.SIGTERM)
        # Two signals that nobody has heard yet are one.
        assert b"draining\n" == await process.stdout.readline()
        if signals == 2:
            await asyncio.sleep(0.35)
            process.send_signal(signal.SIGTERM)

        with pytest.raises(Failure):
            await anext(answers)
        async with asyncio.timeout(SOON.total_seconds()):
            assert await process.wait() == code
    assert (await process.stdout.read() == b"end\n") == (code == 0)


async def test_grpc_knows_the_engine_it_shall_do_without() -> None:
    """Another release may call it something else; then it says so, and nothing is saved."""
    program = "import services, grpc; grpc.insecure_channel('127.0.0.1:1').close()"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stderr=subprocess.PIPE, env={"PATH": os.defpath}
    )
    _, told = await process.communicate()

    assert b"" == told
    assert 0 == process.returncode
