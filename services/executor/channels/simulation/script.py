"""The steps of the simulated agent's scripts. Does not know how they are written or performed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

PREFIX = "/sim "
"""What a line of a script starts with. Other lines of a script are remarks."""

SEPARATOR = " ;; "
"""Between the steps of a sub-agent."""

FAILURES = (
    "auth",
    "forbidden",
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

STATUSES = (0, 429, 500, 529)
"""What `/sim retry` can fail with for a while; 0 is a lost connection."""


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


@dataclass(frozen=True, slots=True)
class Bash:
    """A tool call that runs a command."""

    command: str


@dataclass(frozen=True, slots=True)
class Edit:
    """A tool call that replaces a part of a file, which occurs once in it."""

    path: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Fill:
    """A tool call that writes a file of so many times the letter x."""

    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Question:
    """A question to the user, with answers to choose from."""

    text: str
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan that the user is to allow."""

    text: str


@dataclass(frozen=True, slots=True)
class Task:
    """A sub-agent. Its prompt is a script again."""

    prompt: str


@dataclass(frozen=True, slots=True)
class Background:
    """A command left in the background; when it ends, the agent says so in a turn of its own.

    Attributes:
        pause_ms: How long it takes.
        text: What the agent says then.
    """

    pause_ms: int
    text: str


@dataclass(frozen=True, slots=True)
class Parallel:
    """The next `count` steps are tool calls of one message."""

    count: int


@dataclass(frozen=True, slots=True)
class Retry:
    """The provider fails for a while, and then goes on.

    Attributes:
        times: How often.
        status: One of `STATUSES`.
    """

    times: int
    status: int


@dataclass(frozen=True, slots=True)
class Silence:
    """The provider says nothing until somebody hangs up, and then goes on."""


@dataclass(frozen=True, slots=True)
class Error:
    """Text that an error of the provider cuts short; it stays, and the agent goes on."""

    text: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """The model refuses to go on, which ends the turn.

    Attributes:
        text: What it had said of that message; may be empty.
    """

    text: str


@dataclass(frozen=True, slots=True)
class Unstreamed:
    """Text that comes whole, without fragments."""

    text: str


@dataclass(frozen=True, slots=True)
class Fallback:
    """The model is overloaded until another one takes its place."""


@dataclass(frozen=True, slots=True)
class Compact:
    """The conversation has become so long that the agent shortens its memory of it."""


@dataclass(frozen=True, slots=True)
class Recall:
    """One message with what the user asked before in this conversation."""


Step: TypeAlias = (
    Say | Stream | Think | Write | Read | Ask | Sleep | Usage | Fail | Crash | Hang | Retract
    | Bash | Edit | Fill | Question | Plan | Task | Background | Parallel | Retry | Silence
    | Error | Refuse | Unstreamed | Fallback | Compact | Recall
)  # fmt: skip
