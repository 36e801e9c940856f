"""A lease on one user, held: renewed, suspended, given back or lost.

Does not know what an owner does, nor how a lease is come by.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.chassis.metrics import Metrics
from services.chassis.tasks import Tasks
from services.session.clock import DatabaseClock
from services.session.ownership.ownership import Keeper
from services.session.store import Document, Store, StoreConflict, Update, unavailable

log = logging.getLogger(__name__)

_ACT = 0.8
"""Part of a lease's time that its holder uses; the rest is for clocks that run unevenly."""

_RENEW = 0.4
"""Part of a lease's time after which it is renewed: there is time for several tries, and
a minute costs ten writes."""

_RETRY_SECONDS = 0.3
_RETRY_DELAY = timedelta(milliseconds=100)


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """A user's lease as its document has it.

    Attributes:
        owner: Random id of the process that has it.
        address: Where that process is reached.
        epoch: Rises with every change of the owner.
        beat: Rises with every renewal.
        released: True once it was given back.
    """

    owner: str
    address: str
    epoch: int
    beat: int = 0
    released: bool = False

    def fields(self) -> dict[str, Any]:
        """Return the document's fields."""
        return {
            "owner": self.owner,
            "address": self.address,
            "epoch": self.epoch,
            "beat": self.beat,
            "released": self.released,
        }


def read_lease(document: Document) -> LeaseRecord:
    """Return the lease that a document holds."""
    fields = document.fields
    return LeaseRecord(
        owner=fields["owner"],
        address=fields["address"],
        epoch=fields["epoch"],
        beat=fields["beat"],
        released=fields["released"],
    )


def not_owner(address: str = "") -> Failure:
    """Return the answer to whoever asks the wrong process.

    Args:
        address: Where the right one is; empty when that is not known.
    """
    metadata = {"address": address} if address else {}
    return Failure(
        errors_pb2.ERROR_REASON_NOT_OWNER,
        "Another process serves this user. Call that one.",
        retry_delay=_RETRY_DELAY,
        **metadata,
    )


