"""Shows a turn: as text for a pipe, as JSON for a program.

The answer goes to standard output, everything else to standard error. Knows
events, and not where they come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import moorline
from moorline.cli.invocation import Invocation
from moorline.turn_stream import join_messages

_LINE = 160


class View(Protocol):
    """Shows one turn."""

    def show(self, event: moorline.AsyncEvent) -> None:
        """Show an event; called for each, in order."""
        ...

    def pause(self) -> None:
        """Leave the screen to others, until the next event."""
        ...

    def end(self, result: moorline.TurnResult) -> None:
        """Show what came of the turn; called once, after its last event."""
        ...


class PipedView:
    """Whole messages to standard output, a line for all else to standard error.

    A message is written when it is complete: text taken back never gets into a
    pipe.
    """

    def __init__(self, invocation: Invocation) -> None:
        self._invocation = invocation
        self._written: list[moorline.Message] = []

    def show(self, event: moorline.AsyncEvent) -> None:
        """See `View`."""
        if isinstance(event, moorline.Message) and not event.parent_tool_call_id:
            before = join_messages(self._written)
            self._written.append(event)
            self._invocation.write(join_messages(self._written)[len(before) :])
        else:
            show_aside(self._invocation, event)

    def pause(self) -> None:
        """See `View`."""

    def end(self, result: moorline.TurnResult) -> None:
        """See `View`."""
        if self._written and not self._written[-1].text.endswith("\n"):
            self._invocation.write("\n")
        show_outcome(self._invocation, result.outcome)


class JsonLinesView:
    """The updates of the WebSocket, one a line; the last one is the outcome."""

    def __init__(self, invocation: Invocation, *, deltas: bool = False) -> None:
        self._invocation = invocation
        self._deltas = deltas

    def show(self, event: moorline.AsyncEvent) -> None:
        """See `View`."""
        if isinstance(event, moorline.StoredEvent) or (
            self._deltas and not isinstance(event, moorline.Checkpoint)
        ):
            self._invocation.write_json(event.raw)

    def pause(self) -> None:
        """See `View`."""

    def end(self, result: moorline.TurnResult) -> None:
        """See `View`."""


class JsonView:
    """One object at the end."""

    def __init__(self, invocation: Invocation) -> None:
        self._invocation = invocation

    def show(self, event: moorline.AsyncEvent) -> None:
        """See `View`."""

    def pause(self) -> None:
        """See `View`."""

    def end(self, result: moorline.TurnResult) -> None:
        """See `View`."""
        outcome: Mapping[str, Any] = result.outcome.raw["event"]["item"]["turnOutcome"]
        self._invocation.write_json(
            {"turn": result.turn, "text": result.text, "outcome": outcome},
        )


def show_aside(invocation: Invocation, event: moorline.AsyncEvent) -> None:
    """Tell, on standard error, what is not part of the answer."""
    match event:
        case moorline.ToolCall():
            invocation.tell(f"● {event.tool_name} {shorten(event.input_json)}")
        case moorline.ToolResult():
            mark = f"{invocation.texts('tool.failed')}: " if event.failed else ""
            invocation.tell(f"  ⎿ {mark}{shorten(event.output)}")
        case moorline.Message():
            invocation.tell(f"  ◦ {shorten(event.text)}")
        case moorline.Thought():
            invocation.tell(f"✻ {shorten(event.text)}")
        case moorline.FilesChanged():
            invocation.tell(_changes(event))
        case moorline.PermissionDecision(answers=answers) if answers:
            for question, said in answers.items():
                invocation.tell(f"  {shorten(question)} → {shorten(', '.join(said))}")
        case _:
            _say_event(invocation, event)


def _say_event(invocation: Invocation, event: moorline.AsyncEvent) -> None:
    match event:
        case moorline.TurnAttempt():
            invocation.say("attempt", attempt=event.attempt)
        case moorline.MessageDiscarded():
            invocation.say("retracted")
        case moorline.ProviderRetry():
            texts = invocation.texts
            why = texts.trouble(event.error) if event.error else texts("retry.unknown")
            seconds = event.delay.total_seconds()
            invocation.say(
                "retry", attempt=event.attempt, attempts=event.attempts, seconds=seconds, why=why
            )
        case moorline.ModelFallback():
            invocation.say("fallback", before=event.from_model, model=event.to_model)
        case moorline.Compaction():
            invocation.say("compaction", before=event.tokens_before)
        case moorline.BackgroundWork():
            invocation.say("background", what=shorten(event.description))


def _changes(event: moorline.FilesChanged) -> str:
    marks = {moorline.ChangeKind.ADDED: "+", moorline.ChangeKind.REMOVED: "−"}
    lines = [
        f"  {marks.get(change.kind, '±')} {shorten(change.path)}"
        f" +{change.added_lines} −{change.removed_lines}"
        for change in event.changes
    ]
    return "\n".join([*lines, f"  … {event.omitted_files}"] if event.omitted_files else lines)


def show_outcome(invocation: Invocation, outcome: moorline.TurnOutcome) -> None:
    """Tell, on standard error, how a turn ended and what it consumed."""
    if outcome.state is not moorline.OutcomeState.FINISHED:
        message = invocation.texts.error(outcome.error) if outcome.error else ""
        invocation.say(f"outcome.{outcome.state.value}", message=message)
    usage = outcome.usage
    if outcome.background_tasks:
        invocation.say("background.left", count=outcome.background_tasks)
    if usage != moorline.Usage():
        invocation.say(
            "cost",
            input=usage.all_input_tokens,
            output=usage.output_tokens,
            cost=usage.cost_usd,
            seconds=outcome.duration.total_seconds(),
        )


def shorten(text: str) -> str:
    """First line of a text, at most 160 characters, without control characters.

    Control characters could move the cursor or recolour a person's terminal.
    """
    line, _, rest = text.strip().partition("\n")
    clean = printable(line)
    return f"{clean[:_LINE]}…" if rest or len(clean) > _LINE else clean


def visible(text: str) -> str:
    """Text with what cannot be seen written as escapes; new lines and tabs stay.

    A command that is to be allowed must not read otherwise than it runs.
    """
    return "".join(
        char if char in "\n\t" or char.isprintable() else f"\\u{ord(char):04x}" for char in text
    )


def printable(text: str) -> str:
    """Text without what a terminal would act on; new lines and tabs stay."""
    return "".join(char for char in text if char in "\n\t" or char.isprintable())
