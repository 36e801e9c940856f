"""Which process may serve a user, as the logic sees it.

Does not know how it is agreed with other processes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from services.chassis.failures import Failure


class Keeper(Protocol):
    """Whoever holds a lease and must hear what becomes of it."""

    def wanted(self) -> bool:
        """Tell whether the lease is needed on; asked before each renewal."""
        ...

    def unwanted(self) -> None:
        """Hear that it was not wanted, and so is not renewed: give it back."""
        ...

    def lost(self) -> None:
        """Hear that the user is somebody else's now; called once, at most."""
        ...


class Lease(Protocol):
    """The right to serve one user.

    It is *held*, or *suspended* while the database cannot be asked to renew it,
    or over: given back, or lost to another process.

    Attributes:
        epoch: Rises with every change of the owner.
        contested: True when the owner before had not given it back, and may not
            know yet that it has lost it.
    """

    epoch: int
    contested: bool

    @property
    def held(self) -> bool:
        """True while nobody else can have become the owner."""
        ...

    @property
    def shows(self) -> bool:
        """True while what happens may be shown to followers.

        So it is while the lease is held, and while it is known that only the
        database's silence has suspended it; not after this process has slept.
        """
        ...

    async def confirm(self) -> None:
        """Make sure that the lease is held, asking the database if need be.

        Raises:
            Failure: STORE_UNAVAILABLE within a few seconds while it is suspended;
                why it is over.
        """
        ...

    async def verify(self) -> None:
        """Ask the database whether the lease is held, even if it must be.

        Raises:
            Failure: As for `confirm`.
        """
        ...

    async def settled(self) -> None:
        """Wait until the lease is held or over, however long the database is away."""
        ...

    def when_known(self, callback: Callable[[], None]) -> None:
        """Have something called once, when the database has answered or has not again."""
        ...

    async def release(self, failure: Failure) -> None:
        """Give the lease back, so that another process can have it at once.

        Nothing of the user's may be in flight. Never raises: a lease that cannot
        be given back expires.

        Args:
            failure: What `confirm` raises from now on.
        """
        ...


class Ownership(Protocol):
    """Agrees with other processes on who serves a user."""

    @property
    def shared(self) -> bool:
        """True when there may be other processes."""
        ...

    async def acquire(self, user: str, keeper: Keeper) -> Lease:
        """Become the owner of a user; at most once at a time for one user.

        Args:
            user: Id of the user.
            keeper: Hears what becomes of the lease.

        Raises:
            Failure: NOT_OWNER while another process is; STORE_UNAVAILABLE.
        """
        ...

    def foreign(self, user: str) -> bool:
        """Tell whether another process is known to be the owner still."""
        ...


class SoleLease:
    """A `Lease` that nobody else can have."""

    epoch = 0
    contested = False
    held = True
    shows = True

    async def confirm(self) -> None:
        """See `Lease`."""

    async def verify(self) -> None:
        """See `Lease`."""

    async def settled(self) -> None:
        """See `Lease`."""

    def when_known(self, callback: Callable[[], None]) -> None:
        """See `Lease`."""
        callback()

    async def release(self, failure: Failure) -> None:
        """See `Lease`."""


class SoleOwnership:
    """An `Ownership` for a database that no other process uses; costs nothing."""

    shared = False

    async def acquire(self, user: str, keeper: Keeper) -> Lease:
        """See `Ownership`."""
        del user, keeper
        return SoleLease()

    def foreign(self, user: str) -> bool:
        """See `Ownership`."""
        del user
        return False
