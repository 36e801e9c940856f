"""An agent's turns as the store has them.

Does not know which of them are in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from moorline.session.v1 import turns_pb2
from services.session.encoding import LoggedEvent
from services.session.history import History
from services.session.names import AgentName
from services.session.records import (
    WORK,
    TurnRecord,
    log_prefix,
    number,
    order_path,
    read_turn,
    work_range,
)
from services.session.store import Delete, Store, StoreConflict


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
    """The stored turns of one agent.

    Args:
        store: Where they are.
        agent: The agent.
        log: `AgentRecord.log`; turns of another history do not count.
    """

    __slots__ = ("_agent", "_log", "_store")

    def __init__(self, *, store: Store, agent: AgentName, log: str) -> None:
        self._store = store
        self._agent = agent
        self._log = log

    async def get(self, turn_id: str) -> TurnRecord | None:
        """Return a turn, or None.

        Raises:
            Failure: STORE_UNAVAILABLE.
        """
        found = await self._found(turn_id)
        return found[0] if found is not None else None

    async def ids(self, *, before: int, limit: int) -> list[str]:
        """Return the ids of turns, newest first.

        Args:
            before: Only turns with a smaller sequence; 0 for all.
            limit: At most this many.

        Raises:
            Failure: STORE_UNAVAILABLE.
        """
        prefix = log_prefix(self._log)
        # Ids go on with a digit, and ":" follows the greatest.
        documents = await self._store.read(
            order_path(self._agent),
            after=prefix,
            before=prefix + (number(before) if before else ":"),
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
            found = await self._found(entry.fields["turn"])
            if found is None:
                with suppress(StoreConflict):
                    await self._store.commit([Delete(entry.path, entry.version)])
                continue
            turn, version = found
            left.versions[str(turn.name)] = version
            turns.append(turn)
        for turn in sorted(turns, key=lambda turn: turn.sequence):
            if turn.state == turns_pb2.Turn.STATE_RUNNING:
                left.running = turn
            else:
                left.waiting.append(turn)
        if left.running is not None:
            await self._recall(left, left.running, history)
        return left

    async def _found(self, turn_id: str) -> tuple[TurnRecord, str] | None:
        """Return a turn and its document's version; remove one of another history."""
        while True:
            document = await self._store.get(str(self._agent.turn(turn_id)))
            if document is None:
                return None
            turn = read_turn(self._agent, document)
            if turn.log == self._log:
                return turn, document.version
            with suppress(StoreConflict):
                await self._store.commit([Delete(document.path, document.version)])

    async def _recall(self, left: Unfinished, turn: TurnRecord, history: History) -> None:
        # Every segment: one without events may tell how far the transcript is stored.
        async for segment in history.since(turn.sequence):
            left.cursors.update(segment.cursors)
            left.events += _of_turn(segment.events, turn.name.turn)


def _of_turn(events: Sequence[Mapping[str, Any]], turn_id: str) -> list[LoggedEvent]:
    return [LoggedEvent(event) for event in events if event["turnId"] == turn_id]
