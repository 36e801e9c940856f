"""A user's list of agents, held once and read by any number of readers.

As `streams.py` does it for events. Does not know connections, calls or the event
loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from moorline.session.v1 import feed_pb2
from services.chassis.failures import Failure
from services.gateway.encoding import Encoding


@dataclass(frozen=True, slots=True)
class _Agent:
    version: int
    encoded: bytes
    removed: bool


class AgentStream:
    """A user's list of agents as it is, each with the number of its last change.

    Args:
        parent: `users/{user}`.
        encoding: Encoding of everything held.
    """

    def __init__(self, *, parent: str, encoding: Encoding) -> None:
        self.live = False
        self.failure: Failure | None = None
        self.encoding = encoding
        self.version = 0
        # In the order of their versions.
        self.agents: dict[str, _Agent] = {}
        self._parent = parent
        self._stale: set[str] = set()

    def fill(self, request: feed_pb2.SubscribeRequest) -> None:
        """See `Stream`."""
        request.encoding = self.encoding.wire
        request.watch_agents.parent = self._parent

    def apply(self, updates: Sequence[feed_pb2.EncodedUpdate]) -> bool:
        """See `Stream`."""
        for update in updates:
            kind = update.WhichOneof("update")
            if kind == "agent":
                agent = update.agent
                self._stale.discard(agent.name)
                self._put(agent.name, agent.encoded, removed=agent.removed)
            elif kind == "agents_checkpoint":
                for name in self._stale:
                    self._put(name, self.encoding.removed(name), removed=True)
                self._stale.clear()
                self.live = True
        return True

    def reset(self) -> None:
        """See `Stream`."""
        self.live = False
        self._stale = {name for name, agent in self.agents.items() if not agent.removed}

    @property
    def removed(self) -> int:
        """How many removed agents it still remembers."""
        return sum(agent.removed for agent in self.agents.values())

    def forget_removed(self, version: int) -> None:
        """Drop the traces of agents removed up to a version that every reader has."""
        self.agents = {
            name: agent
            for name, agent in self.agents.items()
            if not agent.removed or agent.version > version
        }

    def _put(self, name: str, encoded: bytes, *, removed: bool) -> None:
        known = self.agents.get(name)
        if known is not None and known.encoded == encoded:
            return
        self.version += 1
        self.agents.pop(name, None)
        self.agents[name] = _Agent(self.version, encoded, removed)


class AgentReader:
    """A client's position in the changes of a list of agents.

    Args:
        stream: What to read.
    """

    __slots__ = ("_checkpointed", "_joined", "_stream", "version")

    def __init__(self, stream: AgentStream) -> None:
        self.version = 0
        self._joined = stream.version
        self._stream = stream
        self._checkpointed = False

    def take(self, budget: int) -> tuple[list[bytes], bool]:
        """See `Reader`."""
        updates: list[bytes] = []
        stream = self._stream
        if self.version < stream.version:
            for agent in self._news():
                if budget <= 0:
                    return updates, True
                self.version = agent.version
                if agent.removed and agent.version <= self._joined:
                    continue
                updates.append(agent.encoded)
                budget -= len(agent.encoded)
            self.version = stream.version
        if stream.live and not self._checkpointed:
            self._checkpointed = True
            updates.append(stream.encoding.agents_checkpoint())
        return updates, False

    def _news(self) -> list[_Agent]:
        news = []
        for agent in reversed(self._stream.agents.values()):
            if agent.version <= self.version:
                break
            news.append(agent)
        news.reverse()
        return news
