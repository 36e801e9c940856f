"""Makes sure that nobody else can append to an agent's log.

Does not know why somebody else might.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from services.session.encoding import time_text
from services.session.history import History, Position, Segment
from services.session.store import Create, Store, StoreConflict, unavailable

_TRIES = 10
"""An owner that is gone has at most a few commits on their way."""


async def fence(store: Store, history: History, epoch: int) -> Segment:
    """Append a segment without events: whoever would have written there finds it.

    Args:
        store: Where the log is.
        history: The log.
        epoch: The user's epoch.

    Returns:
        The segment, the log's newest.

    Raises:
        Failure: STORE_UNAVAILABLE.
    """
    nonce = uuid.uuid4().hex
    for _ in range(_TRIES):
        tail = await history.tail()
        if tail is not None and tail.nonce == nonce:
            # Its commit's answer was lost.
            return tail
        segment = Segment(
            position=tail.end if tail is not None else Position(),
            nonce=nonce,
            events=[],
            cursors={},
            epoch=epoch,
            carried=_carried(tail),
        )
        try:
            await store.commit([Create(history.path(segment.position), segment.fields())])
        except StoreConflict:
            continue
        return segment
    raise unavailable()


def _carried(tail: Segment | None) -> Mapping[str, Any]:
    """Return what a segment after this one has to tell in its place."""
    if tail is None:
        return {}
    time = {"time": time_text(tail.time)} if tail.time is not None else {}
    return {**tail.carried, **time}
