"""Turns the JSON of event updates into typed events.

Knows the protocol's member names and nothing of order, sockets or clients. A
kind it does not know becomes an `UnknownEvent`, never an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from moorline import events, permissions
from moorline.changes import changes_from
from moorline.decoding import EPOCH, parse_duration, parse_enum, parse_time
from moorline.exceptions import from_error
from moorline.resources import usage_from

Update = Mapping[str, Any]
Place = dict[str, Any]


def decode_event(event: Update, answer: permissions.Answer) -> events.AsyncStoredEvent:
    """Read a `session.v1.Event`.

    Args:
        event: Its JSON.
        answer: How a permission request in it is answered.
    """
    place: Place = {
        "sequence": event.get("sequence", 0),
        "turn_id": event.get("turnId", ""),
        "create_time": parse_time(event.get("createTime")) or EPOCH,
        "raw": {"event": event},
    }
    item = event.get("item", {})
    kind = next(iter(item), "")
    if kind == "permissionRequest":
        return _permission_request(place, item[kind], answer)
    decode = _KINDS.get(kind)
    if decode is None:
        return events.UnknownEvent(**place, kind=kind)
    return decode(place, item[kind])


def decode_delta(update: Update) -> events.TextDelta:
    """Read an update that holds a `transcript.v1.MessageDelta`."""
    delta = update["delta"]
    return events.TextDelta(
        block_id=delta.get("blockId", ""),
        text=delta.get("text", ""),
        snapshot=delta.get("snapshot", False),
        thought=delta.get("thought", False),
        raw=update,
    )


def make_delta(
    block_id: str, text: str, *, thought: bool, snapshot: bool = False
) -> events.TextDelta:
    """Make a delta of our own, with the JSON the server would have sent."""
    delta: dict[str, Any] = {"blockId": block_id, "text": text}
    if thought:
        delta["thought"] = True
    if snapshot:
        delta["snapshot"] = True
    return events.TextDelta(
        block_id=block_id, text=text, snapshot=snapshot, thought=thought, raw={"delta": delta}
    )


def make_discarded(block_id: str) -> events.MessageDiscarded:
    """Make a withdrawal, with the JSON the server would have sent."""
    return events.MessageDiscarded(
        block_id=block_id, raw={"messageDiscarded": {"blockId": block_id}}
    )


def _permission_request(
    place: Place, item: Update, answer: permissions.Answer
) -> permissions.AsyncPermissionRequest:
    return permissions.AsyncPermissionRequest(
        **place,
        permission_id=item.get("permissionId", ""),
        tool_call_id=item.get("toolCallId", ""),
        tool_name=item.get("toolName", ""),
        input_json=item.get("inputJson", "{}"),
        question=item.get("question", ""),
        expire_time=parse_time(item.get("expireTime")),
        kind=parse_enum(permissions.PermissionKind, item.get("kind", "KIND_TOOL"), "KIND_"),
        diff=item.get("diff", ""),
        suggestions=tuple(_suggestion(one) for one in item.get("suggestions", ())),
        questions=tuple(_question(one) for one in item.get("questions", ())),
        plan=item.get("plan", ""),
        omitted_bytes=item.get("omittedBytes", 0),
        answer=answer,
    )


def _suggestion(suggestion: Update) -> permissions.PermissionSuggestion:
    return permissions.PermissionSuggestion(
        suggestion_id=suggestion.get("suggestionId", ""),
        rules=tuple(suggestion.get("rules", ())),
        accept_edits=suggestion.get("acceptEdits", False),
    )


def _question(question: Update) -> permissions.Question:
    return permissions.Question(
        question=question.get("question", ""),
        header=question.get("header", ""),
        options=tuple(
            permissions.QuestionOption(
                label=option.get("label", ""), description=option.get("description", "")
            )
            for option in question.get("options", ())
        ),
        multiple=question.get("multiple", False),
    )


def _user_message(place: Place, item: Update) -> events.UserMessage:
    return events.UserMessage(**place, text=item.get("text", ""))


def _message(place: Place, item: Update) -> events.Message:
    return events.Message(
        **place,
        block_id=item.get("blockId", ""),
        text=item.get("text", ""),
        partial=item.get("partial", False),
        parent_tool_call_id=item.get("parentToolCallId", ""),
    )


def _thought(place: Place, item: Update) -> events.Thought:
    return events.Thought(
        **place,
        block_id=item.get("blockId", ""),
        text=item.get("text", ""),
        partial=item.get("partial", False),
        parent_tool_call_id=item.get("parentToolCallId", ""),
    )


def _tool_call(place: Place, item: Update) -> events.ToolCall:
    return events.ToolCall(
        **place,
        tool_call_id=item.get("toolCallId", ""),
        tool_name=item.get("toolName", ""),
        input_json=item.get("inputJson", "{}"),
        parent_tool_call_id=item.get("parentToolCallId", ""),
        omitted_bytes=item.get("omittedBytes", 0),
    )


def _tool_result(place: Place, item: Update) -> events.ToolResult:
    return events.ToolResult(
        **place,
        tool_call_id=item.get("toolCallId", ""),
        output=item.get("output", ""),
        failed=item.get("failed", False),
        omitted_bytes=item.get("omittedBytes", 0),
    )


def _permission_decision(place: Place, item: Update) -> permissions.PermissionDecision:
    return permissions.PermissionDecision(
        **place,
        permission_id=item.get("permissionId", ""),
        allowed=item.get("allowed", False),
        reason=item.get("reason", ""),
        decider=parse_enum(permissions.Decider, item.get("decider", 0), "DECIDER_"),
        suggestion_id=item.get("suggestionId", ""),
        answers={
            answer.get("question", ""): tuple(answer.get("answers", ()))
            for answer in item.get("answers", ())
        },
    )


def _turn_attempt(place: Place, item: Update) -> events.TurnAttempt:
    return events.TurnAttempt(
        **place,
        attempt=item.get("attempt", 0),
        error=from_error(item["error"]) if "error" in item else None,
    )


def _turn_outcome(place: Place, item: Update) -> events.TurnOutcome:
    return events.TurnOutcome(
        **place,
        state=parse_enum(events.OutcomeState, item.get("state", 0), "STATE_"),
        error=from_error(item["error"]) if "error" in item else None,
        usage=usage_from(item.get("usage", {})),
        duration=parse_duration(item.get("duration")) or timedelta(0),
        background_tasks=item.get("backgroundTasks", 0),
        model=item.get("model", ""),
    )


def _provider_retry(place: Place, item: Update) -> events.ProviderRetry:
    return events.ProviderRetry(
        **place,
        attempt=item.get("attempt", 0),
        attempts=item.get("attempts", 0),
        delay=parse_duration(item.get("delay")) or timedelta(0),
        error=from_error(item["error"]) if "error" in item else None,
    )


def _model_fallback(place: Place, item: Update) -> events.ModelFallback:
    return events.ModelFallback(
        **place, from_model=item.get("fromModel", ""), to_model=item.get("toModel", "")
    )


def _compaction(place: Place, item: Update) -> events.Compaction:
    return events.Compaction(
        **place,
        automatic=item.get("automatic", False),
        tokens_before=item.get("tokensBefore", 0),
        tokens_after=item.get("tokensAfter", 0),
    )


def _file_changes(place: Place, item: Update) -> events.FilesChanged:
    return events.FilesChanged(
        **place, changes=changes_from(item), omitted_files=item.get("omittedFiles", 0)
    )


def _background_work(place: Place, item: Update) -> events.BackgroundWork:
    return events.BackgroundWork(**place, description=item.get("description", ""))


_KINDS: Mapping[str, Callable[[Place, Update], events.AnyFact]] = MappingProxyType(
    {
        "userMessage": _user_message,
        "agentMessage": _message,
        "agentThought": _thought,
        "toolCall": _tool_call,
        "toolResult": _tool_result,
        "permissionDecision": _permission_decision,
        "turnAttempt": _turn_attempt,
        "turnOutcome": _turn_outcome,
        "providerRetry": _provider_retry,
        "modelFallback": _model_fallback,
        "compaction": _compaction,
        "fileChanges": _file_changes,
        "backgroundWork": _background_work,
    }
)
