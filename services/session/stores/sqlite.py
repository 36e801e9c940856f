"""The store on SQLite: one file, one process, no server.

One thread writes. Whatever waits while it commits goes into its next
transaction, so that many commits share one flush to disk. Another thread reads
collections; one document is read at once. Does not know what documents mean, nor how
the file is made.
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from services.chassis.failures import Failure
from services.session.store import (
    Committed,
    Create,
    Document,
    StoreConflict,
    Update,
    Write,
    unavailable,
)
from services.session.stores.sqlite_file import abandon, check, connect, lock_file, make

log = logging.getLogger(__name__)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_AT_ONCE = 256
"""Commits that share one transaction, so that none waits long for the others."""


@dataclass(slots=True)
class _Job:
    writes: Sequence[Write]
    done: asyncio.Future[Committed]
    result: Committed | Exception = field(default_factory=lambda: Committed(_EPOCH, ()))


class SqliteStore:
    """A `Store` in one SQLite file, for one process at a time.

    Args:
        path: The file; made when it does not exist. Three more files appear
            beside it.
        clock: Seconds since the epoch. A step back of this clock stops the
            store's time until it has caught up.
        lock_seconds: How long to wait for another process that holds the file.
        check_seconds: How long to look for damage when the file is opened.
    """

    def __init__(
        self,
        *,
        path: Path,
        clock: Callable[[], float] = time.time,
        lock_seconds: float = 5.0,
        check_seconds: float = 1.0,
    ) -> None:
        self._path = path
        self._check_seconds = check_seconds
        self._lock_seconds = lock_seconds
        self._clock = clock
        self._time = 0  # of the last commit, in microseconds; doubles as the version
        # Unbounded, yet short: a commit waits in it with the call that asked for it.
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._reads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store-read")
        self._reader: sqlite3.Connection | None = None
        # For single documents; used in the event loop only.
        self._finder: sqlite3.Connection | None = None
        self._lock: int | None = None
        self._closing = AsyncExitStack()
        self._writing = False

    async def __aenter__(self) -> Self:
        """Open the file.

        Raises:
            Failure: STORE_UNAVAILABLE, with a sentence that says what is wrong.
        """
        loop = asyncio.get_running_loop()
        try:
            writer, reader, finder = await loop.run_in_executor(self._reads, self._open)
        except (sqlite3.Error, OSError) as error:
            raise unavailable(f"{self._path} cannot be opened: {error}") from error
        self._reader, self._finder = reader, finder
        thread = threading.Thread(
            target=self._write_all, args=(writer, loop), name="store-write", daemon=True
        )
        thread.start()
        self._writing = True
        self._closing.push_async_callback(self._close, thread, reader, finder)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file once every commit asked for has ended."""
        await self._closing.aclose()

    async def _close(
        self, thread: threading.Thread, reader: sqlite3.Connection, finder: sqlite3.Connection
    ) -> None:
        self._writing = False
        self._jobs.put(None)
        await asyncio.to_thread(thread.join)
        await asyncio.get_running_loop().run_in_executor(self._reads, reader.close)
        finder.close()
        self._reads.shutdown(wait=False)
        self._unlock()

    async def commit(self, writes: Sequence[Write]) -> Committed:
        """Make all writes or none; see `Store`."""
        if not self._writing:
            raise unavailable("The store is not open.")
        done: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
        self._jobs.put(_Job(writes, done))
        return await done

    async def get(self, path: str) -> Document | None:
        """Return a document, or None; see `Store`."""
        collection, _, id_ = path.rpartition("/")
        statement = "SELECT id, fields, time FROM documents WHERE collection = ? AND id = ?"
        # A turn for others, and for whoever cancels it, as with every call.
        await asyncio.sleep(0)
        rows = self._found(statement, (collection, id_))
        if rows is None:
            rows = await self._rows(statement, (collection, id_))
        return _document(collection, rows[0], await self.now()) if rows else None

    async def read(
        self,
        collection: str,
        *,
        after: str = "",
        before: str = "",
        limit: int = 1000,
        reverse: bool = False,
    ) -> Sequence[Document]:
        """Return documents of a collection; see `Store`."""
        statement = "SELECT id, fields, time FROM documents WHERE collection = ? AND id > ?"
        values: list[Any] = [collection, after]
        if before:
            statement += " AND id < ?"
            values.append(before)
        statement += f" ORDER BY id {'DESC' if reverse else 'ASC'} LIMIT ?"
        values.append(limit)
        rows = await self._rows(statement, values)
        now = await self.now()
        return [_document(collection, row, now) for row in rows]

    async def now(self) -> datetime:
        """Return the database's time; see `Store`."""
        return _instant(max(self._time, int(self._clock() * 1_000_000)))

    def _found(self, statement: str, values: Sequence[Any]) -> list[Any] | None:
        """Select in the event loop; None when that is not possible at once.

        It takes 3 µs. A thread that has to be woken takes 50, and whoever waits for it,
        as everybody who begins a turn, ten times as long.
        """
        if self._finder is None:
            return None
        try:
            return self._finder.execute(statement, values).fetchall()
        except sqlite3.Error:
            # Another one may hold the file, for which the thread waits.
            return None

    async def _rows(self, statement: str, values: Sequence[Any]) -> list[Any]:
        loop = asyncio.get_running_loop()
        with _seam():
            return await loop.run_in_executor(self._reads, self._select, statement, values)

    def _select(self, statement: str, values: Sequence[Any]) -> list[Any]:
        if self._reader is None:
            raise sqlite3.ProgrammingError("the store is not open")
        return self._reader.execute(statement, values).fetchall()

    def _open(self) -> tuple[sqlite3.Connection, sqlite3.Connection, sqlite3.Connection]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = lock_file(self._path.with_name(f"{self._path.name}.lock"), self._lock_seconds)
        try:
            return self._open_locked()
        except BaseException:
            self._unlock()
            raise

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _open_locked(
        self,
    ) -> tuple[sqlite3.Connection, sqlite3.Connection, sqlite3.Connection]:
        writer = make(self._path, self._lock_seconds)
        check(writer, self._check_seconds)
        (self._time,) = writer.execute("SELECT time FROM clock").fetchone()
        return writer, connect(self._path, self._lock_seconds), connect(self._path, 0)

    def _write_all(self, opened: sqlite3.Connection, loop: asyncio.AbstractEventLoop) -> None:
        connection: sqlite3.Connection | None = opened
        while True:
            jobs = self._waiting()
            closing = None in jobs
            batch = [job for job in jobs if job is not None]
            if batch:
                connection = self._write(connection, batch)
                loop.call_soon_threadsafe(_deliver, batch)
            if closing:
                if connection is not None:
                    connection.close()
                return

    def _waiting(self) -> list[_Job | None]:
        jobs = [self._jobs.get()]
        try:
            while len(jobs) < _MOST_AT_ONCE and jobs[-1] is not None:
                jobs.append(self._jobs.get_nowait())
        except queue.Empty:
            pass
        return jobs

    def _write(
        self, connection: sqlite3.Connection | None, batch: list[_Job]
    ) -> sqlite3.Connection | None:
        """Commit a batch; return the connection for the next, None when that must open one."""
        try:
            if connection is None:
                connection = connect(self._path, self._lock_seconds)
            connection.execute("BEGIN IMMEDIATE")
            for job in batch:
                job.result = self._apply(connection, job.writes)
            connection.execute("UPDATE clock SET time = ?", (self._time,))
            connection.execute("COMMIT")
        except Exception as error:  # else those who wait would never hear of it
            # Not known whether it was committed.
            log.exception("store commit failed", extra={"commits": len(batch)})
            for job in batch:
                job.result = _unusable(error)
            if connection is not None:
                abandon(connection)
            return None
        return connection

    def _apply(
        self, connection: sqlite3.Connection, writes: Sequence[Write]
    ) -> Committed | StoreConflict:
        self._time = max(self._time + 1, int(self._clock() * 1_000_000))
        connection.execute("SAVEPOINT one")
        for write in writes:
            if not _apply_write(connection, write, self._time):
                connection.execute("ROLLBACK TO one")
                connection.execute("RELEASE one")
                return StoreConflict(write.path)
        connection.execute("RELEASE one")
        version = str(self._time)
        versions = tuple(version if isinstance(w, Create | Update) else "" for w in writes)
        return Committed(_instant(self._time), versions)


