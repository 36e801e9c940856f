"""A store that counts and times what is done with another one."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Sequence
from datetime import datetime
from types import TracebackType
from typing import Self, TypeVar

from services.chassis.failures import Failure
from services.chassis.metrics import Metrics
from services.session.store import Committed, Document, Store, StoreConflict, Write

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
        return await self._measured("commit", self._inner.commit(writes))

    async def get(self, path: str) -> Document | None:
        """Get and measure it; see `Store`."""
        return await self._measured("get", self._inner.get(path))

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
        return await self._measured("read", listing)

    async def now(self) -> datetime:
        """Return the database's time; see `Store`."""
        return await self._inner.now()

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
