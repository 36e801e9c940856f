"""A backend: one way of running agent processes. Does not know what an agent says."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from services.executor.channel import Channel, Launch
from services.executor.place import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a backend can do beyond running a turn to its end.

    Attributes:
        deltas: Text arrives while it is written.
        permissions: The agent can wait for a decision.
        resume: A conversation can be continued in a later execution.
        durable_workspace: A workspace's files are kept between executions.
    """

    deltas: bool
    permissions: bool
    resume: bool
    durable_workspace: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Where a process finds what it has, in its own file system.

    Attributes:
        files: The workspace; also where it is started.
        state: What its program keeps.
        run: Sockets.
    """

    files: str
    state: str
    run: str


class Link(Enum):
    """How processes reach the model proxy."""

    NONE = auto()
    """They need no model."""
    SOCKET = auto()
    """By a socket in `View.run`; they have no network."""
    TCP = auto()
    """By this machine's loopback address."""


class Backend(Protocol):
    """One way of running agent processes; there is one object for the life of the executor."""

    @property
    def name(self) -> str:
        """Last part of `backends/{backend}`."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What it can do. Does not change."""
        ...

    @property
    def unavailable(self) -> str:
        """Why no execution can run here, one English sentence; empty when one can.

        Read for each new execution and each listing, so it answers at once, from what is known.
        """
        ...

    @property
    def link(self) -> Link:
        """How its processes reach the model proxy. Does not change."""
        ...

    def view(self, place: Place) -> View:
        """Return where a process finds what it has."""
        ...

    def channel(self, launch: Launch) -> Channel:
        """Return a channel to a process not yet started; `Channel.open` starts it.

        Raises:
            Failure: BACKEND_UNAVAILABLE.
        """
        ...

    async def survivors(self) -> Collection[str]:
        """Return the workspaces whose processes have outlived the executor that started them.

        Called once, before anything is started. Empty when processes end with their executor, or
        when it cannot be told.
        """
        ...

    def adopt(self, place: Place) -> Channel:
        """Return a channel to a survivor; `Channel.open` hands over all it has printed so far.

        Its `open` raises EXECUTION_LOST when it is gone, or when what it printed is not there
        from the beginning any more.
        """
        ...

    async def reap(self, keep: Collection[str]) -> None:
        """End what executors that are gone have left behind, but for some workspaces.

        Called once, after `survivors`. What cannot be ended is told in the log.
        """
        ...
