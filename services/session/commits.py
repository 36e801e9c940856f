"""Makes an agent's commits: a new segment, and the documents that ride with it.

Does not know what is in them, nor what waits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from services.chassis.backoff import Backoff
from services.chassis.failures import Failure
from services.session.clock import DatabaseClock
from services.session.history import History, Segment
from services.session.ownership.ownership import Lease
from services.session.store import Create, Delete, Store, StoreConflict, Update, Write

log = logging.getLogger(__name__)


class Commits:
    """One agent's commits, one at a time.

    Args:
        store: Where they go.
        history: The agent's log.
        lease: The lease on its user; nothing is committed while it is not held.
        clock: Learns the database's time.
        over: Tells whether to give up.
    """

    __slots__ = ("_clock", "_history", "_lease", "_over", "_store", "_versions")

    def __init__(
        self,
        *,
        store: Store,
        history: History,
        lease: Lease,
        clock: DatabaseClock,
        over: Callable[[], bool],
    ) -> None:
        self._store = store
        self._history = history
        self._lease = lease
        self._clock = clock
        self._over = over
        self._versions: dict[str, str] = {}

    def track(self, path: str, version: str) -> None:
        """Tell the version of a document that later commits will write; empty for none."""
        if version:
            self._versions[path] = version
        else:
            self._versions.pop(path, None)

    async def commit(
        self, segment: Segment, documents: Mapping[str, Mapping[str, Any] | None]
    ) -> bool:
        """Commit, however long it takes; return False when another writer is there.

        Args:
            segment: Must not exist yet.
            documents: Fields by path; None deletes.
        """
        writes = self._writes(segment, documents)
        backoff = Backoff()
        while True:
            await self._lease.settled()
            if self._over() or not self._lease.held:
                return False
            try:
                committed = await self._store.commit(writes)
            except StoreConflict:
                return await self._ours(segment, documents)
            except Failure as failure:
                # It may have been committed: the same nonce again will tell.
                path = self._history.path(segment.position)
                log.warning(
                    "log commit failed", extra={"path": path, "reason": failure.reason_name}
                )
                await backoff.pause()
                continue
            self._clock.observe(committed.time)
            for write, version in zip(writes[1:], committed.versions[1:], strict=True):
                self.track(write.path, version)
            return True

    def _writes(
        self, segment: Segment, documents: Mapping[str, Mapping[str, Any] | None]
    ) -> list[Write]:
        writes: list[Write] = [Create(self._history.path(segment.position), segment.fields())]
        for path, fields in documents.items():
            version = self._versions.get(path)
            if fields is None:
                # With its version, which spares the store a look at how large it is.
                writes.append(Delete(path, version))
            elif version is None:
                writes.append(Create(path, fields))
            else:
                writes.append(Update(path, fields, version))
        return writes

    async def _ours(
        self, segment: Segment, documents: Mapping[str, Mapping[str, Any] | None]
    ) -> bool:
        """Tell whether the segment found at its position is this very one."""
        backoff = Backoff()
        while not self._over():
            try:
                found = await self._history.at(segment.position)
                if found is None or found.nonce != segment.nonce:
                    return False
                for path in documents:
                    document = await self._store.get(path)
                    self.track(path, document.version if document is not None else "")
            except Failure:
                await backoff.pause()
                continue
            return True
        return False