class LeaseMeasures:
    """What is counted about leases."""

    def __init__(self, *, metrics: Metrics) -> None:
        self.taken = metrics.counter(
            "moorline_leases_taken_total",
            "Leases on users that were taken, by why they could be.",
            ("cause",),
        )
        self.lost = metrics.counter(
            "moorline_leases_lost_total", "Leases that another process took from this one."
        )
        self.suspended = metrics.gauge(
            "moorline_leases_suspended", "Leases the store does not answer for."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What all leases of a process have in common.

    Attributes:
        clock: Learns the database's time.
        seconds: How long a lease lasts without a renewal.
        monotonic: Seconds of a clock that never steps and runs while we sleep.
    """

    store: Store
    tasks: Tasks
    clock: DatabaseClock
    seconds: float
    monotonic: Callable[[], float]
    measures: LeaseMeasures

    @property
    def patience(self) -> float:
        """Seconds until a renewal is taken to be unanswered."""
        return max(1.0, self.seconds / 7.5)


class HeldLease:
    """A `Lease` that is a document in a shared database.

    Args:
        terms: What all leases have in common.
        path: The document.
        record: What we wrote.
        version: Version of the document then.
        sent: Monotonic time before that write.
        contested: True when the owner before had not given it back.
        keeper: Hears what becomes of it.
        robbed: Called with the address of another process that has taken it.
    """

    __slots__ = (
        "_attempting",
        "_keeper",
        "_kicked",
        "_known",
        "_outcome",
        "_over",
        "_path",
        "_record",
        "_robbed",
        "_shown",
        "_suspended",
        "_task",
        "_terms",
        "_until",
        "_version",
        "contested",
        "epoch",
    )

    def __init__(
        self,
        *,
        terms: Terms,
        path: str,
        record: LeaseRecord,
        version: str,
        sent: float,
        contested: bool,
        keeper: Keeper,
        robbed: Callable[[str], None],
    ) -> None:
        self._terms = terms
        self._path = path
        self._record = record
        self._version = version
        self._keeper = keeper
        self._robbed = robbed
        self.epoch = record.epoch
        self.contested = contested
        # Monotonic times: until when we may act, and until when we may show.
        self._until = sent + _ACT * terms.seconds
        self._shown = self._until
        self._over: Failure | None = None
        self._suspended = False
        self._attempting = False
        self._kicked = asyncio.Event()
        self._outcome = asyncio.Event()
        # By callback, as one may ask again and again.
        self._known: dict[Callable[[], None], None] = {}
        self._task = terms.tasks.spawn(self._keep(), name="lease")
        self._task.add_done_callback(self._stopped)

    @property
    def held(self) -> bool:
        """See `Lease`."""
        return self._over is None and self._terms.monotonic() < self._until

    @property
    def shows(self) -> bool:
        """See `Lease`."""
        return self._over is None and self._terms.monotonic() < self._shown

    async def confirm(self) -> None:
        """See `Lease`."""
        # Twice: what was on its way before this process slept does not count.
        for _ in range(2):
            if self._over is not None or self.shows:
                break
            await self._next_outcome()
        self._require()

    async def verify(self) -> None:
        """See `Lease`."""
        for _ in range(2 if self._attempting else 1):
            if self._over is None:
                await self._next_outcome()
        self._require()

    async def settled(self) -> None:
        """See `Lease`."""
        if not self.held:
            # Only once: a database that refuses at once would be asked without a pause.
            self._kicked.set()
        while self._over is None and not self.held:
            await self._outcome.wait()

    def when_known(self, callback: Callable[[], None]) -> None:
        """See `Lease`."""
        self._known[callback] = None
        self._kicked.set()

    async def release(self, failure: Failure) -> None:
        """See `Lease`."""
        if self._over is not None:
            return
        self._end(failure)
        self._task.cancel()
        released = replace(self._record, released=True)
        try:
            async with asyncio.timeout(self._terms.patience):
                while not await self._written(released):
                    pass
        except (Failure, TimeoutError):
            log.warning("lease not given back", extra={"lease": self._path})

    async def _written(self, record: LeaseRecord) -> bool:
        """Write the document; return False when it must be written once more.

        Raises:
            Failure: STORE_UNAVAILABLE; NOT_OWNER when the lease is somebody else's.
        """
        store = self._terms.store
        try:
            committed = await store.commit([Update(self._path, record.fields(), self._version)])
        except StoreConflict:
            # Perhaps a write of ours whose answer was lost.
            document = await store.get(self._path)
            found = read_lease(document) if document is not None else None
            if document is None or found is None:
                raise not_owner() from None
            if (found.owner, found.epoch) != (record.owner, record.epoch):
                if found.owner != record.owner:
                    self._robbed(found.address)
                raise not_owner(found.address) from None
            self._version = document.version
            return found == record
        self._version = committed.versions[0]
        self._terms.clock.observe(committed.time)
        return True

    async def _keep(self) -> None:
        delay = _RENEW * self._terms.seconds
        while self._over is None:
            try:
                async with asyncio.timeout(delay):
                    await self._kicked.wait()
            except TimeoutError:
                if self.held and not self._keeper.wanted():
                    self._keeper.unwanted()
                    continue
            self._kicked.clear()
            renewed = await self._renew()
            delay = _RENEW * self._terms.seconds if renewed else self._retry_seconds()

    def _stopped(self, task: asyncio.Task[None]) -> None:
        """Do not hold on to a lease that a bug keeps from being renewed."""
        if not task.cancelled() and task.exception() is not None and self._over is None:
            self._lost(not_owner())

    def _retry_seconds(self) -> float:
        return min(_RETRY_SECONDS, _RENEW * self._terms.seconds / 4)

    async def _renew(self) -> bool:
        """Try to renew the lease once; return whether it was."""
        sent = self._terms.monotonic()
        self._attempting = True
        renewed = False
        try:
            async with asyncio.timeout(self._terms.patience):
                while not renewed:
                    self._record = replace(self._record, beat=self._record.beat + 1)
                    sent = self._terms.monotonic()
                    renewed = await self._written(self._record)
        except Failure as failure:
            if failure.reason == errors_pb2.ERROR_REASON_NOT_OWNER:
                self._lost(failure)
                return False
            self._silent(sent)
        except TimeoutError:
            self._silent(sent)
        else:
            self._until = sent + _ACT * self._terms.seconds
            self._shown = max(self._shown, self._until)
            self._suspend(suspended=False)
        finally:
            self._attempting = False
        self._tell()
        return renewed

    def _silent(self, sent: float) -> None:
        """Note that the database has not answered what was sent then."""
        self._shown = max(self._shown, sent + _ACT * self._terms.seconds)
        self._suspend(suspended=not self.held)

    def _suspend(self, *, suspended: bool) -> None:
        if suspended == self._suspended:
            return
        self._suspended = suspended
        self._terms.measures.suspended.inc(1 if suspended else -1)
        log.warning(
            "lease suspended" if suspended else "lease held again", extra={"lease": self._path}
        )

    def _lost(self, failure: Failure) -> None:
        log.warning("lease lost", extra={"lease": self._path, "epoch": self.epoch})
        self._terms.measures.lost.inc()
        self._end(failure)
        self._keeper.lost()

    def _end(self, failure: Failure) -> None:
        self._over = failure
        self._suspend(suspended=False)
        self._tell()

    def _tell(self) -> None:
        """Wake whoever waits for the outcome of an attempt."""
        self._outcome.set()
        self._outcome = asyncio.Event()
        known, self._known = self._known, {}
        for callback in known:
            callback()

    async def _next_outcome(self) -> None:
        # An attempt is limited by the patience, and so is this.
        self._kicked.set()
        await self._outcome.wait()

    def _require(self) -> None:
        if self._over is not None:
            raise self._over
        if not self.held:
            raise unavailable()
