"""Finds what has not ended and whose owner is gone, and sees to it.

Every process looks through the same list, so that nothing waits for a client.
Does not know how anything is taken up.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from datetime import timedelta

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.session.environment import Environment
from services.session.ownership.ownership import Ownership
from services.session.records import WORK
from services.session.sessions import Sessions
from services.session.store import Document

log = logging.getLogger(__name__)

_PAGE = 1000
_AT_ONCE = 8

_EXPECTED = frozenset(
    {
        errors_pb2.ERROR_REASON_NOT_OWNER,
        errors_pb2.ERROR_REASON_DRAINING,
        errors_pb2.ERROR_REASON_STORE_UNAVAILABLE,
        errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
        errors_pb2.ERROR_REASON_RESOURCE_NOT_FOUND,
    }
)
"""Why an entry may be left for the next time."""


class Sweeper:
    """Looks through the list of work, again and again.

    Args:
        environment: What it works with.
        ownership: Says which users are others'.
        sessions: Take up what is found.
        period: About how long it rests.
    """

    def __init__(
        self,
        *,
        environment: Environment,
        ownership: Ownership,
        sessions: Sessions,
        period: timedelta,
    ) -> None:
        self._environment = environment
        self._ownership = ownership
        self._sessions = sessions
        self._period = period.total_seconds()
        # Users there was no room for the last time.
        self._waiting: set[str] = set()

    async def start(self) -> None:
        """Take up what an earlier process left, then look again and again if there are others.

        Raises:
            Failure: STORE_UNAVAILABLE; calling it again goes on.
        """
        if self._ownership.shared:
            # Not waited for: a client's call takes up its user by itself.
            self._environment.tasks.spawn(self._sweep_again(), name="work-sweep")
            return
        for user, entries in (await self._work()).items():
            session = await self._sessions.session(user, admit=True)
            for entry in entries:
                await session.taking_up.see_to(entry)

    async def sweep(self) -> None:
        """Look through the list once.

        Raises:
            Failure: STORE_UNAVAILABLE; some may have been taken up.
        """
        work = await self._work()
        users = [
            user
            for user in work
            if self._sessions.find(user) is not None or not self._ownership.foreign(user)
        ]
        # Else all processes would try the same users at the same time.
        random.shuffle(users)
        slots = asyncio.Semaphore(_AT_ONCE)
        waiting, self._waiting = self._waiting, set()
        # Each in a task of its own: what a bug makes of one user ends nothing for the others.
        tasks = [
            self._environment.tasks.spawn(
                self._user(user, work[user], slots, admit=user in waiting), name="work-user"
            )
            for user in users
        ]
        if tasks:
            await asyncio.wait(tasks)

    async def _sweep_again(self) -> None:
        while True:
            try:
                await self.sweep()
            except Failure as failure:
                log.info("work not looked through", extra={"reason": failure.reason_name})
            await asyncio.sleep(self._period * random.uniform(0.8, 1.2))  # noqa: S311

    async def _work(self) -> dict[str, list[Document]]:
        """Return what has not ended, by user."""
        work: dict[str, list[Document]] = {}
        after = ""
        while True:
            entries = await self._environment.store.read(WORK, after=after, limit=_PAGE)
            for entry in entries:
                work.setdefault(entry.fields["user"], []).append(entry)
            # A look for more would be paid for, each time.
            if len(entries) < _PAGE:
                return work
            after = entries[-1].id

    async def _user(
        self, user: str, entries: Sequence[Document], slots: asyncio.Semaphore, *, admit: bool
    ) -> None:
        try:
            async with slots:
                session = await self._sessions.session(user, admit=admit)
                for entry in entries:
                    await session.taking_up.see_to(entry)
        except Failure as failure:
            if failure.reason == errors_pb2.ERROR_REASON_SESSION_CAPACITY:
                # Another process may have room; if not, it is taken all the same.
                self._waiting.add(user)
            elif failure.reason not in _EXPECTED:
                log.warning("work not taken up", extra={"reason": failure.reason_name})
