"""Where everything that must last is kept: documents with conditional writes.

Does not know what the documents mean, nor which database holds them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure


def unavailable(
    message: str = "The store did not answer in time. Try again after a second.",
) -> Failure:
    """Return the failure of a call that may succeed later."""
    return Failure(
        errors_pb2.ERROR_REASON_STORE_UNAVAILABLE, message, retry_delay=timedelta(seconds=1)
    )


@dataclass(frozen=True, slots=True)
class Document:
    """A document as it was when it was read.

    Attributes:
        path: `collection/id`, or deeper: `collection/id/collection/id`.
        fields: What was written; JSON values, no list directly inside a list.
        version: Opaque; differs after every write, and is never used again for
            the same path, even when the document is deleted and made anew.
        update_time: The database's time of the last write.
        read_time: The database's time of the read; not before that of any commit
            that returned earlier.
    """

    path: str
    fields: Mapping[str, Any]
    version: str
    update_time: datetime
    read_time: datetime

    @property
    def id(self) -> str:
        """Last part of the path."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Create:
    """Write a document that must not exist.

    Attributes:
        path: Of the document.
        fields: As in a `Document`.
        expire: When the database may begin to remove it by itself, which can take
            days and may never happen; None: it must not.
    """

    path: str
    fields: Mapping[str, Any]
    expire: datetime | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """Replace all fields of a document that must be at `version`; as for `Create`."""

    path: str
    fields: Mapping[str, Any]
    version: str
    expire: datetime | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a document.

    With a version it must be at that one. With None it is removed if it exists.
    """

    path: str
    version: str | None = None


Write: TypeAlias = Create | Update | Delete


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit did.

    Attributes:
        time: The database's time of the commit.
        versions: The new version for each write, in their order; empty for a
            delete.
    """

    time: datetime
    versions: tuple[str, ...]


class StoreConflict(Exception):  # noqa: N818 - an expected answer, not an error
    """Raised when a write's condition does not hold; nothing was written.

    Args:
        path: A document whose condition failed.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


class Store(Protocol):
    """A database of documents; an async context manager that opens and closes it.

    Every method raises `Failure` STORE_UNAVAILABLE when the database cannot be
    reached or does not answer within a few seconds; a commit may then have
    happened or not. Cancelling a read leaves nothing behind; a cancelled commit
    may still happen. Methods may be called at the same time from one event loop.
    """

    async def __aenter__(self) -> Self:
        """Open the database."""
        ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the database once the commits in progress have ended."""
        ...

    async def commit(self, writes: Sequence[Write]) -> Committed:
        """Make all writes or none, and return when they are durable.

        Called for every event of every agent, at most once at a time for one
        agent. At most one write for each path; at most 500 writes and 3.5 MiB,
        so that every database can hold to it.

        Raises:
            StoreConflict: A condition does not hold; nothing was written.
        """
        ...

    async def get(self, path: str) -> Document | None:
        """Return a document, or None. Sees every commit that returned before."""
        ...

    async def read(
        self,
        collection: str,
        *,
        after: str = "",
        before: str = "",
        limit: int = 1000,
        reverse: bool = False,
    ) -> Sequence[Document]:
        """Return documents directly in a collection, ordered by id (code points).

        Sees every commit that returned before.

        Args:
            collection: Path of the collection, for example `users/ada/agents`.
            after: Only ids greater than this; empty for no bound.
            before: Only ids smaller than this; empty for no bound.
            limit: At most this many, at least 1.
            reverse: Greatest id first.
        """
        ...

    async def now(self) -> datetime:
        """Return the database's time, never earlier than that of a past commit."""
        ...
