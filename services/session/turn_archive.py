"""An agent's turns as the store has them.

Does not know which of them are in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from moorline.session.v1 import turns_pb2
from services.session.encoding import LoggedEvent
from services.session.history import History
from services.session.names import AgentName
from services.session.records import WORK, TurnRecord, number, order_path, read_turn, work_range
from services.session.store import Store


@dataclass(slots=True)
class Unfinished:
    """What an earlier process left unfinished.

    Attributes:
        running: The turn that runs, or None.
        waiting: The turns that wait, in order.
        events: What the log has of the turn that runs.
        cursors: The executor's number of the last event in the log, by execution.
        versions: Versions of the turns' documents, by path.
    """

    running: TurnRecord | None = None
    waiting: list[TurnRecord] = field(default_factory=list)
    events: list[LoggedEvent] = field(default_factory=list)
    cursors: dict[str, int] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


class TurnArchive:
    """The stored turns of one agent."""

    __slots__ = ("_agent", "_store")

    def __init__(self, *, store: Store, agent: AgentName) -> None:
        self._store = store
        self._agent = agent

    async def get(self, turn_id: str) -> TurnRecord | None:
        """Return a turn, or None.

        Raises:
            Failure: STORE_UNAVAILABLE.
        """
        document = await self._store.get(str(self._agent.turn(turn_id)))
        return read_turn(self._agent, document) if document is not None else None

    async def ids(self, *, before: int, limit: int) -> list[str]:
        """Return the ids of turns, newest first.

        Args:
            before: Only turns with a smaller sequence; 0 for all.
            limit: At most this many.

        Raises:
            Failure: STORE_UNAVAILABLE.
        """
        documents = await self._store.read(
            order_path(self._agent),
            before=number(before) if before else "",
            limit=limit,
            reverse=True,
        )
        return [document.fields["turn"] for document in documents]

    async def unfinished(self, history: History) -> Unfinished:
        """Return what an earlier process left unfinished.

        Raises:
            Failure: STORE_UNAVAILABLE.
        """
        after, before = work_range(self._agent)
        left = Unfinished()
        turns = []
        for entry in await self._store.read(WORK, after=after, before=before):
            path = str(self._agent.turn(entry.fields["turn"]))
            document = await self._store.get(path)
            if document is not None:
                left.versions[path] = document.version
                turns.append(read_turn(self._agent, document))
        for turn in sorted(turns, key=lambda turn: turn.sequence):
            if turn.state == turns_pb2.Turn.STATE_RUNNING:
                left.running = turn
            else:
                left.waiting.append(turn)
        if left.running is not None:
            await self._recall(left, left.running, history)
        return left

    async def _recall(self, left: Unfinished, turn: TurnRecord, history: History) -> None:
        after = turn.sequence - 1
        while segments := await history.segments(after):
            for segment in segments:
                left.cursors.update(segment.cursors)
                left.events += _of_turn(segment.events, turn.name.turn)
            after = segments[-1].end.sequence - 1


def _of_turn(events: Sequence[Mapping[str, Any]], turn_id: str) -> list[LoggedEvent]:
    return [LoggedEvent(event) for event in events if event["turnId"] == turn_id]
