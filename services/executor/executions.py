"""All executions of this executor: accepted, found by id, remembered until they are stored.

Does not know gRPC, nor how an agent is run.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from moorline.errors.v1 import errors_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure, not_found
from services.chassis.metrics import Metrics
from services.chassis.tasks import Tasks
from services.executor.agent_process import Ending, Work
from services.executor.agents import Agents
from services.executor.backend import Backend
from services.executor.execution import Execution, Limits

log = logging.getLogger(__name__)

_RETRY_DELAY = timedelta(seconds=1)

_UNHEARD = 144
"""How much longer an id is recognised whose outcome nobody has heard: whoever made it is away,
and makes no others meanwhile."""

_TURN_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What is left of an execution that ended: enough to recognise a repeated call.

    Attributes:
        execution_id: Its id.
        backend: Where it ran.
        workspace: Where it worked.
        acknowledged: Whether its outcome is stored; otherwise nobody will ever know it.
    """

    execution_id: str
    backend: str
    workspace: str
    acknowledged: bool


class Executions:
    """The executions by id, at most one running in each workspace.

    Args:
        backends: The backends by name.
        agents: Where processes come from.
        limits: What each execution may take.
        capacity: Executions that may run at once.
        retention: How long an ended execution waits for the acknowledgement of its outcome, and
            how long its id is recognised after that; a day for ten minutes when the
            acknowledgement never came.
        tasks: Owner of the executions' tasks.
        metrics: Where executions are counted.
    """

    def __init__(
        self,
        *,
        backends: Mapping[str, Backend],
        agents: Agents,
        limits: Limits,
        capacity: int,
        retention: timedelta,
        tasks: Tasks,
        metrics: Metrics,
    ) -> None:
        self._draining = False
        self._closing = False
        self._backends = backends
        self._agents = agents
        self._limits = limits
        self._capacity = capacity
        self._retention = retention.total_seconds()
        self._tasks = tasks
        self._running: dict[str, Execution] = {}
        self._known: dict[str, Execution | Forgotten] = {}
        self._current: dict[str, Execution] = {}
        self._change = asyncio.Event()
        """Set when an execution has ended, or is needed no more."""
        self._in_progress = metrics.gauge(
            "moorline_turns_in_progress", "Executions that run.", ("backend",)
        )
        self._total = metrics.counter(
            "moorline_executions_total", "Executions that ended.", ("backend", "outcome")
        )
        self._duration = metrics.histogram(
            "moorline_execution_duration_seconds",
            "From acceptance to outcome.",
            buckets=_TURN_BUCKETS,
        )
        self._tool_calls = metrics.counter(
            "moorline_tool_calls_total", "Tool calls that ended.", ("outcome",)
        )

    def create(self, work: Work) -> Execution | Forgotten:
        """Start an execution, or return the one that has its id.

        An execution that runs in the same workspace is ended first.

        Raises:
            Failure: DRAINING, BACKEND_UNAVAILABLE, EXECUTOR_CAPACITY.
        """
        known = self._known.get(work.execution_id)
        if known is not None:
            return known
        self._check(work.backend)
        execution = Execution(
            work=work,
            limits=self._limits,
            agents=self._agents,
            tasks=self._tasks,
            ended=self._ended,
        )
        before = self._current.get(work.workspace)
        if before is not None:
            before.stop(cause=None, grace=None)
        self._known[work.execution_id] = execution
        self._running[work.execution_id] = execution
        self._current[work.workspace] = execution
        self._in_progress.labels(work.backend).inc()
        self._tasks.spawn(execution.run(), name="execution")
        return execution

    def get(self, execution_id: str) -> Execution:
        """Return an execution.

        Raises:
            Failure: RESOURCE_NOT_FOUND, also when its outcome was acknowledged.
                EXECUTION_LOST when its outcome was forgotten without: it has run, so
                it must not be taken for one that never began.
        """
        execution = self._known.get(execution_id)
        if isinstance(execution, Forgotten) and not execution.acknowledged:
            raise Failure(
                errors_pb2.ERROR_REASON_EXECUTION_LOST,
                "The execution has ended; nobody asked for its outcome in time.",
            )
        if not isinstance(execution, Execution):
            raise not_found()
        return execution

    def acknowledge(self, execution_id: str, sequence: int) -> None:
        """Forget what is stored; unknown executions are skipped."""
        execution = self._known.get(execution_id)
        if not isinstance(execution, Execution):
            return
        execution.book.acknowledge(sequence)
        if execution.book.acknowledged:
            self._forget(execution_id)
            self._change.set()

    def cancel(self, execution_id: str, *, grace: timedelta | None) -> None:
        """Ask an execution to stop; one that is not known here never begins any more.

        A call to create it may still be on its way when whoever made that has given it
        up, and runs the turn elsewhere.

        Args:
            execution_id: Its id.
            grace: Time to stop by itself; None for the limit's.

        Raises:
            Failure: As `get`.
        """
        if execution_id not in self._known:
            self._known[execution_id] = Forgotten(execution_id, "", "", acknowledged=True)
            asyncio.get_running_loop().call_later(
                self._retention, self._known.pop, execution_id, None
            )
        self.get(execution_id).stop(cause=None, grace=grace)

    async def delete_workspace(self, workspace: str) -> None:
        """End what runs in a workspace and delete its files; an absent one is fine."""
        execution = self._current.get(workspace)
        if execution is not None:
            execution.stop(cause=None, grace=timedelta(0))
            await execution.over()
        await self._agents.delete(workspace)

    def drain(self) -> None:
        """Refuse new executions from now on; those there are go on, and so do their followers."""
        self._draining = True

    async def over(self, *, patience: timedelta) -> None:
        """Wait until none runs, and until the outcomes are stored.

        Args:
            patience: How long to wait for acknowledgements when none runs any more: whoever
                made an execution may be gone for good.
        """
        # As long as agents work; the caller limits it.
        while self._running:
            await self._changed()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience.total_seconds()):
                while self._awaited:
                    await self._changed()

    def close(self) -> None:
        """Send the followers away: wake them, so that they find `check_serving` fail."""
        self._closing = True
        for execution in self._known.values():
            if isinstance(execution, Execution):
                execution.book.publish()

    async def kill(self) -> None:
        """End all agent processes, and wait until what ran has ended with them."""
        running = list(self._running.values())
        for execution in running:
            execution.stop(cause=None, grace=timedelta(0))
        await self._agents.kill()
        await asyncio.gather(*(execution.over() for execution in running))

    def check_serving(self) -> None:
        """Raise the failure that followers get when this executor ends.

        Raises:
            Failure: DRAINING.
        """
        if self._closing:
            raise _draining()

    @property
    def _awaited(self) -> bool:
        """Whether an outcome is not stored yet."""
        return any(
            isinstance(one, Execution) and not one.book.acknowledged for one in self._known.values()
        )

    async def _changed(self) -> None:
        self._change.clear()
        await self._change.wait()

    def _check(self, name: str) -> None:
        if self._draining:
            raise _draining()
        backend = self._backends.get(name)
        detail = "There is no such backend." if backend is None else backend.unavailable
        if detail:
            raise Failure(
                errors_pb2.ERROR_REASON_BACKEND_UNAVAILABLE,
                f"Backend {name} cannot run executions: {detail}",
                backend=name,
            )
        if len(self._running) >= self._capacity:
            raise Failure(
                errors_pb2.ERROR_REASON_EXECUTOR_CAPACITY,
                "This executor runs all the executions it may; try again.",
                retry_delay=_RETRY_DELAY,
            )

    def _ended(self, execution: Execution, ending: Ending | None) -> None:
        work = execution.work
        del self._running[work.execution_id]
        self._change.set()
        if self._current.get(work.workspace) is execution:
            del self._current[work.workspace]
        asyncio.get_running_loop().call_later(self._retention, self._forget, work.execution_id)
        outcome = transcript_pb2.TurnOutcome.State.Name(execution.outcome)
        outcome = outcome.removeprefix("STATE_").lower()
        self._in_progress.labels(work.backend).dec()
        self._total.labels(work.backend, outcome).inc()
        self._duration.observe(execution.seconds)
        if ending is not None:
            self._tool_calls.labels("succeeded").inc(ending.tools_succeeded)
            self._tool_calls.labels("failed").inc(ending.tools_failed)
        log.info(
            "execution ended",
            extra={
                "execution": work.execution_id,
                "backend": work.backend,
                "outcome": outcome,
                "duration_ms": round(execution.seconds * 1000),
            },
        )

    def _forget(self, execution_id: str) -> None:
        execution = self._known.get(execution_id)
        if isinstance(execution, Execution):
            work = execution.work
            acknowledged = execution.book.acknowledged
            self._known[execution_id] = Forgotten(
                execution_id, work.backend, work.workspace, acknowledged
            )
            retention = self._retention * (1 if acknowledged else _UNHEARD)
            loop = asyncio.get_running_loop()
            loop.call_later(retention, self._known.pop, execution_id, None)


def _draining() -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_DRAINING,
        "This executor is shutting down; use another one.",
        retry_delay=_RETRY_DELAY,
    )
