"""A store that counts and times what is done with another one.

Does not know which database that is in.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Sequence
from datetime import datetime
from types import TracebackType
from typing import Self, TypeVar

from services.chassis.failures import Failure
from services.chassis.metrics import Metrics
from services.session.store import Committed, Delete, Document, Store, StoreConflict, Write

T = TypeVar("T")


class MeasuredStore:
    """A `Store` that passes everything on to `inner`, which it opens and closes."""

    def __init__(self, *, inner: Store, metrics: Metrics) -> None:
        self._inner = inner
        self._operations = metrics.counter(
            "moorline_store_operations_total",
            "Operations on the store, by how they ended.",
            ("operation", "result"),
        )
        self._durations = metrics.histogram(
            "moorline_store_operation_duration_seconds",
            "How long operations on the store took.",
            ("operation",),
        )
        self._documents = metrics.counter(
            "moorline_store_documents_total",
            "Documents read, written and deleted, which is what a database is paid by.",
            ("operation",),
        )

    async def __aenter__(self) -> Self:
        """Open the inner store."""
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the inner store."""
        await self._inner.__aexit__(kind, error, traceback)

    async def commit(self, writes: Sequence[Write]) -> Committed:
        """Commit and measure it; see `Store`."""
        committed = await self._measured("commit", self._inner.commit(writes))
        deletes = sum(isinstance(write, Delete) for write in writes)
        self._documents.labels("delete").inc(deletes)
        self._documents.labels("write").inc(len(writes) - deletes)
        return committed

    async def get(self, path: str) -> Document | None:
        """Get and measure it; see `Store`."""
        document = await self._measured("get", self._inner.get(path))
        self._documents.labels("read").inc()
        return document

    async def read(
        self,
        collection: str,
        *,
        after: str = "",
        before: str = "",
        limit: int = 1000,
        reverse: bool = False,
    ) -> Sequence[Document]:
        """List and measure it; see `Store`."""
        listing = self._inner.read(
            collection, after=after, before=before, limit=limit, reverse=reverse
        )
        documents = await self._measured("read", listing)
        # A query that finds nothing is paid as one read.
        self._documents.labels("read").inc(max(1, len(documents)))
        return documents

    async def now(self) -> datetime:
        """Return the database's time and measure how long that took; see `Store`."""
        now = await self._measured("now", self._inner.now())
        self._documents.labels("read").inc()
        return now

    async def _measured(self, operation: str, awaitable: Awaitable[T]) -> T:
        began = time.perf_counter()
        result = "cancelled"
        try:
            value = await awaitable
            result = "ok"
        except StoreConflict:
            result = "conflict"
            raise
        except Failure:
            result = "unavailable"
            raise
        finally:
            self._operations.labels(operation, result).inc()
            self._durations.labels(operation).observe(time.perf_counter() - began)
        return value
