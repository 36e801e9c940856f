"""What a session service depends on, as a diagnosis tells it.

Does not know gRPC, nor which databases there are.
"""

from __future__ import annotations

import asyncio
import time

from moorline.diagnosis.v1 import diagnosis_pb2
from services.chassis.failures import Failure
from services.session.ownership.ownership import Ownership
from services.session.sessions import Sessions
from services.session.store import Store

Check = diagnosis_pb2.Check

_SECONDS = 4.0
"""How long the store may take to answer; whoever asks waits a little longer."""

_SLOW_SECONDS = 0.5


class Surroundings:
    """All that a session service depends on.

    Args:
        store: Where everything that lasts is kept.
        store_words: Which store that is, as in `The file data/moorline.db`.
        sessions: The users in memory.
        ownership: Says whether others share the store.
    """

    def __init__(
        self, *, store: Store, store_words: str, sessions: Sessions, ownership: Ownership
    ) -> None:
        self._store = store
        self._store_words = store_words
        self._sessions = sessions
        self._ownership = ownership

    async def look(self) -> list[diagnosis_pb2.Check]:
        """Look at everything."""
        return [self._session(), await self._look_at_store()]

    async def _look_at_store(self) -> diagnosis_pb2.Check:
        """Read from the store, really."""
        check = Check(subject=Check.SUBJECT_STORE, state=Check.STATE_FAILED)
        check.remedy = "See that the database runs and can be reached; nothing was lost meanwhile."
        began = time.monotonic()
        try:
            async with asyncio.timeout(_SECONDS):
                await self._store.now()
        except TimeoutError:
            check.detail = f"{self._store_words} did not answer within {_SECONDS:.0f} s."
        except Failure as failure:
            check.detail = f"{self._store_words} cannot be read: {failure.message}"
        else:
            took = time.monotonic() - began
            check.detail = f"{self._store_words} answered in {took * 1000:.0f} ms."
            check.state = Check.STATE_GOOD
            check.remedy = ""
            if took > _SLOW_SECONDS:
                check.state = Check.STATE_WARNING
                check.remedy = "Bring the session service and its database nearer to each other."
        return check

    def _session(self) -> diagnosis_pb2.Check:
        count = len(self._sessions)
        others = "others may serve more" if self._ownership.shared else "nobody else uses its store"
        check = Check(
            subject=Check.SUBJECT_SESSION,
            state=Check.STATE_GOOD,
            detail=f"It serves {_users(count)}, and {others}.",
        )
        suspended = self._sessions.suspended
        if suspended:
            check.state = Check.STATE_WARNING
            check.detail = (
                f"It serves {_users(count)}; for {suspended} of them it waits for the database."
            )
            check.remedy = "They are served again when the database answers, here or elsewhere."
        if self._sessions.draining:
            check.state = Check.STATE_WARNING
            check.detail = "It is shutting down."
            check.remedy = "Ask again when another one has taken over."
        return check


def _users(count: int) -> str:
    return "1 user" if count == 1 else f"{count} users"
