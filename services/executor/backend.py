"""A backend: one way of running agent processes. Does not know what an agent says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from services.executor.channel import Channel, Launch


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

    def channel(self, launch: Launch) -> Channel:
        """Return a channel to a process not yet started; `Channel.open` starts it.

        Raises:
            Failure: BACKEND_UNAVAILABLE.
        """
        ...
