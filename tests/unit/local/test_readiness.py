"""Waiting until services can work, with servers of the tests' own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from services.local.ports import LOOPBACK, free_port
from services.local.readiness import until_ready

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@asynccontextmanager
async def grpc_service(port: int) -> AsyncIterator[health.aio.HealthServicer]:
    """A gRPC server with nothing but health."""
    server = grpc.aio.server()
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_insecure_port(f"{LOOPBACK}:{port}")
    await server.start()
    yield servicer
    await server.stop(None)


class Gateway:
    """Answers `/readyz` with a status that a test sets."""

    def __init__(self) -> None:
        self.status = 200
        self.asked = asyncio.Event()

    @asynccontextmanager
    async def listening(self, port: int) -> AsyncIterator[None]:
        """Serve for the length of a block."""
        async with await asyncio.start_server(self._answer, LOOPBACK, port):
            yield

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        assert request.startswith(b"GET /readyz HTTP/1")
        writer.write(f"HTTP/1.1 {self.status} whatever\r\n\r\n".encode())
        self.asked.set()
        writer.close()
        await writer.wait_closed()


async def test_it_waits_for_servers_that_are_not_there_yet() -> None:
    """Nobody listening at first is the usual case, not a failure."""
    grpc_port, http_port = free_port(), free_port()
    async with asyncio.timeout(10):
        waiting = asyncio.create_task(until_ready(grpc_ports=[grpc_port], http_ports=[http_port]))
        await asyncio.sleep(0)
        async with grpc_service(grpc_port) as servicer, Gateway().listening(http_port):
            await servicer.set("readiness", SERVING)
            await waiting


async def test_it_waits_for_a_service_that_is_not_ready() -> None:
    """A server that answers, but says that it cannot work yet, is waited for."""
    grpc_port, http_port = free_port(), free_port()
    gateway = Gateway()
    async with (
        asyncio.timeout(10),
        grpc_service(grpc_port) as servicer,
        gateway.listening(http_port),
    ):
        await servicer.set("readiness", NOT_SERVING)
        waiting = asyncio.create_task(until_ready(grpc_ports=[grpc_port], http_ports=[http_port]))
        await gateway.asked.wait()
        assert not waiting.done()

        await servicer.set("readiness", SERVING)
        await waiting


async def test_it_waits_for_a_gateway_that_is_not_ready() -> None:
    """A gateway that answers 503 is waited for."""
    http_port = free_port()
    gateway = Gateway()
    gateway.status = 503
    async with asyncio.timeout(10), gateway.listening(http_port):
        waiting = asyncio.create_task(until_ready(grpc_ports=[], http_ports=[http_port]))
        await gateway.asked.wait()
        assert not waiting.done()

        gateway.status = 200
        await waiting


async def test_it_waits_for_every_gateway() -> None:
    """One that is ready does not speak for another."""
    ports = [free_port(), free_port()]
    first, second = Gateway(), Gateway()
    second.status = 503
    async with asyncio.timeout(10), first.listening(ports[0]), second.listening(ports[1]):
        waiting = asyncio.create_task(until_ready(grpc_ports=[], http_ports=ports))
        await first.asked.wait()
        await second.asked.wait()
        assert not waiting.done()

        second.status = 200
        await waiting
