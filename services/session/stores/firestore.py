"""The store on Google Cloud Firestore, or on its emulator.

Uses conditional commits, reads and ordered queries, and nothing else: the
client's transactions, listeners and repetitions each lose, double or hang when
the database is away. Imported only where it is configured: half a second and
50 MB. Does not know what documents mean.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from types import TracebackType
from typing import Self

from google.cloud.firestore_v1.types import Cursor, RunQueryRequest, StructuredQuery, Value

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.session.store import Committed, Delete, Document, Write, unavailable
from services.session.stores.firestore_batch import Batch
from services.session.stores.firestore_call import Call
from services.session.stores.firestore_channel import Connection, connect
from services.session.stores.firestore_errors import (
    ApiError,
    advice,
    failure,
    passes,
)
from services.session.stores.firestore_values import instant

log = logging.getLogger(__name__)

_NOWHERE = "clock/now"
"""A document that never exists; reading it tells the time."""


class FirestoreStore:
    """A `Store` in one Firestore database, for any number of processes.

    Args:
        project: Google Cloud project; empty for that of the credentials.
        database: Id of the database.
        emulator: Address of an emulator, `host:port`; empty for the service.
        deadline: Seconds that a call may take with all its repetitions.
        attempt: Seconds that one of them may take, more for large ones.
    """

    def __init__(
        self,
        *,
        project: str,
        database: str = "(default)",
        emulator: str = "",
        deadline: float = 7.0,
        attempt: float = 2.0,
    ) -> None:
        self._project = project
        self._database = database
        self._emulator = emulator
        self._deadline = deadline
        self._attempt = attempt
        self._connection: Connection | None = None
        self._root = ""
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._away = False
        self._closing = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Connect, and look whether the database may be used.

        That it does not answer is no failure: it may come back.

        Raises:
            Failure: STORE_UNAVAILABLE, with a sentence that says what to do.
        """
        connection = await connect(
            project=self._project, database=self._database, emulator=self._emulator
        )
        self._connection = connection
        self._root = f"{connection.target.name}/documents"
        self._closing.push_async_callback(self._close, connection)
        call = self._new_call(connection, self._attempt)
        try:
            await call.documents([_NOWHERE])
        except ApiError as error:
            sentence = advice(error, connection.target)
            if not passes(error):
                await self._closing.aclose()
                raise Failure(errors_pb2.ERROR_REASON_STORE_UNAVAILABLE, sentence) from error
            log.warning("firestore is away", extra={"advice": sentence})
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connection once every call has ended; each ends by its deadline."""
        await self._closing.aclose()

    async def _close(self, connection: Connection) -> None:
        self._connection = None
        await self._idle.wait()
        await connection.close()

    async def commit(self, writes: Sequence[Write]) -> Committed:
        """Make all writes or none; see `Store`.

        An answer that was lost is looked for in the documents, so that a
        repetition does not fail on what it wrote itself. A delete without a
        version costs a read.

        Raises:
            ValueError: It is more than every database takes.
        """
        async with self._call() as call:
            blind = [w.path for w in writes if isinstance(w, Delete) and w.version is None]
            found = (await call.documents(blind, marks_only=True))[0] if blind else {}
            parts = {path: document.mark.parts for path, document in found.items()}
            return await call.commit(Batch(root=self._root, writes=writes, parts=parts))

    async def get(self, path: str) -> Document | None:
        """Return a document, or None; see `Store`."""
        async with self._call() as call:
            return await call.document(path)

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
        request = _query(self._root, collection, after, before, limit, reverse=reverse)
        async with self._call() as call:
            return await call.query(request)

    async def now(self) -> datetime:
        """Return the database's time; see `Store`. Costs a read."""
        async with self._call() as call:
            return instant((await call.documents([_NOWHERE]))[1])

    @asynccontextmanager
    async def _call(self) -> AsyncIterator[Call]:
        connection = self._connection
        if connection is None:
            raise unavailable("The store is not open.")
        self._calls += 1
        self._idle.clear()
        try:
            yield self._new_call(connection, self._deadline)
            self._away = False
        except ApiError as error:
            if not self._away:
                self._away = True
                # Once for each time it goes away; callers hear of it each time.
                log.warning("firestore is away", extra={"advice": advice(error, connection.target)})
            raise failure(error) from error
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()

    def _new_call(self, connection: Connection, seconds: float) -> Call:
        return Call(connection=connection, root=self._root, seconds=seconds, attempt=self._attempt)


def _query(
    root: str, collection: str, after: str, before: str, limit: int, *, reverse: bool
) -> RunQueryRequest:
    parent, _, collection_id = collection.rpartition("/")
    start, end = (before, after) if reverse else (after, before)

    def cursor(bound: str, *, before: bool) -> Cursor | None:
        if not bound:
            return None
        name = f"{root}/{collection}/{bound}"
        value = Value(string_value=bound) if reverse else Value(reference_value=name)
        return Cursor(values=[value], before=before)

    # Only ascending by path: the other way needs an index of its own, and the
    # emulator has none.
    order = StructuredQuery.Order(
        field=StructuredQuery.FieldReference(field_path="id" if reverse else "__name__"),
        direction="DESCENDING" if reverse else "ASCENDING",
    )
    return RunQueryRequest(
        parent=f"{root}/{parent}" if parent else root,
        structured_query=StructuredQuery(
            from_=[StructuredQuery.CollectionSelector(collection_id=collection_id)],
            order_by=[order],
            # After the one and before the other: both are left out.
            start_at=cursor(start, before=False),
            end_at=cursor(end, before=True),
            limit=limit,
        ),
    )
