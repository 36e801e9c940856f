"""The synchronous client: the names of `AsyncClient`, without `await`.

    with moorline.Client() as client:
        print(client.run("Fix the failing test.").text)

Everything is done by an `AsyncClient` on a background thread; nothing here
knows the protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from moorline.aio import AsyncClient
from moorline.async_agent import AsyncAgent
from moorline.async_agents import AgentRemoved, AgentsListed
from moorline.bridge import Bridge
from moorline.checks import Check
from moorline.connection import ConnectionState, Patience
from moorline.resources import Backend, Key, MonthlyUsage, NewKey, PermissionMode
from moorline.sync_agent import SyncAgent, SyncDecision
from moorline.turn_stream import TurnResult


class Client:
    """A connection of one user; see `AsyncClient`.

    May be used from several threads. Connects when it is made; leave it with
    `close()` or by using it as a context manager.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        context: str | None = None,
        *,
        token_file: Path | None = None,
        patience: Patience | None = None,
        on_state: Callable[[ConnectionState], None] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Connect; the arguments are those of `AsyncClient`.

        Raises:
            MoorlineError: No server is known, it cannot be reached, or refuses.
        """
        self._twin = AsyncClient(
            url,
            token,
            context,
            token_file=token_file,
            patience=patience,
            on_state=on_state,
            environ=environ,
        )
        self._bridge = Bridge()
        self.agents = SyncAgents(self._twin, self._bridge)
        self.keys = SyncKeys(self._twin, self._bridge)
        try:
            self._bridge.run(self._twin.__aenter__())
        except BaseException:
            self._bridge.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave; what the agents do goes on. Doing it again changes nothing."""
        with suppress(RuntimeError):
            self._bridge.run(self._twin.close())
        self._bridge.close()

    @property
    def user(self) -> str:
        """`users/{user}`: who the server takes the client for."""
        return self._twin.user

    @property
    def server_version(self) -> str:
        """Version of the server, for people."""
        return self._twin.server_version

    def backends(self) -> tuple[Backend, ...]:
        """Every way of running agents there is, available or not."""
        return self._bridge.run(self._twin.backends())

    def usage(self, month: str = "current") -> MonthlyUsage:
        """What all agents of the user consumed in a month; see `AsyncClient.usage`."""
        return self._bridge.run(self._twin.usage(month))

    def diagnose(self) -> tuple[Check, ...]:
        """Look at everything that agents need; see `AsyncClient.diagnose`."""
        return self._bridge.run(self._twin.diagnose())

    def run(
        self,
        prompt: str,
        *,
        agent: str | SyncAgent | None = None,
        on_permission: SyncDecision | None = None,
    ) -> TurnResult:
        """Run one turn to its end; see `AsyncClient.run`.

        Raises:
            TurnFailedError: The turn did not finish.
        """
        if agent is None:
            agent = self.agents.create()
        elif isinstance(agent, str):
            agent = self.agents.get(agent)
        with agent.run(prompt, on_permission=on_permission) as stream:
            stream.wait()
        return stream.result_or_raise()


class SyncAgents:
    """The user's agents; see `AsyncAgents`."""

    def __init__(self, client: AsyncClient, bridge: Bridge) -> None:
        self._twin = client.agents
        self._bridge = bridge

    def create(
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
    ) -> SyncAgent:
        """Create an agent; see `AsyncAgents.create`."""
        agent = self._twin.create(
            agent_id=agent_id,
            display_name=display_name,
            instructions=instructions,
            backend=backend,
            permission_mode=permission_mode,
            model=model,
            turn_budget_usd_micros=turn_budget_usd_micros,
            budget_usd_micros=budget_usd_micros,
            max_steps=max_steps,
            allowed_rules=allowed_rules,
        )
        return SyncAgent.of(self._bridge.run(agent), self._bridge)

    def get(self, agent: str) -> SyncAgent:
        """Read one agent by its id or its whole name."""
        return SyncAgent.of(self._bridge.run(self._twin.get(agent)), self._bridge)

    def list(self, *, limit: int | None = None) -> tuple[SyncAgent, ...]:
        """List agents, most recently active first."""
        found = self._bridge.run(self._twin.list(limit=limit))
        return tuple(SyncAgent.of(agent, self._bridge) for agent in found)

    def update(self, agent: str, **settings: Any) -> SyncAgent:
        """Change settings of an agent; see `AsyncAgent.update`."""
        changed = self._bridge.run(self._twin.update(agent, **settings))
        return SyncAgent.of(changed, self._bridge)

    def delete(self, agent: str) -> None:
        """Delete an agent with its history and files, and cancel what runs."""
        self._bridge.run(self._twin.delete(agent))

    def watch(self) -> Iterator[SyncAgent | AgentRemoved | AgentsListed]:
        """Follow the list: each agent, then `AgentsListed`, then each change."""
        stream = self._twin.watch()
        try:
            while True:
                change = self._bridge.run(stream.__anext__())
                if isinstance(change, AsyncAgent):
                    yield SyncAgent.of(change, self._bridge)
                else:
                    yield change
        finally:
            self._bridge.run(stream.aclose())


class SyncKeys:
    """API keys: how programs prove who they act for; see `AsyncKeys`."""

    def __init__(self, client: AsyncClient, bridge: Bridge) -> None:
        self._twin = client.keys
        self._bridge = bridge

    def create(
        self, *, user: str | None = None, display_name: str = "", ttl: timedelta | None = None
    ) -> NewKey:
        """Make a key; its secret is in the result and nowhere else, ever."""
        key = self._twin.create(user=user, display_name=display_name, ttl=ttl)
        return self._bridge.run(key)

    def list(self, *, user: str | None = None) -> tuple[Key, ...]:
        """Every key of a user, oldest first, revoked and expired ones included."""
        return self._bridge.run(self._twin.list(user=user))

    def revoke(self, key: str, *, user: str | None = None) -> Key:
        """Revoke a key; doing it again changes nothing."""
        return self._bridge.run(self._twin.revoke(key, user=user))
