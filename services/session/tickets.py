"""Which tickets of the gateways were used: each once, wherever it is shown.

    tickets/{end}-{ticket}    the one use of a ticket, `end` in seconds since the epoch

Does not know what a ticket says, or whether it is good.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.session.store import Create, Delete, Store, StoreConflict

_COLLECTION = "tickets"

_KEPT = timedelta(seconds=60)
"""How much sooner than a good ticket one ended that nobody takes for good any more: a ticket
lives for 30 s."""

_FORGOTTEN_AT_ONCE = 10
"""More than come, so that they do not pile up."""


class Tickets:
    """The tickets of all gateways that were used a moment ago.

    Args:
        store: Where they are kept.
    """

    def __init__(self, *, store: Store) -> None:
        self._store = store

    async def redeem(self, ticket: str, redemption: str, end: datetime) -> None:
        """Use a ticket up. Repeating it with the same `redemption` succeeds.

        Args:
            ticket: Names it.
            redemption: Names this use of it.
            end: When it ends.

        Raises:
            Failure: TOKEN_INVALID when it was used before; STORE_UNAVAILABLE.
        """
        path, fields = f"{_COLLECTION}/{_id(end)}-{ticket}", {"redemption": redemption}
        old = await self._store.read(_COLLECTION, before=_id(end - _KEPT), limit=_FORGOTTEN_AT_ONCE)
        try:
            await self._store.commit([Create(path, fields), *(Delete(one.path) for one in old)])
        except StoreConflict:
            document = await self._store.get(path)
            if document is None or document.fields != fields:
                raise Failure(
                    errors_pb2.ERROR_REASON_TOKEN_INVALID,
                    "The ticket was used before. Ask for another one.",
                ) from None


def _id(time: datetime) -> str:
    return f"{int(time.timestamp()):012d}"
