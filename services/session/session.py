"""The live, in-memory state of one user: the list of agents, and those in use.

Does not know other users, nor gRPC.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

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
from services.session.history import History, Position, Segment
from services.session.names import AgentName, UserName
from services.session.outcomes import moved
from services.session.ownership import Lease
from services.session.records import (
    WORK,
    AgentRecord,
    read_agent,
    user_work_range,
)
from services.session.store import Create, Delete, Document, StoreConflict
from services.session.takeover import fence


@dataclass(slots=True)
class _Held:
    record: AgentRecord
    live: LiveAgent | None = None
    # True while another owner may still append to its log.
    contested: bool = False


class Session:
    """One user's agents, the only writer of their documents.

    Also the `Owner` of its loaded agents and the `AgentList` that is followed.

    Args:
        environment: What it works with.
        user: Id of the user.
        lease: The right to serve the user.
        delete_workspace: Begins to remove the files of an agent that is gone.
    """

    __slots__ = (
        "_agents",
        "_burials",
        "_calls",
        "_delete_workspace",
        "_environment",
        "_followers",
        "_leaving",
        "_loaded",
        "_lock",
        "_user",
        "closed",
        "lease",
        "used",
    )

    def __init__(
        self,
        *,
        environment: Environment,
        user: str,
        lease: Lease,
        delete_workspace: Callable[[AgentName, str], None],
    ) -> None:
        self._environment = environment
        self._user = user
        self.lease = lease
        self.closed = False
        """True once another session, here or elsewhere, may be the user's."""
        self._delete_workspace = delete_workspace
        self._agents: dict[str, _Held] = {}
        self._followers: list[AgentFollower] = []
        self._loaded = False
        self._burials = 0  # Deletions whose documents are not all removed.
        self._calls = 0
        # Called when no turn runs, if the user shall be served elsewhere.
        self._leaving: Callable[[], None] | None = None
        # Loading, creating and deleting an agent exclude each other.
        self._lock = asyncio.Lock()
        self.used = asyncio.get_running_loop().time()
        """Loop time of the last use."""

    @property
    def busy(self) -> bool:
        """True while somebody follows the list, or an agent is busy or being changed."""
        return (
            bool(self._followers or self._burials or self._calls)
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
            work: Sequence[Document] = ()
            if self.lease.epoch:
                after, before = user_work_range(self._user)
                work = await self._environment.store.read(WORK, after=after, before=before)
            for document in documents:
                self._add(document, contested=self.lease.contested)
            self._loaded = True
        for entry in work:
            # At once, as nobody else will: we are the owner.
            self._environment.tasks.spawn(self._take_up_surely(entry), name="take-up")

    async def agent(self, agent_id: str) -> LiveAgent:
        """Return an agent, loaded if need be.

        Raises:
            Failure: RESOURCE_NOT_FOUND, STORE_UNAVAILABLE.
        """
        live = self._held(agent_id).live
        if live is None or live.log.fenced:
            async with self._lock:
                if self.closed:
                    raise moved()
                live = await self._loaded_agent(self._held(agent_id))
        live.used = self.used
        return live

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the session from being given back during a call."""
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1

    async def take_up(self, entry: Document) -> None:
        """See to something that has not ended, unless that is happening already.

        Args:
            entry: What `work` has about it.

        Raises:
            Failure: STORE_UNAVAILABLE.
        """
        fields = entry.fields
        name = AgentName(self._user, fields["agent"])
        if fields["kind"] == "deletion":
            async with self._lock:
                await delete_documents(self._environment.store, name)
            self._delete_workspace(name, fields["workspace"])
            return
        held = self._agents.get(name.agent)
        if held is not None and held.live is not None and not held.live.log.fenced:
            await self._take_up_turn(held.live, entry)
            return
        if held is None and not await self._found(name, entry):
            return
        await self.agent(name.agent)

    def when_free(self, leave: Callable[[], None]) -> None:
        """Have something called as soon as no turn runs: the user shall be served elsewhere."""
        self._leaving = leave
        self._leave_if_free()

    def holds_back(self) -> bool:
        """See `agents.Owner`."""
        return self._leaving is not None and not self._running()

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
            self._agents.pop(agent_id, None)
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
        self._leave_if_free()

    def fenced(self, agent_id: str) -> None:
        """Hear that an agent must be loaded anew; see `agents.Owner`."""
        held = self._agents.get(agent_id)
        if held is None or held.live is None:
            return
        held.live.close(moved())
        held.live = None
        held.contested = bool(self.lease.epoch)
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

    def wanted(self) -> bool:
        """Tell whether it is busy or was used a moment ago."""
        now = asyncio.get_running_loop().time()
        if self.busy:
            self.used = now
        return now - self.used < self._environment.limits.lease.total_seconds()

    def close(self, failure: Failure) -> None:
        """Let go of every agent, for good; followers end with a failure."""
        self.closed = True
        self._leaving = None
        for held in self._agents.values():
            if held.live is not None:
                held.live.close(failure)
        for follower in list(self._followers):
            follower.end(failure)

    async def settle(self) -> None:
        """Let go of running turns; wait until calls and appends in progress have ended."""
        for live in self._live():
            await live.settle()
        while self._calls or self._lock.locked() or any(not live.log.idle for live in self._live()):
            # A call in progress may begin something until it ends.
            await asyncio.sleep(_SETTLE_SECONDS)
            for live in self._live():
                await live.settle()

    def _live(self) -> list[LiveAgent]:
        return [held.live for held in self._agents.values() if held.live is not None]

    def _running(self) -> bool:
        return any(live.running for live in self._live())

    def _leave_if_free(self) -> None:
        if self._leaving is not None and not self._running():
            leave, self._leaving = self._leaving, None
            leave()

    def _add(self, document: Document, *, contested: bool) -> None:
        record = read_agent(self._user, document)
        if not record.deleted and document.id not in self._agents:
            self._agents[document.id] = _Held(record, contested=contested)

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
            await self._environment.store.commit([Create(str(name), record.fields())])
        except StoreConflict:
            # A commit of ours whose answer was lost: the document tells.
            return await self._adopt(name, settings)
        held = self._agents[agent_id] = _Held(record)
        return held

    async def _adopt(self, name: AgentName, settings: AgentSettings) -> _Held:
        document = await self._environment.store.get(str(name))
        record = read_agent(self._user, document) if document is not None else None
        if record is None or record.deleted or record.origin != settings.digest:
            raise _exists(name)
        held = self._agents[name.agent] = _Held(record, contested=bool(self.lease.epoch))
        return held

    async def _bury(self, held: _Held) -> None:
        """Make an agent's document a tombstone, at whatever version it is."""
        store = self._environment.store
        document = await store.get(str(held.record.name))
        if document is None or document.fields["deleted"]:
            # An earlier call did, whose answer was lost.
            return
        record = read_agent(self._user, document)
        segments = []
        if self.lease.epoch:
            # As with everything in the log: an owner that is none any more fails.
            history = History(store=store, agent=record.name, log=record.log)
            tail = await history.tail()
            end = Segment(
                position=tail.end if tail is not None else Position(),
                nonce="",
                events=[],
                cursors={},
                epoch=self.lease.epoch,
            )
            await self.lease.confirm()
            segments = [Create(history.path(end.position), end.fields())]
        try:
            await begin_deletion(store, record, document.version, fence=segments)
        except StoreConflict:
            raise Failure(
                errors_pb2.ERROR_REASON_FENCED, "Another writer owns this agent. Call again."
            ) from None

    async def _clear(self, held: _Held) -> None:
        """Remove what a tombstone has, however long the store is away; then its files."""
        delay = FIRST_DELAY
        while not self.closed:
            try:
                async with self._lock:
                    await delete_documents(self._environment.store, held.record.name)
            except Failure:
                delay = await pause(delay)
            else:
                break
        self._burials -= 1
        if self.closed:
            # The next owner finds it in the list of work.
            return
        self._delete_workspace(held.record.name, held.record.workspace)

    async def _loaded_agent(self, held: _Held) -> LiveAgent:
        if held.live is not None and not held.live.log.fenced:
            return held.live
        store = self._environment.store
        name, log = held.record.name, held.record.log
        tail = await self._fenced_tail(held, log)
        # After the tail: once that is ours alone, so is the document.
        document = await store.get(str(name))
        if document is None or document.fields["deleted"]:
            self._gone(name.agent)
            raise not_found()
        record = held.record = read_agent(self._user, document)
        if record.log != log:
            # Deleted and made anew by the owner before us.
            held.contested = bool(self.lease.epoch)
            tail = await self._fenced_tail(held, record.log)
        live = LiveAgent(
            environment=self._environment,
            record=record,
            version=document.version,
            tail=tail,
            lease=self.lease,
            owner=self,
        )
        await live.resume()
        if self.closed:
            live.close(moved())
            raise moved()
        held.live = live
        self.changed(record.name.agent)
        return live

    async def _fenced_tail(self, held: _Held, log: str) -> Segment | None:
        """Return the newest segment of a log that nobody else can append to."""
        store = self._environment.store
        history = History(store=store, agent=held.record.name, log=log)
        if not held.contested:
            return await history.tail()
        await self.lease.confirm()
        tail = await fence(store, history, self.lease.epoch)
        held.contested = False
        return tail

    def _gone(self, agent_id: str) -> None:
        """Take off an agent that was deleted by another owner, or with its database."""
        held = self._agents.pop(agent_id, None)
        if held is not None and held.live is not None:
            held.live.close(not_found())
        self.changed(agent_id)

    async def _found(self, name: AgentName, entry: Document) -> bool:
        """Find the agent that an entry is about although the list lacks it."""
        store = self._environment.store
        document = await store.get(str(name))
        if document is None:
            # Left by an owner that was none any more, or before an outage.
            with suppress(StoreConflict):
                await store.commit([Delete(entry.path, entry.version)])
            return False
        self._add(document, contested=bool(self.lease.epoch))
        self.changed(name.agent)
        return name.agent in self._agents

    async def _take_up_turn(self, live: LiveAgent, entry: Document) -> None:
        """Load an agent anew that does not know a turn of its own."""
        turn_id = entry.fields["turn"]
        if live.knows(turn_id):
            return
        there = await self._environment.store.get(entry.path)
        if there is not None and not live.knows(turn_id) and not live.log.fenced:
            self.fenced(entry.fields["agent"])

    async def _take_up_surely(self, entry: Document) -> None:
        delay = FIRST_DELAY
        while not self.closed:
            try:
                await self.take_up(entry)
            except Failure as failure:
                if failure.reason == errors_pb2.ERROR_REASON_RESOURCE_NOT_FOUND:
                    return
                delay = await pause(delay)
            else:
                return

    def _reload_later(self, agent_id: str) -> None:
        self._environment.tasks.spawn(self._reload(agent_id), name="agent-reload")

    async def _reload(self, agent_id: str) -> None:
        """Load an agent again so that its turns go on, however long the store is away."""
        delay = FIRST_DELAY
        while agent_id in self._agents and not self.closed:
            try:
                await self.lease.verify()
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


_SETTLE_SECONDS = 0.005


def _exists(name: AgentName) -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_RESOURCE_EXISTS,
        "This agent was created before with other content. Use a new id.",
        resource=str(name),
    )
