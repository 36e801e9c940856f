"""`GET /v1/ws`: refuses before the upgrade, or makes a connection and runs it.

Does not know what frames mean.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from aiohttp import web
from prometheus_client import Counter, Gauge

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure, field_invalid
from services.gateway.closing import CloseCode
from services.gateway.connection import Connection
from services.gateway.connections import Connections
from services.gateway.credentials import Credentials, Proof, offered_subprotocols
from services.gateway.http_errors import Refusal
from services.gateway.limits import TokenBucket
from services.gateway.surroundings import Surroundings
from services.gateway.websocket import SUBPROTOCOL, WebSocket, can_upgrade

log = logging.getLogger(__name__)

_RETRY = timedelta(seconds=1)


class Door:
    """Lets clients in.

    Args:
        credentials: Finds out who they are.
        connections: Keeps them.
        surroundings: What their connections share.
        per_user: Connections of one user.
        upgrades_per_second: Admissions, sustained; four times as many at once.
        handshakes: `moorline_ws_handshakes_total`.
        open_connections: `moorline_ws_connections`.
    """

    def __init__(
        self,
        *,
        credentials: Credentials,
        connections: Connections,
        surroundings: Surroundings,
        per_user: int,
        upgrades_per_second: int,
        handshakes: Counter,
        open_connections: Gauge,
    ) -> None:
        self._credentials = credentials
        self._connections = connections
        self._surroundings = surroundings
        self._per_user = per_user
        self._bucket = TokenBucket(
            rate=upgrades_per_second, burst=4 * upgrades_per_second, now=surroundings.clock()
        )
        self._handshakes = handshakes
        self._open_connections = open_connections
        self.draining = False

    async def enter(self, request: web.Request) -> web.StreamResponse:
        """Answer the request; returns when its connection is over.

        Raises:
            Refusal: Before the upgrade, with a body that says what to do.
            Failure: Likewise, with the status that goes with it.
        """
        result = "refused"
        try:
            proof = await self._admit(request)
            socket = WebSocket(max_bytes=self._surroundings.limits.frame_bytes)
            await socket.upgrade(request)
            result = "accepted"
        finally:
            self._handshakes.labels(result).inc()
        connection = Connection(
            socket=socket,
            principal=proof.principal,
            recheck=proof.recheck,
            surroundings=self._surroundings,
        )
        if self._connections.count(proof.principal.user) >= self._per_user:
            # After the upgrade: a browser shows its page no other kind of refusal.
            self._surroundings.limited("connections")
            connection.close(
                CloseCode.TOO_MANY_CONNECTIONS, f"more than {self._per_user} connections"
            )
        await self._run(connection, socket)
        return socket.response

    async def _run(self, connection: Connection, socket: WebSocket) -> None:
        start = self._surroundings.clock()
        self._connections.add(connection)
        self._open_connections.inc()
        try:
            await socket.run(connection)
        finally:
            self._open_connections.dec()
            self._connections.remove(connection)
            log.info(
                "connection over",
                extra={
                    "user": connection.principal.user,
                    "code": connection.close_code,
                    "initiator": connection.close_initiator,
                    "frames": connection.frames,
                    "duration_ms": round((self._surroundings.clock() - start) * 1000),
                },
            )

    async def _admit(self, request: web.Request) -> Proof:
        if self.draining:
            raise Failure(
                errors_pb2.ERROR_REASON_DRAINING,
                "This server is shutting down. Connect again.",
                retry_delay=_RETRY,
            )
        if not self._bucket.take(self._surroundings.clock()):
            self._surroundings.limited("upgrades")
            raise Failure(
                errors_pb2.ERROR_REASON_RATE_LIMITED,
                "Too many clients connect at the moment. Wait, then connect again.",
                retry_delay=_RETRY,
                limitName="upgrades",
            )
        offered = offered_subprotocols(request)
        if SUBPROTOCOL not in offered:
            raise Refusal(
                field_invalid("Sec-WebSocket-Protocol", f"offer {SUBPROTOCOL!r}"),
                status=426,
                headers={"Upgrade": "websocket", "Sec-WebSocket-Protocol": SUBPROTOCOL},
            )
        if not can_upgrade(request):
            raise Refusal(
                field_invalid("request", "be a WebSocket handshake of version 13"),
                status=400,
                headers={"Sec-WebSocket-Version": "13"},
            )
        return await self._credentials.check(request, tickets=True)
