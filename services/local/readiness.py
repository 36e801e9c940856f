"""Waits until services say that they can work. Does not know how they were started."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.local.ports import LOOPBACK

PAUSE_SECONDS = 0.05
CALL_SECONDS = 1.0


async def until_ready(*, grpc_ports: Iterable[int], http_ports: Iterable[int]) -> None:
    """Return when every gRPC service and every gateway is ready.

    Waits for ever; the caller sets the limit.

    Args:
        grpc_ports: Where `grpc.health.v1` is asked for `readiness`.
        http_ports: Where `/readyz` is asked.
    """
    async with asyncio.TaskGroup() as waits:
        for port in grpc_ports:
            waits.create_task(_grpc_ready(port))
        for port in http_ports:
            waits.create_task(_http_ready(port))


async def _grpc_ready(port: int) -> None:
    options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 100)]
    async with grpc.aio.insecure_channel(f"{LOOPBACK}:{port}", options=options) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="readiness")
        while True:
            try:
                response = await health.Check(request, timeout=CALL_SECONDS)
                if response.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            except grpc.aio.AioRpcError:
                pass
            await asyncio.sleep(PAUSE_SECONDS)


async def _http_ready(port: int) -> None:
    while True:
        if await _answers(port):
            return
        await asyncio.sleep(PAUSE_SECONDS)


async def _answers(port: int) -> bool:
    """True when `/readyz` answers with 200."""
    try:
        async with asyncio.timeout(CALL_SECONDS):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                writer.write(f"GET /readyz HTTP/1.0\r\nHost: {LOOPBACK}\r\n\r\n".encode())
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
