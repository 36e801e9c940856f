"""The writing end of an agent's transcript: what another machine needs to go on.

What executions tell of it becomes pieces that ride in the commits of the agent's
log, so that it is stored once, by its owner only, and acknowledged when it is.
Does not know what an entry means, nor how entries come back to an executor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from moorline.executor.v1 import executions_pb2
from services.session.names import AgentName
from services.session.store import Store
from services.session.transcripts.archive import TranscriptArchive
from services.session.transcripts.piece import FilePart, Piece

PIECE_BYTES = 192 * 1024
"""Largest piece, unless a single part is larger: Firestore cuts larger documents in two."""

_CLEARED_AT_ONCE = 5
"""Rounds of clearing away in a row; what is left waits for the next turn."""


class Mirror:
    """One agent's stored transcript, from its newest piece on.

    Args:
        store: Where it is kept.
        agent: Whose transcript it is.
        log: `AgentRecord.log`.

    Attributes:
        archive: The transcript, for reading.
        conversation: The conversation of the newest piece; empty for none.
        first: Number of that conversation's first piece.
        last_entry: Id of the newest entry of its own file; empty for none.
    """

    __slots__ = ("_cleared", "_next", "archive", "conversation", "first", "last_entry")

    def __init__(self, *, store: Store, agent: AgentName, log: str) -> None:
        self.archive = TranscriptArchive(store=store, agent=agent, log=log)
        self.conversation = ""
        self.first = 1
        self.last_entry = ""
        self._next = 1
        # Number of a piece before which nothing is left.
        self._cleared = 1

    async def load(self) -> None:
        """Go on where the owner before stopped; once, when nobody else can write any more.

        Raises:
            Failure: STORE_UNAVAILABLE; calling it again tries again.
        """
        tail = await self.archive.tail()
        if tail is None:
            return
        self.conversation = tail.conversation
        self.first = tail.first
        self.last_entry = tail.last_entry
        self._next = tail.number + 1

    def newest(self, conversation: str) -> str:
        """Return the id of the newest stored entry of a conversation; empty for none."""
        return self.last_entry if conversation and conversation == self.conversation else ""

    def write(self, parts: Sequence[executions_pb2.TranscriptPart]) -> dict[str, Mapping[str, Any]]:
        """Return the documents that hold what one commit adds, by path.

        Called for each commit that is about to be made, in order; a part without a
        conversation says that the one so far cannot be gone on with.
        """
        documents: dict[str, Mapping[str, Any]] = {}
        for group in _groups(parts):
            number = self._next
            self._next += 1
            if group[0].conversation != self.conversation or not self.conversation:
                self.conversation = group[0].conversation
                self.first = number
                self.last_entry = ""
            for part in group:
                if part.last_entry and not part.file:
                    self.last_entry = part.last_entry
            piece = Piece(
                number=number,
                conversation=self.conversation,
                first=self.first,
                last_entry=self.last_entry,
                parts=_joined(group),
            )
            documents[self.archive.path(number)] = piece.fields()
        return documents

    @property
    def littered(self) -> bool:
        """True while there may be pieces of conversations before the newest one."""
        return self._cleared < self.first

    async def clear(self) -> None:
        """Remove pieces of conversations before the newest one, but not too many.

        Raises:
            Failure: STORE_UNAVAILABLE.
        """
        before = self.first
        for _ in range(_CLEARED_AT_ONCE):
            if self._cleared >= before:
                return
            if not await self.archive.clear(before=before):
                self._cleared = before


def lost_part() -> executions_pb2.TranscriptPart:
    """Return what says that the conversation so far cannot be gone on with."""
    return executions_pb2.TranscriptPart()


def _groups(
    parts: Sequence[executions_pb2.TranscriptPart],
) -> Iterator[list[executions_pb2.TranscriptPart]]:
    """Return the parts that share a piece, in order."""
    group: list[executions_pb2.TranscriptPart] = []
    size = 0
    for part in parts:
        more = part.ByteSize()
        if group and (size + more > PIECE_BYTES or part.conversation != group[0].conversation):
            yield group
            group, size = [], 0
        group.append(part)
        size += more
    if group:
        yield group


def _joined(group: Sequence[executions_pb2.TranscriptPart]) -> list[FilePart]:
    """Return what a piece holds: parts of one file in a row are one."""
    joined: list[tuple[str, list[str]]] = []
    for part in group:
        if not part.entries:
            continue
        if not joined or joined[-1][0] != part.file:
            joined.append((part.file, []))
        joined[-1][1].extend(part.entries)
    return [FilePart(file, entries) for file, entries in joined]
