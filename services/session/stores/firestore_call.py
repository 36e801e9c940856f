"""One call of the store: what it sends to Firestore, and again, until its deadline.

Does not know the calls beside it, nor how the connection is opened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from google.cloud.firestore_v1.types import (
    BatchGetDocumentsRequest,
    BatchGetDocumentsResponse,
    CommitRequest,
    CommitResponse,
    DocumentMask,
    RunQueryResponse,
)
from google.protobuf.timestamp_pb2 import Timestamp

from services.chassis.backoff import Backoff
from services.session.store import Committed, Document, unavailable
from services.session.stores.firestore_batch import Batch
from services.session.stores.firestore_channel import Connection
from services.session.stores.firestore_errors import (
    CONFLICTS,
    ApiError,
    failure,
    is_condition,
    may_have_happened,
    passes,
)
from services.session.stores.firestore_values import Stored, stored

T = TypeVar("T")

_BYTES_A_SECOND = 1_000_000
"""What a request of some size gets on top of its time."""

_QUERY_TIMES = 2
"""What a query gets, which may bring some megabytes."""


class Call:
    """What one call may send before its deadline.

    Args:
        connection: Where to.
        root: Resource name under which all documents are.
        seconds: Until the deadline.
        attempt: Seconds that each request may take.
    """

    __slots__ = ("_attempt", "_backoff", "_connection", "_end", "_root")

    def __init__(
        self, *, connection: Connection, root: str, seconds: float, attempt: float
    ) -> None:
        self._connection = connection
        self._root = root
        self._attempt = attempt
        self._end = asyncio.get_running_loop().time() + seconds
        self._backoff = Backoff()

    async def commit(self, batch: Batch) -> Committed:
        """Make a commit, once however often it is sent.

        Raises:
            StoreConflict: A condition does not hold; nothing was written.
            Failure: STORE_UNAVAILABLE; it may have been made, or may yet be.
            ApiError: Firestore refuses it.
        """
        request = CommitRequest.wrap(batch.request)
        seconds = self._attempt + batch.size / _BYTES_A_SECOND
        doubtful = False
        while True:
            try:
                response = await self._connection.client.commit(
                    request=request, **self._options(seconds)
                )
            except CONFLICTS as error:
                if not is_condition(error):
                    raise
                return await self._met(batch, doubtful=doubtful)
            except ApiError as error:
                doubtful = doubtful or may_have_happened(error)
                await self._after(error)
            else:
                return batch.made(CommitResponse.pb(response))

    async def documents(
        self, paths: Iterable[str], *, marks_only: bool = False, at: Timestamp | None = None
    ) -> tuple[dict[str, Stored], Timestamp]:
        """Return documents that exist, by path, and the time at which they were read.

        Args:
            paths: At least one.
            marks_only: True leaves their text out.
            at: As they were at this time; None for now.
        """
        request = BatchGetDocumentsRequest(
            database=self._connection.target.name,
            documents=[f"{self._root}/{path}" for path in paths],
            mask=DocumentMask(field_paths=["write"]) if marks_only else None,
            read_time=at,
        )

        async def get() -> tuple[dict[str, Stored], Timestamp]:
            answers = await self._connection.client.batch_get_documents(
                request=request, **self._options(self._attempt * _QUERY_TIMES)
            )
            found = {}
            time = Timestamp()
            async for answer in answers:
                message = BatchGetDocumentsResponse.pb(answer)
                time = message.read_time
                if message.HasField("found"):
                    document = stored(self._root, message.found)
                    found[document.path] = document
            return found, time

        return await self._repeat(get)

    async def document(self, path: str) -> Document | None:
        """Return a document whole, or None."""
        while True:
            found, time = await self.documents([path])
            if path not in found:
                return None
            document = found[path]
            rest = await self._rest([document], time)
            if (texts := _texts(document, rest)) is not None:
                return document.document(texts, time)
            # It was written between the two reads.
            await self._pause()

    async def query(self, request: Any) -> list[Document]:
        """Return the documents whole that a `RunQueryRequest` finds, in its order."""

        async def run() -> tuple[list[Stored], Timestamp]:
            answers = await self._connection.client.run_query(
                request=request, **self._options(self._attempt * _QUERY_TIMES)
            )
            found = []
            time = Timestamp()
            async for answer in answers:
                message = RunQueryResponse.pb(answer)
                time = message.read_time
                if message.HasField("document"):
                    found.append(stored(self._root, message.document))
            return found, time

        found, time = await self._repeat(run)
        rest = await self._rest(found, time)
        documents = []
        for one in found:
            texts = _texts(one, rest)
            # Written between the two reads, perhaps deleted: it is read anew.
            document = (
                one.document(texts, time) if texts is not None else await self.document(one.path)
            )
            if document is not None:
                documents.append(document)
        return documents

    async def _rest(self, documents: Sequence[Stored], time: Timestamp) -> dict[str, Stored]:
        """Return the parts of documents as they were when those were read."""
        paths = [path for document in documents for path in document.more]
        return (await self.documents(paths, at=time))[0] if paths else {}

    async def _met(self, batch: Batch, *, doubtful: bool) -> Committed:
        """Tell why a commit met a condition that does not hold; it may be its own work."""
        try:
            documents, _ = await self.documents(
                [write.path for write in batch.writes], marks_only=True
            )
        except ApiError as error:
            raise failure(error) from error
        if not doubtful:
            raise batch.conflict(documents)
        committed = batch.found(documents.values())
        if committed is None:
            # Either somebody else was first, or we were, and somebody else second.
            raise unavailable("The store's answer was lost. Try again after a second.")
        return committed

    async def _repeat(self, attempt: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await attempt()
            except ApiError as error:
                await self._after(error)

    async def _after(self, error: ApiError) -> None:
        """Wait before a repetition; raise where none would help."""
        if not passes(error) or self._left() <= self._backoff.seconds:
            raise error
        await self._pause()

    async def _pause(self) -> None:
        if self._left() <= self._backoff.seconds:
            raise unavailable()
        await self._backoff.pause()

    def _left(self) -> float:
        return self._end - asyncio.get_running_loop().time()

    def _options(self, seconds: float) -> dict[str, Any]:
        return {
            "retry": None,
            "timeout": max(0.001, min(seconds, self._left())),
            "metadata": self._connection.metadata,
        }


def _texts(document: Stored, parts: dict[str, Stored]) -> list[str] | None:
    """Return the text of a document's parts; None when they are of another write."""
    found = [parts[path] for path in document.more if path in parts]
    if len(found) != document.mark.parts or any(
        part.mark.nonce != document.mark.nonce for part in found
    ):
        return None
    return [part.text for part in found]
