"""What one load generator process is asked to do, as JSON on its standard input.

Does not know how it is done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import orjson

from tests.load.connection import Account


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamJob:
    """Let turns stream on many connections at once, and measure a window of it.

    Attributes:
        url: WebSocket to connect to.
        accounts: One connection and one turn for each.
        pause_ms: Pause between two fragments of a turn; 0 for none.
        seconds: Length of the window.
        pids: Processes whose CPU is measured, by name.
    """

    kind: ClassVar[str] = "stream"
    url: str
    accounts: Sequence[Account]
    pause_ms: int
    seconds: float
    pids: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnJob:
    """Run short turns one after another on one connection.

    Attributes:
        url: WebSocket to connect to.
        account: Whose connection.
        count: Turns that are measured; a few more warm up.
        gap_seconds: From the start of one to the start of the next, at least; keeps the
            client within the frames a second it may send.
    """

    kind: ClassVar[str] = "turn"
    url: str
    account: Account
    count: int
    gap_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayJob:
    """Make a long history, then read it again and again on new connections.

    Attributes:
        url: WebSocket to connect to.
        account: Whose agent.
        events: Events of the history, at least.
        repeats: How often it is read.
    """

    kind: ClassVar[str] = "replay"
    url: str
    account: Account
    events: int
    repeats: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleJob:
    """Connect more and more users that do nothing, and read the memory at each step.

    Attributes:
        url: WebSocket to connect to.
        warm: Users that connect and run a turn before the first reading.
        accounts: Users that connect after it.
        steps: How many of them are connected at each reading.
        pids: Processes whose memory is read, by name.
    """

    kind: ClassVar[str] = "idle"
    url: str
    warm: Sequence[Account]
    accounts: Sequence[Account]
    steps: Sequence[int]
    pids: Mapping[str, int]


Job = StreamJob | TurnJob | ReplayJob | IdleJob
_KINDS: dict[str, type[Job]] = {job.kind: job for job in (StreamJob, TurnJob, ReplayJob, IdleJob)}


def dump(job: Job) -> bytes:
    """Encode a job as one line of JSON."""
    return orjson.dumps({"kind": job.kind, "job": job}, option=orjson.OPT_APPEND_NEWLINE)


def parse(text: bytes) -> Job:
    """Decode what `dump` wrote."""
    raw = orjson.loads(text)
    return _KINDS[raw["kind"]](**{key: _value(key, value) for key, value in raw["job"].items()})


def _value(key: str, value: Any) -> Any:
    if key in ("accounts", "warm"):
        return tuple(Account(**account) for account in value)
    return Account(**value) if key == "account" else value
