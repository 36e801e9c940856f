"""Who serves a user, agreed on through a database that processes share.

One document for each user says who it is:

    users/{user}    owner, address, epoch, beat, released

It is only ever written against the version that was read, and its age is told
by the database's clock alone: a process's own clock is only a stopwatch. Does
not know what an owner does.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from datetime import timedelta

from services.session.names import UserName
from services.session.ownership.lease import (
    HeldLease,
    LeaseRecord,
    Terms,
    not_owner,
    read_lease,
)
from services.session.ownership.ownership import Keeper
from services.session.store import Create, Document, StoreConflict, Update, unavailable

log = logging.getLogger(__name__)

_SECONDS = 5.0
"""How long becoming the owner may take: less than a caller waits."""

_TRIES = 4
_MOST_FOREIGN = 10_000


class Leases:
    """An `Ownership` by leases.

    Args:
        terms: What all leases have in common.
        address: Where this process is reached.
    """

    shared = True

    def __init__(self, *, terms: Terms, address: str) -> None:
        self._terms = terms
        self._address = address
        self._owner = uuid.uuid4().hex
        # False once somebody else was seen who has it, too.
        self._alone = True
        # Monotonic times until which another's lease cannot have expired, by user.
        self._foreign: dict[str, float] = {}

    async def acquire(self, user: str, keeper: Keeper) -> HeldLease:
        """See `Ownership`."""
        try:
            async with asyncio.timeout(_SECONDS):
                for _ in range(_TRIES):
                    lease = await self._try(user, keeper)
                    if lease is not None:
                        return lease
        except TimeoutError:
            raise unavailable() from None
        # Others write it all the time: there is an owner, whoever that is.
        raise not_owner()

    def foreign(self, user: str) -> bool:
        """See `Ownership`."""
        until = self._foreign.get(user)
        if until is None:
            return False
        if self._terms.monotonic() < until:
            return True
        del self._foreign[user]
        return False

    async def _try(self, user: str, keeper: Keeper) -> HeldLease | None:
        """Try to become the owner; return None when somebody else wrote meanwhile."""
        path = str(UserName(user))
        asked = self._terms.monotonic()
        document = await self._terms.store.get(path)
        if document is None:
            record = LeaseRecord(owner=self._owner, address=self._address, epoch=1)
            write: Create | Update = Create(path, record.fields())
            cause, contested = "free", False
        else:
            self._terms.clock.observe(document.read_time)
            found = read_lease(document)
            cause = self._cause(document, found)
            if not cause:
                self._remember(user, document, asked)
                raise not_owner(found.address if found.address != self._address else "")
            record = LeaseRecord(owner=self._owner, address=self._address, epoch=found.epoch + 1)
            write = Update(path, record.fields(), document.version)
            contested = not found.released
        sent = self._terms.monotonic()
        version = await self._write(write)
        if not version:
            return None
        self._foreign.pop(user, None)
        self._terms.measures.taken.labels(cause).inc()
        log.info("lease taken", extra={"lease": path, "epoch": record.epoch, "cause": cause})
        return HeldLease(
            terms=self._terms,
            path=path,
            record=record,
            version=version,
            sent=sent,
            contested=contested,
            keeper=keeper,
            robbed=self._robbed,
        )

    async def _write(self, write: Create | Update) -> str:
        """Commit; return the new version, or nothing when another was faster."""
        try:
            committed = await self._terms.store.commit([write])
        except StoreConflict:
            # Perhaps it is ours all the same: an answer was lost on the way.
            document = await self._terms.store.get(write.path)
            if document is not None and document.fields == write.fields:
                return document.version
            return ""
        self._terms.clock.observe(committed.time)
        return committed.versions[0]

    def _cause(self, document: Document, found: LeaseRecord) -> str:
        """Return why a lease may be taken, or nothing when it may not."""
        if found.released:
            return "released"
        if found.owner == self._owner or (self._alone and found.address == self._address):
            # Of a process that is gone: we have its address. Or a lease that we
            # got, or kept, without hearing of it.
            return "address"
        if document.read_time - document.update_time > timedelta(seconds=self._terms.seconds):
            return "expired"
        return ""

    def _robbed(self, address: str) -> None:
        """Hear who has taken a lease from us; it is not to go to and fro for ever."""
        if self._alone and address == self._address:
            self._alone = False
            log.error(
                "another process has this address: each needs its own MOORLINE_ADDRESS",
                extra={"address": address},
            )

    def _remember(self, user: str, document: Document, asked: float) -> None:
        age = (document.read_time - document.update_time).total_seconds()
        if len(self._foreign) >= _MOST_FOREIGN:
            self._foreign.clear()
        self._foreign[user] = asked + self._terms.seconds - max(0.0, age)
