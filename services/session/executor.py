"""What the session service needs from the executor.

Does not know how it is reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from moorline.executor.v1 import executions_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure


class Listener(Protocol):
    """Who follows an execution. All methods return at once."""

    def position(self) -> int:
        """Return the number of the last event known; asked at every new beginning."""
        ...

    def reset(self) -> None:
        """Hear that the stream begins anew, after `position`.

        Every open block then comes first as a snapshot; a block that does not
        was taken back in the meantime.
        """
        ...

    def updates(self, updates: Sequence[executions_pb2.ExecutionUpdate]) -> None:
        """Hear what happened, in order."""
        ...

    def end(self, failure: Failure) -> None:
        """Hear that nothing will follow although the outcome has not come.

        RESOURCE_NOT_FOUND: the execution is not known there. EXECUTION_LOST: it
        was, and did what nobody will hear of. SERVICE_UNAVAILABLE: the executor
        could not be reached for too long.
        """
        ...


class Subscription(Protocol):
    """A running subscription to an execution."""

    def close(self) -> None:
        """Stop following; the execution goes on. Repeating it changes nothing."""
        ...


class Executor(Protocol):
    """Runs executions. Every call is safe to repeat.

    Methods raise `Failure`; but for `create`, SERVICE_UNAVAILABLE, DRAINING and
    CALL_TIMEOUT leave open whether the call had its effect. Cancelling a call
    leaves that open too.
    """

    async def create(self, execution_id: str, execution: executions_pb2.Execution) -> None:
        """Start an execution; the same id again changes nothing.

        Raises:
            Failure: EXECUTOR_CAPACITY, BACKEND_UNAVAILABLE, or it is unreachable,
                which here means that nothing was started. EXECUTION_LOST when
                that is not known: repeating the call could then run it twice.
        """
        ...

    async def subscribe(self, execution_id: str, listener: Listener) -> Subscription:
        """Follow an execution from the listener's position, across broken connections.

        Raises:
            Failure: RESOURCE_NOT_FOUND, EXECUTION_LOST, or it is unreachable.
        """
        ...

    async def cancel(self, execution_id: str) -> None:
        """Ask an execution to stop.

        Raises:
            Failure: RESOURCE_NOT_FOUND, or it is unreachable.
        """
        ...

    async def resolve(self, execution_id: str, decision: transcript_pb2.PermissionDecision) -> None:
        """Hand over a permission decision.

        Raises:
            Failure: RESOURCE_NOT_FOUND, or it is unreachable.
        """
        ...

    def acknowledge(self, execution_id: str, sequence: int, *, at_once: bool) -> None:
        """Tell that events up to `sequence` are durable, now or with the next ones.

        Returns at once; lost acknowledgements only cost the executor memory.
        """
        ...

    async def delete_workspace(self, workspace: str) -> None:
        """End what runs in a workspace and delete its files.

        Raises:
            Failure: It is unreachable.
        """
        ...
