"""The live, in-memory state of one user: the list of agents, and those in use.

Does not know other users, nor gRPC.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import agents_pb2
from services.chassis.backoff import Backoff
from services.chassis.failures import Failure, not_found
from services.session.account import UsageSum
from services.session.agent_creation import agent_exists, create_agent
from services.session.agent_deletion import bury
from services.session.agent_record import read_agent
from services.session.agent_settings import (
    AgentSettings,
    change,
    new_record,
    random_id,
    require_etag,
)
from services.session.agents import LiveAgent
from services.session.burials import Burials
from services.session.environment import Environment
from services.session.loading import Gone, Held, load
from services.session.names import AgentName, UserName
from services.session.outcomes import moved
from services.session.ownership.ownership import Lease
from services.session.records import WORK, user_work_range
from services.session.roster import Roster
from services.session.spending import Spending
from services.session.store import Document
from services.session.taking_up import TakingUp

_SETTLE_SECONDS = 0.005


class Session:
    """One user's agents, the only writer of their documents.

    Also the `Loader` of its loaded agents.

    Args:
        environment: What it works with.
        user: Id of the user.
        lease: The right to serve the user.
        delete_workspace: Begins to remove the files of an agent that is gone.
    """

    __slots__ = (
        "_burials",
        "_calls",
        "_environment",
        "_leaving",
        "_loaded",
        "_lock",
        "_user",
        "closed",
        "lease",
        "roster",
        "spending",
        "taking_up",
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
        self.roster = Roster(user=user, lease=lease)
        """The list of agents."""
        self.spending = Spending(environment=environment, user=user, roster=self.roster)
        """What the agents consume."""
        self._loaded = False
        self._calls = 0
        # Called when no turn runs, if the user shall be served elsewhere.
        self._leaving: Callable[[], None] | None = None
        # Loading, creating and deleting an agent exclude each other.
        self._lock = asyncio.Lock()
        self._burials = Burials(
            environment=environment,
            lock=self._lock,
            delete_workspace=delete_workspace,
            closed=lambda: self.closed,
        )
        self.taking_up = TakingUp(
            environment=environment, user=user, owner=self, burials=self._burials
        )
        """Goes on with what an owner before has left."""
        self.used = asyncio.get_running_loop().time()
        """Loop time of the last use."""

    @property
    def busy(self) -> bool:
        """True while somebody follows the list, or an agent is busy or being changed."""
        return (
            bool(self.roster.followed or self._burials.open or self._calls)
            or self._lock.locked()
            or any(live.busy for live in self.roster.live())
        )

    async def load(self) -> None:
        """Read the list of agents, once.

        Raises:
            Failure: STORE_UNAVAILABLE; the next call tries again.
        """
        self.used = asyncio.get_running_loop().time()
        if self._loaded:
            return
        async with self._lock:
            if self._loaded:
                return
            work: Sequence[Document] = ()
            if self.lease.epoch:
                # First: what ends between the two reads is in the agent's document then.
                after, before = user_work_range(self._user)
                work = await self._environment.store.read(WORK, after=after, before=before)
            # One page: a user's agents are limited to fewer.
            documents = await self._environment.store.read(f"{UserName(self._user)}/agents")
            for document in documents:
                self.add(document, contested=self.lease.contested)
            if self._environment.limits.month_budget:
                # Before any turn begins, which must know what is left.
                await self.spending.load()
            self._loaded = True
        for entry in work:
            # At once, as nobody else will: we are the owner.
            self._environment.tasks.spawn(self.taking_up.see_to_surely(entry), name="take-up")

    async def agent(self, agent_id: str) -> LiveAgent:
        """Return an agent, loaded if need be.

        Raises:
            Failure: RESOURCE_NOT_FOUND, STORE_UNAVAILABLE.
        """
        live = self.roster.held(agent_id).live
        if live is None or live.log.fenced:
            async with self._lock:
                if self.closed:
                    raise moved()
                live = await self._load(self.roster.held(agent_id))
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

    def when_free(self, leave: Callable[[], None]) -> None:
        """Have something called as soon as no turn runs: the user shall be served elsewhere."""
        self._leaving = leave
        self._leave_if_free()

    def month_left(self) -> int | None:
        """See `loader.Loader`."""
        return self.spending.left()

    def consumed(self) -> None:
        """See `loader.Loader`."""
        self.spending.watch()

    def holds_back(self) -> bool:
        """See `loader.Loader`."""
        return self._leaving is not None and not self.roster.running

    async def create(self, agent_id: str, settings: AgentSettings) -> agents_pb2.Agent:
        """Create an agent, or return the one that the same call created before.

        Args:
            agent_id: Last part of its name; empty for a random one.
            settings: What it is; what is None is empty.

        Raises:
            Failure: RESOURCE_EXISTS, QUOTA_EXCEEDED, STORE_UNAVAILABLE.
        """
        async with self._lock:
            held = self.roster.agents.get(agent_id)
            if held is None:
                held = await self._create(agent_id or random_id(), settings)
            elif held.record.origin != settings.digest:
                raise agent_exists(held.record.name)
        self.changed(held.record.name.agent)
        return self.roster.get(held.record.name.agent)

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
            held = self.roster.held(agent_id)
            require_etag(held.record, etag)
            live, held.live = held.live, None
            try:
                await self._bury(held, live)
            except (Failure, asyncio.CancelledError):
                self.spending.doubt(held.record)
                # It lives on, for all we know, and so must its turns.
                self._reload_later(agent_id)
                raise
            self.roster.agents.pop(agent_id, None)
        self.changed(agent_id)
        await asyncio.shield(self._burials.begin(held.record))

    async def usage(self, month: str) -> UsageSum:
        """Return what turns that ended in a month consumed.

        Args:
            month: For example `2026-11`.

        Raises:
            Failure: STORE_UNAVAILABLE.
        """
        async with self._lock:
            await self.spending.load()
        return self.spending.month(month)

    def changed(self, agent_id: str) -> None:
        """Hear that an agent changed; see `loader.Loader`."""
        self.roster.changed(agent_id)
        self._leave_if_free()

    def fenced(self, agent_id: str) -> None:
        """Hear that an agent must be loaded anew; see `loader.Loader`."""
        held = self.roster.agents.get(agent_id)
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
        self.roster.evict_idle(now, oldest)
        self.used = now if self.busy else max(self.used, self.roster.left)
        return self.used < oldest and not self.roster.live()

    def wanted(self) -> bool:
        """Tell whether it is busy or was used a moment ago."""
        now = asyncio.get_running_loop().time()
        self.used = now if self.busy else max(self.used, self.roster.left)
        return now - self.used < self._environment.limits.lease.total_seconds()

    def close(self, failure: Failure) -> None:
        """Let go of every agent, for good; followers end with a failure."""
        self.closed = True
        self._leaving = None
        self.roster.end(failure)

    async def settle(self) -> None:
        """Let go of running turns; wait until calls and appends in progress have ended."""
        await self.roster.settle()
        while self._calls or self._lock.locked() or not self.roster.settled:
            # A call in progress may begin something until it ends.
            await asyncio.sleep(_SETTLE_SECONDS)
            await self.roster.settle()

    def _leave_if_free(self) -> None:
        if self._leaving is not None and not self.roster.running:
            leave, self._leaving = self._leaving, None
            leave()

    async def _bury(self, held: Held, live: LiveAgent | None) -> None:
        """Make an agent a tombstone; what it consumed counts on."""
        account = None
        if live is not None and not live.log.fenced:
            account = live.final_account(self._environment.clock.now())
        if live is not None:
            # Its writes in flight first: they would change the version.
            live.close(not_found())
            await live.log.settled()
        months = await bury(self._environment.store, self.lease, held.record.name, account)
        if months is not None:
            self.spending.deleted(months)

    def add(self, document: Document, *, contested: bool) -> None:
        """Add an agent to the list, unless it is there or deleted."""
        record = read_agent(self._user, document)
        if not record.deleted and document.id not in self.roster.agents:
            self.roster.agents[document.id] = Held(record, contested=contested)
            self.changed(document.id)

    async def _create(self, agent_id: str, settings: AgentSettings) -> Held:
        if len(self.roster.agents) >= (limit := self._environment.limits.agents):
            raise Failure(
                errors_pb2.ERROR_REASON_QUOTA_EXCEEDED,
                f"A user may have {limit} agents. Delete one first.",
                limit=str(limit),
                limitName="agents",
            )
        now = self._environment.clock.now()
        record = new_record(AgentName(self._user, agent_id), settings, now)
        try:
            stored = await create_agent(self._environment.store, self.lease, record)
        except (Failure, asyncio.CancelledError):
            # It may be there all the same: the list has to be read anew.
            self._loaded = False
            raise
        # One that was there already may be another owner's.
        contested = stored is not record and bool(self.lease.epoch)
        return self.roster.agents.setdefault(agent_id, Held(stored, contested=contested))

    async def _load(self, held: Held) -> LiveAgent:
        if held.live is not None and not held.live.log.fenced:
            return held.live
        agent_id = held.record.name.agent
        try:
            live = await load(self._environment, self.lease, held, self)
        except Gone as gone:
            self.roster.agents.pop(agent_id, None)
            if gone.tombstone:
                self._burials.begin(held.record)
            self.changed(agent_id)
            raise not_found() from None
        if self.closed:
            live.close(moved())
            raise moved()
        self.changed(agent_id)
        return live

    def _reload_later(self, agent_id: str) -> None:
        self._environment.tasks.spawn(self._reload(agent_id), name="agent-reload")

    async def _reload(self, agent_id: str) -> None:
        """Load an agent again so that its turns go on, however long the store is away."""
        backoff = Backoff()
        while agent_id in self.roster.agents and not self.closed:
            try:
                await self.lease.verify()
                await self.agent(agent_id)
            except Failure:
                await backoff.pause()
            else:
                return
