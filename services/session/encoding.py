"""Items and events between protobuf, stored fields and proto3 JSON.

Written by hand for the kinds every turn has, because `json_format` takes ten
times as long; everything else goes through `json_format`. A test holds both
to the same result. Does not know logs or subscriptions.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp

from moorline.session.v1 import agents_pb2, events_pb2
from moorline.transcript.v1 import transcript_pb2

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def time_text(instant: datetime) -> str:
    """Return an instant as proto3 JSON writes a timestamp, in microseconds."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> datetime:
    """Return the instant that `time_text` wrote."""
    return datetime.fromisoformat(text)


def timestamp(instant: datetime) -> Timestamp:
    """Return an instant as a protobuf message."""
    microseconds = (instant - _EPOCH) // timedelta(microseconds=1)
    seconds, rest = divmod(microseconds, 1_000_000)
    return Timestamp(seconds=seconds, nanos=rest * 1000)


def message_fields(message: Any) -> dict[str, Any]:
    """Return any message as proto3 JSON fields."""
    fields: dict[str, Any] = json_format.MessageToDict(message)
    return fields


def item_fields(item: transcript_pb2.Item) -> dict[str, Any]:
    """Return an item as proto3 JSON fields."""
    match item.WhichOneof("kind"):
        case "user_message":
            return {"userMessage": _filled(text=item.user_message.text)}
        case "agent_message":
            return {"agentMessage": _piece(item.agent_message)}
        case "agent_thought":
            return {"agentThought": _piece(item.agent_thought)}
        case "tool_call":
            call = item.tool_call
            return {
                "toolCall": _filled(
                    toolCallId=call.tool_call_id,
                    toolName=call.tool_name,
                    inputJson=call.input_json,
                    parentToolCallId=call.parent_tool_call_id,
                    omittedBytes=call.omitted_bytes,
                )
            }
        case "tool_result":
            result = item.tool_result
            return {
                "toolResult": _filled(
                    toolCallId=result.tool_call_id,
                    output=result.output,
                    failed=result.failed,
                    omittedBytes=result.omitted_bytes,
                )
            }
        case _:
            return message_fields(item)


def item_message(fields: Mapping[str, Any]) -> transcript_pb2.Item:
    """Return the item that `item_fields` wrote."""
    for kind, value in fields.items():
        match kind:
            case "userMessage":
                message = transcript_pb2.UserMessage(text=value.get("text", ""))
                return transcript_pb2.Item(user_message=message)
            case "agentMessage":
                piece = transcript_pb2.AgentMessage(**_piece_arguments(value))
                return transcript_pb2.Item(agent_message=piece)
            case "toolCall":
                call = transcript_pb2.ToolCall(
                    tool_call_id=value.get("toolCallId", ""),
                    tool_name=value.get("toolName", ""),
                    input_json=value.get("inputJson", ""),
                    parent_tool_call_id=value.get("parentToolCallId", ""),
                    omitted_bytes=value.get("omittedBytes", 0),
                )
                return transcript_pb2.Item(tool_call=call)
            case "toolResult":
                result = transcript_pb2.ToolResult(
                    tool_call_id=value.get("toolCallId", ""),
                    output=value.get("output", ""),
                    failed=value.get("failed", False),
                    omitted_bytes=value.get("omittedBytes", 0),
                )
                return transcript_pb2.Item(tool_result=result)
    # `ignore_unknown_fields`: the log may have been written by a newer release.
    return json_format.ParseDict(dict(fields), transcript_pb2.Item(), ignore_unknown_fields=True)


class LoggedEvent:
    """An event as it is stored and sent on; its encodings are made once.

    Attributes:
        sequence: Its number.
        turn_id: The turn it belongs to.
        json: The `session.v1.Event` as proto3 JSON.
        block_id: The piece it completes; empty when it completes none.
        closes_blocks: True when it withdraws every piece still being written.
    """

    __slots__ = ("_protobuf", "block_id", "closes_blocks", "json", "sequence", "turn_id")

    def __init__(self, fields: Mapping[str, Any]) -> None:
        item = fields.get("item", {})
        piece = item.get("agentMessage") or item.get("agentThought")
        self.sequence: int = fields["sequence"]
        self.turn_id: str = fields["turnId"]
        self.json: bytes = orjson.dumps(fields)
        self.block_id: str = piece.get("blockId", "") if piece else ""
        self.closes_blocks: bool = "turnOutcome" in item or "turnAttempt" in item
        self._protobuf: bytes | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """The event as proto3 JSON fields."""
        fields: dict[str, Any] = orjson.loads(self.json)
        return fields

    @property
    def item(self) -> transcript_pb2.Item:
        """What happened."""
        return item_message(self.fields["item"])

    @property
    def message(self) -> events_pb2.Event:
        """The event as a message."""
        fields = self.fields
        return events_pb2.Event(
            sequence=self.sequence,
            turn_id=self.turn_id,
            create_time=timestamp(parse_time(fields["createTime"])),
            item=item_message(fields["item"]),
        )

    @property
    def update_json(self) -> bytes:
        """An `EventUpdate` that holds the event, as proto3 JSON."""
        return b'{"event":' + self.json + b"}"

    @property
    def update_protobuf(self) -> bytes:
        """An `EventUpdate` that holds the event, as protobuf."""
        if self._protobuf is None:
            self._protobuf = events_pb2.EventUpdate(event=self.message).SerializeToString()
        return self._protobuf


def event_fields(
    *, sequence: int, turn_id: str, create_time: datetime, item: transcript_pb2.Item
) -> dict[str, Any]:
    """Return an event as proto3 JSON fields."""
    return {
        "sequence": sequence,
        "turnId": turn_id,
        "createTime": time_text(create_time),
        "item": item_fields(item),
    }


def agent_update_json(agent: agents_pb2.Agent) -> bytes:
    """Return an `AgentUpdate` that holds an agent, as proto3 JSON."""
    return orjson.dumps({"agent": message_fields(agent)})


def removed_update_json(name: str) -> bytes:
    """Return an `AgentUpdate` that removes an agent, as proto3 JSON."""
    return orjson.dumps({"removed": name})


def escaped(text: str) -> bytes:
    """Return a text as the inside of a JSON string.

    A lone surrogate, which no UTF-8 can hold, becomes a question mark.
    """
    try:
        return orjson.dumps(text)[1:-1]
    except orjson.JSONEncodeError:
        return orjson.dumps(text.encode("utf-8", "replace").decode())[1:-1]


def _filled(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value}


def _piece(
    piece: transcript_pb2.AgentMessage | transcript_pb2.AgentThought,
) -> dict[str, Any]:
    return _filled(
        blockId=piece.block_id,
        text=piece.text,
        partial=piece.partial,
        parentToolCallId=piece.parent_tool_call_id,
    )


def _piece_arguments(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "block_id": fields.get("blockId", ""),
        "text": fields.get("text", ""),
        "partial": fields.get("partial", False),
        "parent_tool_call_id": fields.get("parentToolCallId", ""),
    }
