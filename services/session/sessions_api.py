"""The door of `SessionService`: lets a gateway move users, and find their agents' files."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import sessions_pb2, sessions_pb2_grpc
from services.chassis.failures import Failure
from services.chassis.identity import caller
from services.session.agents import LiveAgent
from services.session.names import parse_agent, parse_user, require_owner
from services.session.sessions import Sessions

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class SessionApi(sessions_pb2_grpc.SessionServiceServicer):
    """Gives users away, and says where agents' files are."""

    def __init__(self, *, sessions: Sessions) -> None:
        self._sessions = sessions

    async def ReleaseSession(
        self, request: sessions_pb2.ReleaseSessionRequest, context: Context
    ) -> sessions_pb2.ReleaseSessionResponse:
        """Let go of a user; see `sessions.proto`."""
        user = parse_user("name", request.name)
        if not caller().user.startswith("services/"):
            rule = "Only a service may move users."
            raise Failure(errors_pb2.ERROR_REASON_FORBIDDEN, rule, rule=rule)
        self._sessions.release(user.user)
        return sessions_pb2.ReleaseSessionResponse()

    async def LocateWorkspace(
        self, request: sessions_pb2.LocateWorkspaceRequest, context: Context
    ) -> sessions_pb2.LocateWorkspaceResponse:
        """Tell where an agent's files are; see `sessions.proto`."""
        name = parse_agent("name", request.name)
        require_owner(name, caller())

        async def locate(agent: LiveAgent) -> sessions_pb2.LocateWorkspaceResponse:
            address = await agent.locate()
            workspace = f"workspaces/{agent.record.workspace}"
            return sessions_pb2.LocateWorkspaceResponse(workspace=workspace, address=address)

        return await self._sessions.with_agent(name, locate)
