"""The life of one running turn: from its first execution to its outcome.

A lost execution is repeated when it had called no tool; when it had, or may have
unheard, the turn is lost, because nobody knows what the tool did. Does not know
the turns that wait, nor who reads what happens.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from moorline.errors.v1 import errors_pb2
from moorline.executor.v1 import executions_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.session.agent_record import AgentRecord
from services.session.answers import carry_out
from services.session.attempt import Attempt
from services.session.budgets import left_for
from services.session.conclusion import Conclusion
from services.session.encoding import LoggedEvent
from services.session.environment import Environment
from services.session.executors.deliveries import Deliveries
from services.session.executors.following import Following
from services.session.executors.placement import Placement
from services.session.loader import Loader
from services.session.log import Log, succeeded
from services.session.outcomes import UNHEARD, Outcome, broken, lost, outcome_label
from services.session.permissions import Permissions
from services.session.progress import Progress
from services.session.records import TurnRecord
from services.session.timeline import Timeline

log = logging.getLogger(__name__)

_TEXT_SECONDS, _FIRST_SECONDS = 10.0, 0.5
"""How long text of a turn that was taken up is waited for; and once its execution is followed."""

_PLACED_SECONDS = 1.0
"""How long a turn that is let go of may take to ask for its execution."""


class TurnRun:
    """Brings one turn to exactly one outcome.

    Args:
        environment: What it works with.
        agent: Whose turn it is.
        turn: The turn, in STATE_RUNNING.
        agent_log: Where everything that lasts goes.
        timeline: Where text being written goes.
        changed: Called when the agent may look different.
        loader: Knows what is left of the user's budget.
        concluded: Called once, with the outcome, when its recording begins.
        ended: Called once, when the outcome is durable.
    """

    def __init__(
        self,
        *,
        environment: Environment,
        agent: AgentRecord,
        turn: TurnRecord,
        agent_log: Log,
        timeline: Timeline,
        changed: Callable[[], None],
        loader: Loader,
        concluded: Callable[[Outcome], None],
        ended: Callable[[], None],
    ) -> None:
        self.turn = turn
        self.progress = Progress(turn=turn)
        """Where it stands."""
        self._environment = environment
        self._executors = environment.executors
        self._agent = agent
        self._log = agent_log
        self._timeline = timeline
        self._changed = changed
        self._loader = loader
        self._ended = ended
        self._deliveries = Deliveries(
            tasks=environment.tasks,
            executors=environment.executors,
            turn=turn,
            over=lambda: self._let_go or self.over,
        )
        self._permissions = Permissions(
            log=agent_log,
            turn_id=turn.name.turn,
            clock=environment.clock,
            changed=changed,
            allow=lambda request, answer: carry_out(
                agent, request, answer, environment.clock.now()
            ),
            decided=self._deliveries.resolve,
        )
        self._conclusion = Conclusion(
            environment=environment,
            agent=agent,
            turn=turn,
            agent_log=agent_log,
            permissions=self._permissions,
            progress=self.progress,
            changed=changed,
            concluded=concluded,
        )
        self._following = Following(
            executors=environment.executors,
            turn=turn,
            unreachable=environment.limits.unreachable,
        )
        self._attempt = self._new_attempt()
        self._task: asyncio.Task[None] | None = None
        # Set while the execution is being created.
        self._placement: Placement | None = None
        self._cancellation: asyncio.Future[None] | None = None
        # Why it shall fail, once nothing is left of a budget.
        self._exhausted: Failure | None = None
        self._let_go = False
        # Set while the execution has been asked for where the turn's record says.
        self._placed = asyncio.Event()
        # True once it ends for another turn's sake.
        self._gives_way = False

    @property
    def over(self) -> bool:
        """True once its outcome is being recorded."""
        return self._conclusion.recorded is not None

    @property
    def open_requests(self) -> int:
        """Permission requests that wait for somebody."""
        return self._permissions.open

    def start(self, recorded: asyncio.Future[None]) -> None:
        """Run the first attempt, once the turn's state is durable."""
        self._spawn(recorded, created=False)

    def resume(self, events: Iterable[LoggedEvent], cursors: Mapping[str, int]) -> None:
        """Go on where an earlier process stopped.

        Args:
            events: What the log has of this turn.
            cursors: The executor's number of the last event in the log, by execution.
        """
        self._attempt.cursor = cursors.get(self.turn.execution, 0)
        for event in events:
            self._attempt.recall(event.item)
        recorded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        recorded.set_result(None)
        self._permissions.expire()
        # Without an address it was asked for nowhere.
        if self.turn.executor:
            self._timeline.expect(_TEXT_SECONDS)
        self._spawn(recorded, created=bool(self.turn.executor))

    def stop(self) -> None:
        """Let go of the turn without ending it: another process or object goes on."""
        self._let_go = True
        self._attempt.close()
        self._permissions.stop()
        if self._task is not None:
            self._task.cancel()

    async def settle(self) -> None:
        """Let go of the turn when its execution has been asked for, or after a second.

        Whoever goes on with it could not tell otherwise whether that was done, and
        would begin it again.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(0 if self._let_go else _PLACED_SECONDS):
                await self._placed.wait()
        self.stop()

    async def cancel(self) -> None:
        """Record that the turn shall stop, and see to it. Repeating it changes nothing.

        Raises:
            Failure: STORE_UNAVAILABLE, FENCED.
        """
        if self.over:
            return
        if self._cancellation is None:
            self.turn.cancelled = True
            self._cancellation = self._log.append(
                self.turn.name.turn, [], documents={str(self.turn.name): self.turn.fields()}
            )
            self._cancellation.add_done_callback(self._cancellation_recorded)
        await self._log.durable(self._cancellation)

    def give_way(self) -> None:
        """End a turn that nobody asked for, as another one waits. Repeating it does nothing."""
        if self.over or self._gives_way:
            return
        self._gives_way = True
        self._interrupt()

    def exhaust(self, failure: Failure) -> None:
        """Have it fail: nothing is left of a budget. Repeating it changes nothing."""
        if self._exhausted is not None or self.over:
            return
        self._exhausted = failure
        if self._placement is None:
            # Who is about to place it sees for itself.
            self._deliveries.cancel(failure)

    async def resolve(self, answer: transcript_pb2.PermissionDecision) -> None:
        """Record an answer, if it is the first, and hand it to the agent.

        Raises:
            Failure: RESOURCE_NOT_FOUND, PERMISSION_RESOLVED, FIELD_INVALID,
                QUOTA_EXCEEDED, STORE_UNAVAILABLE, FENCED.
        """
        await self._permissions.answer(answer)

    def acknowledge(self, execution: str, sequence: int, *, at_once: bool) -> None:
        """Tell the executor of an attempt what is durable."""
        self._following.acknowledge(execution, sequence, at_once=at_once)

    def _spawn(self, recorded: asyncio.Future[None], *, created: bool) -> None:
        self._task = self._environment.tasks.spawn(
            self._run(recorded, created=created), name="turn"
        )
        self._task.add_done_callback(self._stopped)

    def _stopped(self, task: asyncio.Task[None]) -> None:
        """See that a turn whose task failed by a bug ends all the same."""
        if task.cancelled() or task.exception() is None:
            return
        recorded = self._conclusion.recorded or self._conclude(Outcome.STATE_FAILED, broken())
        recorded.add_done_callback(self._concluded)

    def _concluded(self, done: asyncio.Future[None]) -> None:
        if not self._let_go and succeeded(done):
            self._environment.measures.turns.labels(outcome_label(self.turn)).inc()
            self._ended()

    async def _run(self, recorded: asyncio.Future[None], *, created: bool) -> None:
        try:
            await asyncio.shield(recorded)
            while self._conclusion.recorded is None:
                if not created:
                    await self._create()
                self._placed.set()
                created = False
                if self._conclusion.recorded is None:
                    await self._follow()
            self._conclusion.recorded.add_done_callback(self._concluded)
        except Failure as failure:
            if failure.reason != errors_pb2.ERROR_REASON_FENCED:
                raise
            # Whoever owns the agent now goes on with the turn.
        finally:
            self._placed.set()

    async def _create(self) -> None:
        """Start the execution, or conclude the turn without one."""
        if self._gives_way:
            self._conclude(Outcome.STATE_FINISHED, None)
            return
        self._placement = Placement(
            environment=self._environment,
            agent=self._agent,
            turn=self.turn,
            agent_log=self._log,
            left=lambda: left_for(self._agent, self.turn, month=self._loader.month_left()),
        )
        failure = await self._placement.run()
        self._placement = None
        if failure is None:
            return
        if self.turn.cancelled:
            self._conclude(Outcome.STATE_CANCELLED, None)
        elif self._gives_way:
            self._conclude(Outcome.STATE_FINISHED, None)
        else:
            # What was in the background cannot be begun again by another try.
            self._conclude(Outcome.STATE_FAILED, lost(failure) if self.turn.background else failure)

    async def _follow(self) -> None:
        """Follow the execution until its outcome, or see what to do when it is lost."""
        try:
            await self._following.follow(self._attempt, begun=self._begun)
        except Failure as failure:
            if failure.reason == errors_pb2.ERROR_REASON_FENCED:
                raise
            log.warning(
                "execution lost",
                extra={"turn": str(self.turn.name), "reason": failure.reason_name},
            )
            await self._recover(failure)

    def _begun(self) -> None:
        if not self._timeline.whole:
            self._timeline.expect(_FIRST_SECONDS)
        self._deliver_again()

    async def _recover(self, failure: Failure) -> None:
        """Decide how to go on after the execution was lost."""
        self._attempt.close()
        self._placed.clear()
        if self.over:
            return
        # A tool whose use was never allowed has not run.
        ran = self._attempt.tool_calls - self._permissions.never_allowed()
        if self.turn.cancelled:
            self._conclude(Outcome.STATE_CANCELLED, None)
        elif ran or failure.reason in UNHEARD:
            self._conclude(Outcome.STATE_LOST, lost(failure))
        elif self._gives_way:
            self._conclude(Outcome.STATE_FINISHED, None)
        elif self.turn.background or self.turn.attempt >= self._environment.limits.attempts:
            self._conclude(Outcome.STATE_FAILED, lost(failure))
        else:
            await self._begin_again(lost(failure))

    async def _begin_again(self, reason: Failure) -> None:
        """Record another attempt, and where it will run."""
        turn, before = self.turn, (self.turn.executor, self.turn.execution)
        turn.attempt += 1
        turn.executor = self._executors.place(preferred=turn.executor)
        again = transcript_pb2.TurnAttempt(attempt=turn.attempt, error=reason.to_error())
        items = [*self._permissions.close(), transcript_pb2.Item(turn_attempt=again)]
        self.progress.again()
        self._exhausted = None
        self._permissions.clear()
        self._attempt = self._new_attempt()
        recorded = self._log.append(
            turn.name.turn, items, documents={str(turn.name): turn.fields()}
        )
        self._changed()
        # Before anything of the new attempt can be heard: it withdraws old text.
        await asyncio.shield(recorded)
        self._executors.abandon(*before)

    def _new_attempt(self) -> Attempt:
        return Attempt(
            turn_id=self.turn.name.turn,
            execution_id=self.turn.execution,
            log=self._log,
            timeline=self._timeline,
            permissions=self._permissions,
            clock=self._environment.clock,
            wait=self._environment.limits.permission,
            again=self._deliver_again,
            progressed=self._progressed,
            finished=self._finished,
            lost=self._following.lose,
        )

    def _finished(self, event: executions_pb2.ExecutionEvent) -> None:
        """Hear the execution's outcome, which is the turn's."""
        self._conclusion.hear(event, heard=self._attempt.conversation)
        self._following.end()

    def _conclude(
        self, state: Outcome.State.ValueType, failure: Failure | None
    ) -> asyncio.Future[None]:
        partial = self._attempt.partial_items()
        self._attempt.close()
        return self._conclusion.decide(
            state, failure, before=partial, heard=self._attempt.conversation
        )

    def _progressed(self, progress: executions_pb2.ExecutionProgress) -> None:
        before = self.progress.cost
        if self.progress.hear(progress):
            self._changed()
        if self.progress.cost != before:
            self._loader.consumed()

    def _cancellation_recorded(self, done: asyncio.Future[None]) -> None:
        if not succeeded(done) or self.over:
            return
        self._interrupt()

    def _interrupt(self) -> None:
        if self._placement is not None:
            self._placement.interrupt()
        else:
            self._deliveries.cancel()

    def _deliver_again(self) -> None:
        """Hand over what was decided: whoever runs the execution now may not know it."""
        cancelled = self.turn.cancelled and (
            self._cancellation is None or succeeded(self._cancellation)
        )
        if cancelled or self._gives_way:
            self._deliveries.cancel()
        if self._exhausted is not None:
            self._deliveries.cancel(self._exhausted)
        for decision in self._permissions.recorded():
            self._deliveries.resolve(decision)
