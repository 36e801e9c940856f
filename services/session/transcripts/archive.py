"""An agent's stored transcript, for reading and for clearing away.

Does not know who writes, nor what an entry means.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress

from services.session.names import AgentName
from services.session.records import log_prefix, number, transcript_path
from services.session.store import Delete, Store, StoreConflict
from services.session.transcripts.piece import Piece, read_piece

_PAGE = 8
"""Pieces read at once; each has at most a megabyte, and most have a fifth of that."""

_AT_ONCE = 40
"""Pieces removed by one commit; a store takes 500 writes, and a large document some."""


class TranscriptArchive:
    """The stored pieces of one agent's transcript.

    Args:
        store: Where they are.
        agent: Whose transcript it is.
        log: `AgentRecord.log`; pieces of another history do not count.
    """

    __slots__ = ("_before", "_collection", "_prefix", "_store")

    def __init__(self, *, store: Store, agent: AgentName, log: str) -> None:
        self._store = store
        self._collection = transcript_path(agent)
        self._prefix = log_prefix(log)
        # Ids go on with a digit, and ":" follows the greatest.
        self._before = f"{self._prefix}:"

    def path(self, piece: int) -> str:
        """Return the document of the piece with a number."""
        return f"{self._collection}/{self._prefix}{number(piece)}"

    async def tail(self) -> Piece | None:
        """Return the newest piece, or None.

        Raises:
            Failure: STORE_UNAVAILABLE.
        """
        documents = await self._store.read(
            self._collection, after=self._prefix, before=self._before, limit=1, reverse=True
        )
        return read_piece(documents[0]) if documents else None

    async def pieces(self, conversation: str, *, first: int) -> AsyncIterator[Piece]:
        """Return a conversation's pieces in order, a few of them in memory at once.

        Raises:
            Failure: STORE_UNAVAILABLE.
        """
        after = f"{self._prefix}{number(first - 1)}"
        while True:
            documents = await self._store.read(
                self._collection, after=after, before=self._before, limit=_PAGE
            )
            for document in documents:
                piece = read_piece(document)
                if piece.conversation == conversation:
                    yield piece
            if len(documents) < _PAGE:
                return
            after = documents[-1].id

    async def clear(self, *, before: int) -> bool:
        """Remove some of the pieces before one; return whether more may be left.

        Safe for whoever is the owner no more: they are of no use to anybody.

        Raises:
            Failure: STORE_UNAVAILABLE.
        """
        documents = await self._store.read(
            self._collection,
            after=self._prefix,
            before=f"{self._prefix}{number(before)}",
            limit=_AT_ONCE,
        )
        if documents:
            # With their versions, which tell the store how large they are.
            with suppress(StoreConflict):
                await self._store.commit(
                    [Delete(document.path, document.version) for document in documents]
                )
        return len(documents) == _AT_ONCE
