"""One execution: an attempt of a turn, from its start to its one outcome.

Does not know streams, callers or which program the agent is.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta

from google.protobuf import duration_pb2

from moorline.errors.v1 import errors_pb2
from moorline.executor.v1 import executions_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.chassis.tasks import Tasks
from services.executor.agent_process import AgentProcess, Ending, Result, Work
from services.executor.agents import Agents
from services.executor.book import Book

log = logging.getLogger(__name__)

State = executions_pb2.Execution.State
TurnState = transcript_pb2.TurnOutcome.State


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an execution may take.

    Attributes:
        timeout: Time allowed at most.
        stall: Silence allowed while the agent owes a word.
        grace: Time to stop by itself before it is killed.
    """

    timeout: timedelta
    stall: timedelta
    grace: timedelta


class Execution:
    """One attempt of a turn.

    Its book always ends with exactly one outcome, whatever happens to the agent.

    Args:
        work: What to do.
        limits: What it may take.
        agents: Where its process comes from.
        tasks: Owner of the task that stops it.
        ended: Called once, with the ending if there was one, after the outcome is recorded.
    """

    def __init__(
        self,
        *,
        work: Work,
        limits: Limits,
        agents: Agents,
        tasks: Tasks,
        ended: Callable[[Execution, Ending | None], None],
    ) -> None:
        self.work = work
        self.book = Book()
        self.create_time_ns = time.time_ns()
        self.state: executions_pb2.Execution.State.ValueType = (
            executions_pb2.Execution.STATE_STARTING
        )
        self.outcome: transcript_pb2.TurnOutcome.State.ValueType = (
            transcript_pb2.TurnOutcome.STATE_UNSPECIFIED
        )
        self._limits = limits
        self._agents = agents
        self._tasks = tasks
        self._on_end = ended
        # The mutable state of an execution is the rest.
        self._started = time.monotonic()
        self._process: AgentProcess | None = None
        self._opening: asyncio.Timeout | None = None
        self._stopped = False
        self._cause: Failure | None = None
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
            self._tasks.spawn(self._end_process(self._process, patience), name="stop-execution")
        elif self._opening is not None:
            self._opening.reschedule(asyncio.get_running_loop().time())

    async def over(self) -> None:
        """Wait for the outcome. It comes within the time limit, and soon after `stop`."""
        await self._over.wait()

    async def answer(self, decision: transcript_pb2.PermissionDecision) -> None:
        """Hand a permission decision to the agent. After the end it changes nothing.

        Raises:
            Failure: RESOURCE_NOT_FOUND when it was never asked for.
        """
        if self._process is not None and not self.book.ended:
            await self._process.answer(
                decision.permission_id, allowed=decision.allowed, reason=decision.reason
            )

    async def _work(self) -> Ending | None:
        if self._stopped:
            return None
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(None) as self._opening:
                process = await stack.enter_async_context(self._agents.borrow(self.work))
            if self._stopped:
                # A stop that came too late to break the borrowing off.
                return None
            self._process = process
            self.state = executions_pb2.Execution.STATE_RUNNING
            ending = await process.begin(self.work, self.book)
            while not ending.done():
                await asyncio.wait({ending}, timeout=self._until_check(process))
                if not ending.done():
                    self._enforce(process)
            return ending.result()

    def _until_check(self, process: AgentProcess) -> float | None:
        if self._stopped:
            # The task that stops it ends the process, and with it this wait.
            return None
        left = self._allowed.total_seconds() - self.seconds
        patience = (self._limits.stall - process.quiet_for()).total_seconds()
        return max(0.0, min(left, patience))

    def _enforce(self, process: AgentProcess) -> None:
        if self.seconds >= self._allowed.total_seconds():
            seconds = math.ceil(self._allowed.total_seconds())
            cause = Failure(
                errors_pb2.ERROR_REASON_TURN_TIMEOUT,
                f"The turn ran longer than the {seconds} seconds it was allowed.",
                seconds=str(seconds),
            )
            self.stop(cause=cause, grace=None)
        elif process.quiet_for() >= self._limits.stall:
            seconds = math.ceil(self._limits.stall.total_seconds())
            cause = Failure(
                errors_pb2.ERROR_REASON_AGENT_STALLED,
                f"The agent said nothing for {seconds} seconds.",
                retry_delay=timedelta(seconds=1),
                seconds=str(seconds),
            )
            self.stop(cause=cause, grace=None)

    async def _end_process(self, process: AgentProcess, grace: timedelta) -> None:
        try:
            async with asyncio.timeout(grace.total_seconds()):
                await process.interrupt()
                await self._over.wait()
        except TimeoutError:
            await process.kill()

    @property
    def _allowed(self) -> timedelta:
        return min(self.work.timeout, self._limits.timeout)

    def _finish(self, ending: Ending | None, failure: Failure | None) -> None:
        outcome = transcript_pb2.TurnOutcome()
        outcome.state, error = self._judge(ending, failure)
        if error is not None:
            outcome.error.CopyFrom(error.to_error())
        if ending is not None:
            outcome.usage.CopyFrom(ending.usage)
        nanos = round(self.seconds * 1e9)
        outcome.duration.CopyFrom(
            duration_pb2.Duration(seconds=nanos // 10**9, nanos=nanos % 10**9)
        )
        self.outcome = outcome.state
        self.state = executions_pb2.Execution.STATE_ENDED
        self.book.append(transcript_pb2.Item(turn_outcome=outcome), conversation=self.conversation)
        self.book.publish()
        self._over.set()
        self._on_end(self, ending)

    def _judge(
        self, ending: Ending | None, failure: Failure | None
    ) -> tuple[transcript_pb2.TurnOutcome.State.ValueType, Failure | None]:
        if ending is not None and ending.result is Result.FINISHED:
            # Finished before a stop could reach it: what was done counts.
            return transcript_pb2.TurnOutcome.STATE_FINISHED, None
        if self._stopped and self._cause is None:
            return transcript_pb2.TurnOutcome.STATE_CANCELLED, None
        if ending is not None and ending.result is Result.INTERRUPTED:
            failure = Failure(errors_pb2.ERROR_REASON_AGENT_FAILED, "The agent stopped by itself.")
        elif ending is not None:
            failure = ending.failure
        failure = self._cause or failure or _unexplained(self.work.execution_id)
        if ending is not None and ending.result is Result.DIED and ending.tools_running:
            return transcript_pb2.TurnOutcome.STATE_LOST, failure
        return transcript_pb2.TurnOutcome.STATE_FAILED, failure


def _unexplained(execution_id: str) -> Failure:
    log.error("execution ended without a reason", extra={"execution": execution_id})
    return Failure(
        errors_pb2.ERROR_REASON_INTERNAL,
        "The execution ended without a reason; the server's log tells more.",
        errorId=execution_id,
    )
