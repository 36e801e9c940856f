"""The live, in-memory state of one user: the list of agents, and those in use.

Does not know other users, nor gRPC.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import agents_pb2
from services.chassis.failures import Failure, not_found
from services.session.agent_settings import (
    AgentSettings,
    change,
    new_record,
    random_id,
    require_etag,
)
from services.session.agent_source import AgentFollower
from services.session.agents import LiveAgent
from services.session.deletion import begin_deletion, delete_documents
from services.session.deliveries import FIRST_DELAY, pause
from services.session.environment import Environment
from services.session.history import History
from services.session.names import AgentName, UserName
from services.session.records import AgentRecord, read_agent
from services.session.store import Create, StoreConflict


@dataclass(slots=True)
class _Held:
    record: AgentRecord
    version: str
    live: LiveAgent | None = None


class Session:
    """One user's agents, the only writer of their documents.

    Also the `Owner` of its loaded agents and the `AgentList` that is followed.

    Args:
        environment: What it works with.
        user: Id of the user.
        delete_workspace: Begins to remove the files of an agent that is gone.
    """

    __slots__ = (
        "_agents",
        "_burials",
        "_delete_workspace",
        "_environment",
        "_followers",
        "_loaded",
        "_lock",
        "_user",
        "used",
    )

    def __init__(
        self,
        *,
        environment: Environment,
        user: str,
        delete_workspace: Callable[[AgentName, str], None],
    ) -> None:
        self._environment = environment
        self._user = user
        self._delete_workspace = delete_workspace
        self._agents: dict[str, _Held] = {}
        self._followers: list[AgentFollower] = []
        self._loaded = False
        self._burials = 0  # Deletions whose documents are not all removed.
        # Loading, creating and deleting an agent exclude each other.
        self._lock = asyncio.Lock()
        self.used = asyncio.get_running_loop().time()
        """Loop time of the last use."""

    @property
    def busy(self) -> bool:
        """True while somebody follows the list, or an agent is busy or being changed."""
        return (
            bool(self._followers or self._burials)
            or self._lock.locked()
            or any(held.live is not None and held.live.busy for held in self._agents.values())
        )

    async def load(self) -> None:
        """Read the list of agents, once.

        Raises:
            Failure: STORE_UNAVAILABLE; the next call tries again.
        """
        self._touch()
        if self._loaded:
            return
        async with self._lock:
            if self._loaded:
                return
            # One page: a user's agents are limited to fewer.
            documents = await self._environment.store.read(f"{UserName(self._user)}/agents")
            for document in documents:
                record = read_agent(self._user, document)
                if not record.deleted:
                    self._agents[document.id] = _Held(record, document.version)
            self._loaded = True

    async def agent(self, agent_id: str) -> LiveAgent:
        """Return an agent, loaded if need be.

        Raises:
            Failure: RESOURCE_NOT_FOUND, STORE_UNAVAILABLE.
        """
        live = self._held(agent_id).live
        if live is None or live.log.fenced:
            async with self._lock:
                live = await self._loaded_agent(self._held(agent_id))
        live.used = self.used
        return live

    def get(self, agent_id: str) -> agents_pb2.Agent:
        """Return an agent as it is now.

        Raises:
            Failure: RESOURCE_NOT_FOUND.
        """
        return self._message(self._held(agent_id))

    async def create(self, agent_id: str, settings: AgentSettings) -> agents_pb2.Agent:
        """Create an agent, or return the one that the same call created before.

        Args:
            agent_id: Last part of its name; empty for a random one.
            settings: What it is; what is None is empty.

        Raises:
            Failure: RESOURCE_EXISTS, QUOTA_EXCEEDED, STORE_UNAVAILABLE.
        """
        async with self._lock:
            held = self._agents.get(agent_id)
            if held is None:
                held = await self._create(agent_id or random_id(), settings)
            elif held.record.origin != settings.digest:
                raise _exists(held.record.name)
        self.changed(held.record.name.agent)
        return self._message(held)

    async def update(
        self, agent_id: str, settings: AgentSettings, *, etag: str
    ) -> agents_pb2.Agent:
        """Change what is not None.

        Raises:
            Failure: RESOURCE_NOT_FOUND, ETAG_MISMATCH, STORE_UNAVAILABLE, FENCED.
        """
        live = await self.agent(agent_id)
        record = live.record
        require_etag(record, etag)
        change(record, settings, self._environment.clock.now())
        await live.save()
        return live.message()

    async def delete(self, agent_id: str, *, etag: str) -> None:
        """Delete an agent with everything it has; cancels what runs.

        Raises:
            Failure: RESOURCE_NOT_FOUND, ETAG_MISMATCH, STORE_UNAVAILABLE. After
                the last the agent may be deleted or not.
        """
        async with self._lock:
            held = self._held(agent_id)
            require_etag(held.record, etag)
            live, held.live = held.live, None
            if live is not None:
                # Its writes in flight first: they would change the version below.
                live.close(not_found())
                await live.log.settled()
            try:
                await self._bury(held)
            except Failure:
                # It lives on, and so must its turns.
                self._reload_later(agent_id)
                raise
            del self._agents[agent_id]
        self.changed(agent_id)
        self._burials += 1
        await asyncio.shield(
            self._environment.tasks.spawn(self._clear(held), name="agent-deletion")
        )

    def follow(self, follower: AgentFollower) -> None:
        """Add a follower; see `agent_source.AgentList`."""
        self._followers.append(follower)

    def leave(self, follower: AgentFollower) -> None:
        """Take a follower off; see `agent_source.AgentList`."""
        if follower in self._followers:
            self._followers.remove(follower)
        self._touch()

    def agent_ids(self) -> Sequence[str]:
        """Return the ids of all agents; see `agent_source.AgentList`."""
        return list(self._agents)

    def agent_name(self, agent_id: str) -> str:
        """Return an agent's name; see `agent_source.AgentList`."""
        return str(AgentName(self._user, agent_id))

    def find(self, agent_id: str) -> agents_pb2.Agent | None:
        """Return an agent as it is now, or None; see `agent_source.AgentList`."""
        held = self._agents.get(agent_id)
        return self._message(held) if held is not None else None

    def messages(self) -> list[agents_pb2.Agent]:
        """Return all agents as they are now, most recently active first."""
        agents = [self._message(held) for held in self._agents.values()]
        agents.sort(
            key=lambda agent: (
                -agent.activity_time.seconds,
                -agent.activity_time.nanos,
                agent.name,
            )
        )
        return agents

    def changed(self, agent_id: str) -> None:
        """Hear that an agent changed; see `agents.Owner`."""
        for follower in self._followers:
            follower.changed(agent_id)

    def fenced(self, agent_id: str) -> None:
        """Hear that an agent must be loaded anew; see `agents.Owner`."""
        held = self._agents.get(agent_id)
        if held is None or held.live is None:
            return
        held.live.close(
            Failure(
                errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
                "The agent moved. Watch again from the last number seen.",
                retry_delay=timedelta(milliseconds=100),
                service="session",
            )
        )
        held.live = None
        self._reload_later(agent_id)

    def evict_idle(self) -> bool:
        """Let go of agents that were idle for too long; return whether all is idle."""
        now = asyncio.get_running_loop().time()
        oldest = now - self._environment.limits.idle.total_seconds()
        for held in self._agents.values():
            if held.live is None:
                continue
            if held.live.busy:
                held.live.used = now
            elif held.live.used < oldest:
                self._unload(held)
        if self.busy:
            self.used = now
        return self.used < oldest and not self._live()

    def close(self) -> None:
        """Let go of every agent; none may be busy."""
        for held in self._agents.values():
            self._unload(held)

    async def settle(self) -> None:
        """Let go of running turns; wait until every append asked for has ended."""
        for live in self._live():
            await live.settle()

    def _live(self) -> list[LiveAgent]:
        return [held.live for held in self._agents.values() if held.live is not None]

    def _held(self, agent_id: str) -> _Held:
        held = self._agents.get(agent_id)
        if held is None:
            raise not_found()
        return held

    def _message(self, held: _Held) -> agents_pb2.Agent:
        return held.live.message() if held.live is not None else held.record.message()

    async def _create(self, agent_id: str, settings: AgentSettings) -> _Held:
        limit = self._environment.limits.agents
        if len(self._agents) >= limit:
            raise Failure(
                errors_pb2.ERROR_REASON_QUOTA_EXCEEDED,
                f"A user may have {limit} agents. Delete one first.",
                limit=str(limit),
                limitName="agents",
            )
        name = AgentName(self._user, agent_id)
        record = new_record(name, settings, self._environment.clock.now())
        # What an interrupted deletion left behind; nothing, else.
        await delete_documents(self._environment.store, name)
        try:
            committed = await self._environment.store.commit([Create(str(name), record.fields())])
        except StoreConflict:
            # A commit of ours whose answer was lost: the document tells.
            return await self._adopt(name, settings)
        held = self._agents[agent_id] = _Held(record, committed.versions[0])
        return held

    async def _adopt(self, name: AgentName, settings: AgentSettings) -> _Held:
        document = await self._environment.store.get(str(name))
        record = read_agent(self._user, document) if document is not None else None
        if document is None or record is None or record.origin != settings.digest:
            raise _exists(name)
        held = self._agents[name.agent] = _Held(record, document.version)
        return held

    async def _bury(self, held: _Held) -> None:
        """Make an agent's document a tombstone, at whatever version it is."""
        store = self._environment.store
        document = await store.get(str(held.record.name))
        if document is None or document.fields["deleted"]:
            # An earlier call did, whose answer was lost.
            return
        try:
            await begin_deletion(store, replace(held.record), document.version)
        except StoreConflict:
            raise Failure(
                errors_pb2.ERROR_REASON_FENCED, "Another writer owns this agent. Call again."
            ) from None

    async def _clear(self, held: _Held) -> None:
        """Remove what a tombstone has, however long the store is away; then its files."""
        delay = FIRST_DELAY
        while True:
            try:
                async with self._lock:
                    await delete_documents(self._environment.store, held.record.name)
            except Failure:
                delay = await pause(delay)
            else:
                break
        self._burials -= 1
        self._delete_workspace(held.record.name, held.record.workspace)

    async def _loaded_agent(self, held: _Held) -> LiveAgent:
        if held.live is not None and not held.live.log.fenced:
            return held.live
        document = await self._environment.store.get(str(held.record.name))
        if document is None:
            raise not_found()
        record = read_agent(self._user, document)
        tail = await History(store=self._environment.store, agent=record.name).tail()
        live = LiveAgent(
            environment=self._environment,
            record=record,
            version=document.version,
            tail=tail,
            owner=self,
        )
        await live.resume()
        held.record, held.live = record, live
        self.changed(record.name.agent)
        return live

    def _reload_later(self, agent_id: str) -> None:
        self._environment.tasks.spawn(self._reload(agent_id), name="agent-reload")

    async def _reload(self, agent_id: str) -> None:
        """Load an agent again so that its turns go on, however long the store is away."""
        delay = FIRST_DELAY
        while agent_id in self._agents:
            try:
                await self.agent(agent_id)
            except Failure:
                delay = await pause(delay)
            else:
                return

    def _unload(self, held: _Held) -> None:
        if held.live is not None:
            held.live.close(not_found())
            held.live = None

    def _touch(self) -> None:
        self.used = asyncio.get_running_loop().time()


def _exists(name: AgentName) -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_RESOURCE_EXISTS,
        "This agent was created before with other content. Use a new id.",
        resource=str(name),
    )
