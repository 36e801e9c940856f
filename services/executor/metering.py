"""What executions need of the model proxy, in words of their own.

Does not know providers, keys or prices.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol

from moorline.transcript.v1 import transcript_pb2
from services.executor.agent_process import Budget
from services.executor.backend import Backend, Link, View
from services.executor.place import Place


class Meter(Protocol):
    """What the agent of one workspace consumes, as the model proxy sees it.

    It outlives the agent's processes. What is consumed between two turns counts for the next one.
    """

    changed: Callable[[], None] | None
    """Called in the loop when something was consumed; must not fail."""
    record: Callable[[bytes], None] | None
    """Called with one line for each request that was answered, for `recall`; must not fail."""

    @property
    def usage(self) -> transcript_pb2.Usage:
        """What was consumed since `begin`, and between it and the `end` before."""
        ...

    @property
    def exhausted(self) -> str:
        """The budget that is spent: `turn`, `agent` or `month`; empty while none is."""
        ...

    def begin(self, budget: Budget) -> None:
        """Begin a turn with a budget."""
        ...

    def recall(self, records: Iterable[bytes]) -> None:
        """Take over what was recorded of the turn that was begun, by an executor before."""
        ...

    def end(self) -> transcript_pb2.Usage:
        """End the turn; return what it consumed."""
        ...


class Access(Protocol):
    """The way of one agent process to the model."""

    @property
    def environment(self) -> Mapping[str, str]:
        """What the process has to be told."""
        ...

    def close(self) -> Awaitable[None]:
        """Close the way; a request that is under way is broken off."""
        ...


class ModelProxy(Protocol):
    """Lets agent processes reach the model without its key."""

    @property
    def unavailable(self) -> str:
        """Why no model can be reached, one English sentence; empty when one can."""
        ...

    def meter(self) -> Meter:
        """Return a new meter."""
        ...

    # Any, because a proxy lets in by its own meters only.
    async def admit(self, meter: Any, *, link: Link, place: Place, view: View) -> Access:
        """Open a way to the model.

        Args:
            meter: One of its own; counts what goes through.
            link: How the process reaches us; not NONE.
            place: What the agent has; a socket is made there, at the same path each time.
            view: Where the process finds that.

        Raises:
            Failure: BACKEND_UNAVAILABLE.
        """
        ...


def obstacle(backend: Backend, proxy: ModelProxy) -> str:
    """Return why no execution can run in a backend, one English sentence; empty when one can."""
    if backend.unavailable or backend.link is Link.NONE:
        return backend.unavailable
    return proxy.unavailable
