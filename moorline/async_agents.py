"""The user's agents as the asynchronous client finds and follows them.

Knows the calls of the protocol by name, and nothing of sockets.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from moorline.async_agent import AsyncAgent, make_agent
from moorline.calls import Json
from moorline.connection import Connection
from moorline.paging import read_pages
from moorline.resources import PermissionMode
from moorline.watching import LiveStream


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRemoved:
    """An agent was deleted.

    Attributes:
        name: `users/{user}/agents/{agent}`.
    """

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentsListed:
    """Every agent that existed when the watch began, or began again, has been sent.

    Attributes:
        names: All of them; an agent known before and not among them is gone.
    """

    names: frozenset[str]


class AgentStream(LiveStream[AsyncAgent | AgentRemoved | AgentsListed]):
    """A user's list of agents as it changes."""

    def __init__(self, connection: Connection) -> None:
        parent = connection.welcome["user"]
        super().__init__(connection.stream("watchAgents", lambda: {"parent": parent}))
        self._connection = connection
        self._names: set[str] = set()

    def _begun(self) -> None:
        self._names.clear()

    def _read(self, reply: Json) -> Iterator[AsyncAgent | AgentRemoved | AgentsListed]:
        for update in reply.get("updates", ()):
            if "agent" in update:
                self._names.add(update["agent"]["name"])
                yield make_agent(update["agent"], self._connection)
            elif "removed" in update:
                self._names.discard(update["removed"])
                yield AgentRemoved(name=update["removed"])
            elif "checkpoint" in update:
                yield AgentsListed(names=frozenset(self._names))


class AsyncAgents:
    """The user's agents."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def create(
        self,
        *,
        agent_id: str | None = None,
        display_name: str = "",
        instructions: str = "",
        backend: str = "",
        permission_mode: PermissionMode | str = PermissionMode.ASK,
        model: str = "",
        turn_budget_usd_micros: int = 0,
        budget_usd_micros: int = 0,
        max_steps: int = 0,
        allowed_rules: Sequence[str] = (),
    ) -> AsyncAgent:
        """Create an agent.

        Args:
            agent_id: Your own id, `[a-z][a-z0-9-]{0,62}`; None for a random one.
            display_name: For people, at most 63 characters.
            instructions: Appended to its standing instructions.
            backend: What runs its turns, for example `simulation`; empty for
                the platform's default.
            permission_mode: What it may do without asking.
            model: Model that answers; empty for the backend's default.
            turn_budget_usd_micros: What one turn may cost, in millionths of a US dollar;
                0 for no limit.
            budget_usd_micros: What all turns together may cost; 0 for no limit.
            max_steps: Answers of the model one turn may take; 0 for no limit.
            allowed_rules: Uses of tools that need no question, for example `Edit` or
                `Bash(npm test:*)`.

        Raises:
            ConflictError: The id was used before with other settings.
        """
        request = {
            "parent": self._user,
            # Made here, so that a repetition after a break finds the first one.
            "agentId": agent_id or f"a{uuid.uuid4().hex[:12]}",
            "agent": {
                "displayName": display_name,
                "instructions": instructions,
                "backend": backend,
                "permissionMode": PermissionMode(permission_mode).wire,
                "model": model,
                "turnBudgetUsdMicros": turn_budget_usd_micros,
                "budgetUsdMicros": budget_usd_micros,
                "maxSteps": max_steps,
                "allowedRules": list(allowed_rules),
            },
        }
        reply = await self._connection.call("createAgent", request)
        return make_agent(reply["agent"], self._connection)

    async def get(self, agent: str) -> AsyncAgent:
        """Read one agent.

        Args:
            agent: Its id, or its whole name.
        """
        reply = await self._connection.call("getAgent", {"name": self._name(agent)})
        return make_agent(reply["agent"], self._connection)

    async def list(self, *, limit: int | None = None) -> tuple[AsyncAgent, ...]:
        """List agents, most recently active first.

        Args:
            limit: At most this many; None for all.
        """
        request = {"parent": self._user}
        found = await read_pages(self._connection, "listAgents", request, "agents", limit)
        return tuple(make_agent(agent, self._connection) for agent in found)

    async def update(self, agent: str, **settings: Any) -> AsyncAgent:
        """Change settings of an agent; see `AsyncAgent.update`."""
        handle = AsyncAgent(name=self._name(agent), connection=self._connection)
        return await handle.update(**settings)

    async def delete(self, agent: str) -> None:
        """Delete an agent with its history and files, and cancel what runs."""
        await AsyncAgent(name=self._name(agent), connection=self._connection).delete()

    def watch(self) -> AgentStream:
        """Follow the list: each agent, then `AgentsListed`, then each change."""
        return AgentStream(self._connection)

    @property
    def _user(self) -> str:
        return str(self._connection.welcome["user"])

    def _name(self, agent: str) -> str:
        return agent if "/" in agent else f"{self._user}/agents/{agent}"
