"""What a request to the Messages API asks for. Does not know how it is answered."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from services.executor.channels.simulation.memory import remark_of
from services.executor.channels.simulation.script import PREFIX

_REMINDER = re.compile(r"<system-reminder>.*?</system-reminder>", re.DOTALL)
_NOTIFICATION = "<task-notification>"
_DESCRIPTION = re.compile(r"<summary>[^<\"]*\"(.*)\"[^<\"]*</summary>", re.DOTALL)
_SUMMED = re.compile(r"The summary after (\d+) answers and (\d+) ids")
_ID = re.compile(r'"toolu_(\d{20})"')
_PLAN_FILE = re.compile(r"plan (?:at|file at|file already exists at) (/\S+\.md)")
_SUMMARY = "CRITICAL: Respond with TEXT ONLY."
_CUT_OFF = "Your response above was cut off"
_STOPPED = "Your response above was stopped by a safety classifier"
_PROGRAM = ("[", "<", _SUMMARY, _CUT_OFF, _STOPPED)
"""What texts begin with that nobody typed."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the newest words of a conversation ask for.

    Attributes:
        prompt: The script, or the words that are none.
        answers: Messages that the assistant has given since.
        notice: What has ended in the background and is not told yet; empty for nothing.
        summary: Whether the conversation is to be summed up.
        plan_file: Where the program wants plans written; empty when it did not say.
        earlier: Remarks of the scripts before this one, oldest first.
    """

    prompt: str
    answers: int
    notice: str
    summary: bool
    plan_file: str
    earlier: tuple[str, ...]


def read(messages: list[dict[str, Any]]) -> Asked:
    """Return what the newest words of a conversation ask for.

    Args:
        messages: Member `messages` of a request.
    """
    said = [
        (index, text)
        for index, message in enumerate(messages)
        if message["role"] == "user"
        for text in _texts(message)
    ]
    newest = said[-1][1] if said else ""
    scripts = [(index, text) for index, text in said if _is_script(text)]
    # What the program says in the user's name is no prompt.
    prompts = [one for one in said if _is_script(one[1]) or not one[1].startswith(_PROGRAM)]
    index, prompt = prompts[-1] if prompts else (0, "")
    earlier = scripts[:-1] if _is_script(prompt) else scripts
    return Asked(
        prompt=prompt,
        answers=_answers(prompt, messages[index:]),
        notice=_notice([one for one in messages if one["role"] == "user"][-1]),
        plan_file=_plan_file(messages),
        summary=newest.startswith(_SUMMARY),
        earlier=tuple(remark for _, text in earlier if (remark := remark_of(text))),
    )


def summary(prompt: str, *, answers: int, ids: int) -> str:
    """Return the summary of a conversation, with which its newest script can go on.

    Args:
        prompt: The script.
        answers: Answers that were given.
        ids: Number of ids that were given away: the program keeps some of the answers.
    """
    return f"The summary after {answers} answers and {ids} ids.\n{prompt}"


def _answers(prompt: str, messages: list[dict[str, Any]]) -> int:
    summed = _SUMMED.search(prompt)
    given, ids = (int(summed[1]), int(summed[2])) if summed else (0, 0)
    for message in messages:
        if message["role"] == "assistant":
            numbers = [int(found) for found in _ID.findall(json.dumps(message["content"]))]
            given += not numbers or max(numbers) > ids
    return given


def _plan_file(messages: list[dict[str, Any]]) -> str:
    for message in reversed(messages):
        content = message["content"]
        if message["role"] == "assistant":
            continue
        texts = (
            [content]
            if isinstance(content, str)
            else [part["text"] for part in content if part["type"] == "text"]
        )
        found = _PLAN_FILE.findall("\n".join(texts))
        if found:
            return str(found[-1])
    return ""


def _texts(message: dict[str, Any]) -> list[str]:
    content = message["content"]
    parts = (
        [content]
        if isinstance(content, str)
        else [part["text"] for part in content if part["type"] == "text"]
    )
    stripped = (_REMINDER.sub("", part).strip() for part in parts)
    return [part for part in stripped if part]


def _is_script(text: str) -> bool:
    return any(line.startswith(PREFIX) for line in text.split("\n"))


def _notice(message: dict[str, Any]) -> str:
    """Return what a message that only tells of the background tells."""
    content = message["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if _texts(message) or any(part["type"] != "text" for part in parts):
        return ""
    whole = "".join(part["text"] for part in parts)
    if _NOTIFICATION not in whole:
        return ""
    found = _DESCRIPTION.search(whole)
    return found[1] if found else "Something has ended in the background."
