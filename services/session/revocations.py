"""The API keys that were revoked of late: gateways ask, and close what was opened by them.

    revocations/{microseconds}-{key}    the name of a key, by when it was revoked

Does not know who is connected where.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.session.names import KeyName
from services.session.store import Create, Delete, Store, Write

LISTED = 1000
"""Most keys that are named at once."""

_COLLECTION = "revocations"

_LATE = timedelta(seconds=60)
"""For how long each is named again: its commit may come so much later than the time it bears."""

_KEPT = timedelta(hours=1)
"""How far one can look back."""

_FORGOTTEN_AT_ONCE = 10
"""More than come, so that they do not pile up."""


@dataclass(frozen=True, slots=True)
class Revoked:
    """What was revoked since a time.

    Attributes:
        keys: Names of keys; some may have been named before.
        time: The database's time, to ask with next.
        complete: False when there may have been more.
    """

    keys: Sequence[str]
    time: datetime
    complete: bool


class Revocations:
    """The keys of all users that were revoked within the last hour.

    Args:
        store: Where they are kept.
    """

    def __init__(self, *, store: Store) -> None:
        self._store = store

    async def writes(self, name: KeyName, time: datetime) -> list[Write]:
        """Return what is to be committed with the revocation of a key.

        Args:
            name: Its name.
            time: When it is revoked, by the database.

        Raises:
            Failure: STORE_UNAVAILABLE.
        """
        old = await self._store.read(
            _COLLECTION, before=_id(time - _KEPT), limit=_FORGOTTEN_AT_ONCE
        )
        path = f"{_COLLECTION}/{_id(time)}-{name.key}"
        return [Create(path, {"key": str(name)}), *(Delete(one.path) for one in old)]

    async def since(self, time: datetime | None) -> Revoked:
        """Return what was revoked since a time that an earlier answer told.

        Args:
            time: None for somebody who asks for the first time.

        Raises:
            Failure: STORE_UNAVAILABLE.
        """
        # Before the reading: what is committed meanwhile is found by the next.
        now = await self._store.now()
        # Not after now either: a database put back in time knows nothing of since.
        if time is None or not now - _KEPT + _LATE <= time <= now + _LATE:
            return Revoked(keys=(), time=now, complete=False)
        found = await self._store.read(_COLLECTION, after=_id(time - _LATE), limit=LISTED)
        keys = [document.fields["key"] for document in found]
        return Revoked(keys=keys, time=now, complete=len(keys) < LISTED)


def _id(time: datetime) -> str:
    return f"{int(time.timestamp() * 1_000_000):018d}"
