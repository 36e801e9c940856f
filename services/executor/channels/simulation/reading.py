"""Takes the simulated agent's scripts apart: prompts whose lines start with `/sim `.

Does not know how a step is performed.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from services.executor.channels.simulation.script import (
    FAILURES,
    PREFIX,
    SEPARATOR,
    STATUSES,
    Ask,
    Background,
    Bash,
    Compact,
    Crash,
    Edit,
    Error,
    Fail,
    Fallback,
    Fill,
    Hang,
    Parallel,
    Plan,
    Question,
    Read,
    Recall,
    Refuse,
    Retract,
    Retry,
    Say,
    ScriptError,
    Silence,
    Sleep,
    Step,
    Stream,
    Task,
    Think,
    Unstreamed,
    Usage,
    Write,
)

_WORDS_LIMIT = 10_000_000
_BYTES_LIMIT = 8 << 20
_TIMES_LIMIT = 10
_PAUSE_LIMIT_MS = 3_600_000
_INT32_MAX = 2**31 - 1
_HANGUL = re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]")


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


def _broken(text: str) -> str:
    return _text(text).replace("\\n", "\n")


def _edit(rest: str) -> Step:
    path, change = _two(rest)
    old, arrow, new = _broken(change).partition("=>")
    if not old or not arrow or old == new:
        raise ScriptError(rest)
    return Edit(path, old, new)


def _fill(rest: str) -> Step:
    path, size = _two(rest)
    return Fill(path, _number(size, _BYTES_LIMIT))


def _question(rest: str) -> Step:
    text, mark, answers = rest.partition("?")
    options = tuple(answer.strip() for answer in answers.split("|"))
    if not text or not mark or not all(options) or not 2 <= len(set(options)) == len(options) <= 4:
        raise ScriptError(rest)
    return Question(f"{text}?", options)


def _task(rest: str) -> Step:
    lines = [f"{PREFIX}{step.strip()}" for step in _text(rest).split(SEPARATOR)]
    for line in lines:
        if isinstance(_step(line), Task | Background | Question | Plan | Crash | Hang):
            raise ScriptError(rest)
    return Task("\n".join(lines))


def _background(rest: str) -> Step:
    pause, text = _two(rest)
    return Background(_number(pause, _PAUSE_LIMIT_MS), text)


def _retry(rest: str) -> Step:
    times, status = (_number(part, 999) for part in rest.split())
    if not 1 <= times <= _TIMES_LIMIT or status not in STATUSES:
        raise ScriptError(rest)
    return Retry(times, status)


def _parallel(rest: str) -> Step:
    count = _number(rest, _TIMES_LIMIT)
    if count == 0:
        raise ScriptError(rest)
    return Parallel(count)


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
    "bash": ("bash COMMAND", lambda rest: Bash(_text(rest))),
    "edit": ("edit PATH OLD=>NEW", _edit),
    "fill": ("fill PATH BYTES", _fill),
    "question": ("question TEXT? ANSWER|ANSWER", _question),
    "plan": ("plan MARKDOWN", lambda rest: Plan(_broken(rest))),
    "task": (f"task STEP{SEPARATOR}STEP", _task),
    "background": ("background MS TEXT", _background),
    "parallel": ("parallel N", _parallel),
    "retry": (f"retry N {'|'.join(map(str, STATUSES))}", _retry),
    "silence": ("silence", lambda rest: _alone(Silence(), rest)),
    "error": ("error TEXT", lambda rest: Error(_text(rest))),
    "refuse": ("refuse TEXT", Refuse),
    "unstreamed": ("unstreamed TEXT", lambda rest: Unstreamed(_text(rest))),
    "fallback": ("fallback", lambda rest: _alone(Fallback(), rest)),
    "compact": ("compact", lambda rest: _alone(Compact(), rest)),
    "recall": ("recall", lambda rest: _alone(Recall(), rest)),
}
