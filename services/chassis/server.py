"""Starts a gRPC server, and stops it without dropping a call.

Does not know which services it carries.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any, cast

import grpc
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.chassis.identity import Checker
from services.chassis.interceptors import CallInterceptor
from services.chassis.metrics import Metrics
from services.chassis.settings import ServerSettings
from services.chassis.stopping import stop_signal
from services.chassis.tasks import Tasks

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Largest message between services, both ways."""

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Else a second process listens on the same port and takes half the calls.
    ("grpc.so_reuseport", 0),
    # Peers ping every 10 s, also without a call; see `client.py`.
    ("grpc.keepalive_permit_without_calls", 1),
    # Under load gRPC pings by itself to measure the bandwidth: those must not count
    # as abuse, or the peer is sent away with `too_many_pings`.
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)
_COLLECT_AFTER = (5_000, 4, 100)
"""When cyclic garbage is looked for, see `gc.set_threshold`. So many new objects are looked through
in 1 ms; 50,000 stopped everything for 20 ms, which hundreds of streams felt. Those that live on
are looked through rarely: calls leave cycles behind soon or never, and fragments leave none."""
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a service's `main` on uvloop until it returns."""
    # What the imports have made stays, so that it need not be looked through.
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)
    uvloop.run(main())


async def serve(
    *,
    settings: ServerSettings,
    service: str,
    register: Callable[[grpc.aio.Server], None],
    checker: Checker,
    metrics: Metrics,
    draining: Callable[[], Awaitable[None]],
    ready: asyncio.Event | None = None,
    on_listening: Callable[[int], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return.

    Draining withdraws readiness, goes on for `settings.lame_duck`, awaits
    `draining`, then gives the calls in progress what is left of
    `settings.drain_seconds` before it cancels them. The same signal a moment
    later ends the process at once. A cancel ends the calls at once.

    Args:
        settings: Addresses and times.
        service: The service's name, for the log.
        register: Adds the service's servicers to the server.
        checker: Checks whom calls are made for.
        metrics: Gets the calls; serving their page is `Metrics.serve`.
        draining: Ends the service's streams, best with DRAINING. It has
            `settings.drain_seconds`.
        ready: Readiness is withheld until it is set; None means at once.
        on_listening: Called with the port when calls are accepted; None when
            nobody wants to know.

    Raises:
        RuntimeError: The address cannot be listened on.
    """
    # Without a grace that would end: a feed goes on on its connection as long as it likes.
    age = ("grpc.max_connection_age_ms", int(settings.connection_age / timedelta(milliseconds=1)))
    server = grpc.aio.server(
        interceptors=[CallInterceptor(checker=checker, metrics=metrics)], options=(*_OPTIONS, age)
    )
    condition = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(condition, server)
    names = _Names(server)
    register(cast("grpc.aio.Server", names))
    if not settings.production:
        reflection.enable_server_reflection([reflection.SERVICE_NAME, *names.services], server)
    await _set_ready(condition, _NOT_SERVING)
    await condition.set("liveness", _SERVING)
    port = server.add_insecure_port(settings.listen)
    with stop_signal() as stop:
        async with Tasks() as tasks:
            try:
                await server.start()
                readiness = tasks.spawn(_become_ready(condition, ready), name="readiness")
                log.info("serving", extra={"server": service, "port": port})
                if on_listening is not None:
                    on_listening(port)
                # No time limit: this is what the process is for.
                await stop.wait()
                log.info("draining")
                readiness.cancel()
                await _drain(server, condition, settings, draining)
                log.info("stopped")
            finally:
                await server.stop(None)


async def _drain(
    server: grpc.aio.Server,
    condition: health.aio.HealthServicer,
    settings: ServerSettings,
    draining: Callable[[], Awaitable[None]],
) -> None:
    await _set_ready(condition, _NOT_SERVING)
    await asyncio.sleep(settings.lame_duck.total_seconds())
    loop = asyncio.get_running_loop()
    deadline = loop.time() + settings.drain_seconds.total_seconds()
    try:
        async with asyncio.timeout_at(deadline):
            await draining()
    except TimeoutError:
        log.warning("draining took too long")
    await server.stop(max(0.0, deadline - loop.time()))


async def _become_ready(condition: health.aio.HealthServicer, ready: asyncio.Event | None) -> None:
    if ready is not None:
        # No time limit: the service says when.
        await ready.wait()
    await _set_ready(condition, _SERVING)


async def _set_ready(condition: health.aio.HealthServicer, status: int) -> None:
    await condition.set("", status)
    await condition.set("readiness", status)


class _Names:
    """A server that notes the names of the services added, for reflection."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server
        self.services: list[str] = []

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        self.services += [handler.service_name() for handler in handlers]
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        self._server.add_registered_method_handlers(service, handlers)
