"""Frames as text and as bytes: JSON and protobuf, read whole, written whole or spliced.

Frames of the data path are never built as messages: their updates come encoded
from the session service, and only the envelope is put around them. Does not know
what a call does or who receives a frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.unknown_fields import UnknownFieldSet

from moorline.errors.v1 import errors_pb2
from moorline.gateway.v1 import frames_pb2
from moorline.session.v1 import feed_pb2
from services.chassis.failures import Failure, field_invalid
from services.gateway.calls import message_of

EVENTS = "watch_events_response"
"""Member of `ServerFrame` that carries an agent's events."""
AGENTS = "watch_agents_response"
"""Member of `ServerFrame` that carries a list of agents."""

_MAX_ID = 2**31 - 1
_SHOWN = 200


class BadFrame(Exception):  # noqa: N818 - it names a thing of the protocol, like Failure
    """The bytes are no frame; the connection cannot go on. Its text says why."""


class BadMessage(Exception):  # noqa: N818
    """The frame holds no call that could be made; the connection goes on.

    Args:
        id: The frame's number, 0 when it could not be read.
        failure: What the client is told.
    """

    def __init__(self, id: int, failure: Failure) -> None:  # noqa: A002
        super().__init__(failure.message)
        self.id = id
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame from a client.

    Attributes:
        id: At least 1.
        name: The member of `ClientFrame` that is set, for example `create_turn`.
        request: That member.
    """

    id: int
    name: str
    request: Message


class Encoding(Protocol):
    """One of the two ways frames travel. Stateless."""

    @property
    def wire(self) -> feed_pb2.Encoding.ValueType:
        """How the session service names it."""

    @property
    def binary(self) -> bool:
        """True when frames are binary messages."""

    def parse(self, payload: bytes) -> Frame:
        """Read a client's frame.

        Raises:
            BadFrame: The bytes are not of this encoding.
            BadMessage: They are, and hold no call.
        """

    def encode(self, frame: frames_pb2.ServerFrame) -> bytes:
        """Write any frame."""

    def opening(self, id: int, reply: str) -> bytes:  # noqa: A002
        """Return how every frame of a stream begins, for `splice`.

        Args:
            id: The stream's number.
            reply: `EVENTS` or `AGENTS`.
        """

    def splice(self, opening: bytes, updates: Sequence[bytes]) -> bytes:
        """Put a frame around encoded updates."""

    def delta_opening(self, block_id: str, *, thought: bool) -> bytes:
        """Return how every update with text of a piece begins, for `delta`."""

    def delta(self, opening: bytes, text: bytes | bytearray, *, snapshot: bool) -> bytes:
        """Encode an update from the text of an `EncodedDelta`."""

    def discarded(self, block_id: str) -> bytes:
        """Encode the update that takes a piece back."""

    def checkpoint(self, sequence: int, log_id: str) -> bytes:
        """Encode the update that says which events have been sent, and of which history."""

    def removed(self, agent: str) -> bytes:
        """Encode the update that says an agent is gone, for a list of agents."""

    def agents_checkpoint(self) -> bytes:
        """Encode the update that says a list of agents is complete."""


class JsonEncoding:
    """Text messages, proto3 JSON."""

    wire = feed_pb2.ENCODING_JSON
    binary = False

    def parse(self, payload: bytes) -> Frame:
        """See `Encoding`. Of a member that comes twice, the last one counts."""
        try:
            value = orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            raise BadFrame(f"not JSON: {error.msg}"[:_SHOWN]) from None
        if not isinstance(value, dict):
            raise BadMessage(0, field_invalid("frame", "be a JSON object"))
        number = _number(value.pop("id", None))
        members = {name: content for name, content in value.items() if content is not None}
        unknown = next((name for name in members if name not in _MEMBERS), None)
        if unknown is not None:
            raise BadMessage(number, _method_unknown(unknown[:64]))
        if len(members) != 1:
            raise BadMessage(number, _one_call())
        [(name, content)] = members.items()
        field = _MEMBERS[name]
        if not isinstance(content, dict):
            raise BadMessage(number, field_invalid(field.json_name, "be a JSON object"))
        try:
            request = json_format.ParseDict(content, _CLASSES[field.name]())
        except (json_format.ParseError, ValueError, TypeError, AttributeError) as error:
            # The library documents the first; it lets the others through on some input.
            rule = str(error).partition("\n")[0][:_SHOWN]
            raise BadMessage(
                number, field_invalid(field.json_name, f"follow the protocol: {rule}")
            ) from None
        return Frame(number, field.name, request)

    def encode(self, frame: frames_pb2.ServerFrame) -> bytes:
        """See `Encoding`. A frame without an id says `"id":0`, as the protocol shows it."""
        return orjson.dumps({"id": 0} | json_format.MessageToDict(frame))

    def opening(self, id: int, reply: str) -> bytes:  # noqa: A002
        """See `Encoding`."""
        return b'{"id":%d,"%s":{"updates":[' % (id, _REPLIES[reply].json_name.encode())

    def splice(self, opening: bytes, updates: Sequence[bytes]) -> bytes:
        """See `Encoding`."""
        return b"%b%b]}}" % (opening, b",".join(updates))

    def delta_opening(self, block_id: str, *, thought: bool) -> bytes:
        """See `Encoding`."""
        return b'{"delta":{"blockId":%b%b' % (
            orjson.dumps(block_id),
            b',"thought":true' if thought else b"",
        )

    def delta(self, opening: bytes, text: bytes | bytearray, *, snapshot: bool) -> bytes:
        """See `Encoding`."""
        if snapshot:
            opening += b',"snapshot":true'
        return opening + b',"text":"' + text + b'"}}' if text else opening + b"}}"

    def discarded(self, block_id: str) -> bytes:
        """See `Encoding`."""
        return b'{"messageDiscarded":{"blockId":%b}}' % orjson.dumps(block_id)

    def checkpoint(self, sequence: int, log_id: str) -> bytes:
        """See `Encoding`."""
        members = [
            *([b'"sequence":%d' % sequence] if sequence else []),
            *([b'"logId":%b' % orjson.dumps(log_id)] if log_id else []),
        ]
        return b'{"checkpoint":{%b}}' % b",".join(members)

    def removed(self, agent: str) -> bytes:
        """See `Encoding`."""
        return b'{"removed":%b}' % orjson.dumps(agent)

    def agents_checkpoint(self) -> bytes:
        """See `Encoding`."""
        return b'{"checkpoint":{}}'


class ProtobufEncoding:
    """Binary messages, protobuf."""

    wire = feed_pb2.ENCODING_PROTOBUF
    binary = True

    def parse(self, payload: bytes) -> Frame:
        """See `Encoding`."""
        try:
            frame = frames_pb2.ClientFrame.FromString(payload)
        except DecodeError:
            raise BadFrame("not a ClientFrame in protobuf") from None
        number = _number(frame.id)
        name = frame.WhichOneof("call")
        if name is None:
            unknown = UnknownFieldSet(frame)
            if len(unknown):
                raise BadMessage(number, _method_unknown(str(unknown[0].field_number)))
            raise BadMessage(number, _one_call())
        return Frame(number, name, getattr(frame, name))

    def encode(self, frame: frames_pb2.ServerFrame) -> bytes:
        """See `Encoding`."""
        return frame.SerializeToString()

    def opening(self, id: int, reply: str) -> bytes:  # noqa: A002
        """See `Encoding`."""
        return b"\x08" + _varint(id) + _varint(_REPLIES[reply].number << 3 | 2)

    def splice(self, opening: bytes, updates: Sequence[bytes]) -> bytes:
        """See `Encoding`."""
        if len(updates) == 1:
            body = _bytes_field(1, updates[0])
        else:
            body = b"".join([_bytes_field(1, update) for update in updates])
        return opening + _varint(len(body)) + body

    def delta_opening(self, block_id: str, *, thought: bool) -> bytes:
        """See `Encoding`."""
        return _bytes_field(1, block_id.encode()) + (b"\x10\x01" if thought else b"")

    def delta(self, opening: bytes, text: bytes | bytearray, *, snapshot: bool) -> bytes:
        """See `Encoding`."""
        body = opening
        if snapshot:
            body += b"\x18\x01"
        if text:
            body += _bytes_field(4, text)
        return _bytes_field(2, body)

    def discarded(self, block_id: str) -> bytes:
        """See `Encoding`."""
        return _bytes_field(3, _bytes_field(1, block_id.encode()))

    def checkpoint(self, sequence: int, log_id: str) -> bytes:
        """See `Encoding`."""
        body = b"\x08" + _varint(sequence) if sequence else b""
        if log_id:
            body += _bytes_field(2, log_id.encode())
        return _bytes_field(4, body)

    def removed(self, agent: str) -> bytes:
        """See `Encoding`."""
        return _bytes_field(2, agent.encode())

    def agents_checkpoint(self) -> bytes:
        """See `Encoding`."""
        return _bytes_field(3, b"")


JSON: Encoding = JsonEncoding()
"""Text messages."""
PROTOBUF: Encoding = ProtobufEncoding()
"""Binary messages."""


_CALL_FIELDS = frames_pb2.ClientFrame.DESCRIPTOR.oneofs_by_name["call"].fields
_MEMBERS: dict[str, FieldDescriptor] = {
    # proto3 JSON allows both spellings of a name.
    spelling: field
    for field in _CALL_FIELDS
    for spelling in (field.name, field.json_name)
}
_CLASSES: dict[str, type[Message]] = {
    field.name: GetMessageClass(message_of(field)) for field in _CALL_FIELDS
}
_REPLIES: dict[str, FieldDescriptor] = dict(frames_pb2.ServerFrame.DESCRIPTOR.fields_by_name)


def _number(value: Any) -> int:
    """Read a frame's id, in any form proto3 JSON allows for an int32."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 10:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MAX_ID:
        raise BadMessage(0, field_invalid("id", f"be a whole number from 1 to {_MAX_ID}"))
    return value


def _method_unknown(name: str) -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_METHOD_UNKNOWN,
        f"This server knows no call {name!r}. Compare the protocol revisions.",
        call=name,
    )


def _one_call() -> Failure:
    return field_invalid("call", 'hold exactly one call, for example `"listAgents": {}`')


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _bytes_field(number: int, content: bytes | bytearray) -> bytes:
    """Encode a length-delimited field whose number is less than 16."""
    return bytes((number << 3 | 2,)) + _varint(len(content)) + content
