"""One execution: an attempt of a turn, from its start to its one outcome.

Does not know streams, callers or which program the agent is.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

from google.protobuf import duration_pb2

from moorline.errors.v1 import errors_pb2
from moorline.executor.v1 import executions_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.executor.agent_process import AgentProcess, Ending, Result, Work
from services.executor.agents import Stay
from services.executor.book import Book
from services.executor.consumption import Consumption
from services.executor.notes import Note
from services.executor.place import Place
from services.executor.provisions import Limits, Provisions

log = logging.getLogger(__name__)

State = executions_pb2.Execution.State
TurnState = transcript_pb2.TurnOutcome.State


class Execution:
    """One attempt of a turn.

    Its book always ends with exactly one outcome, whatever happens to the agent.

    Args:
        work: What to do.
        limits: What it may take.
        provisions: What it works with.
        adopted: What the executor before this one has noted of it, when its process outlived that
            executor; None for a new one.
        ended: Called once, with the ending if there was one, after the outcome is recorded.
    """

    def __init__(
        self,
        *,
        work: Work,
        limits: Limits,
        provisions: Provisions,
        adopted: Note | None,
        ended: Callable[[Execution, Ending | None], None],
    ) -> None:
        self.work = work
        self.book = Book(adopted=adopted is not None)
        self.create_time_ns = time.time_ns() if adopted is None else adopted.create_time_ns
        self.state: executions_pb2.Execution.State.ValueType = (
            executions_pb2.Execution.STATE_STARTING
        )
        self.outcome: transcript_pb2.TurnOutcome.State.ValueType = (
            transcript_pb2.TurnOutcome.STATE_UNSPECIFIED
        )
        self.noted = adopted is not None
        """Whether there is a note about it."""
        self.lost = False
        """Whether it could not be adopted, so that nobody knows what became of it."""
        self._limits = limits
        self._provisions = provisions
        self._adopted = adopted
        self._on_end = ended
        # The mutable state of an execution is the rest.
        self._started = _monotonic(self.create_time_ns)
        # The time it waits for a slot is not its own.
        self._begun = self._started if adopted is None else _monotonic(adopted.begin_time_ns)
        self._usage: transcript_pb2.Usage | None = None
        self._exhausted = ""
        self._process: AgentProcess | None = None
        self._ending: asyncio.Future[Ending] | None = None
        self._opening: asyncio.Timeout | None = None
        self._stopped = False
        self._cause: Failure | None = None
        self._taken_up = asyncio.Event()
        # Nothing of it goes on in the process, which may have another execution's turn next.
        self._left = asyncio.Event()
        self._over = asyncio.Event()

    @property
    def conversation(self) -> str:
        """Handle to continue the conversation; empty until the agent has told it."""
        return "" if self._process is None else self._process.conversation

    @property
    def seconds(self) -> float:
        """Time since it was created."""
        return time.monotonic() - self._started

    async def run(self) -> None:
        """Do the work. Never fails: what goes wrong is the outcome."""
        ending: Ending | None = None
        failure: Failure | None = None
        try:
            ending = await self._work()
        except Failure as error:
            failure = error
            self.lost = self._adopted is not None and not self._taken_up.is_set()
        except TimeoutError:
            # Stopped before there was a process; `_stopped` tells.
            failure = self._cause
        finally:
            self._finish(ending, failure)

    def stop(self, *, cause: Failure | None, grace: timedelta | None) -> None:
        """End it: ask the agent to stop, kill it when it does not. Later calls change nothing.

        Args:
            cause: Why the turn fails; None when it was cancelled.
            grace: Time to stop by itself; None for the limit.
        """
        if self._stopped or self.book.ended:
            return
        self._stopped = True
        self._cause = cause
        self.book.lift_bound()
        if self._process is not None:
            patience = self._limits.grace if grace is None else grace
            self._spawn(self._end_process(self._process, patience))
        elif self._opening is not None:
            self._opening.reschedule(asyncio.get_running_loop().time())

    async def taken_up(self) -> None:
        """Wait until an adopted one goes on, or is over; bounded by what a process may take."""
        await self._taken_up.wait()

    async def over(self) -> None:
        """Wait for the outcome. It comes within the time limit, and soon after `stop`."""
        await self._over.wait()

    async def answer(self, decision: transcript_pb2.PermissionDecision) -> None:
        """Hand a permission decision to the agent. After the end it changes nothing.

        Raises:
            Failure: RESOURCE_NOT_FOUND when it was never asked for.
        """
        # The process forgets what it asked for when it ends the turn, long before the outcome.
        ended = self._left.is_set() or (self._ending is not None and self._ending.done())
        if self._process is not None and not ended:
            await self._process.answer(decision)

    async def _work(self) -> Ending | None:
        if self._stopped:
            return None
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(None) as self._opening:
                await self._have_slot(stack)
                borrowed = self._provisions.agents.borrow(
                    self.work, survivor=self._adopted is not None
                )
                stay = await stack.enter_async_context(borrowed)
                if stay is not None:
                    await self._prepare(stay)
            self._opening = None
            if self._stopped:
                # A stop that came too late to break the opening off.
                return None
            if stay is None:
                return _NOTHING_LEFT
            return await self._turn(stay)

    async def _have_slot(self, stack: AsyncExitStack) -> None:
        # Work in the background runs already.
        if self.work.backend not in self._provisions.limited or self.work.background:
            return
        queue, tenant = self._provisions.queue, self.work.tenant
        if self._adopted is not None:
            queue.take(tenant)
            stack.callback(queue.give_back, tenant)
            return
        await stack.enter_async_context(queue.slot(tenant, moved=self._moved))
        self._begun = time.monotonic()

    def _moved(self, position: int) -> None:
        self.book.progress(queue_position=position)
        self.book.publish()

    async def _prepare(self, stay: Stay) -> None:
        """See that it is known later how things stood before the prompt."""
        if self._adopted is not None:
            return
        await self._provisions.snapshots.take(stay.place)
        if stay.meter is None:
            # Nothing that it did could outlive us.
            return
        waited = round((self._begun - self._started) * 1e9)
        note = Note(
            work=self.work,
            create_time_ns=self.create_time_ns,
            begin_time_ns=self.create_time_ns + waited,
        )
        self.noted = True
        await self._provisions.notes.write(stay.place, note)

    async def _turn(self, stay: Stay) -> Ending:
        process = self._process = stay.process
        self.state = executions_pb2.Execution.STATE_RUNNING
        consumption = self._consumption(stay)
        # Without a tool, and with nothing in the background, nothing touches a file.
        idle = self._adopted is None and not process.background
        try:
            ending = self._ending = await self._begin(process)
            self._taken_up.set()
            while not ending.done():
                await asyncio.wait({ending}, timeout=self._until_check(process))
                if not ending.done():
                    self._enforce(process)
        finally:
            self._left.set()
            if consumption is not None:
                self._usage, self._exhausted = consumption.end()
        self._provisions.agents.told(self.work.workspace, self.book.entries.values())
        told = ending.result()
        used = told.tools_succeeded or told.tools_failed or told.tools_running
        if used or not idle or told.background:
            await self._tell_changes(stay.place)
        return told

    async def _tell_changes(self, place: Place) -> None:
        changes = await self._provisions.snapshots.changes(place)
        if changes.changes or changes.omitted_files:
            self.book.append(transcript_pb2.Item(file_changes=changes))

    def _consumption(self, stay: Stay) -> Consumption | None:
        if stay.meter is None:
            return None
        record = functools.partial(self._provisions.notes.record, stay.place)
        consumption = Consumption(meter=stay.meter, tell=self._consumed, record=record)
        records = () if self._adopted is None else self._adopted.records
        consumption.begin(self.work.budget, records=records)
        return consumption

    def _consumed(self, usage: transcript_pb2.Usage) -> None:
        self.book.progress(usage=usage)
        self.book.publish()

    async def _begin(self, process: AgentProcess) -> asyncio.Future[Ending]:
        if self._adopted is not None:
            return await process.adopt(self.work, self.book)
        if self.work.background:
            return await process.attend(self.work, self.book)
        return await process.begin(self.work, self.book)

    def _until_check(self, process: AgentProcess) -> float | None:
        if self._stopped:
            # The task that stops it ends the process, and with it this wait.
            return None
        left = self._allowed.total_seconds() - self._spent
        patience = (self._limits.stall - process.quiet_for()).total_seconds()
        return max(0.0, min(left, patience))

    def _enforce(self, process: AgentProcess) -> None:
        if self._spent >= self._allowed.total_seconds():
            seconds = math.ceil(self._allowed.total_seconds())
            cause = Failure(
                errors_pb2.ERROR_REASON_TURN_TIMEOUT,
                f"The turn ran longer than the {seconds} seconds it was allowed.",
                seconds=str(seconds),
            )
            self._give_up(process, cause)
        elif process.quiet_for() >= self._limits.stall:
            seconds = math.ceil(self._limits.stall.total_seconds())
            cause = Failure(
                errors_pb2.ERROR_REASON_AGENT_STALLED,
                f"The agent said nothing for {seconds} seconds.",
                retry_delay=timedelta(seconds=1),
                seconds=str(seconds),
            )
            self._give_up(process, cause)

    def _give_up(self, process: AgentProcess, cause: Failure) -> None:
        if self.work.background:
            # To be stopped would mean to go on unattended.
            self._stopped, self._cause = True, cause
            self.book.lift_bound()
            self._spawn(self._kill(process))
        else:
            self.stop(cause=cause, grace=None)

    def _spawn(self, stopping: Coroutine[Any, Any, None]) -> None:
        self._provisions.tasks.spawn(stopping, name="stop-execution")

    async def _end_process(self, process: AgentProcess, grace: timedelta) -> None:
        try:
            async with asyncio.timeout(grace.total_seconds()):
                if not self._left.is_set():
                    await process.interrupt()
                await self._left.wait()
        except TimeoutError:
            await self._kill(process)

    async def _kill(self, process: AgentProcess) -> None:
        if not self._left.is_set():
            await process.kill()

    @property
    def _allowed(self) -> timedelta:
        return min(self.work.timeout, self._limits.timeout)

    @property
    def _spent(self) -> float:
        return time.monotonic() - self._begun

    def _finish(self, ending: Ending | None, failure: Failure | None) -> None:
        outcome = transcript_pb2.TurnOutcome()
        outcome.state, error = self._judge(ending, failure)
        if error is not None:
            outcome.error.CopyFrom(error.to_error())
        if ending is not None:
            outcome.usage.CopyFrom(ending.usage)
            outcome.background_tasks = ending.background
            outcome.model = ending.model
        if self._usage is not None:
            # What went through our hands, and not what the program says.
            outcome.usage.CopyFrom(self._usage)
        nanos = round(self.seconds * 1e9)
        outcome.duration.CopyFrom(
            duration_pb2.Duration(seconds=nanos // 10**9, nanos=nanos % 10**9)
        )
        self.outcome = outcome.state
        self.state = executions_pb2.Execution.STATE_ENDED
        self.book.append(transcript_pb2.Item(turn_outcome=outcome), conversation=self.conversation)
        self.book.publish()
        self._taken_up.set()
        self._over.set()
        self._on_end(self, ending)

    def _judge(
        self, ending: Ending | None, failure: Failure | None
    ) -> tuple[transcript_pb2.TurnOutcome.State.ValueType, Failure | None]:
        if ending is not None and ending.result is Result.FINISHED:
            # Finished before a stop could reach it: what was done counts.
            return transcript_pb2.TurnOutcome.STATE_FINISHED, None
        if self._stopped and self._cause is None:
            if self.work.background:
                return transcript_pb2.TurnOutcome.STATE_FINISHED, None
            return transcript_pb2.TurnOutcome.STATE_CANCELLED, None
        if ending is not None and ending.result is Result.FAILED and self._exhausted:
            failure = _exhausted(self._exhausted)
        elif ending is not None and ending.result is Result.INTERRUPTED:
            failure = Failure(errors_pb2.ERROR_REASON_AGENT_FAILED, "The agent stopped by itself.")
        elif ending is not None:
            failure = ending.failure
        failure = self._cause or failure or _unexplained(self.work.execution_id)
        if ending is not None and ending.result is Result.DIED and ending.tools_running:
            return transcript_pb2.TurnOutcome.STATE_LOST, failure
        return transcript_pb2.TurnOutcome.STATE_FAILED, failure


_NOTHING_LEFT = Ending(
    result=Result.FINISHED,
    failure=None,
    usage=transcript_pb2.Usage(),
    tools_running=0,
    tools_succeeded=0,
    tools_failed=0,
)
"""Of an execution in the background that finds none of it."""


def _monotonic(time_ns: int) -> float:
    """Return what our monotonic clock showed at a time since the epoch."""
    return time.monotonic() - (time.time_ns() - time_ns) / 1e9


def _exhausted(budget: str) -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_BUDGET_EXHAUSTED,
        f"The budget of the {budget} is spent; raise it to go on.",
        budget=budget,
    )


def _unexplained(execution_id: str) -> Failure:
    log.error("execution ended without a reason", extra={"execution": execution_id})
    return Failure(
        errors_pb2.ERROR_REASON_INTERNAL,
        "The execution ended without a reason; the server's log tells more.",
        errorId=execution_id,
    )
