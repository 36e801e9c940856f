"""An agent process that takes turns, in our words. Does not know which program it is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto
from typing import Protocol

from moorline.executor.v1 import executions_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.executor.backend import Backend
from services.executor.book import Book
from services.executor.place import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a turn may cost, in millionths of a US dollar; None is no limit, 0 nothing more.

    Attributes:
        turn: The turn's own.
        agent: What is left of the agent's.
        month: What is left of the user's for this month.
    """

    turn: int | None = None
    agent: int | None = None
    month: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One attempt of a turn, as the executor was asked to run it.

    Attributes:
        execution_id: Last part of the execution's name.
        backend: Name of the backend that runs it.
        workspace: Id of the workspace.
        prompt: What the user wrote.
        instructions: Standing instructions of the agent; may be empty.
        permission_mode: What the agent may do without asking.
        resume_from: Conversation to continue; empty for a new one.
        timeout: Time allowed.
        model: Model that answers; empty for the default.
        allowed_rules: Uses of tools that need no question.
        max_steps: Answers of the model it may take; 0 for no limit.
        budget: What it may cost.
        tenant: Whose agent it is, in opaque words.
        background: Whether the agent only goes on with what it has in the background; there is
            no prompt then.
        last_entry: Id of the newest entry of the transcript that is stored; empty for none.
    """

    execution_id: str
    backend: str
    workspace: str
    prompt: str = field(repr=False)
    instructions: str = field(repr=False)
    permission_mode: executions_pb2.Execution.PermissionMode.ValueType
    resume_from: str
    timeout: timedelta
    model: str = ""
    allowed_rules: tuple[str, ...] = ()
    max_steps: int = 0
    budget: Budget = Budget()
    tenant: str = ""
    background: bool = False
    last_entry: str = ""


class Result(Enum):
    """How a turn ended, as the agent process tells it."""

    FINISHED = auto()
    INTERRUPTED = auto()
    FAILED = auto()
    DIED = auto()
    """The process is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The end of one turn.

    Attributes:
        result: How it ended.
        failure: Why; set when it failed or died.
        usage: What it consumed, as the program itself reports it.
        tools_running: Tool calls whose outcome is not known.
        tools_succeeded: Tool calls that went well.
        tools_failed: Tool calls that failed or were refused.
        background: Things the agent has started that go on in the background.
        model: The model that answered last; empty when not known.
    """

    result: Result
    failure: Failure | None
    usage: transcript_pb2.Usage
    tools_running: int
    tools_succeeded: int
    tools_failed: int
    background: int = 0
    model: str = ""


class AgentProcess(Protocol):
    """One long-lived process that takes turns, one at a time.

    Everything the agent says and does goes into the book given to `begin`, except the outcome;
    what it says between two turns goes into the next one's. So does what its transcript has grown
    by.

    A process that was made for a survivor is not opened: `adopt` takes the place of `open` and
    `begin`.
    """

    @property
    def alive(self) -> bool:
        """Whether it can take another turn, or take part in the running one."""
        ...

    @property
    def conversation(self) -> str:
        """Handle to continue the conversation in another process; empty while there is none."""
        ...

    @property
    def background(self) -> int:
        """How many things go on in the background; they end with the process."""
        ...

    @property
    def turns(self) -> int:
        """How many turns have begun so far."""
        ...

    @property
    def model(self) -> str:
        """The model that answered last; empty while none has."""
        ...

    async def open(self) -> None:
        """Start the process and shake hands with it. Called once; a cancel leaves nothing running.

        Raises:
            Failure: AGENT_CRASHED, AGENT_STALLED, BACKEND_UNAVAILABLE.
        """
        ...

    def fits(self, work: Work) -> bool:
        """Tell whether it can take an execution.

        It lives, continues the same conversation, and differs from what the execution asks for
        in nothing but what `begin` can change, such as mode and model.
        """
        ...

    async def begin(self, work: Work, book: Book) -> asyncio.Future[Ending]:
        """Give it the prompt of a turn; never while another turn runs.

        The prompt waits for what the agent is saying by itself, for a bounded time.

        Returns:
            The end of the turn. It comes even when the process dies.
        """
        ...

    async def attend(self, work: Work, book: Book) -> asyncio.Future[Ending]:
        """Record what it says by itself, without a prompt; never while a turn runs.

        Returns:
            The end of that: FINISHED when it is idle and nothing is left in the background, or
            soon after `interrupt`, which touches neither the work nor the process.
        """
        ...

    async def adopt(self, work: Work, book: Book) -> asyncio.Future[Ending]:
        """Take over a turn, or an attendance, that another executor began in a survivor.

        The book gets the same items under the same numbers as the other executor's. Permission
        requests come again under the same ids. Answers that were given before may be given
        again. A prompt that never reached the process is given to it.

        Returns:
            As `begin` or `attend`.

        Raises:
            Failure: EXECUTION_LOST; nothing is running then.
        """
        ...

    async def interrupt(self) -> None:
        """Ask it to end the running turn; returns before it has. It may not react."""
        ...

    async def answer(self, decision: transcript_pb2.PermissionDecision) -> None:
        """Hand over a decision; one that came before, or was withdrawn, is left alone.

        Raises:
            Failure: RESOURCE_NOT_FOUND when it was never asked for; FIELD_INVALID when it allows
                what cannot be allowed, such as a request that is not whole.
        """
        ...

    async def close(self) -> None:
        """End the process in good order, by force when it takes too long."""
        ...

    async def kill(self) -> None:
        """End the process at once. The running turn ends with it, before this returns."""
        ...

    def quiet_for(self) -> timedelta:
        """Return how long it has owed us a word.

        Zero while it waits for a decision, for us, or for the provider's next try, and while it is
        attended and idle.
        """
        ...

    async def memory(self) -> int | None:
        """Return the bytes it takes with all it started; None when nobody knows."""
        ...


class AgentProcesses(Protocol):
    """Makes agent processes."""

    def make(
        self, work: Work, backend: Backend, place: Place, environment: Mapping[str, str]
    ) -> AgentProcess:
        """Return a process that can take the execution's turn once it is open.

        Args:
            work: The execution.
            backend: Where it is to run.
            place: What the agent has; exists.
            environment: How the process reaches the model, see `model_proxy`.

        Raises:
            Failure: BACKEND_UNAVAILABLE.
        """
        ...

    def survivor(self, work: Work, backend: Backend, place: Place) -> AgentProcess:
        """Return a process that outlived its executor, for `AgentProcess.adopt`.

        Args:
            work: The execution that it was running.
            backend: Where it runs.
            place: What the agent has.
        """
        ...
