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
from moorline.cli.views import printable, shorten


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
        invocation.write(f"{event.sequence:>6}  {time}  {describe(event)}\n")


def describe(event: moorline.StoredEvent) -> str:
    """An event on one line; messages whole."""
    line = _LINES.get(type(event))
    return line(event) if line else type(event).__name__


def _outcome(event: moorline.TurnOutcome) -> str:
    why = f": {event.error}" if event.error else ""
    return f"■ {event.state.value}{why}"


def _decision(event: moorline.PermissionDecision) -> str:
    return f"{'allowed' if event.allowed else 'refused'} ({event.decider.value})"


_LINES: Mapping[type[moorline.StoredEvent], Callable[[Any], str]] = MappingProxyType(
    {
        moorline.UserMessage: lambda event: f"> {printable(event.text)}",
        moorline.Message: lambda event: printable(event.text),
        moorline.Thought: lambda event: f"✻ {shorten(event.text)}",
        moorline.ToolCall: lambda event: f"● {event.tool_name} {shorten(event.input_json)}",
        moorline.ToolResult: (
            lambda event: f"⎿ {'failed: ' if event.failed else ''}{shorten(event.output)}"
        ),
        moorline.AsyncPermissionRequest: (
            lambda event: f"? {event.tool_name} {shorten(event.input_json)}"
        ),
        moorline.PermissionDecision: _decision,
        moorline.TurnAttempt: lambda event: f"attempt {event.attempt}",
        moorline.ProviderRetry: lambda event: f"retry {event.attempt}/{event.attempts}",
        moorline.ModelFallback: lambda event: f"{event.from_model} → {event.to_model}",
        moorline.Compaction: lambda event: f"memory shortened ({event.tokens_before} tokens)",
        moorline.FilesChanged: (
            lambda event: f"± {shorten(', '.join(change.path for change in event.changes))}"
        ),
        moorline.BackgroundWork: lambda event: f"background: {shorten(event.description)}",
        moorline.TurnOutcome: _outcome,
        moorline.UnknownEvent: lambda event: f"{event.kind or 'unknown'} (new kind)",
    }
)
