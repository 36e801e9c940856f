"""Which answers of a model a script makes. Does not know how they are sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from services.executor.channels.simulation import script
from services.executor.channels.simulation.script import Step

ENDLESS = frozenset({"max_turns", "budget_exhausted"})
"""Failures that no provider makes: the script only gives the program reason enough."""

COSTLY_TOKENS = 20_000
"""Tokens of an answer that is to use up a budget."""
LONG_TOKENS = 1_000_000
"""Tokens of a conversation that is to be summed up."""


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call.

    Attributes:
        tool: The tool's name.
        tool_input: Its arguments.
    """

    tool: str
    tool_input: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """One message of the model.

    Attributes:
        troubles: What happens to the attempts before the one that succeeds, each once.
        parts: What is said, and how.
        calls: The tools that are called in the end.
        failure: Why there is no answer, one of `script.FAILURES`; empty when there is one.
    """

    troubles: tuple[Step, ...] = ()
    parts: tuple[Step, ...] = ()
    calls: tuple[Call, ...] = ()
    failure: str = ""

    @property
    def whole(self) -> bool:
        """Whether it is given only to a request without streaming."""
        return any(isinstance(part, script.Unstreamed) for part in self.parts)

    @property
    def broken(self) -> bool:
        """Whether an error ends it."""
        return bool(self.parts) and isinstance(self.parts[-1], script.Error)

    @property
    def stop_reason(self) -> str:
        """Why the model says no more, in the provider's words."""
        if self.parts and isinstance(self.parts[-1], script.Refuse):
            return "refusal"
        return "tool_use" if self.calls else "end_turn"


def with_plan_file(due: Answer, path: str) -> Answer:
    """Return an answer whose plan is first written where the program looks for it.

    Args:
        due: Any answer.
        path: Where that is; empty when it is not known.
    """
    calls: list[Call] = []
    for call in due.calls:
        if call.tool == "ExitPlanMode" and path:
            plan = {"file_path": path, "content": call.tool_input["plan"]}
            calls += [Call("Write", plan), Call("ExitPlanMode", {})]
        else:
            calls.append(call)
    return replace(due, calls=tuple(calls))


def answer(steps: Sequence[Step], index: int) -> Answer:
    """Return the answer that a script gives at a place, counted from 0.

    A message without a tool call ends a turn of the real program. So what is said, and the tool
    call after it, are one message here.
    """
    answers = _answers(steps)
    if index < len(answers):
        return answers[index]
    if answers and answers[-1].failure in ENDLESS:
        return answers[-1]
    # The program takes no silence for an answer.
    return Answer(parts=(script.Say("Done."),))


class _Writing:
    """The answer that is being put together, and those before it."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.together = 1
        self._troubles: list[Step] = []
        self._parts: list[Step] = []
        self._calls: list[Call] = []

    def trouble(self, step: Step) -> None:
        times = step.times if isinstance(step, script.Retry) else 1
        self._troubles += [step] * times

    def part(self, step: Step) -> None:
        self._parts.append(step)

    def call(self, call: Call) -> None:
        self._calls.append(call)
        if len(self._calls) == self.together:
            self.end()

    def fail(self, reason: str) -> None:
        if reason in ENDLESS:
            self._calls.append(_NOTHING)
        self.end(reason)

    def end(self, failure: str = "") -> None:
        if self._troubles or self._parts or self._calls or failure:
            said = (tuple(self._troubles), tuple(self._parts), tuple(self._calls))
            self.answers.append(Answer(*said, failure))
        self._troubles, self._parts, self._calls, self.together = [], [], [], 1


def _answers(steps: Sequence[Step]) -> list[Answer]:
    writing = _Writing()
    for step in steps:
        match step:
            case script.Parallel(count):
                writing.together = count
            case script.Retry() | script.Retract() | script.Silence() | script.Fallback():
                writing.trouble(step)
            case script.Fail(reason):
                writing.fail(reason)
                return writing.answers
            case script.Compact():
                writing.part(step)
                writing.call(_NOTHING)
            case _ if type(step) in _CALLS:
                writing.call(_CALLS[type(step)](step))
            case _:
                writing.part(step)
                if isinstance(step, script.Error | script.Refuse | script.Hang):
                    writing.end()
    writing.end()
    return writing.answers


_NOTHING = Call("Bash", {"command": "echo again"})
"""Leaves no trace, and lets the turn go on."""


def _edit(step: script.Edit) -> Call:
    change = {"old_string": step.old, "new_string": step.new, "replace_all": False}
    return Call("Edit", {"file_path": step.path, **change})


def _background(step: script.Background) -> Call:
    command = f"sleep {step.pause_ms / 1000:g} && echo {len(step.text)}"
    how = {"description": step.text, "run_in_background": True}
    return Call("Bash", {"command": command, **how})


def _question(step: script.Question) -> Call:
    options = [{"label": option, "description": option} for option in step.options]
    question = {"question": step.text, "header": "Question", "options": options}
    return Call("AskUserQuestion", {"questions": [{**question, "multiSelect": False}]})


def _task(step: script.Task) -> Call:
    # By default the program leaves it in the background, and goes on.
    how = {"subagent_type": "general-purpose", "run_in_background": False}
    return Call("Agent", {"description": "task", "prompt": step.prompt, **how})


_CALLS: dict[type[Step], Callable[[Any], Call]] = {
    script.Write: lambda step: Call("Write", {"file_path": step.path, "content": step.text}),
    script.Fill: lambda step: Call("Write", {"file_path": step.path, "content": "x" * step.size}),
    script.Read: lambda step: Call("Read", {"file_path": step.path}),
    script.Bash: lambda step: Call(
        "Bash", {"command": step.command, "description": "Run a command"}
    ),
    # A command of which nobody says beforehand that it only reads.
    script.Ask: lambda step: Call(
        "Bash", {"command": "true > .asked && rm .asked && echo ok", "description": step.text}
    ),
    # With the text, until `with_plan_file` knows where it belongs.
    script.Plan: lambda step: Call("ExitPlanMode", {"plan": step.text}),
    script.Edit: _edit,
    script.Background: _background,
    script.Question: _question,
    script.Task: _task,
}
