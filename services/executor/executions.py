"""All executions of this executor: accepted, found by id, remembered until they are stored.

Does not know gRPC, nor how an agent is run.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from moorline.errors.v1 import errors_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure, not_found
from services.chassis.metrics import Metrics
from services.executor.agent_process import Ending, Work
from services.executor.backend import Backend, View
from services.executor.execution import Execution
from services.executor.metering import ModelProxy, obstacle
from services.executor.notes import Note
from services.executor.place import Place
from services.executor.provisions import Limits, Provisions
from services.executor.workspaces import Workspaces

log = logging.getLogger(__name__)

_UNHEARD = 144
"""How much longer an id is recognised whose outcome nobody has heard: whoever made it is away,
and makes no others meanwhile."""

_RETRY_DELAY = timedelta(seconds=1)
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
        proxy: How those reach the model that need one.
        provisions: What executions work with.
        limits: What each execution may take.
        workspaces: Where the agents' transcripts are.
        has_entry: Tells whether a conversation's transcript is in a place, and holds an entry.
            Reads the disk.
        capacity: Executions that may run at once.
        retention: How long an ended execution waits for the acknowledgement of its outcome, and
            how long its id is recognised after that; a day for ten minutes when the
            acknowledgement never came.
        metrics: Where executions are counted.
    """

    def __init__(
        self,
        *,
        backends: Mapping[str, Backend],
        proxy: ModelProxy,
        provisions: Provisions,
        limits: Limits,
        workspaces: Workspaces,
        has_entry: Callable[[Place, View, str, str], bool],
        capacity: int,
        retention: timedelta,
        metrics: Metrics,
    ) -> None:
        self._draining = False
        self._closing = False
        self._backends = backends
        self._proxy = proxy
        self._provisions = provisions
        self._limits = limits
        self._workspaces = workspaces
        self._has_entry = has_entry
        self._capacity = capacity
        self._retention = retention.total_seconds()
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

    async def check_transcript(self, work: Work) -> None:
        """See that an execution finds its conversation as it is stored.

        Raises:
            Failure: TRANSCRIPT_NEEDED; as `create`.
        """
        if not work.last_entry or work.background or work.execution_id in self._known:
            return
        self._check(work.backend)
        if self._provisions.agents.remembers(work):
            return
        place = self._workspaces.place(work.workspace)
        view = self._backends[work.backend].view(place)
        if not await asyncio.to_thread(
            self._has_entry, place, view, work.resume_from, work.last_entry
        ):
            raise Failure(
                errors_pb2.ERROR_REASON_TRANSCRIPT_NEEDED,
                "The newest part of the conversation is not on this machine; restore it first.",
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
        if len(self._running) >= self._capacity:
            raise _full()
        return self._start(work, adopted=None)

    async def adopt(self, note: Note) -> bool:
        """Go on with an execution of an executor that is gone, in the process that it has left.

        Called before the first call is served. Returns when the execution goes on.

        Returns:
            False when it cannot be gone on with. Then it is remembered as lost.
        """
        execution = self._start(note.work, adopted=note)
        await execution.taken_up()
        return not execution.lost

    def remember_lost(self, note: Note) -> None:
        """Remember an execution that ended with its executor: it may have used tools unheard."""
        work = note.work
        self._known[work.execution_id] = Forgotten(
            work.execution_id, work.backend, work.workspace, acknowledged=False
        )
        age = max(0.0, time.time() - note.begin_time_ns / 1e9)
        self._expire(work, max(0.0, self._retention * _UNHEARD - age), noted=True)

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
            if execution.noted:
                self._provisions.notes.remove(execution.work.workspace, execution_id)
            self._forget(execution_id)
            self._change.set()

    def cancel(
        self, execution_id: str, *, grace: timedelta | None, cause: Failure | None = None
    ) -> None:
        """Ask an execution to stop; one that is not known here never begins any more.

        A call to create it may still be on its way when whoever made that has given it
        up, and runs the turn elsewhere.

        Args:
            execution_id: Its id.
            grace: Time to stop by itself; None for the limit's.
            cause: Why the turn fails; None when somebody cancelled it.

        Raises:
            Failure: As `get`.
        """
        if execution_id not in self._known:
            self._known[execution_id] = Forgotten(execution_id, "", "", acknowledged=True)
            asyncio.get_running_loop().call_later(
                self._retention, self._known.pop, execution_id, None
            )
        self.get(execution_id).stop(cause=cause, grace=grace)

    async def delete_workspace(self, workspace: str) -> None:
        """End what runs in a workspace and delete its files; an absent one is fine."""
        execution = self._current.get(workspace)
        if execution is not None:
            execution.stop(cause=None, grace=timedelta(0))
            await execution.over()
        await self._provisions.agents.delete(workspace)

    @asynccontextmanager
    async def vacated(self, workspace: str) -> AsyncIterator[Place]:
        """Have a workspace in which nothing runs while inside; it is made when it is missing.

        What runs there is ended.
        """
        execution = self._current.get(workspace)
        if execution is not None:
            execution.stop(cause=None, grace=None)
            await execution.over()
        async with self._provisions.agents.vacated(workspace) as place:
            yield place

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
        await self._provisions.agents.kill()
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
        detail = "There is no such backend."
        if backend is not None:
            detail = obstacle(backend, self._proxy)
        if detail:
            raise Failure(
                errors_pb2.ERROR_REASON_BACKEND_UNAVAILABLE,
                f"Backend {name} cannot run executions: {detail}",
                backend=name,
            )

    def _start(self, work: Work, *, adopted: Note | None) -> Execution:
        execution = Execution(
            work=work,
            limits=self._limits,
            provisions=self._provisions,
            adopted=adopted,
            ended=self._ended,
        )
        before = self._current.get(work.workspace)
        if before is not None:
            before.stop(cause=None, grace=None)
        self._known[work.execution_id] = execution
        self._running[work.execution_id] = execution
        self._current[work.workspace] = execution
        self._in_progress.labels(work.backend).inc()
        self._provisions.tasks.spawn(execution.run(), name="execution")
        return execution

    def _ended(self, execution: Execution, ending: Ending | None) -> None:
        work = execution.work
        del self._running[work.execution_id]
        self._change.set()
        if self._current.get(work.workspace) is execution:
            del self._current[work.workspace]
        if execution.lost:
            self._forget(work.execution_id)
        else:
            loop = asyncio.get_running_loop()
            loop.call_later(self._retention, self._forget, work.execution_id)
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
            self._expire(work, retention, noted=execution.noted and not acknowledged)

    def _expire(self, work: Work, seconds: float, *, noted: bool) -> None:
        """Recognise an id no more after a time."""

        def expire() -> None:
            self._known.pop(work.execution_id, None)
            if noted:
                self._provisions.notes.remove(work.workspace, work.execution_id)

        asyncio.get_running_loop().call_later(seconds, expire)


def _full() -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_EXECUTOR_CAPACITY,
        "This executor runs all the executions it may; try again.",
        retry_delay=_RETRY_DELAY,
    )


def _draining() -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_DRAINING,
        "This executor is shutting down; use another one.",
        retry_delay=_RETRY_DELAY,
    )
