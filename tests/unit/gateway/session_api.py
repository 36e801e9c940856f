"""A session service whose answers a test decides, on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from moorline.session.v1 import (
    agents_pb2,
    agents_pb2_grpc,
    feed_pb2,
    feed_pb2_grpc,
    keys_pb2,
    keys_pb2_grpc,
    sessions_pb2,
    sessions_pb2_grpc,
)
from services.chassis.failures import not_found
from services.chassis.feed import Feeds
from services.chassis.identity import Identity, caller
from services.gateway.auth.verifier import token_invalid
from tests.unit.chassis.service import running

KEY = "users/ada/keys/aaaaaaaa"
SECRET = "moorline_aaaaaaaa_" + "x" * 32

Update = feed_pb2.EncodedUpdate


class Script:
    """A source of a feed: gives its updates once and stays."""

    done = False

    def __init__(self, updates: Sequence[Update]) -> None:
        self.updates = list(updates)

    def take(self, budget: int, news: feed_pb2.SubscribedUpdates) -> tuple[int, bool]:
        """See `Source`."""
        news.updates.extend(self.updates)
        taken, self.updates = len(self.updates), []
        return taken, False

    def close(self) -> None:
        """See `Source`."""


@dataclass
class FakeSession:
    """What the service knows, and what it was asked.

    Attributes:
        keys: By secret.
        tickets: The use of each ticket that was used.
        revoked: Names of the keys that were revoked somewhere.
        updates: What every subscription begins with.
        time: The database's, in seconds since the epoch; 0 when it is not told.
        asked: The methods called, with the identity.
        places: Workspace and executor of each agent.
    """

    keys: dict[str, keys_pb2.Key] = field(default_factory=lambda: {SECRET: keys_pb2.Key(name=KEY)})
    tickets: dict[str, str] = field(default_factory=dict)
    revoked: list[str] = field(default_factory=list)
    updates: list[Update] = field(default_factory=list)
    asked: list[tuple[str, Identity]] = field(default_factory=list)
    time: int = 0
    scripts: list[tuple[int, Script]] = field(default_factory=list)
    feed_ids: list[str] = field(default_factory=list)
    target: str = ""
    places: dict[str, tuple[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Answers wait for it.
        self.gate = asyncio.Event()
        self.gate.set()
        self.feeds: Feeds[feed_pb2.SubscribedUpdates, feed_pb2.OpenFeedResponse] = Feeds(
            response=self._response, empty=self._response
        )

    def push(self, *updates: Update) -> None:
        """Bring updates to the newest subscription."""
        number, script = self.scripts[-1]
        script.updates += updates
        self.feeds.get(self.feed_ids[-1]).mark(number)

    def _response(self) -> feed_pb2.OpenFeedResponse:
        response = feed_pb2.OpenFeedResponse()
        if self.time:
            response.time.FromSeconds(self.time)
        return response

    def register(self, server: Any) -> None:
        """Add all services to a server."""
        keys_pb2_grpc.add_KeyServiceServicer_to_server(_Keys(self), server)  # type: ignore[abstract]
        agents_pb2_grpc.add_AgentServiceServicer_to_server(_Agents(self), server)  # type: ignore[abstract]
        feed_pb2_grpc.add_SessionFeedServiceServicer_to_server(_Feed(self), server)
        sessions_pb2_grpc.add_SessionServiceServicer_to_server(_Sessions(self), server)  # type: ignore[abstract]


class _Keys(keys_pb2_grpc.KeyServiceServicer):
    def __init__(self, state: FakeSession) -> None:
        self._state = state

    async def VerifyKey(self, request: keys_pb2.VerifyKeyRequest, context: Any) -> Any:
        self._state.asked.append(("VerifyKey", caller()))
        await self._state.gate.wait()
        key = self._state.keys.get(request.secret)
        if key is None or key.HasField("revoke_time"):
            raise token_invalid()
        return keys_pb2.VerifyKeyResponse(key=key)

    async def ListKeys(self, request: keys_pb2.ListKeysRequest, context: Any) -> Any:
        self._state.asked.append(("ListKeys", caller()))
        return keys_pb2.ListKeysResponse(keys=self._state.keys.values())

    async def RedeemTicket(self, request: keys_pb2.RedeemTicketRequest, context: Any) -> Any:
        use = self._state.tickets.setdefault(request.ticket, request.redemption)
        if use != request.redemption:
            raise token_invalid()
        return keys_pb2.RedeemTicketResponse()

    async def ListRevocations(self, request: keys_pb2.ListRevocationsRequest, context: Any) -> Any:
        response = keys_pb2.ListRevocationsResponse(keys=self._state.revoked)
        response.incomplete = not request.HasField("since_time")
        response.time.GetCurrentTime()
        return response

    async def RevokeKey(self, request: keys_pb2.RevokeKeyRequest, context: Any) -> Any:
        self._state.asked.append(("RevokeKey", caller()))
        for key in self._state.keys.values():
            if key.name == request.name:
                key.revoke_time.GetCurrentTime()
                return keys_pb2.RevokeKeyResponse(key=key)
        raise not_found()


class _Agents(agents_pb2_grpc.AgentServiceServicer):
    def __init__(self, state: FakeSession) -> None:
        self._state = state

    async def GetAgent(self, request: agents_pb2.GetAgentRequest, context: Any) -> Any:
        self._state.asked.append(("GetAgent", caller()))
        await self._state.gate.wait()
        if not request.name.startswith(caller().user + "/"):
            raise not_found()
        return agents_pb2.GetAgentResponse(agent=agents_pb2.Agent(name=request.name))


class _Sessions(sessions_pb2_grpc.SessionServiceServicer):
    def __init__(self, state: FakeSession) -> None:
        self._state = state

    async def LocateWorkspace(
        self, request: sessions_pb2.LocateWorkspaceRequest, context: Any
    ) -> sessions_pb2.LocateWorkspaceResponse:
        self._state.asked.append(("LocateWorkspace", caller()))
        place = self._state.places.get(request.name)
        if place is None or not request.name.startswith(caller().user + "/"):
            raise not_found()
        return sessions_pb2.LocateWorkspaceResponse(workspace=place[0], address=place[1])


class _Feed(feed_pb2_grpc.SessionFeedServiceServicer):
    def __init__(self, state: FakeSession) -> None:
        self._state = state

    async def OpenFeed(
        self, request: feed_pb2.OpenFeedRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[feed_pb2.OpenFeedResponse]:
        self._state.feed_ids.append(request.feed_id)
        async for response in self._state.feeds.open(request.feed_id, caller().user):
            yield response

    async def Subscribe(self, request: feed_pb2.SubscribeRequest, context: Any) -> Any:
        self._state.asked.append(("Subscribe", caller()))
        if not request.watch_events.parent.startswith(caller().user + "/"):
            raise not_found()
        script = Script(self._state.updates)
        self._state.scripts.append((request.subscription, script))
        self._state.feeds.get(request.feed_id).add(request.subscription, script)
        return feed_pb2.SubscribeResponse()

    async def Unsubscribe(self, request: feed_pb2.UnsubscribeRequest, context: Any) -> Any:
        self._state.asked.append(("Unsubscribe", caller()))
        self._state.feeds.get(request.feed_id).remove(request.subscription)
        return feed_pb2.UnsubscribeResponse()


@asynccontextmanager
async def fake_session(**changes: Any) -> AsyncIterator[FakeSession]:
    """Serve a fake session service until the block ends."""
    state = FakeSession(**changes)
    async with running(state.register) as server:
        state.target = server.target
        yield state
        await state.feeds.drain()
