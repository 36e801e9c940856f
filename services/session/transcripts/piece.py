"""A piece of an agent's own transcript, as a document has it.

Does not know what an entry means, nor when pieces are written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.session.store import Document


@dataclass(frozen=True, slots=True)
class FilePart:
    """Entries that follow each other in one file.

    Attributes:
        file: Path within the conversation's folder; empty for its own file.
        entries: One JSON object each.
    """

    file: str
    entries: Sequence[str]


@dataclass(frozen=True, slots=True)
class Piece:
    """What one commit added to a transcript, or a part of that.

    Attributes:
        number: Its place, from 1; of all the agent's conversations.
        conversation: The conversation; empty once there is none to go on with.
        first: Number of the first piece of that conversation; those before are of no use.
        last_entry: Id of the newest entry of the conversation's own file.
        parts: What was added, in order.
    """

    number: int
    conversation: str
    first: int
    last_entry: str
    parts: Sequence[FilePart]

    def fields(self) -> dict[str, Any]:
        """Return the document's fields."""
        return {
            "conversation": self.conversation,
            "first": self.first,
            "lastEntry": self.last_entry,
            "parts": [{"file": part.file, "entries": list(part.entries)} for part in self.parts],
        }


def read_piece(document: Document) -> Piece:
    """Return the piece that a document holds."""
    fields = document.fields
    return Piece(
        number=int(document.id.rpartition("-")[2]),
        conversation=fields["conversation"],
        first=fields["first"],
        last_entry=fields["lastEntry"],
        parts=[_read_part(part) for part in fields["parts"]],
    )


def _read_part(fields: Mapping[str, Any]) -> FilePart:
    return FilePart(fields["file"], fields["entries"])
