"""Shows what an agent asks for, exactly, and reads what a person says to it.

Does not know who asks the person, nor how the answer travels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import moorline
from moorline.cli.language import Texts
from moorline.cli.views import visible

_LINES = 400
_SAID = frozenset({"command", "description"})
"""Members of a command's input that need not be shown beside it."""


def describe(request: moorline.PermissionRequest, texts: Texts) -> str:
    """Everything a person needs to decide: what would run, and what it would change."""
    if request.kind is moorline.PermissionKind.QUESTION:
        return texts("permission.questions")
    if request.kind is moorline.PermissionKind.PLAN:
        return f"{texts('permission.plan')}\n\n{_bounded(request.plan, texts)}\n"
    parts = [texts("permission.request", tool=request.tool_name)]
    if request.question:
        parts.append(visible(request.question))
    parts.append(_bounded(request.diff or _input(request), texts))
    if request.omitted_bytes:
        parts.append(texts("permission.cut", bytes=request.omitted_bytes))
    return "\n".join(parts)


def offer(request: moorline.PermissionRequest, texts: Texts) -> str:
    """The question to a person, with what can be answered."""
    if request.kind is moorline.PermissionKind.PLAN:
        ask = texts("permission.ask.plan")
    else:
        ask = texts("permission.ask", tool=request.tool_name)
    choices = [
        f"\n  {number}  {_suggestion(suggestion, texts)}"
        for number, suggestion in enumerate(request.suggestions, start=1)
    ]
    return f"{ask}{''.join(choices)}\n{texts('permission.choose')} "


def offer_question(question: moorline.Question, texts: Texts) -> str:
    """One question of the agent, with what can be answered."""
    head = f"{visible(question.header)}: " if question.header else ""
    options = [
        f"\n  {number}  {visible(option.label)}"
        + (f": {visible(option.description)}" if _explains(option) else "")
        for number, option in enumerate(question.options, start=1)
    ]
    key = "permission.answer.many" if question.multiple else "permission.answer.one"
    return f"{head}{visible(question.question)}{''.join(options)}\n{texts(key)} "


def decision_from(
    answer: str, request: moorline.PermissionRequest, texts: Texts
) -> moorline.Decision:
    """Read what a person says to an offer; what is no yes is a no, with its reason.

    Args:
        answer: `y`; the number of a suggestion; `n`, and after it a reason; nothing is a no.
        request: What was offered.
        texts: The person's language.
    """
    word, _, rest = answer.strip().partition(" ")
    if word.lower() in {"y", "yes", texts("yes")}:
        return moorline.Decision(allowed=True)
    if word.isascii() and word.isdigit() and 1 <= int(word) <= len(request.suggestions):
        chosen = request.suggestions[int(word) - 1]
        return moorline.Decision(allowed=True, suggestion_id=chosen.suggestion_id)
    reason = rest if word.lower() in {"n", "no", texts("no")} else answer
    return moorline.Decision(allowed=False, reason=reason.strip())


def answers_from(answer: str, question: moorline.Question) -> Sequence[str]:
    """Read what a person says to a question; empty when it is nothing.

    Args:
        answer: The number of an option, several with commas, or own words.
        question: The question.
    """
    words = [word.strip() for word in answer.split(",")]
    numbers = [int(word) for word in words if word.isascii() and word.isdigit()]
    chosen = len(numbers) == len(words) and all(1 <= n <= len(question.options) for n in numbers)
    if chosen and (question.multiple or len(numbers) == 1):
        return tuple(question.options[number - 1].label for number in numbers)
    return (answer.strip(),) if answer.strip() else ()


def _explains(option: moorline.QuestionOption) -> bool:
    return option.description not in {"", option.label}


def _input(request: moorline.PermissionRequest) -> str:
    given = request.input
    command = given.get("command")
    if isinstance(command, str):
        terms = {key: value for key, value in given.items() if key not in _SAID}
        return f"$ {command}\n{_json(terms)}" if terms else f"$ {command}"
    if not given:
        return request.input_json
    return _json(given)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def _suggestion(suggestion: moorline.PermissionSuggestion, texts: Texts) -> str:
    if suggestion.accept_edits:
        return texts("permission.edits")
    rules = ", ".join(visible(rule) for rule in suggestion.rules)
    return texts("permission.always", rules=rules)


def _bounded(text: str, texts: Texts) -> str:
    """A text with all that is in it, at most some screens of it."""
    lines = visible(text).splitlines()
    left = len(lines) - _LINES
    more = [texts("permission.more", lines=left)] if left > 0 else []
    return "\n".join([*lines[:_LINES], *more])
