"""A gateway in memory that speaks the WebSocket protocol, for tests of the client.

It keeps the contract of `gateway/v1/frames.proto` faithfully and does on
request what a network and a bad day do: cut sockets, refuse, go silent, lose
replies.
"""

from __future__ import annotations

import asyncio
import http
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from services.local.ports import free_port
from tests.unit.moorline.scripted_platform import (
    TOKEN,
    USER,
    Json,
    Platform,
    RefusedError,
    error,
)


@dataclass
class Gateway:
    """The sockets of a platform.

    Attributes:
        platform: What it serves.
        refusals: Each refuses one upgrade: status, headers, body.
        sockets: Those open now.
        swallow: Names of calls that are done and whose next reply is cut off.
        mute: Names of calls that are never answered.
        heartbeat: What the welcome says about heartbeats.
        welcomes: How many connections there have been.
        token: The one that is good.
        expire_time: What the welcome says about the proof.
    """

    platform: Platform
    refusals: list[tuple[int, dict[str, str], str]] = field(default_factory=list)
    sockets: list[ServerConnection] = field(default_factory=list)
    swallow: list[str] = field(default_factory=list)
    mute: list[str] = field(default_factory=list)
    heartbeat: float = 20.0
    welcomes: int = 0
    token: str = TOKEN
    expire_time: str | None = None
    frames: list[Json] = field(default_factory=list)
    limits: Json = field(default_factory=dict)
    server: Server | None = None
    tokens: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen, on the same port as before."""
        # Where nobody else gets it while this gateway is away, as it might a port of the system's
        # choice.
        self.port = self.port or free_port()
        self.server = await serve(
            self._connection,
            "127.0.0.1",
            self.port,
            subprotocols=["moorline.v1"],  # type: ignore[list-item]
            process_request=self._upgrade,
            ping_interval=None,
            compression=None,
        )

    async def stop(self) -> None:
        """Stop listening and close every socket."""
        assert self.server is not None
        self.server.close(code=1012)
        await self.server.wait_closed()

    def cut(self) -> None:
        """Break every socket without a word."""
        for socket in self.sockets:
            socket.transport.abort()

    async def close_all(self, code: int, reason: str = "") -> None:
        """Close every socket with a code."""
        for socket in list(self.sockets):
            await socket.close(code, reason)

    async def send_all(self, frame: Json) -> None:
        """Send a frame on every socket."""
        for socket in list(self.sockets):
            await socket.send(json.dumps(frame))

    def _upgrade(self, socket: ServerConnection, request: Request) -> Response | None:
        if self.refusals:
            status, headers, body = self.refusals.pop(0)
            return Response(status, "Refused", Headers(headers), body.encode())
        if request.path != "/v1/ws":
            return socket.respond(http.HTTPStatus.NOT_FOUND, "not here")
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        self.tokens.append(token)
        if token != self.token:
            body = json.dumps(error("TOKEN_INVALID", "Get a token."))
            return Response(401, "Unauthorized", Headers(), body.encode())
        return None

    async def _connection(self, socket: ServerConnection) -> None:
        self.sockets.append(socket)
        streams: dict[int, asyncio.Task[None]] = {}
        try:
            self.frames.append(json.loads(await socket.recv()))
            self.welcomes += 1
            welcome: Json = {
                "user": USER,
                "version": "1.2.3",
                "heartbeatInterval": f"{self.heartbeat}s",
                "limits": self.limits,
            }
            if self.expire_time:
                welcome["expireTime"] = self.expire_time
            await socket.send(json.dumps({"id": 0, "welcome": welcome}))
            async for message in socket:
                await self._frame(socket, json.loads(message), streams)
        except ConnectionClosed:
            pass
        finally:
            self.sockets.remove(socket)
            for task in streams.values():
                task.cancel()

    async def _frame(
        self, socket: ServerConnection, frame: Json, streams: dict[int, asyncio.Task[None]]
    ) -> None:
        self.frames.append(frame)
        number = frame["id"]
        name = next(key for key in frame if key != "id")
        if name == "cancel":
            task = streams.pop(number, None)
            if task:
                task.cancel()
                await socket.send(json.dumps({"id": number, "end": {}}))
            return
        if name in {"watchEvents", "watchAgents"}:
            watch = self._watch_events if name == "watchEvents" else self._watch_agents
            streams[number] = asyncio.create_task(self._stream(socket, number, watch, frame[name]))
            return
        try:
            reply = self.platform.call(name, frame[name])
        except RefusedError as refusal:
            await socket.send(json.dumps({"id": number, "error": refusal.error}))
            return
        if name in self.swallow:
            self.swallow.remove(name)
            socket.transport.abort()
            return
        if name in self.mute:
            return
        member = "authenticated" if name == "authenticate" else f"{name}Response"
        await socket.send(json.dumps({"id": number, member: reply}))

    async def _stream(
        self,
        socket: ServerConnection,
        number: int,
        watch: Callable[[Json], AsyncIterator[Json]],
        request: Json,
    ) -> None:
        try:
            async for reply in watch(request):
                await socket.send(json.dumps({"id": number, **reply}))
        except RefusedError as refusal:
            await socket.send(json.dumps({"id": number, "error": refusal.error}))
        except ConnectionClosed:
            pass

    async def _watch_events(self, request: Json) -> AsyncIterator[Json]:
        if self.platform.refuse_next:
            raise self.platform.refuse_next.pop(0)
        agent = self.platform.agent(request["parent"])
        after = request["afterSequence"]
        if after > len(agent.events) or request["logId"] not in ("", agent.log_id):
            head = {"headSequence": str(len(agent.events))}
            raise RefusedError("SEQUENCE_UNKNOWN", "Not in this history.", metadata=head)
        updates: list[Json] = [{"event": event} for event in agent.events[after:]]
        if request["includeDeltas"]:
            updates += [{"delta": dict(delta)} for delta in agent.open.values()]
        updates.append({"checkpoint": {"sequence": len(agent.events), "logId": agent.log_id}})
        queue: asyncio.Queue[Json] = asyncio.Queue()
        agent.watchers.append(queue)
        try:
            yield {"watchEventsResponse": {"updates": updates}}
            while True:
                update = await queue.get()
                if "event" in update or request["includeDeltas"]:
                    yield {"watchEventsResponse": {"updates": [update]}}
        finally:
            agent.watchers.remove(queue)

    async def _watch_agents(self, request: Json) -> AsyncIterator[Json]:
        updates: list[Json] = [{"agent": agent.fields} for agent in self.platform.agents.values()]
        updates.append({"checkpoint": {}})
        queue: asyncio.Queue[Json] = asyncio.Queue()
        self.platform.changes.append(queue)
        try:
            yield {"watchAgentsResponse": {"updates": updates}}
            while True:
                yield {"watchAgentsResponse": {"updates": [await queue.get()]}}
        finally:
            self.platform.changes.remove(queue)


@asynccontextmanager
async def scripted_gateway() -> AsyncIterator[Gateway]:
    """A gateway on a free port, with a platform of its own."""
    gateway = Gateway(Platform())
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.stop()
        gateway.platform.close()
        await asyncio.gather(*gateway.platform.tasks, return_exceptions=True)
