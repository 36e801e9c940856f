"""Gives a session up when its user is not wanted any more, or is somebody else's.

Does not know how leases are renewed.
"""

from __future__ import annotations

from collections.abc import Callable

from services.session.outcomes import moved
from services.session.session import Session


class SessionKeeper:
    """Hears what becomes of the lease on a session's user; an `ownership.Keeper`.

    Args:
        let_go: Gives a session's user back.
        drop: Forgets a session.

    Attributes:
        session: The session, once there is one.
    """

    def __init__(
        self, *, let_go: Callable[[Session], None], drop: Callable[[Session], None]
    ) -> None:
        self._let_go = let_go
        self._drop = drop
        self.session: Session | None = None

    def wanted(self) -> bool:
        """See `Keeper`."""
        return self.session is None or self.session.wanted()

    def unwanted(self) -> None:
        """See `Keeper`."""
        if self.session is not None:
            self._let_go(self.session)

    def lost(self) -> None:
        """See `Keeper`."""
        if self.session is not None:
            self.session.close(moved())
            self._drop(self.session)
