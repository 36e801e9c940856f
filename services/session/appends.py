"""What waits to be committed to an agent's log, and how much of it goes together.

Does not know when, nor what becomes of it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moorline.executor.v1 import executions_pb2
from services.chassis.failures import Failure
from services.session.late import Late

SEGMENT_BYTES = 256 * 1024
"""Largest segment, unless a single append is larger; Firestore's limit is 1 MiB."""

_SEGMENT_APPENDS = 100
"""Most appends in a segment; a commit has 500 writes at most, and each some documents."""


@dataclass(slots=True)
class Append:
    """What goes into one commit, all or none.

    Attributes:
        events: Fields of its events, numbered.
        documents: Fields to write by path; None deletes.
        cursors: Executor's number of the newest item, by execution.
        size: About how many bytes it has.
        done: Told once it is durable, or that it never will be.
        part: By what the agent's own transcript has grown.
        joined: True when it goes together with the one before.
        late: What the agent's document shall be from then on, or soon after.
    """

    events: Sequence[Mapping[str, Any]]
    documents: Mapping[str, Mapping[str, Any] | None]
    cursors: Mapping[str, int]
    size: int
    done: asyncio.Future[None]
    part: executions_pb2.TranscriptPart | None = None
    joined: bool = False
    late: Late | None = None


class Waiting:
    """The appends of one log that wait, in order.

    Attributes:
        bytes: Size of all of them.
    """

    __slots__ = ("_appends", "bytes")

    def __init__(self) -> None:
        self._appends: deque[Append] = deque()
        self.bytes = 0

    def __bool__(self) -> bool:
        return bool(self._appends)

    def add(self, append: Append) -> None:
        """Let one more wait."""
        self._appends.append(append)
        self.bytes += append.size

    def take(self) -> list[Append]:
        """Return those that are committed next, which wait no more."""
        taken: list[Append] = []
        size = 0
        while self._appends:
            following = self._appends[0]
            full = len(taken) >= _SEGMENT_APPENDS or size + following.size > SEGMENT_BYTES
            if taken and full and not following.joined:
                break
            size += following.size
            taken.append(self._appends.popleft())
        self.bytes -= size
        return taken

    def put_back(self, appends: Sequence[Append]) -> None:
        """Let those wait again that were taken last."""
        self._appends.extendleft(reversed(appends))
        self.bytes += sum(append.size for append in appends)

    def fail(self, failure: Failure) -> None:
        """Let none wait any more; whoever waits for one hears why."""
        while self._appends:
            done = self._appends.popleft().done
            if not done.done():
                done.set_exception(failure)
        self.bytes = 0
