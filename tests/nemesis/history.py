"""The record of a run: everything clients sent and saw, and every fault, with times.

Only ever added to. Does not know what any of it means.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any


class Kind(StrEnum):
    """What an entry tells. In brackets what its `detail` holds."""

    CALL = "call"
    """A client made a call (number, method, request)."""
    ANSWER = "answer"
    """A call ended (number, method, seconds, deadline, reason: empty for success,
    SILENCE when nothing came, CLOSED when the connection broke first, GIVEN_UP when
    nobody waited for it any more)."""
    FRAME = "frame"
    """A client received a frame (text; watch: its number when it belongs to one)."""
    WATCH = "watch"
    """A client began to follow an agent (watch, after, log)."""
    WATCH_END = "watch_end"
    """It ended (watch, reason)."""
    RESET = "reset"
    """A client was told to forget what it shows of an agent."""
    FAULT = "fault"
    """A fault began (number, fault, target)."""
    HEALED = "healed"
    """It was taken back (number)."""
    NOTE = "note"
    """Something to know when reading the record (text)."""


SILENCE = "SILENCE"
CLOSED = "CLOSED"
GIVEN_UP = "GIVEN_UP"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the record.

    Attributes:
        time: Seconds since the run began.
        kind: What it tells.
        client: Who saw or did it; empty for the nemesis itself.
        agent: `users/{user}/agents/{agent}`; empty when it is about none.
        detail: The rest, see `Kind`.
    """

    time: float
    kind: Kind
    client: str = ""
    agent: str = ""
    detail: dict[str, Any] = field(default_factory=dict)


class History:
    """Entries in the order in which they happened, as this process saw them."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time since the run began."""
        return time.monotonic() - self._began

    def add(self, kind: Kind, client: str = "", agent: str = "", **detail: Any) -> Entry:
        """Add an entry that happened now."""
        entry = Entry(self.seconds, kind, client, agent, detail)
        self.entries.append(entry)
        return entry

    def of(self, *kinds: Kind) -> Iterator[Entry]:
        """Entries of some kinds, in order."""
        return (entry for entry in self.entries if entry.kind in kinds)

    def write(self, path: Path) -> None:
        """Write one JSON object a line."""
        with path.open("w") as file:
            for entry in self.entries:
                file.write(json.dumps(asdict(entry), ensure_ascii=False) + "\n")


def read(path: Path) -> History:
    """Read a history that was written, to check it once more."""
    history = History()
    for line in path.read_text().splitlines():
        fields = json.loads(line)
        history.entries.append(Entry(**{**fields, "kind": Kind(fields["kind"])}))
    return history
