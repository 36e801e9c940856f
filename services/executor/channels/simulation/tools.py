"""The simulated agent's tools: what each is called with, whether it asks, what it does.

Does not know the wire protocol.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from services.executor.channels.simulation import files, script
from services.executor.channels.simulation.shell import is_harmless, run_command
from services.executor.channels.simulation.stage import Stage

_Outcome: TypeAlias = tuple[str, bool]
"""What a tool gives back, and whether it failed."""
SubAgent: TypeAlias = Callable[[str, str], Awaitable[_Outcome]]
"""Plays a script, given a call and a prompt."""


class Use(NamedTuple):
    """What a tool is run for.

    Attributes:
        call: Id of the call.
        input: What it is given.
    """

    call: str
    input: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One use of a tool.

    Attributes:
        name: The tool.
        input: What it is called with.
        asks: Whether it may need permission.
        needs_user: Whether nobody but the user can permit it.
        run: Does it, given the input that was permitted.
    """

    name: str
    input: Mapping[str, Any]
    asks: bool
    run: Callable[[Use], Awaitable[_Outcome]]
    needs_user: bool = False


def tool_of(step: script.Step, stage: Stage, play_sub_agent: SubAgent) -> Tool:
    """Return the use of a tool that a step is.

    Args:
        step: The step; of a kind that uses a tool.
        stage: The process.
        play_sub_agent: Performs a script for a tool call, and returns what was said last, or
            why it failed.
    """
    match step:
        case script.Bash(command):
            return _bash(command, stage.workspace)
        case script.Ask(tool, text):
            return Tool(name=tool, input={"text": text}, asks=True, run=_succeed)
        case script.Question():
            return _question(step)
        case script.Task(prompt):
            return _sub_agent(prompt, play_sub_agent)
        case script.Background(pause_ms, text):
            return _background(pause_ms / 1000, text, stage)
        case _:
            return _file_tool(step, stage)


def _file_tool(step: script.Step, stage: Stage) -> Tool:
    match step:
        case script.Write(path, text):
            return _file_work("Write", {"file_path": path, "content": text}, stage, files.write)
        case script.Fill(path, size):
            content = {"file_path": path, "content": "x" * size}
            return _file_work("Write", content, stage, files.write)
        case script.Read(path):
            return _file_work("Read", {"file_path": path}, stage, files.read)
        case script.Edit(path, old, new):
            change = {"file_path": path, "old_string": old, "new_string": new, "replace_all": False}
            return _file_work("Edit", change, stage, files.edit, asks=True)
        case script.Plan(text):
            return Tool(
                name="ExitPlanMode", input={"plan": text}, asks=True, needs_user=True, run=_plan
            )
        case _:
            raise TypeError(step)


def _sub_agent(prompt: str, play: SubAgent) -> Tool:
    task = {
        "description": "task",
        "prompt": prompt,
        "subagent_type": "general-purpose",
        "run_in_background": False,
    }
    return Tool(name="Agent", input=task, asks=False, run=partial(_task, play))


def _file_work(
    name: str,
    tool_input: Mapping[str, Any],
    stage: Stage,
    work: Callable[..., str],
    *,
    asks: bool = False,
) -> Tool:
    async def run(use: Use) -> _Outcome:
        path, *rest = (value for value in use.input.values() if isinstance(value, str))
        try:
            return await asyncio.to_thread(work, stage.workspace, path, *rest), False
        except files.ToolError as error:
            return str(error), True

    return Tool(name=name, input=tool_input, asks=asks, run=run)


def _bash(command: str, workspace: Path) -> Tool:
    async def run(use: Use) -> _Outcome:
        return await run_command(use.input["command"], workspace)

    tool_input = {"command": command, "description": "run a command"}
    return Tool(name="Bash", input=tool_input, asks=not is_harmless(command), run=run)


def _question(step: script.Question) -> Tool:
    options = [{"label": option, "description": option} for option in step.options]
    question = {
        "question": step.text,
        "header": "Question",
        "options": options,
        "multiSelect": False,
    }
    return Tool(
        name="AskUserQuestion",
        input={"questions": [question]},
        asks=True,
        needs_user=True,
        run=_answered,
    )


def _background(pause: float, text: str, stage: Stage) -> Tool:
    async def run(use: Use) -> _Outcome:
        task = stage.leave(use.call, text, pause)
        return f"Command running in background with ID: {task}.", False

    command = f"sleep {pause:g}; echo {text}"
    tool_input = {"command": command, "description": text, "run_in_background": True}
    return Tool(name="Bash", input=tool_input, asks=False, run=run)


async def _succeed(_: Use) -> _Outcome:
    return "ok", False


async def _plan(use: Use) -> _Outcome:
    return f"User has approved your plan.\n\n{use.input['plan']}", False


async def _answered(use: Use) -> _Outcome:
    answers = use.input.get("answers") or {}
    told = ", ".join(f'"{question}"="{answer}"' for question, answer in answers.items())
    return f"The user answered: {told}.", False


async def _task(play: SubAgent, use: Use) -> _Outcome:
    return await play(use.call, use.input["prompt"])
