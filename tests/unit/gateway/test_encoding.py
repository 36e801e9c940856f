"""Tests of `services.gateway.encoding`."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from moorline.gateway.v1 import frames_pb2
from moorline.session.v1 import agents_pb2, events_pb2, turns_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure, not_found
from services.gateway.encoding import (
    AGENTS,
    EVENTS,
    JSON,
    PROTOBUF,
    BadFrame,
    BadMessage,
    Encoding,
)

BOTH = pytest.mark.parametrize("encoding", [JSON, PROTOBUF], ids=["json", "protobuf"])
TEXTS = st.text(st.characters(codec="utf-8"))


def read(encoding: Encoding, payload: bytes) -> frames_pb2.ServerFrame:
    """Read a frame as a client does, without any code of ours."""
    frame = frames_pb2.ServerFrame()
    if encoding.binary:
        frame.ParseFromString(payload)
    else:
        json_format.Parse(payload, frame)
    return frame


def write(encoding: Encoding, frame: frames_pb2.ClientFrame) -> bytes:
    """Write a frame as a client does."""
    if encoding.binary:
        return frame.SerializeToString()
    return json_format.MessageToJson(frame).encode()


def encoded_text(encoding: Encoding, text: str) -> bytes:
    """Encode the text of a delta as the session service does."""
    return text.encode() if encoding.binary else orjson.dumps(text)[1:-1]


def encoded(encoding: Encoding, message: Any) -> bytes:
    """Encode an update as the session service does."""
    if encoding.binary:
        content: bytes = message.SerializeToString()
        return content
    return json_format.MessageToJson(message).encode()


@BOTH
def test_a_call_is_read(encoding: Encoding) -> None:
    """Number, name and request come out as the client put them in."""
    request = turns_pb2.CreateTurnRequest(parent="users/ada/agents/a", turn_id="한")
    frame = encoding.parse(write(encoding, frames_pb2.ClientFrame(id=7, create_turn=request)))

    assert (7, "create_turn", request) == (frame.id, frame.name, frame.request)


def test_json_names_are_taken_in_both_spellings() -> None:
    """proto3 JSON lets a client use the names of the proto."""
    frame = JSON.parse(b'{"id":"5","create_turn":{"turn_id":"t"},"getAgent":null}')

    assert (5, "create_turn") == (frame.id, frame.name)


def test_a_number_may_be_written_as_a_float() -> None:
    """As proto3 JSON allows for an int32."""
    assert 3 == JSON.parse(b'{"id":3.0,"listBackends":{}}').id


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"{", b"nonsense", b'{"id":NaN}', b"[" * 5000, b'{"a":' * 3000, b"\xff\xfe",
        b'{"id":1,"getAgent":{"name":"\\ud800"}}', b'{"id":1e999,"listBackends":{}}',
    ],
)  # fmt: skip
def test_what_is_not_json_is_a_bad_frame(payload: bytes) -> None:
    """Broken, endless or not even text: the connection cannot go on."""
    with pytest.raises(BadFrame, match="not JSON"):
        JSON.parse(payload)


def test_what_is_not_protobuf_is_a_bad_frame() -> None:
    """A tag without its content."""
    with pytest.raises(BadFrame):
        PROTOBUF.parse(b"\xff\xff\xff")


@pytest.mark.parametrize(
    ("payload", "number", "field"),
    [
        (b"[]", 0, "frame"),
        (b"7", 0, "frame"),
        (b"null", 0, "frame"),
        (b"{}", 0, "id"),
        (b'{"id":0,"listBackends":{}}', 0, "id"),
        (b'{"id":-1,"listBackends":{}}', 0, "id"),
        (b'{"id":2147483648,"listBackends":{}}', 0, "id"),
        (b'{"id":true,"listBackends":{}}', 0, "id"),
        (b'{"id":1.5,"listBackends":{}}', 0, "id"),
        (b'{"id":"x","listBackends":{}}', 0, "id"),
        (b'{"id":"99999999999","listBackends":{}}', 0, "id"),
        (b'{"id":[],"listBackends":{}}', 0, "id"),
        (b'{"id":4}', 4, "call"),
        (b'{"id":4,"listBackends":null}', 4, "call"),
        (b'{"id":4,"listBackends":{},"cancel":{}}', 4, "call"),
        (b'{"id":4,"getAgent":[]}', 4, "getAgent"),
        (b'{"id":4,"getAgent":{"nam":"x"}}', 4, "getAgent"),
        (b'{"id":4,"getAgent":{"name":7}}', 4, "getAgent"),
        (b'{"id":4,"createKey":{"ttl":5}}', 4, "createKey"),
        (b'{"id":4,"createTurn":{"turn":{"prompt":"x"}}}', 4, "createTurn"),
    ],
)
def test_json_that_is_no_call_is_a_bad_message(payload: bytes, number: int, field: str) -> None:
    """The error carries the number when it could be read, and the field."""
    with pytest.raises(BadMessage) as raised:
        JSON.parse(payload)

    assert number == raised.value.id
    assert ("FIELD_INVALID", field) == (
        raised.value.failure.reason_name,
        raised.value.failure.metadata["field"],
    )


@BOTH
def test_a_call_of_the_future_is_unknown(encoding: Encoding) -> None:
    """A member this server does not have is METHOD_UNKNOWN."""
    # Field 99, length-delimited, empty.
    payload = b"\x08\x09\x9a\x06\x00" if encoding.binary else b'{"id":9,"future":{}}'
    with pytest.raises(BadMessage) as raised:
        encoding.parse(payload)

    assert (9, "METHOD_UNKNOWN") == (raised.value.id, raised.value.failure.reason_name)


@pytest.mark.parametrize("payload", [b"", b"\x08\x05"])
def test_protobuf_without_a_call_is_a_bad_message(payload: bytes) -> None:
    """No number, or a number and no call."""
    with pytest.raises(BadMessage) as raised:
        PROTOBUF.parse(payload)

    assert "FIELD_INVALID" == raised.value.failure.reason_name


@BOTH
def test_any_frame_is_written(encoding: Encoding) -> None:
    """What a client reads is what was meant."""
    frame = frames_pb2.ServerFrame(id=3, error=not_found().to_error())

    assert frame == read(encoding, encoding.encode(frame))


def test_a_frame_about_the_connection_says_so_in_json() -> None:
    """Number 0 is written out, as the protocol's examples have it."""
    frame = frames_pb2.ServerFrame(heartbeat=frames_pb2.Heartbeat())

    assert b'{"id":0,"heartbeat":{}}' == JSON.encode(frame)


