"""`moorline logs`: an agent's history, and what is added to it.

Shows events one by one; knows no turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import moorline
from moorline.cli.exits import Exit
from moorline.cli.invocation import Invocation, Output
from moorline.cli.language import Texts
from moorline.cli.views import printable, shorten

_INDENT = 18
"""Columns before what an event says."""


async def show_log(
    agent: moorline.AsyncAgent,
    invocation: Invocation,
    *,
    after: int,
    follow: bool,
    deltas: bool,
) -> Exit:
    """Write an agent's events, and with `follow` go on until Ctrl-C."""
    if not follow:
        past = await agent.history(after=after)
        if invocation.output is Output.JSON:
            invocation.write_json([event.raw["event"] for event in past])
        else:
            for fact in past:
                _write(invocation, fact)
        return Exit.OK
    async with agent.events(after=after, deltas=deltas) as stream:
        async for event in stream:
            _write(invocation, event, deltas=deltas)
    return Exit.OK


def _write(invocation: Invocation, event: moorline.AsyncEvent, *, deltas: bool = False) -> None:
    if invocation.output is not Output.TEXT:
        if isinstance(event, moorline.StoredEvent) or (
            deltas and not isinstance(event, moorline.Checkpoint)
        ):
            invocation.write_json(event.raw)
    elif isinstance(event, moorline.StoredEvent):
        time = f"{event.create_time.astimezone():%H:%M:%S}"
        line = describe(event, invocation.texts).replace("\n", f"\n{' ' * _INDENT}")
        invocation.write(f"{event.sequence:>6}  {time}  {line}\n")


def describe(event: moorline.StoredEvent, texts: Texts) -> str:
    """An event in words; messages whole, everything else on one line."""
    line = _LINES.get(type(event))
    return line(event, texts) if line else type(event).__name__


def _result(event: moorline.ToolResult, texts: Texts) -> str:
    mark = f"{texts('tool.failed')}: " if event.failed else ""
    return f"⎿ {mark}{shorten(event.output)}"


def _outcome(event: moorline.TurnOutcome, texts: Texts) -> str:
    why = f": {texts.error(event.error)} [{event.error.reason}]" if event.error else ""
    return f"■ {texts(f'log.{event.state.value}')}{why}"


def _decision(event: moorline.PermissionDecision, texts: Texts) -> str:
    who = texts(f"decider.{event.decider.value}")
    return texts("log.allowed" if event.allowed else "log.refused", who=who)


_LINES: Mapping[type[moorline.StoredEvent], Callable[[Any, Texts], str]] = MappingProxyType(
    {
        moorline.UserMessage: lambda event, _: f"> {printable(event.text)}",
        moorline.Message: lambda event, _: printable(event.text),
        moorline.Thought: lambda event, _: f"✻ {shorten(event.text)}",
        moorline.ToolCall: lambda event, _: f"● {event.tool_name} {shorten(event.input_json)}",
        moorline.ToolResult: _result,
        moorline.AsyncPermissionRequest: (
            lambda event, _: f"? {event.tool_name} {shorten(event.input_json)}"
        ),
        moorline.PermissionDecision: _decision,
        moorline.TurnAttempt: lambda event, texts: texts("log.attempt", attempt=event.attempt),
        moorline.ProviderRetry: (
            lambda event, texts: texts("log.retry", attempt=event.attempt, attempts=event.attempts)
        ),
        moorline.ModelFallback: lambda event, _: f"{event.from_model} → {event.to_model}",
        moorline.Compaction: (lambda event, texts: texts("log.memory", tokens=event.tokens_before)),
        moorline.FilesChanged: (
            lambda event, _: f"± {shorten(', '.join(change.path for change in event.changes))}"
        ),
        moorline.BackgroundWork: (
            lambda event, texts: texts("log.background", what=shorten(event.description))
        ),
        moorline.TurnOutcome: _outcome,
        moorline.UnknownEvent: (
            lambda event, texts: texts("log.new", kind=event.kind or texts("log.unknown"))
        ),
    }
)