def _apply_write(connection: sqlite3.Connection, write: Write, now: int) -> bool:
    """Apply one write and tell whether its condition held."""
    collection, _, id_ = write.path.rpartition("/")
    match write:
        case Create(fields=fields):
            statement = "INSERT INTO documents VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
            values: tuple[Any, ...] = (collection, id_, orjson.dumps(fields), now)
        case Update(fields=fields, version=version):
            statement = (
                "UPDATE documents SET fields = ?, time = ?"
                " WHERE collection = ? AND id = ? AND time = ?"
            )
            values = (orjson.dumps(fields), now, collection, id_, version)
        case _ if write.version is None:
            statement = "DELETE FROM documents WHERE collection = ? AND id = ?"
            values = (collection, id_)
        case _:
            statement = "DELETE FROM documents WHERE collection = ? AND id = ? AND time = ?"
            values = (collection, id_, write.version)
    changed = connection.execute(statement, values).rowcount
    return changed == 1 or (not isinstance(write, Create | Update) and write.version is None)


def _deliver(batch: list[_Job]) -> None:
    for job in batch:
        if job.done.done():
            # Whoever asked was cancelled.
            continue
        if isinstance(job.result, Exception):
            job.done.set_exception(job.result)
        else:
            job.done.set_result(job.result)


def _document(collection: str, row: tuple[str, bytes, int], now: datetime) -> Document:
    id_, fields, update_time = row
    return Document(
        path=f"{collection}/{id_}",
        fields=orjson.loads(fields),
        version=str(update_time),
        update_time=_instant(update_time),
        read_time=now,
    )


def _instant(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


@contextmanager
def _seam() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError, RuntimeError) as error:
        raise _unusable(error) from error


def _unusable(error: Exception) -> Failure:
    # Only the kind: the text of an error may hold a user's.
    return unavailable(
        f"The store cannot be used ({type(error).__name__}). Try again after a second."
    )