@BOTH
@given(number=st.integers(1, 2**31 - 1), texts=st.lists(TEXTS, max_size=4))
def test_spliced_events_are_what_the_message_would_be(
    encoding: Encoding, number: int, texts: list[str]
) -> None:
    """A frame put around encoded updates reads like one that was built."""
    updates = [
        events_pb2.EventUpdate(
            event=events_pb2.Event(
                sequence=1,
                item=transcript_pb2.Item(user_message=transcript_pb2.UserMessage(text=text)),
            )
        )
        for text in texts
    ]
    spliced = encoding.splice(
        encoding.opening(number, EVENTS), [encoded(encoding, update) for update in updates]
    )
    built = frames_pb2.ServerFrame(
        id=number, watch_events_response=events_pb2.WatchEventsResponse(updates=updates)
    )

    assert built == read(encoding, spliced)


@BOTH
def test_spliced_agents_are_what_the_message_would_be(encoding: Encoding) -> None:
    """The same for a list of agents, with every kind of update made here."""
    spliced = encoding.splice(
        encoding.opening(300, AGENTS),
        [encoding.removed('users/ada/agents/"x"'), encoding.agents_checkpoint()],
    )
    built = frames_pb2.ServerFrame(
        id=300,
        watch_agents_response=agents_pb2.WatchAgentsResponse(
            updates=[
                agents_pb2.AgentUpdate(removed='users/ada/agents/"x"'),
                agents_pb2.AgentUpdate(checkpoint=agents_pb2.AgentsCheckpoint()),
            ]
        ),
    )

    assert built == read(encoding, spliced)


@BOTH
@given(
    block_id=TEXTS,
    fragments=st.lists(TEXTS, max_size=3),
    thought=st.booleans(),
    snapshot=st.booleans(),
    sequence=st.integers(0, 2**31 - 1),
    log_id=st.one_of(st.just(""), TEXTS),
)
def test_updates_made_here_are_what_the_messages_would_be(
    encoding: Encoding,
    block_id: str,
    fragments: list[str],
    thought: bool,
    snapshot: bool,
    sequence: int,
    log_id: str,
) -> None:
    """Joined fragments, discards and checkpoints read like built ones."""
    text = bytearray().join(encoded_text(encoding, fragment) for fragment in fragments)
    spliced = encoding.splice(
        encoding.opening(1, EVENTS),
        [
            encoding.delta(
                encoding.delta_opening(block_id, thought=thought), text, snapshot=snapshot
            ),
            encoding.discarded(block_id),
            encoding.checkpoint(sequence, log_id),
        ],
    )
    built = frames_pb2.ServerFrame(
        id=1,
        watch_events_response=events_pb2.WatchEventsResponse(
            updates=[
                events_pb2.EventUpdate(
                    delta=transcript_pb2.MessageDelta(
                        block_id=block_id,
                        thought=thought,
                        snapshot=snapshot,
                        text="".join(fragments),
                    )
                ),
                events_pb2.EventUpdate(
                    message_discarded=transcript_pb2.MessageDiscarded(block_id=block_id)
                ),
                events_pb2.EventUpdate(
                    checkpoint=events_pb2.Checkpoint(sequence=sequence, log_id=log_id)
                ),
            ]
        ),
    )

    assert built == read(encoding, spliced)


def test_a_bad_message_names_its_failure() -> None:
    """Its text is the failure's, for whoever prints it."""
    bad = BadMessage(1, not_found())

    assert not_found().message == str(bad)
    assert isinstance(bad.failure, Failure)
