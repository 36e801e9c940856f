"""A store that fails a test where a real database would be unhappy.

Firestore's emulator has none of the limits of the service: it takes any number of
writes a second, and every query without an index.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from services.session.store import Committed, Delete, Document, Store, Write

DEPLOYED = Path(__file__).parents[3] / "services" / "session" / "stores" / "deploy"

COMMIT_BYTES = int(3.5 * 1024 * 1024)
COMMIT_WRITES = 500
WRITES_A_SECOND = 1.0
"""Writes that one document takes for long, by Firestore's documentation."""

BURST = 30
"""Writes to one document at once that are no sustained rate yet."""


def overrides() -> dict[tuple[str, str], dict[str, Any]]:
    """What `firestore.indexes.json` says about a field of a collection."""
    text = (DEPLOYED / "firestore.indexes.json").read_text()
    return {
        (override["collectionGroup"], override["fieldPath"]): override
        for override in json.loads(text)["fieldOverrides"]
    }


def group(path: str) -> str:
    """The collection that a document is in, or that a collection's path ends with."""
    parts = path.split("/")
    return parts[-1] if len(parts) % 2 else parts[-2]


class LimitExceededError(AssertionError):
    """Raised when the product asks for what a real database would refuse or slow down."""


class LimitedStore:
    """A `Store` that passes everything on to `inner`, within a database's limits.

    Args:
        inner: The store; opened and closed with this one.
        rate: Writes a second that one document may get for long; None for any.
        others: Collections that the product does not have and a test may use.
        clock: Seconds.

    Attributes:
        writes: How often each document was written, by path.
        reads: Documents read; a query that finds nothing counts as one.
    """

    def __init__(
        self,
        inner: Store,
        *,
        rate: float | None = WRITES_A_SECOND,
        others: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.inner = inner
        self.writes: Counter[str] = Counter()
        self.reads = 0
        self._rate = rate
        self._others = others
        self._clock = clock
        self._spent: dict[str, tuple[float, float]] = {}  # By path: writes above the rate, when.
        self._overrides = overrides()

    async def __aenter__(self) -> Self:
        """Open the inner store."""
        await self.inner.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the inner store."""
        await self.inner.__aexit__(kind, error, traceback)

    async def commit(self, writes: Sequence[Write]) -> Committed:
        """Commit what is within the limits; see `Store`."""
        paths = [write.path for write in writes]
        size = sum(
            len(write.path) + len(orjson.dumps(write.fields))
            for write in writes
            if not isinstance(write, Delete)
        )
        _require(len(set(paths)) == len(paths), "a commit writes a document twice")
        _require(len(writes) <= COMMIT_WRITES, f"a commit has {len(writes)} writes")
        _require(size <= COMMIT_BYTES, f"a commit has {size} bytes")
        for write in writes:
            self._declared(group(write.path))
        committed = await self.inner.commit(writes)
        for path in paths:
            self._count(path)
        return committed

    async def get(self, path: str) -> Document | None:
        """Get; see `Store`."""
        self.reads += 1
        return await self.inner.get(path)

    async def read(
        self,
        collection: str,
        *,
        after: str = "",
        before: str = "",
        limit: int = 1000,
        reverse: bool = False,
    ) -> Sequence[Document]:
        """List what an index finds; see `Store`."""
        name = group(collection)
        self._declared(name)
        if reverse and name not in self._others:
            indexes = self._overrides[name, "id"]["indexes"]
            wanted = {"order": "DESCENDING", "queryScope": "COLLECTION"}
            _require(wanted in indexes, f"{collection} has no index for its end")
        found = await self.inner.read(
            collection, after=after, before=before, limit=limit, reverse=reverse
        )
        self.reads += max(1, len(found))
        return found

    async def now(self) -> datetime:
        """Return the time; see `Store`."""
        self.reads += 1
        return await self.inner.now()

    def _declared(self, name: str) -> None:
        known = name in self._others or (name, "json") in self._overrides
        _require(known, f"the collection {name} is not declared")

    def _count(self, path: str) -> None:
        self.writes[path] += 1
        if self._rate is None:
            return
        now = self._clock()
        spent, when = self._spent.get(path, (0.0, now))
        spent = max(0.0, spent - (now - when) * self._rate) + 1
        self._spent[path] = (spent, now)
        _require(spent <= BURST, f"{path} is written more than {self._rate} times a second")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise LimitExceededError(message)
