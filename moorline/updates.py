"""Turns the JSON of event updates into typed events.

Knows the protocol's member names and nothing of order, sockets or clients. A
kind it does not know becomes an `UnknownEvent`, never an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from moorline import events
from moorline.decoding import EPOCH, parse_duration, parse_enum, parse_time
from moorline.exceptions import from_error
from moorline.resources import usage_from

Update = Mapping[str, Any]
Place = dict[str, Any]


def decode_event(event: Update, answer: events.Answer) -> events.AsyncStoredEvent:
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
    place: Place, item: Update, answer: events.Answer
) -> events.AsyncPermissionRequest:
    return events.AsyncPermissionRequest(
        **place,
        permission_id=item.get("permissionId", ""),
        tool_call_id=item.get("toolCallId", ""),
        tool_name=item.get("toolName", ""),
        input_json=item.get("inputJson", "{}"),
        question=item.get("question", ""),
        expire_time=parse_time(item.get("expireTime")),
        answer=answer,
    )


def _user_message(place: Place, item: Update) -> events.UserMessage:
    return events.UserMessage(**place, text=item.get("text", ""))


def _message(place: Place, item: Update) -> events.Message:
    return events.Message(
        **place,
        block_id=item.get("blockId", ""),
        text=item.get("text", ""),
        partial=item.get("partial", False),
    )


def _thought(place: Place, item: Update) -> events.Thought:
    return events.Thought(
        **place,
        block_id=item.get("blockId", ""),
        text=item.get("text", ""),
        partial=item.get("partial", False),
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


def _permission_decision(place: Place, item: Update) -> events.PermissionDecision:
    return events.PermissionDecision(
        **place,
        permission_id=item.get("permissionId", ""),
        allowed=item.get("allowed", False),
        reason=item.get("reason", ""),
        decider=parse_enum(events.Decider, item.get("decider", 0), "DECIDER_"),
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
    )


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
    }
)
