"""`moorline -p`: one prompt, its answer, an exit code.

Knows the options of the command and nothing of how a turn is shown.
"""

from __future__ import annotations

import re
import select
import stat
from collections.abc import Awaitable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from os import fstat
from typing import TextIO, TypeVar

import moorline
from moorline.cli.deciding import Ask, Decisions
from moorline.cli.exits import Exit
from moorline.cli.following import TurnFollower
from moorline.cli.invocation import Invocation, Output, WrongUsage
from moorline.cli.memory import Memory
from moorline.cli.views import JsonLinesView, JsonView, PipedView, View

T = TypeVar("T")

# Longer silence on a pipe is worth a word; it is still read to its end, since
# going on without it would drop what a slow program has to say.
_STDIN_NOTICE_SECONDS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The options of `moorline -p`.

    Attributes:
        prompt: What to ask.
        agent: Id of the agent to ask; None for the last one, or a new one.
        new: True for a new agent.
        backend: What runs a new agent's turns.
        permission_mode: What the agent may do without asking; None to leave it.
        allow: Tools allowed without asking.
        deny: Tools refused without asking.
        no_input: True to ask nobody.
        limit: Longest the turn may take.
        detach: True to leave the turn to itself.
        stop_on_exit: True to cancel the turn when it is left before its end.
        deltas: True to write text while it is written, with `-o jsonl`.
    """

    prompt: str = ""
    agent: str | None = None
    new: bool = False
    backend: str = ""
    permission_mode: moorline.PermissionMode | None = None
    allow: frozenset[str] = frozenset()
    deny: frozenset[str] = frozenset()
    no_input: bool = False
    limit: timedelta | None = None
    detach: bool = False
    stop_on_exit: bool = False
    deltas: bool = False


async def ask(client: moorline.AsyncClient, invocation: Invocation, question: Question) -> Exit:
    """Send the prompt, show what comes, and say how it went."""
    memory = Memory(client, invocation.environ)
    found = await _find_agent(client, invocation, memory, question)
    agent = found or await _create_agent(client, invocation, question)

    async def accepted(sending: Awaitable[T]) -> T:
        kept = True
        try:
            return await sending
        except moorline.InvalidRequestError:
            if found is None:
                # Nobody asked for an agent that is never spoken to.
                await agent.delete()
                invocation.say("agent.deleted", agent=agent.id)
                kept = False
            raise
        finally:
            if kept:
                memory.keep(agent)

    if question.detach:
        return _detach(invocation, await accepted(agent.send(question.prompt)))
    decisions = Decisions(
        invocation=invocation,
        allow=question.allow,
        deny=question.deny,
        ask=_asker(invocation, question),
    )
    follower = TurnFollower(
        client=client,
        invocation=invocation,
        view=make_view(invocation, deltas=question.deltas),
        decisions=decisions,
        limit=question.limit,
        stop_on_exit=question.stop_on_exit,
    )
    async with AsyncExitStack() as stack:
        running = stack.enter_async_context(agent.run(question.prompt))
        return await follower.follow(await accepted(running))


async def pick_agent(
    client: moorline.AsyncClient, invocation: Invocation, memory: Memory, question: Question
) -> moorline.AsyncAgent:
    """The agent meant: the one named, the last one, or a new one."""
    found = await _find_agent(client, invocation, memory, question)
    return found or await _create_agent(client, invocation, question)


async def _find_agent(
    client: moorline.AsyncClient, invocation: Invocation, memory: Memory, question: Question
) -> moorline.AsyncAgent | None:
    if question.new and question.agent:
        raise WrongUsage(invocation.texts("usage.conflict", first="--new", second="--agent"))
    found: moorline.AsyncAgent | None = None
    if question.agent:
        found = await client.agents.get(question.agent)
    elif not question.new:
        found = await memory.last()
    if found is None:
        return None
    mode = question.permission_mode
    if question.backend and question.backend != found.backend:
        raise WrongUsage(invocation.texts("usage.backend"))
    if mode is not None and mode is not found.permission_mode:
        found = await found.update(permission_mode=mode)
    return found


async def _create_agent(
    client: moorline.AsyncClient, invocation: Invocation, question: Question
) -> moorline.AsyncAgent:
    agent = await client.agents.create(
        backend=question.backend,
        permission_mode=question.permission_mode or moorline.PermissionMode.ASK,
    )
    invocation.say("agent.created", agent=agent.id)
    return agent


def make_view(invocation: Invocation, *, deltas: bool = False) -> View:
    """The view that fits the output asked for and where it goes."""
    if invocation.output is Output.JSONL:
        return JsonLinesView(invocation, deltas=deltas)
    if invocation.output is Output.JSON:
        return JsonView(invocation)
    if not invocation.surroundings.stdout.isatty():
        return PipedView(invocation)
    # Not before it is needed: Rich takes as long to import as all the rest.
    from moorline.cli.terminal import TerminalView  # noqa: PLC0415

    return TerminalView(invocation)


def read_prompt(invocation: Invocation, given: str | None) -> str:
    """The prompt, with what is piped in below it.

    Args:
        invocation: Where to read.
        given: What `-p` says; `-` or None for only what is piped in.

    Raises:
        WrongUsage: There is neither.
    """
    piped = read_piped(invocation) if given in {None, "-"} or not _terminal(invocation) else ""
    parts = [given if given not in {None, "-"} else "", piped]
    prompt = "\n\n".join(part for part in parts if part)
    if not prompt.strip():
        raise WrongUsage(invocation.texts("usage.prompt"))
    return prompt


def read_piped(invocation: Invocation) -> str:
    """Everything on standard input when it is a file or a pipe; else nothing."""
    stdin = invocation.surroundings.stdin
    mode = _file_mode(stdin)
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return ""
    # Not every system can wait for a pipe.
    with suppress(OSError):
        if not select.select([stdin], [], [], _STDIN_NOTICE_SECONDS)[0]:
            invocation.say("stdin.waiting")
    return stdin.read().rstrip("\n")


def parse_limit(invocation: Invocation, text: str | None) -> timedelta | None:
    """Read `90s`, `10m` or `1h`.

    Raises:
        WrongUsage: It is none of these.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h)?", text)
    if found is None or float(found[1]) <= 0:
        raise WrongUsage(invocation.texts("usage.duration", value=text))
    units = {"ms": 0.001, None: 1, "s": 1, "m": 60, "h": 3600}
    return timedelta(seconds=float(found[1]) * units[found[2]])


def _asker(invocation: Invocation, question: Question) -> Ask | None:
    if question.no_input or not invocation.attended:
        return None
    from moorline.cli.prompting import Prompter  # noqa: PLC0415

    return Prompter(invocation).ask


def _detach(invocation: Invocation, turn: moorline.AsyncTurn) -> Exit:
    agent = turn.agent.rpartition("/")[2]
    if invocation.output is Output.TEXT:
        invocation.write(f"{turn.id}\n")
    else:
        invocation.write_json({"turn": turn.name})
    invocation.say("detached", turn=turn.id, agent=agent)
    return Exit.OK


def _terminal(invocation: Invocation) -> bool:
    return invocation.surroundings.stdin.isatty()


def _file_mode(stream: TextIO) -> int:
    try:
        return fstat(stream.fileno()).st_mode
    except (OSError, ValueError):
        return 0
