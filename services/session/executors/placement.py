"""Starts the execution of one attempt: finds an executor for it, and asks it.

Where it is asked is durable first, so that whoever takes over finds it. Does not
know what the execution does then.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from datetime import timedelta

from moorline.errors.v1 import errors_pb2
from moorline.executor.v1 import executions_pb2
from moorline.session.v1 import agents_pb2
from services.chassis.backoff import Backoff
from services.chassis.failures import Failure
from services.session.agent_record import AgentRecord
from services.session.budgets import Left
from services.session.environment import Environment
from services.session.executors.deliveries import PASSING
from services.session.executors.patience import Patience
from services.session.executors.restoring import Restoring
from services.session.log import Log
from services.session.outcomes import conversation_lost, unreachable
from services.session.records import TurnRecord

_ANSWERED_WITHIN = 4
"""Rounds of the event loop in which whoever asked for a turn is answered once it is durable:
to ask an executor takes half a millisecond, for which they need not wait."""

_TRY = timedelta(seconds=12)
"""Longer than one try to create an execution takes, its pause included."""


class Placement:
    """Asks executors until one has taken the execution, or long enough.

    Args:
        environment: What it works with.
        agent: Whose turn it is.
        turn: The turn; its `executor` is where the execution is asked for first.
        agent_log: Where the executor's address goes when it is another one.
        left: Tells what the execution may cost.
    """

    def __init__(
        self,
        *,
        environment: Environment,
        agent: AgentRecord,
        turn: TurnRecord,
        agent_log: Log,
        left: Callable[[], Left],
    ) -> None:
        self._executors = environment.executors
        self._unreachable = environment.limits.unreachable
        self._patience = Patience(whole=self._unreachable, step=_TRY)
        self._agent = agent
        self._turn = turn
        self._log = agent_log
        self._left = left
        self._failure = unreachable()
        # Executors that will never take it.
        self._unfit: set[str] = set()
        # Executors that have been given the conversation.
        self._restored: set[str] = set()
        # Set while it runs, without a limit; moving it to now interrupts that.
        self._limit: asyncio.Timeout | None = None

    def interrupt(self) -> None:
        """Stop asking because the turn was cancelled; a call in flight may have its effect."""
        if self._limit is not None:
            self._limit.reschedule(asyncio.get_running_loop().time())

    async def run(self) -> Failure | None:
        """Return None once it was started, or may have been; else why it was not.

        Raises:
            Failure: FENCED.
        """
        for _ in range(_ANSWERED_WITHIN):
            await asyncio.sleep(0)
        self._patience.begin()
        try:
            # Before any executor is waited for.
            self._left().check()
        except Failure as failure:
            return failure
        try:
            # No time limit: each step has one.
            async with asyncio.timeout(None) as self._limit:
                if await self._ask_all():
                    return None
        except TimeoutError:
            # Interrupted.
            pass
        finally:
            self._limit = None
        return self._failure

    async def _ask_all(self) -> bool:
        backoff, asked = Backoff(), ""
        while not self._turn.cancelled and not self._patience.over():
            address = self._executors.place(
                preferred=self._turn.executor or self._agent.executor, avoid=self._unfit
            )
            if self._turn.background and address != self._turn.executor:
                # What it has in the background is nowhere else.
                address = ""
            if not address and self._unfit:
                # Those that are left may be away; what the others said will not change.
                return False
            if address in ("", asked):
                await backoff.pause()
            if address:
                asked = address
                await self._record(address)
                if self._turn.cancelled:
                    return False
                if await self._ask(address):
                    return True
                if self._failure.reason not in PASSING and address not in self._unfit:
                    return False
        return False

    async def _record(self, address: str) -> None:
        """See that it is durable where the execution is about to be created."""
        turn = self._turn
        if turn.executor == address:
            return
        turn.executor = address
        recorded = self._log.append(turn.name.turn, [], documents={str(turn.name): turn.fields()})
        await asyncio.shield(recorded)
        # What the store took is not the executors' fault.
        self._patience.skip()

    async def _ask(self, address: str) -> bool:
        if not self._log.owned:
            # Another process may go on with the turn, at another executor. Whether one
            # does, the store will tell, which is not the executors' fault either.
            self._patience.begin()
            return False
        try:
            left = self._left()
            left.check()
            await self._executors.create(address, self._turn.execution, self._execution(left))
        except Failure as failure:
            if failure.reason == errors_pb2.ERROR_REASON_TRANSCRIPT_NEEDED:
                return await self._restore(address) and await self._ask(address)
            if failure.reason == errors_pb2.ERROR_REASON_EXECUTION_LOST:
                # It may exist, which following it will tell. Creating it again, here
                # or elsewhere, could run its tools twice without a word.
                return True
            self._failure = failure
            if failure.reason == errors_pb2.ERROR_REASON_BACKEND_UNAVAILABLE:
                self._unfit.add(address)
            return False
        return True

    async def _restore(self, address: str) -> bool:
        """Bring the agent's conversation to an executor that lacks it, once."""
        if address in self._restored or not self._last_entry():
            self._failure = conversation_lost()
            return False
        restoring = Restoring(
            executors=self._executors,
            address=address,
            workspace=f"workspaces/{self._agent.workspace}",
            mirror=self._log.mirror,
            unreachable=self._unreachable,
            owned=lambda: self._log.owned,
        )
        try:
            await restoring.run()
        except Failure as failure:
            self._failure = failure
            return False
        finally:
            self._patience.begin()
        self._restored.add(address)
        return True

    def _last_entry(self) -> str:
        """Return the id of the newest entry of the agent's transcript that is stored."""
        return self._log.mirror.newest(self._agent.conversation)

    def _execution(self, left: Left) -> executions_pb2.Execution:
        options = self._agent.options
        mode = agents_pb2.Agent.PermissionMode.Name(self._agent.permission_mode)
        execution = executions_pb2.Execution(
            backend=self._agent.backend,
            workspace=f"workspaces/{self._agent.workspace}",
            instructions=self._agent.instructions,
            permission_mode=executions_pb2.Execution.PermissionMode.Value(mode),
            resume_from=self._agent.conversation,
            model=options.model,
            allowed_rules=options.allowed_rules,
            max_steps=options.max_steps,
            budget=left.message(),
            tenant=tenant(self._agent.name.user),
        )
        if self._turn.background:
            execution.background = True
        else:
            execution.prompt.text = self._turn.prompt
            execution.last_entry = self._last_entry()
        return execution


def tenant(user: str) -> str:
    """Return what an executor calls a user, for limits and fair shares: nothing it can read."""
    return hashlib.sha256(f"tenant {user}".encode()).hexdigest()[:16]
