"""The simulated agent's scripts: prompts whose lines start with `/sim `, taken apart.

Does not know how a step is performed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

PREFIX = "/sim "
"""What a line of a script starts with. Other lines of a script are remarks."""

FAILURES = (
    "auth",
    "rate_limited",
    "overloaded",
    "provider",
    "provider_unreachable",
    "bad_request",
    "max_turns",
    "budget_exhausted",
    "session_lost",
)
"""What `/sim fail` can fail with."""

_WORDS_LIMIT = 10_000_000
_PAUSE_LIMIT_MS = 3_600_000
_INT32_MAX = 2**31 - 1
_HANGUL = re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]")


class ScriptError(ValueError):
    """Raised when a script cannot be understood; the text is for the person who wrote it."""


@dataclass(frozen=True, slots=True)
class Say:
    """One message, word by word, without pause."""

    text: str


@dataclass(frozen=True, slots=True)
class Stream:
    """One message `w1 w2 … wN`, one word a fragment.

    Attributes:
        count: Words.
        pause_ms: Milliseconds from one word to the next; 0 for as fast as it goes.
        clock: Each word is the time instead, in whole microseconds since the epoch.
    """

    count: int
    pause_ms: int
    clock: bool


@dataclass(frozen=True, slots=True)
class Think:
    """One piece of reasoning."""

    text: str


@dataclass(frozen=True, slots=True)
class Write:
    """A tool call that writes a file of the workspace."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Read:
    """A tool call that reads a file of the workspace."""

    path: str


@dataclass(frozen=True, slots=True)
class Ask:
    """A tool call that needs permission."""

    tool: str
    text: str


@dataclass(frozen=True, slots=True)
class Sleep:
    """Nothing, for a number of milliseconds."""

    pause_ms: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What the turn's result reports.

    Attributes:
        input_tokens: Tokens read.
        output_tokens: Tokens written.
        cost_usd_micros: Millionths of a dollar.
    """

    input_tokens: int
    output_tokens: int
    cost_usd_micros: int


@dataclass(frozen=True, slots=True)
class Fail:
    """The end of the turn, for one of `FAILURES`."""

    reason: str


@dataclass(frozen=True, slots=True)
class Crash:
    """The process dies."""


@dataclass(frozen=True, slots=True)
class Hang:
    """The process says nothing any more and reacts to nothing."""


@dataclass(frozen=True, slots=True)
class Retract:
    """Text that is streamed and then given up, as after a broken stream."""

    text: str


Step: TypeAlias = (
    Say | Stream | Think | Write | Read | Ask | Sleep | Usage | Fail | Crash | Hang | Retract
)


def steps_of(prompt: str) -> list[Step]:
    """Return what the simulated agent does for a prompt.

    A prompt that is no script is answered with one message that repeats it; so is one that
    cannot be understood, with what is wrong and the list of steps.

    Args:
        prompt: The user's words.
    """
    lines = [line for line in prompt.split("\n") if line.startswith(PREFIX)]
    if not lines:
        return [Say(_reply(prompt))]
    try:
        return [_step(line) for line in lines]
    except ScriptError as error:
        usages = "\n".join(f"- `{PREFIX}{usage}`" for usage, _ in _STEPS.values())
        return [Say(f"{error}\n\nThe steps are:\n\n{usages}")]


def _reply(prompt: str) -> str:
    if _HANGUL.search(prompt):
        return f"Claude Code CLI가 Kubernetes 환경에서 실행 중입니다.\n\n사용자 메시지: {prompt}"
    return (
        f"The Claude Code CLI is running in the Kubernetes environment.\n\nUser message: {prompt}"
    )


def _step(line: str) -> Step:
    word, _, rest = line.removeprefix(PREFIX).strip().partition(" ")
    if word not in _STEPS:
        raise ScriptError(f"There is no step `{word}`." if word else "A step is missing.")
    usage, parse = _STEPS[word]
    try:
        return parse(rest.strip())
    except ValueError as error:
        raise ScriptError(f"This is not `{PREFIX}{usage}`: `{line.strip()}`.") from error


def _number(text: str, maximum: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) > maximum:
        raise ScriptError(text)
    return int(text)


def _text(rest: str) -> str:
    if not rest:
        raise ScriptError(rest)
    return rest


def _two(rest: str) -> tuple[str, str]:
    first, space, second = rest.partition(" ")
    if not first or not space:
        raise ScriptError(rest)
    return first, second


def _stream(rest: str, *, clock: bool) -> Step:
    count, pause = rest.split()
    words = _number(count, _WORDS_LIMIT)
    if words == 0:
        raise ScriptError(rest)
    return Stream(words, _number(pause, _PAUSE_LIMIT_MS), clock)


def _usage(rest: str) -> Step:
    read, written, micros = (_number(part, _INT32_MAX) for part in rest.split())
    return Usage(read, written, micros)


def _fail(rest: str) -> Step:
    if rest not in FAILURES:
        raise ScriptError(rest)
    return Fail(rest)


def _alone(step: Step, rest: str) -> Step:
    if rest:
        raise ScriptError(rest)
    return step


_STEPS: dict[str, tuple[str, Callable[[str], Step]]] = {
    "say": ("say TEXT", lambda rest: Say(_text(rest))),
    "stream": ("stream N MS", lambda rest: _stream(rest, clock=False)),
    "clock": ("clock N MS", lambda rest: _stream(rest, clock=True)),
    "think": ("think TEXT", lambda rest: Think(_text(rest))),
    "write": ("write PATH TEXT", lambda rest: Write(*_two(rest))),
    "read": ("read PATH", lambda rest: Read(_text(rest))),
    "ask": ("ask TOOL TEXT", lambda rest: Ask(*_two(rest))),
    "sleep": ("sleep MS", lambda rest: Sleep(_number(rest, _PAUSE_LIMIT_MS))),
    "usage": ("usage INPUT OUTPUT MICROS", _usage),
    "fail": (f"fail {'|'.join(FAILURES)}", _fail),
    "crash": ("crash", lambda rest: _alone(Crash(), rest)),
    "hang": ("hang", lambda rest: _alone(Hang(), rest)),
    "retract": ("retract TEXT", lambda rest: Retract(_text(rest))),
}
