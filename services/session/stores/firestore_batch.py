"""One commit as Firestore takes it, and what its answer or its traces mean.

Does not send anything.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from google.cloud.firestore_v1.types import CommitRequest

from services.session.store import Committed, Create, Delete, StoreConflict, Update, Write
from services.session.stores.firestore_values import (
    Mark,
    Stored,
    instant,
    part_paths,
    read_version,
    split,
    version_of,
)

COMMIT_BYTES = 3_670_016
"""Largest request, 3.5 MiB; an emulator takes 4 MiB, the service 10."""

COMMIT_WRITES = 500
"""Most writes in one request, those of parts included."""

_Request = CommitRequest.pb()


class Batch:
    """One commit.

    Args:
        root: Resource name under which all documents are.
        writes: What to write.
        parts: How many parts a document has that is deleted without a version,
            by path; one that is missing has none.

    Raises:
        StoreConflict: A version is none that this store ever gave.
        ValueError: It is more than every database takes.
    """

    __slots__ = ("_parts", "_places", "_root", "nonce", "request", "writes")

    def __init__(self, *, root: str, writes: Sequence[Write], parts: Mapping[str, int]) -> None:
        self.writes = writes
        self.nonce = secrets.token_urlsafe(12)
        """Names this commit; every document it writes carries it."""
        self.request: Any = _Request(database=root.removesuffix("/documents"))
        """What is sent, a protobuf message."""
        self._root = root
        self._places: list[int] = []  # Of each write among those of the request.
        self._parts: list[int] = []  # That each write leaves behind.
        for write in writes:
            self._places.append(len(self.request.writes))
            self._parts.append(self._add(write, parts))
        count, size = len(self.request.writes), self.size
        if count > COMMIT_WRITES or size > COMMIT_BYTES:
            raise ValueError(
                f"a commit has {count} writes and {size} bytes, and may have {COMMIT_WRITES}"
                f" and {COMMIT_BYTES}"
            )

    @property
    def size(self) -> int:
        """Bytes of the request."""
        return int(self.request.ByteSize())

    def made(self, response: Any) -> Committed:
        """Return what the commit did, by the `CommitResponse`."""
        times = [response.write_results[place].update_time for place in self._places]
        return Committed(instant(response.commit_time), self._versions(times))

    def found(self, documents: Iterable[Stored]) -> Committed | None:
        """Return what the commit did when a document shows that it was made."""
        for document in documents:
            if document.mark.nonce == self.nonce:
                # Everything that one commit writes has the same time.
                times = [document.time] * len(self.writes)
                return Committed(instant(document.time), self._versions(times))
        return None

    def conflict(self, documents: Mapping[str, Stored]) -> StoreConflict:
        """Return the conflict, given the documents that there are now, by path."""
        conditional = [w for w in self.writes if not isinstance(w, Delete) or w.version is not None]
        broken = (w for w in conditional if not _holds(w, documents.get(w.path)))
        # None is broken when the document changed once more since.
        return StoreConflict(next(broken, conditional[0]).path)

    def _versions(self, times: Sequence[Any]) -> tuple[str, ...]:
        return tuple(
            "" if isinstance(write, Delete) else version_of(time, parts)
            for write, time, parts in zip(self.writes, times, self._parts, strict=True)
        )

    def _add(self, write: Write, parts: Mapping[str, int]) -> int:
        """Add what one write needs; return how many parts the document has then."""
        match write:
            case Create(path=path):
                pieces = split(orjson.dumps(write.fields))
                self._set(write, pieces).current_document.exists = False
            case Update(path=path):
                time, old = _version(write)
                pieces = split(orjson.dumps(write.fields))
                self._set(write, pieces).current_document.update_time.CopyFrom(time)
                self._remove(part_paths(path, old)[len(pieces) - 1 :])
            case _ if write.version is None:
                self._remove([write.path, *part_paths(write.path, parts.get(write.path, 0))])
                return 0
            case _:
                time, old = _version(write)
                removed = self._remove([write.path, *part_paths(write.path, old)])
                removed.current_document.update_time.CopyFrom(time)
                return 0
        return len(pieces) - 1

    def _set(self, write: Create | Update, pieces: Sequence[str]) -> Any:
        """Write a document and its parts; return its own protobuf write."""
        path = write.path
        main = self._piece(path, pieces[0], Mark(self.nonce, len(pieces) - 1))
        main.update.fields["id"].string_value = path.rpartition("/")[2]
        for part, piece in zip(part_paths(path, len(pieces) - 1), pieces[1:], strict=True):
            # Unconditional: the document's condition decides for all of them.
            self._piece(part, piece, Mark(self.nonce, 0))
        if write.expire is not None:
            main.update.fields["expire"].timestamp_value.FromDatetime(write.expire)
        return main

    def _piece(self, path: str, text: str, mark: Mark) -> Any:
        write = self.request.writes.add()
        write.update.name = f"{self._root}/{path}"
        write.update.fields["json"].string_value = text
        write.update.fields["write"].string_value = str(mark)
        return write

    def _remove(self, paths: Sequence[str]) -> Any:
        """Delete documents; return the first one's protobuf write."""
        first = None
        for path in paths:
            write = self.request.writes.add()
            write.delete = f"{self._root}/{path}"
            first = first if first is not None else write
        return first


def _version(write: Update | Delete) -> tuple[Any, int]:
    try:
        return read_version(write.version or "")
    except ValueError:
        raise StoreConflict(write.path) from None


def _holds(write: Write, document: Stored | None) -> bool:
    if isinstance(write, Create):
        return document is None
    return document is not None and document.version == write.version
