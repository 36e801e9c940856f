"""A tiny service without protos of its own, and a server that runs it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc

from moorline.errors.v1 import errors_pb2
from services.chassis import server
from services.chassis.client import Peer
from services.chassis.identity import Checker, Identity, Signer
from services.chassis.metrics import Metrics
from services.chassis.settings import ServerSettings
from tests.unit.jumping import JumpingLoop

KEY = "0123456789abcdef0123456789abcdef"
ADA = Identity(user="users/ada")
SERVICE = "test.v1.TestService"
SOON = timedelta(seconds=15)

Message = errors_pb2.Error


def method(name: str) -> str:
    """Return the full name of a method of the test service."""
    return f"/{SERVICE}/{name}"


def settings(**changes: Any) -> ServerSettings:
    """Return settings that suit a test."""
    values: dict[str, Any] = {"identity_key": KEY, "production": True} | changes
    return ServerSettings(**values)


def handlers(
    unary: Mapping[str, Callable[..., Any]], streams: Mapping[str, Callable[..., Any]]
) -> Callable[[Any], None]:
    """Return a `register` that adds methods whose messages are all `Error`."""
    methods: dict[str, Any] = {}
    for kind, functions in (
        (grpc.unary_unary_rpc_method_handler, unary),
        (grpc.unary_stream_rpc_method_handler, streams),
    ):
        make: Any = kind
        for name, function in functions.items():
            methods[name] = make(function, Message.FromString, Message.SerializeToString)

    def register(to: Any) -> None:
        to.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
        to.add_registered_method_handlers(SERVICE, methods)

    return register


@dataclass(kw_only=True)
class Running:
    """A server that runs in this process."""

    port: int
    metrics: Metrics
    task: asyncio.Task[None]

    @property
    def target(self) -> str:
        """What a channel dials."""
        return f"127.0.0.1:{self.port}"

    def count(self, name: str, **labels: str) -> float:
        """Return a sample of the server's metrics, 0 when there is none."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


async def nothing() -> None:
    """Drain a service that has no streams."""


@asynccontextmanager
async def running(
    register: Callable[[Any], None],
    *,
    draining: Callable[[], Awaitable[None]] = nothing,
    ready: asyncio.Event | None = None,
    clock: Callable[[], float] = time.time,
    **changes: Any,
) -> AsyncIterator[Running]:
    """Serve until the block ends, which ends all calls at once."""
    metrics = Metrics(service="test")
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        server.serve(
            settings=settings(**changes),
            service="test",
            register=register,
            checker=Checker(key=KEY, clock=clock),
            metrics=metrics,
            draining=draining,
            ready=ready,
            on_listening=listening.set_result,
        )
    )
    task.add_done_callback(lambda _: listening.cancel())
    try:
        try:
            await listening
        except asyncio.CancelledError:
            await task
        yield Running(port=listening.result(), metrics=metrics, task=task)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def peer_of(
    target: str,
    metrics: Metrics | None = None,
    key: str = KEY,
    clock: Callable[[], float] = time.time,
) -> Peer:
    """Return a peer that is not open yet."""
    return Peer(
        service="test",
        target=target,
        signer=Signer(key=key, clock=clock),
        metrics=metrics or Metrics(service="client"),
    )


async def call(peer: Peer, name: str, message: str = "", limit: timedelta = SOON) -> Message:
    """Call a method of the test service for Ada; `limit` is the call's deadline from now."""
    return await peer.call(
        method(name), Message(message=message), Message, identity=ADA, timeout=limit
    )


async def until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait until a condition holds that no event tells, for at most 15 s."""
    async with asyncio.timeout(15):
        while True:
            holds = condition()
            if await holds if isinstance(holds, Awaitable) else holds:
                return
            await asyncio.sleep(0.001)


def stand_still(seconds: float) -> None:
    """Let time pass in which the loop does nothing, on a loop whose time jumps."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, JumpingLoop)
    loop.jump(seconds)
