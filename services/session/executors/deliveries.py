"""Calls about a turn that must reach the executor which has it, however long that is away.

Does not know what led to the calls.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from moorline.errors.v1 import errors_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.backoff import Backoff
from services.chassis.failures import Failure
from services.chassis.tasks import Tasks
from services.session.executors.executor import Executors
from services.session.records import TurnRecord

log = logging.getLogger(__name__)

PASSING = frozenset(
    {
        errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
        errors_pb2.ERROR_REASON_DRAINING,
        errors_pb2.ERROR_REASON_CALL_TIMEOUT,
        errors_pb2.ERROR_REASON_EXECUTOR_CAPACITY,
    }
)
"""Reasons after which the same call to the executor may succeed."""


class Deliveries:
    """Repeats calls until they are answered or no longer wanted.

    Args:
        tasks: Owns the tasks that repeat.
        executors: Whom the calls are for.
        turn: The turn; what is sent is about its attempt of that moment.
        over: Tells that the turn has its outcome, so that nothing is wanted.
    """

    def __init__(
        self, *, tasks: Tasks, executors: Executors, turn: TurnRecord, over: Callable[[], bool]
    ) -> None:
        self._tasks = tasks
        self._executors = executors
        self._turn = turn
        self._over = over

    def cancel(self, failure: Failure | None = None) -> None:
        """Ask the execution to stop.

        Args:
            failure: Why the turn shall fail; None when somebody cancels it.
        """
        address, execution = self._turn.executor, self._turn.execution
        self._send(execution, lambda: self._executors.cancel(address, execution, failure))

    def resolve(self, decision: transcript_pb2.PermissionDecision) -> None:
        """Hand over a permission decision."""
        address, execution = self._turn.executor, self._turn.execution
        self._send(execution, lambda: self._executors.resolve(address, execution, decision))

    def _send(self, execution: str, call: Callable[[], Awaitable[None]]) -> None:
        self._tasks.spawn(self._repeat(execution, call), name="delivery")

    async def _repeat(self, execution: str, call: Callable[[], Awaitable[None]]) -> None:
        backoff = Backoff()
        while True:
            try:
                await call()
            except Failure as failure:
                if failure.reason not in PASSING:
                    # The execution is gone, which its subscription tells too.
                    log.info("not delivered", extra={"reason": failure.reason_name})
                    return
            else:
                return
            await backoff.pause()
            if self._over() or self._turn.execution != execution:
                return
