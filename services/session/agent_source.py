"""Follows a user's list of agents: all of them, then each change.

Keeps which agents have changed, not what changed: changes that follow each
other quickly become one. Does not know who takes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from moorline.session.v1 import agents_pb2
from services.chassis.failures import Failure
from services.session.forms import AgentForm
from services.session.ownership.ownership import Lease

N = TypeVar("N")


class AgentList(Protocol):
    """A user's list of agents, live."""

    @property
    def lease(self) -> Lease:
        """The lease on the user; nothing is taken while it may be over."""
        ...

    def agent_ids(self) -> Sequence[str]:
        """Return the ids of all agents."""
        ...

    def find(self, agent_id: str) -> agents_pb2.Agent | None:
        """Return an agent as it is now, or None when it was deleted."""
        ...

    def agent_name(self, agent_id: str) -> str:
        """Return an agent's name, whether it exists or not."""
        ...

    def follow(self, follower: AgentFollower) -> None:
        """Add a follower."""
        ...

    def leave(self, follower: AgentFollower) -> None:
        """Take a follower off. Repeating it changes nothing."""
        ...


class AgentFollower(Protocol):
    """Somebody who follows a list of agents."""

    def changed(self, agent_id: str) -> None:
        """Hear that an agent was added, changed or deleted."""
        ...

    def end(self, failure: Failure) -> None:
        """Hear that nothing will follow, and why."""
        ...


class AgentSource(Generic[N]):
    """One subscription to one user's list; a `chassis.feed.Source`.

    Args:
        agents: The list.
        form: Makes the updates.
        mark: Called when there is something to take.
    """

    __slots__ = ("_agents", "_checkpointed", "_dirty", "_form", "done", "failure", "mark")

    def __init__(self, *, agents: AgentList, form: AgentForm[N], mark: Callable[[], None]) -> None:
        self._agents = agents
        self._form = form
        # A dict keeps the order in which the agents changed.
        self._dirty: dict[str, None] = dict.fromkeys(agents.agent_ids())
        self._checkpointed = False
        self.mark = mark
        self.failure: Failure | None = None
        """Why nothing will follow; None while something may."""
        self.done = False
        """True when everything was taken and nothing will follow."""
        agents.follow(self)

    def take(self, budget: int, news: N) -> tuple[int, bool]:
        """Add agents that changed to a message.

        Args:
            budget: About how many bytes to add at most; at least one update is
                added when there is one.
            news: Where they go.

        Returns:
            About how many bytes were added, 0 only for none; and whether there are
            more at once.
        """
        if self.failure is not None:
            self.done = True
            return self._form.end(news, self.failure), False
        lease = self._agents.lease
        if not lease.shows:
            lease.when_known(self.mark)
            return 0, False
        left = budget
        while self._dirty and left > 0:
            agent_id = next(iter(self._dirty))
            del self._dirty[agent_id]
            agent = self._agents.find(agent_id)
            if agent is None:
                left -= self._form.removed(news, self._agents.agent_name(agent_id))
            else:
                left -= self._form.agent(news, agent)
        if not self._dirty and not self._checkpointed:
            self._checkpointed = True
            left -= self._form.checkpoint(news)
        return budget - left, bool(self._dirty)

    def changed(self, agent_id: str) -> None:
        """Hear that an agent changed; see `AgentFollower`."""
        self._dirty[agent_id] = None
        self.mark()

    def end(self, failure: Failure) -> None:
        """End with a failure, before anything else that was not taken yet."""
        if self.failure is None:
            self.failure = failure
            self._agents.leave(self)
            self.mark()

    def close(self) -> None:
        """Stop following. Repeating it changes nothing."""
        self._agents.leave(self)
