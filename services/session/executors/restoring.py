"""Brings an agent's stored conversation to an executor that has not got it.

Does not know what an entry means, nor what is done with the conversation then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta

from moorline.errors.v1 import errors_pb2
from moorline.executor.v1 import workspaces_pb2
from services.chassis.backoff import Backoff
from services.chassis.failures import Failure
from services.session.executors.deliveries import PASSING
from services.session.executors.executor import Executors
from services.session.executors.patience import Patience
from services.session.outcomes import conversation_lost, unreachable
from services.session.transcripts.mirror import Mirror
from services.session.transcripts.piece import Piece

log = logging.getLogger(__name__)

_CALL_BYTES = 2 << 20
"""Entries are sent when there are so many; the contract allows twice as many in a call."""

_SECONDS = 600.0
"""Longest time for all of it."""

_TRY = timedelta(seconds=12)
"""Longer than one try takes, its pause included."""

_AGAIN = PASSING | {errors_pb2.ERROR_REASON_STORE_UNAVAILABLE}


class Restoring:
    """One conversation on its way to one executor.

    Args:
        executors: The executors.
        address: The one that needs it.
        workspace: `workspaces/{workspace}`.
        mirror: Where the conversation is stored.
        unreachable: How long an executor that does not answer is tried.
        owned: Tells that nobody else can be doing this.
    """

    def __init__(
        self,
        *,
        executors: Executors,
        address: str,
        workspace: str,
        mirror: Mirror,
        unreachable: timedelta,
        owned: Callable[[], bool],
    ) -> None:
        self._executors = executors
        self._address = address
        self._workspace = workspace
        self._mirror = mirror
        self._patience = Patience(whole=unreachable, step=_TRY)
        self._owned = owned
        # Number of the next piece to read, what was read and not sent, and how many
        # entries of each file were sent.
        self._next = mirror.first
        self._unsent: dict[str, list[str]] = {}
        self._bytes = 0
        self._sent: dict[str, int] = {}
        self._anew = True

    async def run(self) -> None:
        """Bring all of it there, however often that has to be tried again.

        Raises:
            Failure: CONVERSATION_LOST when it cannot be restored; else why the
                executor could not be reached for too long.
        """
        try:
            async with asyncio.timeout(_SECONDS):
                await self._repeat()
        except TimeoutError:
            raise unreachable() from None

    async def _repeat(self) -> None:
        backoff = Backoff()
        self._patience.begin()
        while True:
            try:
                await self._pieces()
            except Failure as failure:
                if failure.reason in _AGAIN:
                    if failure.reason == errors_pb2.ERROR_REASON_STORE_UNAVAILABLE:
                        self._patience.skip()
                    elif self._patience.over():
                        raise
                elif self._anew and self._sent:
                    # What was sent is not there any more: the executor began anew, too.
                    self._begin_anew()
                else:
                    log.warning("conversation not restored", extra={"reason": failure.reason_name})
                    raise conversation_lost() from failure
            else:
                return
            await backoff.pause()

    def _begin_anew(self) -> None:
        self._anew = False
        self._next = self._mirror.first
        self._unsent.clear()
        self._bytes = 0
        self._sent.clear()

    async def _pieces(self) -> None:
        pieces = self._mirror.archive.pieces(self._mirror.conversation, first=self._next)
        async for piece in pieces:
            await self._add(piece)
        await self._send()
        if not self._sent:
            raise conversation_lost()

    async def _add(self, piece: Piece) -> None:
        for part in piece.parts:
            self._unsent.setdefault(part.file, []).extend(part.entries)
            self._bytes += sum(len(entry) for entry in part.entries)
        self._next = piece.number + 1
        if self._bytes >= _CALL_BYTES:
            await self._send()

    async def _send(self) -> None:
        for file, entries in list(self._unsent.items()):
            if not self._owned():
                raise _not_owned()
            position = self._sent.get(file, 0)
            request = workspaces_pb2.RestoreTranscriptRequest(
                name=self._workspace,
                conversation=self._mirror.conversation,
                file=file,
                position=position,
                entries=entries,
            )
            await self._executors.restore(self._address, request)
            # It answers: what the rest takes is another matter.
            self._patience.begin()
            self._sent[file] = position + len(entries)
            del self._unsent[file]
        self._bytes = 0


def _not_owned() -> Failure:
    """Return why an owner that may be none any more waits."""
    return Failure(errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE, "Another process may go on.")
