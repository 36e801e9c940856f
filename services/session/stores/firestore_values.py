"""How documents lie in Firestore: fields as JSON text, in parts when they are large.

A document has three fields. `json` is the text of its fields, so that every JSON
value comes back as it was. `write` names the write that made it, which differs
each time: Firestore keeps the version of a document that a write does not change.
`id` is the last part of its path, for queries in reverse: they are not to be had
over the path itself.

Text beyond `PART_BYTES` goes on in `{path}/more/1`, `/2`, ..., written and
removed in the same commit as the document. Does not know what fields mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from google.protobuf.timestamp_pb2 import Timestamp

from services.session.store import Document

PART_BYTES = 240_000
"""Bytes of text in one document; with its name it stays below 256 KiB."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Mark:
    """The `write` field: which write made a document, and how many parts it has."""

    nonce: str
    parts: int

    @classmethod
    def read(cls, text: str) -> Mark:
        """Return the mark that a field holds."""
        nonce, _, parts = text.partition("~")
        return cls(nonce, int(parts or 0))

    def __str__(self) -> str:
        return f"{self.nonce}~{self.parts}"


@dataclass(frozen=True, slots=True)
class Stored:
    """A document as Firestore has it, without the text of its parts.

    Attributes:
        time: Time of the last write.
        text: The beginning of its fields' text; empty when it was not asked for.
    """

    path: str
    mark: Mark
    time: Timestamp
    text: str

    @property
    def version(self) -> str:
        """Its version, as a `Document` has it."""
        return version_of(self.time, self.mark.parts)

    @property
    def more(self) -> list[str]:
        """Paths of its parts, in order."""
        return part_paths(self.path, self.mark.parts)

    def document(self, rest: Sequence[str], read_time: Timestamp) -> Document:
        """Return it whole.

        Args:
            rest: The text of its parts.
            read_time: When it was read.
        """
        return Document(
            path=self.path,
            fields=orjson.loads("".join((self.text, *rest))),
            version=self.version,
            update_time=instant(self.time),
            read_time=instant(read_time),
        )


def stored(root: str, message: Any) -> Stored:
    """Return the document that a protobuf message holds.

    Args:
        root: Resource name under which all documents are.
        message: A `google.firestore.v1.Document`.
    """
    fields = message.fields
    return Stored(
        path=message.name[len(root) + 1 :],
        mark=Mark.read(fields["write"].string_value),
        time=message.update_time,
        text=fields["json"].string_value if "json" in fields else "",
    )


def part_paths(path: str, parts: int) -> list[str]:
    """Return the paths of a document's parts, in order."""
    return [f"{path}/more/{number}" for number in range(1, parts + 1)]


def version_of(time: Timestamp, parts: int) -> str:
    """Return the version of a document written at `time`."""
    return f"{time.seconds}.{time.nanos:09d}~{parts}"


def read_version(version: str) -> tuple[Timestamp, int]:
    """Return the time of a version's write, and how many parts it has.

    Raises:
        ValueError: It is no version of this store.
    """
    time, _, parts = version.partition("~")
    seconds, _, nanos = time.partition(".")
    return Timestamp(seconds=int(seconds), nanos=int(nanos)), int(parts)


def instant(time: Timestamp) -> datetime:
    """Return a time as an aware one in UTC, in whole microseconds."""
    return _EPOCH + timedelta(seconds=time.seconds, microseconds=time.nanos // 1000)


def split(text: bytes) -> list[str]:
    """Cut UTF-8 text into pieces of at most `PART_BYTES`, never within a character."""
    pieces: list[str] = []
    start = 0
    while start < len(text) or not pieces:
        end = min(len(text), start + PART_BYTES)
        while end < len(text) and text[end] & 0xC0 == 0x80:
            end -= 1
        pieces.append(text[start:end].decode())
        start = end
    return pieces
