"""What tests of the connection say and hear."""

from __future__ import annotations

from typing import Any

import orjson

from moorline.executor.v1 import backends_pb2
from services.gateway.auth.verifier import Principal
from services.gateway.connection import Connection
from tests.unit.gateway.fakes import (
    ADA,
    Bench,
    FakeSocket,
    settle,
)


def say(connection: Connection, **frame: Any) -> None:
    """Send a frame as text."""
    connection.receive(orjson.dumps(frame), binary=False)


async def opened(b: Bench, principal: Principal = ADA) -> tuple[Connection, FakeSocket]:
    """A connection that has made a call and was welcomed."""
    b.peers.answers["list_backends"] = backends_pb2.ListBackendsResponse()
    connection, socket = b.connect(principal)
    say(connection, id=1, listBackends={})
    await settle()
    socket.take()
    return connection, socket


def reasons(socket: FakeSocket) -> list[tuple[int, str]]:
    """Numbers and reasons of the errors sent since the last time."""
    return [
        (frame["id"], frame["error"]["reason"].removeprefix("ERROR_REASON_"))
        for frame in socket.take()
        if "error" in frame
    ]
