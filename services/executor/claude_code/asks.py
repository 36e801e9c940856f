"""Requests for a decision, from the CLI's words into ours, and the answers back.

Does not know processes, books or channels.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moorline.errors.v1 import errors_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure, field_invalid
from services.executor.claude_code import frames
from services.executor.claude_code.pieces import PIECE_BYTES, bounded, bounded_json

_KINDS: Mapping[str, transcript_pb2.PermissionRequest.Kind.ValueType] = {
    "AskUserQuestion": transcript_pb2.PermissionRequest.KIND_QUESTION,
    "ExitPlanMode": transcript_pb2.PermissionRequest.KIND_PLAN,
}
_SUGGESTIONS = 8
_QUESTIONS = 8
_ACCEPT_EDITS = "acceptEdits"
_OPEN = 64
"""Requests that may be open; the CLI has one, and its sub-agents one each."""
_UNREAD_BYTES = 64 << 20
"""Bytes of lines that the CLI does not read."""
TOO_MUCH = Failure(
    errors_pb2.ERROR_REASON_AGENT_FAILED, "The agent asked more than anybody can answer."
)
# A rule goes back to the CLI as one word of a command line some day. What could end the rule
# there and begin another one is not offered.
_RULE_CONTENT = re.compile(r"[^()\\\x00-\x1f\x7f]+")
_TOOL_NAME = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request for a decision.

    Attributes:
        request: As it is told.
        tool_input: What the tool would be given, whole; None when that is too long to be allowed.
    """

    request: transcript_pb2.PermissionRequest
    tool_input: Any


def needs_user(tool: str) -> bool:
    """Tell whether nobody but the user can answer for a tool, whatever may run unasked."""
    return tool in _KINDS


def too_much(open_asks: Collection[str], unread: Collection[bytes]) -> bool:
    """Tell whether no more can be asked.

    Args:
        open_asks: Ids of the requests that nobody has answered.
        unread: Lines that the process does not read.
    """
    return len(open_asks) >= _OPEN or sum(map(len, unread)) > _UNREAD_BYTES


def ask_of(request_id: str, frame: Mapping[str, Any], *, plan: str, diff: str) -> Ask:
    """Return a request for a decision.

    Args:
        request_id: The CLI's id of the request.
        frame: A control request of subtype `can_use_tool`.
        plan: The plan, when the request itself has none.
        diff: What the tool would change.
    """
    tool, tool_input = frame["tool_name"], frame["input"]
    kind = _KINDS.get(tool, transcript_pb2.PermissionRequest.KIND_TOOL)
    input_json, omitted = bounded_json(tool_input)
    request = transcript_pb2.PermissionRequest(
        permission_id=request_id,
        tool_call_id=frame.get("tool_use_id") or "",
        tool_name=tool,
        input_json=input_json,
        question=frame.get("decision_reason") or "",
        kind=kind,
        diff=diff,
        omitted_bytes=omitted,
    )
    if kind == transcript_pb2.PermissionRequest.KIND_QUESTION:
        request.questions.extend(_questions(tool_input["questions"]))
    elif kind == transcript_pb2.PermissionRequest.KIND_PLAN:
        request.plan, _ = bounded(str(tool_input.get("plan") or plan), PIECE_BYTES)
        request.suggestions.add(suggestion_id="1", accept_edits=True)
    else:
        request.suggestions.extend(_suggestions(frame.get("permission_suggestions") or ()))
    return Ask(request=request, tool_input=None if omitted else tool_input)


def reply_to(ask: Ask, decision: transcript_pb2.PermissionDecision) -> bytes:
    """Return the line that hands a decision over.

    Raises:
        Failure: FIELD_INVALID when it allows what cannot be allowed.
    """
    request = ask.request
    if not decision.allowed:
        return frames.deny(request_id=request.permission_id, reason=decision.reason)
    if request.omitted_bytes:
        raise field_invalid(
            "decision.allowed", "be false: the request is not whole, so nobody knows what would run"
        )
    tool_input = ask.tool_input
    if request.kind == transcript_pb2.PermissionRequest.KIND_QUESTION:
        tool_input = {**tool_input, "answers": _answers(decision)}
    return frames.allow(
        request_id=request.permission_id,
        tool_input=tool_input,
        updates=_updates(request, allowed_with(ask, decision)),
    )


def allowed_with(
    ask: Ask, decision: transcript_pb2.PermissionDecision
) -> transcript_pb2.PermissionSuggestion:
    """Return what a decision allows for the time to come; an empty one when it does not.

    Raises:
        Failure: FIELD_INVALID for a suggestion that was not made.
    """
    if not decision.suggestion_id:
        return transcript_pb2.PermissionSuggestion()
    for suggestion in ask.request.suggestions:
        if suggestion.suggestion_id == decision.suggestion_id:
            return suggestion
    raise field_invalid("decision.suggestion_id", "be one of the request's suggestions, or empty")


def _questions(asked: Sequence[Mapping[str, Any]]) -> Iterator[transcript_pb2.Question]:
    for question in asked[:_QUESTIONS]:
        yield transcript_pb2.Question(
            question=question["question"],
            header=question.get("header") or "",
            options=[
                transcript_pb2.Question.Option(
                    label=option["label"], description=option.get("description") or ""
                )
                for option in question.get("options") or ()
            ],
            multiple=bool(question.get("multiSelect")),
        )


def _answers(decision: transcript_pb2.PermissionDecision) -> dict[str, str]:
    return {answer.question: ", ".join(answer.answers) for answer in decision.answers}


def _suggestions(
    updates: Sequence[Mapping[str, Any]],
) -> Iterator[transcript_pb2.PermissionSuggestion]:
    """Return what can be allowed too; whole folders, and what we cannot name, are left out."""
    for number, update in enumerate(updates[:_SUGGESTIONS], start=1):
        suggestion = transcript_pb2.PermissionSuggestion(suggestion_id=str(number))
        if update["type"] == "setMode" and update["mode"] == _ACCEPT_EDITS:
            suggestion.accept_edits = True
        elif update["type"] == "addRules" and update.get("behavior") == "allow":
            suggestion.rules.extend(_rule(rule) for rule in update["rules"])
        if suggestion.accept_edits or (suggestion.rules and all(suggestion.rules)):
            yield suggestion


def _rule(rule: Mapping[str, Any]) -> str:
    tool, content = rule["toolName"], rule.get("ruleContent")
    if not _TOOL_NAME.fullmatch(tool):
        return ""
    if content is None:
        return str(tool)
    return f"{tool}({content})" if _RULE_CONTENT.fullmatch(content) else ""


def _updates(
    request: transcript_pb2.PermissionRequest, allowed: transcript_pb2.PermissionSuggestion
) -> list[dict[str, Any]]:
    """Return the changes of permissions in the CLI's words; for this process and nothing else."""
    updates: list[dict[str, Any]] = []
    if allowed.rules:
        rules = [_rule_of(rule) for rule in allowed.rules]
        updates.append({"type": "addRules", "rules": rules, "behavior": "allow"})
    if allowed.accept_edits:
        updates.append({"type": "setMode", "mode": _ACCEPT_EDITS})
    elif request.kind == transcript_pb2.PermissionRequest.KIND_PLAN:
        updates.append({"type": "setMode", "mode": "default"})
    return [{**update, "destination": "session"} for update in updates]


def _rule_of(rule: str) -> dict[str, str]:
    tool, parenthesis, content = rule.partition("(")
    if not parenthesis:
        return {"toolName": tool}
    return {"toolName": tool, "ruleContent": content.removesuffix(")")}
