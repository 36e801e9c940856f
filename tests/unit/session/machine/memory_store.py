"""A store in memory, in virtual time, and the spoilt view that one pod has of it."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.session.store import Committed, Create, Document, StoreConflict, Update, Write

_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_PATIENCE = 2.0


class MemoryDatabase:
    """The documents, and the clock that judges leases.

    Args:
        clock: Seconds, for example a virtual loop's.
    """

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last = 0.0
        self.documents: dict[str, tuple[dict[str, Any], float]] = {}
        self.writes = 0

    def time(self, at: float) -> datetime:
        """Return an instant of the clock as a time."""
        return _EPOCH + timedelta(seconds=at)

    def commit(self, writes: Sequence[Write]) -> Committed:
        """Make all writes or none.

        Raises:
            StoreConflict: A condition does not hold.
        """
        for write in writes:
            found = self.documents.get(write.path)
            version = repr(found[1]) if found is not None else ""
            fits = (
                found is None
                if isinstance(write, Create)
                else write.version in ({None, version} if found is not None else {None})
            )
            if not fits:
                raise StoreConflict(write.path)
        # No two commits at the same time: the time is the version.
        self._last = max(self._clock(), self._last + 1e-6)
        versions = []
        for write in writes:
            self.writes += 1
            if isinstance(write, Create | Update):
                self.documents[write.path] = (copy.deepcopy(dict(write.fields)), self._last)
                versions.append(repr(self._last))
            else:
                self.documents.pop(write.path, None)
                versions.append("")
        return Committed(self.time(self._last), tuple(versions))

    def get(self, path: str) -> Document | None:
        """Return a document, or None."""
        found = self.documents.get(path)
        if found is None:
            return None
        return Document(
            path=path,
            fields=copy.deepcopy(found[0]),
            version=repr(found[1]),
            update_time=self.time(found[1]),
            read_time=self.time(max(self._clock(), self._last)),
        )

    def read(self, collection: str) -> list[Document]:
        """Return the documents directly in a collection, ordered by id."""
        prefix = f"{collection}/"
        paths = [
            path
            for path in self.documents
            if path.startswith(prefix) and "/" not in path.removeprefix(prefix)
        ]
        return [document for path in sorted(paths) if (document := self.get(path)) is not None]


class PodStore:
    """A `Store`: the database as one pod reaches it.

    Attributes:
        cut: True while nothing gets through: calls fail after 2 s.
        lose_answers: So many of the next commits are made without the pod hearing of it.
        delay: Seconds by which the next commits arrive late, after the pod has given them up.
        delayed: So many of them do.
        way: Seconds that a question or an answer is on its way.
        dead: True once the pod is gone: nothing it asks for happens any more.
    """

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database
        self.cut = False
        self.lose_answers = 0
        self.delay = 0.0
        self.delayed = 0
        self.way = 0.002
        self.dead = False

    async def __aenter__(self) -> Self:
        """See `Store`."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """See `Store`."""

    async def commit(self, writes: Sequence[Write]) -> Committed:
        """See `Store`."""
        await self._way()
        if self.delayed:
            self.delayed -= 1
            asyncio.get_running_loop().call_later(self.delay, self._arrive, writes)
            await asyncio.sleep(_PATIENCE)
            raise _unavailable()
        committed = self._database.commit(writes)
        if self.lose_answers:
            self.lose_answers -= 1
            await asyncio.sleep(_PATIENCE)
            raise _unavailable()
        await self._way()
        return committed

    async def get(self, path: str) -> Document | None:
        """See `Store`."""
        await self._way()
        found = self._database.get(path)
        await self._way()
        return found

    async def read(
        self,
        collection: str,
        *,
        after: str = "",
        before: str = "",
        limit: int = 1000,
        reverse: bool = False,
    ) -> Sequence[Document]:
        """See `Store`."""
        await self._way()
        found = [
            document
            for document in self._database.read(collection)
            if document.id > after and (not before or document.id < before)
        ]
        await self._way()
        return (found[::-1] if reverse else found)[:limit]

    async def now(self) -> datetime:
        """See `Store`."""
        await self._way()
        return self._database.time(asyncio.get_running_loop().time())

    def _arrive(self, writes: Sequence[Write]) -> None:
        with suppress(StoreConflict):
            self._database.commit(writes)

    async def _way(self) -> None:
        if self.dead:
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(self.way)
        if self.cut:
            await asyncio.sleep(_PATIENCE)
            raise _unavailable()
        if self.dead:
            await asyncio.get_running_loop().create_future()


def _unavailable() -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_STORE_UNAVAILABLE, "cut off", retry_delay=timedelta(seconds=1)
    )
