"""Goes on with what an owner of a user has left unfinished: turns, and deletions.

Does not know how it is found.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol

from moorline.errors.v1 import errors_pb2
from services.chassis.backoff import Backoff
from services.chassis.failures import Failure
from services.session.agents import LiveAgent
from services.session.burials import Burials
from services.session.environment import Environment
from services.session.names import AgentName
from services.session.roster import Roster
from services.session.store import Delete, Document, StoreConflict


class Owner(Protocol):
    """Whose agents they are."""

    roster: Roster
    closed: bool

    async def agent(self, agent_id: str) -> LiveAgent:
        """Return an agent, loaded if need be."""
        ...

    def fenced(self, agent_id: str) -> None:
        """Hear that an agent must be loaded anew."""
        ...

    def add(self, document: Document, *, contested: bool) -> None:
        """Add an agent to the list, unless it is there or deleted."""
        ...


class TakingUp:
    """Takes up what has not ended, for one user.

    Args:
        environment: What it works with.
        user: Id of the user.
        owner: The user's session.
        burials: Sees to deletions.
    """

    __slots__ = ("_burials", "_environment", "_owner", "_user")

    def __init__(
        self, *, environment: Environment, user: str, owner: Owner, burials: Burials
    ) -> None:
        self._environment = environment
        self._user = user
        self._owner = owner
        self._burials = burials

    async def see_to(self, entry: Document) -> None:
        """See to something that has not ended, unless that is happening already.

        Args:
            entry: What `work` has about it.

        Raises:
            Failure: STORE_UNAVAILABLE.
        """
        fields = entry.fields
        name = AgentName(self._user, fields["agent"])
        if fields["kind"] == "deletion":
            await self._burials.finish(name, fields["workspace"])
            return
        held = self._owner.roster.agents.get(name.agent)
        if held is not None and held.live is not None and not held.live.log.fenced:
            await self._see_to_turn(held.live, entry)
            return
        if held is None and not await self._found(name, entry):
            return
        await self._owner.agent(name.agent)

    async def see_to_surely(self, entry: Document) -> None:
        """See to it however long the store is away."""
        backoff = Backoff()
        while not self._owner.closed:
            try:
                await self.see_to(entry)
            except Failure as failure:
                if failure.reason == errors_pb2.ERROR_REASON_RESOURCE_NOT_FOUND:
                    return
                await backoff.pause()
            else:
                return

    async def _see_to_turn(self, live: LiveAgent, entry: Document) -> None:
        """Load an agent anew that does not know a turn of its own."""
        turn_id = entry.fields["turn"]
        if live.knows(turn_id):
            return
        there = await self._environment.store.get(entry.path)
        if there is not None and not live.knows(turn_id) and not live.log.fenced:
            self._owner.fenced(entry.fields["agent"])

    async def _found(self, name: AgentName, entry: Document) -> bool:
        """Find the agent that an entry is about although the list lacks it."""
        store, roster = self._environment.store, self._owner.roster
        document = await store.get(str(name))
        if document is None:
            # Left by an owner that was none any more, or before an outage.
            with suppress(StoreConflict):
                await store.commit([Delete(entry.path, entry.version)])
            return False
        self._owner.add(document, contested=bool(roster.lease.epoch))
        return name.agent in roster.agents
