"""The door of `AgentService`: checks requests and owners, then asks the session."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc

from moorline.session.v1 import agents_pb2, agents_pb2_grpc
from services.chassis.failures import field_invalid
from services.chassis.identity import caller
from services.session.agent_settings import AgentSettings
from services.session.agent_source import AgentSource
from services.session.checks import check_backend, check_length
from services.session.forms import MessageAgents
from services.session.limits import Limits
from services.session.names import check_agent_id, parse_agent, parse_user, require_owner
from services.session.options import PATHS, check_options
from services.session.pages import Page, page_size, parse_token
from services.session.session import Session
from services.session.sessions import Sessions
from services.session.watches import Watches

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
Agent = agents_pb2.Agent

_TOKEN = re.compile(r"(0|[1-9][0-9]{0,11})\.(0|[1-9][0-9]{0,8})\.([a-z][a-z0-9-]{0,62})")
"""Seconds, nanoseconds and id of a page's last agent."""

_SETTINGS = ("display_name", "instructions", "backend", "permission_mode", *PATHS)


class AgentApi(agents_pb2_grpc.AgentServiceServicer):
    """Creates, finds, changes, deletes and lists agents."""

    def __init__(self, *, sessions: Sessions, watches: Watches, limits: Limits) -> None:
        self._sessions = sessions
        self._watches = watches
        self._limits = limits

    async def CreateAgent(
        self, request: agents_pb2.CreateAgentRequest, context: Context
    ) -> agents_pb2.CreateAgentResponse:
        """Create an agent; see `agents.proto`."""
        user = parse_user("parent", request.parent)
        if request.agent_id:
            check_agent_id("agent_id", request.agent_id)
        settings = self._settings(request.agent, _SETTINGS)
        require_owner(user, caller())
        agent = await self._sessions.with_session(
            user.user, lambda session: session.create(request.agent_id, settings)
        )
        return agents_pb2.CreateAgentResponse(agent=agent)

    async def GetAgent(
        self, request: agents_pb2.GetAgentRequest, context: Context
    ) -> agents_pb2.GetAgentResponse:
        """Return one agent; see `agents.proto`."""
        name = parse_agent("name", request.name)
        require_owner(name, caller())

        async def read(session: Session) -> Agent:
            return session.roster.get(name.agent)

        agent = await self._sessions.with_session(name.user, read)
        return agents_pb2.GetAgentResponse(agent=agent)

    async def ListAgents(
        self, request: agents_pb2.ListAgentsRequest, context: Context
    ) -> agents_pb2.ListAgentsResponse:
        """List agents, most recently active first; see `agents.proto`."""
        user = parse_user("parent", request.parent)
        size = page_size(request.page_size, default=50, most=200)
        after = _parse_token(request.page_token) if request.page_token else None
        require_owner(user, caller())

        async def read(session: Session) -> list[Agent]:
            return session.roster.messages()

        agents = await self._sessions.with_session(user.user, read)
        agents = [agent for agent in agents if after is None or _order(agent) > after]
        page: Page[Agent] = Page(size=size)
        for agent in agents:
            if page.full:
                break
            page.add(agent)
        more = len(page.entries) < len(agents)
        return agents_pb2.ListAgentsResponse(
            agents=page.entries, next_page_token=_token(page.entries[-1]) if more else ""
        )

    async def UpdateAgent(
        self, request: agents_pb2.UpdateAgentRequest, context: Context
    ) -> agents_pb2.UpdateAgentResponse:
        """Change settings; see `agents.proto`."""
        name = parse_agent("agent.name", request.agent.name)
        paths = tuple(request.update_mask.paths)
        if not paths or not set(paths) <= set(_SETTINGS):
            raise field_invalid("update_mask", f"name some of {', '.join(_SETTINGS)}")
        settings = self._settings(request.agent, paths)
        require_owner(name, caller())
        agent = await self._sessions.with_session(
            name.user,
            lambda session: session.update(name.agent, settings, etag=request.agent.etag),
        )
        return agents_pb2.UpdateAgentResponse(agent=agent)

    async def DeleteAgent(
        self, request: agents_pb2.DeleteAgentRequest, context: Context
    ) -> agents_pb2.DeleteAgentResponse:
        """Delete an agent; see `agents.proto`."""
        name = parse_agent("name", request.name)
        require_owner(name, caller())
        await self._sessions.with_session(
            name.user, lambda session: session.delete(name.agent, etag=request.etag)
        )
        return agents_pb2.DeleteAgentResponse()

    async def WatchAgents(
        self, request: agents_pb2.WatchAgentsRequest, context: Context
    ) -> AsyncIterator[agents_pb2.WatchAgentsResponse]:
        """Follow the list of agents; see `agents.proto`."""
        user = parse_user("parent", request.parent)
        require_owner(user, caller())
        session = await self._sessions.session(user.user)
        stream = self._watches.follow(
            agents_pb2.WatchAgentsResponse,
            lambda mark: AgentSource(agents=session.roster, form=MessageAgents(), mark=mark),
        )
        async for response in stream:
            yield response

    def _settings(self, agent: Agent, paths: tuple[str, ...]) -> AgentSettings:
        check_length("agent.display_name", agent.display_name, most=self._limits.display_name)
        check_length("agent.instructions", agent.instructions, most=self._limits.instructions)
        check_backend("agent.backend", agent.backend)
        mode = agent.permission_mode or Agent.PERMISSION_MODE_ASK
        if mode not in Agent.PermissionMode.values():
            raise field_invalid("agent.permission_mode", "be a known mode")
        options = check_options(agent)
        return AgentSettings(
            display_name=agent.display_name if "display_name" in paths else None,
            instructions=agent.instructions if "instructions" in paths else None,
            backend=agent.backend if "backend" in paths else None,
            permission_mode=mode if "permission_mode" in paths else None,
            options={name: getattr(options, name) for path, name in PATHS.items() if path in paths},
        )


def _order(agent: Agent) -> tuple[int, int, str]:
    time = agent.activity_time
    return (-time.seconds, -time.nanos, agent.name.rpartition("/")[2])


def _token(agent: Agent) -> str:
    seconds, nanos, agent_id = _order(agent)
    return f"{-seconds}.{-nanos}.{agent_id}"


def _parse_token(token: str) -> tuple[int, int, str]:
    seconds, nanos, agent_id = parse_token(_TOKEN, token).groups()
    return (-int(seconds), -int(nanos), agent_id)
