"""Reads an agent's log: segments in order, from any number.

A segment's id is the number of its first event, so that the one holding a given
number is found without an index. A segment without events has the number that
comes next and a suffix counting them. Does not know who writes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from services.session.encoding import LoggedEvent, parse_time
from services.session.names import AgentName
from services.session.records import log_path, log_prefix, number
from services.session.store import Document, Store

SEGMENTS_A_PAGE = 32
"""Segments read at once; each is at most 256 KiB but for one lone great event."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where the next segment goes.

    Attributes:
        sequence: Number of its first event.
        filler: Segments without events since the last that had some.
    """

    sequence: int = 1
    filler: int = 0

    @property
    def id(self) -> str:
        """The segment's id; sorts in the order of the log."""
        suffix = f".{self.filler:06d}" if self.filler else ""
        return number(self.sequence) + suffix

    def after(self, events: int) -> Position:
        """Return the position that follows a segment with so many events."""
        if events:
            return Position(self.sequence + events)
        return Position(self.sequence, self.filler + 1)


@dataclass(frozen=True, slots=True)
class Segment:
    """What one commit added to the log.

    Attributes:
        position: Its place.
        nonce: Tells the writer's own segments from others'.
        events: Its events, in order.
        cursors: For each execution with news, the executor's number of the
            newest of them.
        epoch: The user's epoch when it was written; 0 where there are none.
        carried: What only the newest segment tells: `time`, when the last event
            happened, if it has none, and `agent`, what the agent's document lacks.
    """

    position: Position
    nonce: str
    events: Sequence[Mapping[str, Any]]
    cursors: Mapping[str, int]
    epoch: int = 0
    carried: Mapping[str, Any] = field(default_factory=dict)

    @property
    def end(self) -> Position:
        """Where the next segment goes."""
        return self.position.after(len(self.events))

    @property
    def time(self) -> datetime | None:
        """When its last event happened, or the last before; None when that is not known."""
        text = self.events[-1]["createTime"] if self.events else self.carried.get("time")
        return parse_time(text) if text else None

    def fields(self) -> dict[str, Any]:
        """Return the document's fields."""
        first = self.position.sequence
        return {
            "first": first,
            "last": first + len(self.events) - 1,
            "nonce": self.nonce,
            "epoch": self.epoch,
            "events": list(self.events),
            "cursors": dict(self.cursors),
            **({"carried": dict(self.carried)} if self.carried else {}),
        }


def read_segment(document: Document) -> Segment:
    """Return the segment that a document holds."""
    sequence, _, filler = document.id.rpartition("-")[2].partition(".")
    return Segment(
        position=Position(int(sequence), int(filler or 0)),
        nonce=document.fields["nonce"],
        events=document.fields["events"],
        cursors=document.fields["cursors"],
        epoch=document.fields.get("epoch", 0),
        carried=document.fields.get("carried", {}),
    )


class History:
    """One agent's log, for reading.

    Args:
        store: Where it is kept.
        agent: Whose log it is.
        log: `AgentRecord.log`.
    """

    __slots__ = ("_before", "_collection", "_prefix", "_store")

    def __init__(self, *, store: Store, agent: AgentName, log: str) -> None:
        self._store = store
        self._collection = log_path(agent)
        self._prefix = log_prefix(log)
        # Ids go on with a digit, and ":" follows the greatest.
        self._before = f"{self._prefix}:"

    def path(self, position: Position) -> str:
        """Return the document of the segment at a position."""
        return f"{self._collection}/{self._prefix}{position.id}"

    async def tail(self) -> Segment | None:
        """Return the newest segment, or None for an empty log."""
        documents = await self._store.read(
            self._collection, after=self._prefix, before=self._before, limit=1, reverse=True
        )
        return read_segment(documents[0]) if documents else None

    async def at(self, position: Position) -> Segment | None:
        """Return the segment at a position, or None."""
        document = await self._store.get(self.path(position))
        return read_segment(document) if document is not None else None

    async def segments(self, after_sequence: int) -> Sequence[Segment]:
        """Return the segments from the one that holds the next event on.

        At most `SEGMENTS_A_PAGE`, and none when there is no next event; some
        without events may be among them.
        """
        found = await self._store.read(
            self._collection,
            after=self._prefix,
            before=f"{self._prefix}{number(after_sequence + 2)}",
            limit=1,
            reverse=True,
        )
        if not found:
            return []
        first = read_segment(found[0])
        more = await self._store.read(
            self._collection,
            after=found[0].id,
            before=self._before,
            limit=SEGMENTS_A_PAGE - 1,
        )
        segments = [first, *map(read_segment, more)]
        return segments if segments[-1].end.sequence > after_sequence + 1 else []

    async def since(self, sequence: int) -> AsyncIterator[Segment]:
        """Return every segment from the one that holds an event on, the last ones included.

        Those without events are among them: they may have cursors.
        """
        before = f"{self._prefix}{number(sequence + 1)}"
        documents = await self._store.read(
            self._collection, after=self._prefix, before=before, limit=1, reverse=True
        )
        for document in documents:
            yield read_segment(document)
        more = bool(documents)
        while more:
            documents = await self._store.read(
                self._collection,
                after=documents[-1].id,
                before=self._before,
                limit=SEGMENTS_A_PAGE,
            )
            for document in documents:
                yield read_segment(document)
            more = len(documents) == SEGMENTS_A_PAGE

    async def events(self, after_sequence: int) -> list[LoggedEvent]:
        """Return the events that come next; none after the last.

        Fewer than there are may come; call again after the last one's number.
        """
        segments = await self.segments(after_sequence)
        return [
            LoggedEvent(event)
            for segment in segments
            for event in segment.events
            if event["sequence"] > after_sequence
        ]
