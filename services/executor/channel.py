"""A channel: a two-way line pipe to one agent process. Does not know what the lines mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from services.executor.place import Place


class ExitReason(StrEnum):
    """Why an agent process is gone."""

    EXITED = "exited"
    """It ended by itself."""
    KILLED = "killed"
    """Somebody killed it."""
    OUT_OF_MEMORY = "oom"
    """The kernel killed it for want of memory."""
    LOST = "lost"
    """It cannot be reached any more; nothing is known about it."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How an agent process ended.

    Attributes:
        code: Exit code; negative for a signal; None when not known.
        reason: Why it is gone.
    """

    code: int | None
    reason: ExitReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What a backend needs to start one agent process.

    Attributes:
        place: What the agent has on this machine; exists.
        tenant: Whose agent it is, in opaque words.
        argv: Command line; the first word names the program, which each backend has somewhere
            else.
        environment: What the process is told, in terms of the backend's `View`. A backend adds
            what only it knows, such as `PATH`; nothing is inherited.
    """

    place: Place
    tenant: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]


class Receiver(Protocol):
    """Who hears one agent process.

    Both methods are called from the loop, return at once and do not fail. They are calls and no
    stream, because hundreds of agents write at once: to wake a task for a line costs more than
    the line does.
    """

    def receive(self, lines: Sequence[bytes]) -> None:
        """Take what the process has printed: one line or more, without their line endings."""
        ...

    def exited(self, ended: Exit) -> None:
        """Hear that the process is gone and that every line was handed over. Called once."""
        ...


class Channel(Protocol):
    """One agent process, wherever it runs.

    Used by one owner: `open` once, while the other methods are called from anywhere in the loop.
    Every coroutine may be cancelled; only `kill` and `wait` are called after that.
    """

    async def open(self, receiver: Receiver) -> None:
        """Start the process.

        Called once, before everything else. A cancelled call leaves nothing running.

        Args:
            receiver: Gets what the process prints, every line once, in order, until it is gone.
                It may be called before this returns. A burst comes in few calls.

        Raises:
            Failure: BACKEND_UNAVAILABLE, EXECUTOR_CAPACITY.
        """
        ...

    async def write(self, line: bytes) -> None:
        """Hand one line to the process, without its line ending.

        Lines arrive in the order of the calls. A line for a process that is gone, or whose input
        is closed, is dropped: `lines` tells about the end.
        """
        ...

    def hold(self) -> None:
        """Call the receiver no more, until `release`. Holding twice is holding once.

        What the process prints is held back at its source: a bounded number of lines waits here,
        then the process waits.
        """
        ...

    def release(self) -> None:
        """Hand over what waits, and go on. Changes nothing when it is not held."""
        ...

    async def close_input(self) -> None:
        """Tell the process that no line follows: it finishes what it does and exits.

        A second call, or one on a process that is gone, changes nothing.
        """
        ...

    async def kill(self) -> None:
        """End the process at once, with everything it started.

        A second call, or one on a process that is gone, changes nothing. Lines that are waiting
        may be lost.
        """
        ...

    async def memory(self) -> int | None:
        """Return the bytes of memory that the process and all it started take.

        None when nobody knows, or when it is gone.
        """
        ...

    async def wait(self) -> Exit:
        """Wait until the process is gone.

        Any number of calls, all with the same answer; waits as long as the process lives.
        """
        ...
