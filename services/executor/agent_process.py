"""An agent process that takes turns, in our words. Does not know which program it is."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto
from typing import Protocol

from moorline.executor.v1 import executions_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.executor.book import Book


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
        usage: What it consumed, as far as it is known.
        tools_running: Tool calls whose outcome is not known.
        tools_succeeded: Tool calls that went well.
        tools_failed: Tool calls that failed or were refused.
    """

    result: Result
    failure: Failure | None
    usage: transcript_pb2.Usage
    tools_running: int
    tools_succeeded: int
    tools_failed: int


class AgentProcess(Protocol):
    """One long-lived process that takes turns, one at a time.

    Everything the agent says and does goes into the book given to `begin`, except the outcome.
    """

    @property
    def alive(self) -> bool:
        """Whether it can take another turn, or take part in the running one."""
        ...

    @property
    def conversation(self) -> str:
        """Handle to continue the conversation in another process; empty while there is none."""
        ...

    async def open(self) -> None:
        """Start the process and shake hands with it. Called once; a cancel leaves nothing running.

        Raises:
            Failure: AGENT_CRASHED, AGENT_STALLED, BACKEND_UNAVAILABLE.
        """
        ...

    async def begin(self, work: Work, book: Book) -> asyncio.Future[Ending]:
        """Give it the prompt of a turn; never while another turn runs.

        Returns:
            The end of the turn. It comes even when the process dies.
        """
        ...

    async def interrupt(self) -> None:
        """Ask it to end the running turn; returns before it has. It may not react."""
        ...

    async def answer(self, permission_id: str, *, allowed: bool, reason: str) -> None:
        """Hand over a decision; one that came before, or was withdrawn, is left alone.

        Raises:
            Failure: RESOURCE_NOT_FOUND when it was never asked for.
        """
        ...

    async def close(self) -> None:
        """End the process in good order, by force when it takes too long."""
        ...

    async def kill(self) -> None:
        """End the process at once. The running turn ends with it, before this returns."""
        ...

    def quiet_for(self) -> timedelta:
        """Return how long it has owed us a word; zero while it waits for a decision or for us."""
        ...
