"""What the session service needs from the executors.

Does not know how they are reached.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from moorline.executor.v1 import executions_pb2, workspaces_pb2
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
        """Hear what happened, in order; times are the database's, not the executor's."""
        ...

    def end(self, failure: Failure) -> None:
        """Hear that nothing will follow although the outcome has not come.

        RESOURCE_NOT_FOUND: the execution is not known there. EXECUTION_LOST or
        SEQUENCE_UNKNOWN: it was, and did what nobody will hear of.
        SERVICE_UNAVAILABLE: the executor could not be reached for too long.
        """
        ...


class Subscription(Protocol):
    """A running subscription to an execution."""

    def close(self) -> None:
        """Stop following; the execution goes on. Repeating it changes nothing."""
        ...


class Executors(Protocol):
    """All executors; each runs executions and has an address. Every call is safe to repeat.

    An execution is known to the executor that it was created at and to no other.
    Methods raise `Failure`; but for `create`, SERVICE_UNAVAILABLE, DRAINING and
    CALL_TIMEOUT leave open whether the call had its effect. Cancelling a call
    leaves that open too.
    """

    def place(self, *, preferred: str, avoid: Collection[str] = ()) -> str:
        """Return the address to create an execution at; empty when none can take it now.

        Args:
            preferred: Address of the executor that has the agent's files and process,
                which is chosen when it takes new executions; may be empty.
            avoid: Addresses that must not be chosen.
        """
        ...

    def known(self, address: str) -> bool:
        """Tell whether there is such an executor, even if it cannot be reached just now."""
        ...

    async def create(
        self, address: str, execution_id: str, execution: executions_pb2.Execution
    ) -> None:
        """Start an execution; the same id again changes nothing.

        Raises:
            Failure: EXECUTOR_CAPACITY, DRAINING, BACKEND_UNAVAILABLE, or it is
                unreachable, which all mean here that nothing was started.
                EXECUTION_LOST when that is not known: repeating the call, or
                making it elsewhere, could then run the execution twice.
        """
        ...

    async def subscribe(self, address: str, execution_id: str, listener: Listener) -> Subscription:
        """Follow an execution from the listener's position, across broken connections.

        Raises:
            Failure: RESOURCE_NOT_FOUND, EXECUTION_LOST, SEQUENCE_UNKNOWN, or it is
                unreachable.
        """
        ...

    async def cancel(self, address: str, execution_id: str, failure: Failure | None = None) -> None:
        """Ask an execution to stop; one that is not known there can never start any more.

        Args:
            address: The executor.
            execution_id: The execution.
            failure: Why the turn shall fail; None when it is cancelled.

        Raises:
            Failure: RESOURCE_NOT_FOUND, or it is unreachable.
        """
        ...

    async def resolve(
        self, address: str, execution_id: str, decision: transcript_pb2.PermissionDecision
    ) -> None:
        """Hand over a permission decision.

        Raises:
            Failure: RESOURCE_NOT_FOUND, or it is unreachable.
        """
        ...

    async def restore(self, address: str, request: workspaces_pb2.RestoreTranscriptRequest) -> None:
        """Give an executor a part of a conversation; the same part again changes nothing.

        Raises:
            Failure: The part cannot be used there, or it is unreachable.
        """
        ...

    def acknowledge(self, address: str, execution_id: str, sequence: int, *, at_once: bool) -> None:
        """Tell that events up to `sequence` are durable, now or with the next ones.

        Returns at once; lost acknowledgements only cost the executor memory.
        """
        ...

    def abandon(self, address: str, execution_id: str) -> None:
        """See that an execution stops that nobody will follow any more.

        Returns at once; the executor is told when it can be reached, within minutes.
        """
        ...

    async def delete_workspace(self, workspace: str) -> None:
        """End what runs in a workspace and delete its files, wherever there are some.

        Raises:
            Failure: An executor is unreachable; others may have deleted theirs.
        """
        ...
