"""A user's list of agents, live: those in memory as they are, the rest as stored.

Does not know how agents come and go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from moorline.session.v1 import agents_pb2
from services.chassis.failures import Failure, not_found
from services.session.agent_source import AgentFollower
from services.session.agents import LiveAgent
from services.session.loading import Held, unload
from services.session.names import AgentName
from services.session.ownership.ownership import Lease


class Roster:
    """One user's agents; an `agent_source.AgentList`.

    Args:
        user: Id of the user.
        lease: The lease on the user.

    Attributes:
        agents: The agents by id.
        left: Loop time at which the last follower left.
    """

    __slots__ = ("_followers", "_user", "agents", "lease", "left")

    def __init__(self, *, user: str, lease: Lease) -> None:
        self._user = user
        self.lease = lease
        self.agents: dict[str, Held] = {}
        self.left = 0.0
        self._followers: list[AgentFollower] = []

    @property
    def followed(self) -> bool:
        """True while somebody follows."""
        return bool(self._followers)

    @property
    def running(self) -> bool:
        """True while a turn runs."""
        return any(live.running for live in self.live())

    @property
    def settled(self) -> bool:
        """True while nothing is being written."""
        return all(live.log.idle for live in self.live())

    def held(self, agent_id: str) -> Held:
        """Return an agent.

        Raises:
            Failure: RESOURCE_NOT_FOUND.
        """
        held = self.agents.get(agent_id)
        if held is None:
            raise not_found()
        return held

    def live(self) -> list[LiveAgent]:
        """Return the agents that are loaded."""
        return [held.live for held in self.agents.values() if held.live is not None]

    def get(self, agent_id: str) -> agents_pb2.Agent:
        """Return an agent as it is now.

        Raises:
            Failure: RESOURCE_NOT_FOUND.
        """
        return _message(self.held(agent_id))

    def messages(self) -> list[agents_pb2.Agent]:
        """Return all agents as they are now, most recently active first."""
        agents = [_message(held) for held in self.agents.values()]
        agents.sort(
            key=lambda agent: (
                -agent.activity_time.seconds,
                -agent.activity_time.nanos,
                agent.name,
            )
        )
        return agents

    def follow(self, follower: AgentFollower) -> None:
        """Add a follower; see `agent_source.AgentList`."""
        self._followers.append(follower)

    def leave(self, follower: AgentFollower) -> None:
        """Take a follower off; see `agent_source.AgentList`."""
        if follower in self._followers:
            self._followers.remove(follower)
        self.left = asyncio.get_running_loop().time()

    def agent_ids(self) -> Sequence[str]:
        """Return the ids of all agents; see `agent_source.AgentList`."""
        return list(self.agents)

    def agent_name(self, agent_id: str) -> str:
        """Return an agent's name; see `agent_source.AgentList`."""
        return str(AgentName(self._user, agent_id))

    def find(self, agent_id: str) -> agents_pb2.Agent | None:
        """Return an agent as it is now, or None; see `agent_source.AgentList`."""
        held = self.agents.get(agent_id)
        return _message(held) if held is not None else None

    def changed(self, agent_id: str) -> None:
        """Tell who follows that an agent was added, changed or deleted."""
        for follower in self._followers:
            follower.changed(agent_id)

    def evict_idle(self, now: float, oldest: float) -> None:
        """Let go of agents that have not been used since `oldest`."""
        for held in self.agents.values():
            if held.live is None:
                continue
            if held.live.busy:
                held.live.used = now
            elif held.live.used < oldest:
                unload(held)

    async def settle(self) -> None:
        """Let go of running turns; wait until every append asked for has ended."""
        await asyncio.gather(*(live.settle() for live in self.live()))

    def end(self, failure: Failure) -> None:
        """Let go of every agent; who follows them or the list is told why."""
        for live in self.live():
            live.close(failure)
        for follower in list(self._followers):
            follower.end(failure)


def _message(held: Held) -> agents_pb2.Agent:
    return held.live.message() if held.live is not None else held.record.message()
