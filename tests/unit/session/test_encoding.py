"""Tests of `services.session.encoding`: by hand and by `json_format`, the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest
from google.protobuf import json_format

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import agents_pb2, events_pb2
from moorline.transcript.v1 import transcript_pb2
from services.session import encoding

Item = transcript_pb2.Item
MOMENT = datetime(2026, 11, 26, 10, 0, 0, 123456, tzinfo=UTC)
TEXT = 'a "quoted" \\ line\n\u2028\u0000\u001f 안녕 \U0001f600 </script>'

PIECE = {"block_id": "b", "text": TEXT, "partial": True, "parent_tool_call_id": "c"}
ITEMS: dict[str, list[Any]] = {
    "user_message": [{}, {"text": TEXT}],
    "agent_message": [{}, PIECE],
    "agent_thought": [{}, PIECE],
    "tool_call": [
        {},
        {
            "tool_call_id": "c",
            "tool_name": "Bash",
            "input_json": '{"a":1}',
            "parent_tool_call_id": "p",
            "omitted_bytes": 7,
        },
    ],
    "tool_result": [{}, {"tool_call_id": "c", "output": TEXT, "failed": True, "omitted_bytes": 9}],
    "permission_request": [
        {},
        {
            "permission_id": "p",
            "tool_call_id": "c",
            "tool_name": "Bash",
            "input_json": "{}",
            "question": TEXT,
            "expire_time": {"seconds": 1},
            "kind": 2,
            "diff": "--- a\n+++ b\n",
            "suggestions": [{"suggestion_id": "s", "rules": ["Edit"], "accept_edits": True}],
            "questions": [
                {
                    "question": "Which?",
                    "header": "h",
                    "options": [{"label": "l", "description": TEXT}],
                    "multiple": True,
                }
            ],
            "plan": TEXT,
            "omitted_bytes": 5,
        },
    ],
    "permission_decision": [
        {},
        {
            "permission_id": "p",
            "allowed": True,
            "reason": "r",
            "decider": 1,
            "suggestion_id": "s",
            "answers": [{"question": "Which?", "answers": ["l", TEXT]}],
        },
    ],
    "turn_attempt": [{"attempt": 2, "error": errors_pb2.Error(code=14, message="m")}],
    "turn_outcome": [
        {"state": 1},
        {
            "state": 3,
            "error": errors_pb2.Error(code=13, metadata={"a": "b"}),
            "usage": transcript_pb2.Usage(input_tokens=1, cost_usd_micros=2),
            "duration": {"seconds": 3, "nanos": 500},
            "background_tasks": 2,
            "model": "m",
        },
    ],
    "provider_retry": [
        {},
        {
            "attempt": 1,
            "attempts": 6,
            "delay": {"nanos": 5000},
            "error": errors_pb2.Error(code=8),
        },
    ],
    "model_fallback": [{}, {"from_model": "a", "to_model": "b"}],
    "compaction": [{}, {"automatic": True, "tokens_before": 9, "tokens_after": 3}],
    "file_changes": [
        {},
        {
            "changes": [
                {
                    "path": "a/b.txt",
                    "kind": 2,
                    "added_lines": 1,
                    "removed_lines": 2,
                    "diff": TEXT,
                    "binary": True,
                    "omitted": True,
                }
            ],
            "omitted_files": 4,
        },
    ],
    "background_work": [{}, {"description": TEXT}],
}


def items() -> list[Item]:
    """Return an empty and a full item of every kind."""
    made = []
    for kind, members in ITEMS.items():
        for member in members:
            item = Item()
            getattr(item, kind).SetInParent()
            part = getattr(item, kind)
            part.MergeFrom(type(part)(**member))
            made.append(item)
    return made


def test_every_kind_is_tried() -> None:
    """A kind added to the contract must be added here."""
    kinds = {field.name for field in Item.DESCRIPTOR.oneofs_by_name["kind"].fields}

    assert kinds == set(ITEMS)


@pytest.mark.parametrize("kind", ITEMS)
def test_every_field_is_tried(kind: str) -> None:
    """A field added to the contract must be added here, or one encoder might forget it."""
    fields = {field.name for field in getattr(Item(), kind).DESCRIPTOR.fields}

    assert fields == set(ITEMS[kind][-1])


@pytest.mark.parametrize("item", items(), ids=lambda item: item.WhichOneof("kind"))
def test_both_encoders_agree(item: Item) -> None:
    """An event written by hand means what `json_format` would have written."""
    fields = encoding.event_fields(sequence=7, turn_id="t", create_time=MOMENT, item=item)
    event = encoding.LoggedEvent(fields)

    parsed = json_format.Parse(event.update_json, events_pb2.EventUpdate())

    expected = events_pb2.EventUpdate(
        event=events_pb2.Event(
            sequence=7, turn_id="t", create_time=encoding.timestamp(MOMENT), item=item
        )
    )
    assert expected == parsed
    assert expected == events_pb2.EventUpdate.FromString(event.update_protobuf)
    assert expected.event == event.message
    assert item == event.item


@pytest.mark.parametrize("item", items(), ids=lambda item: item.WhichOneof("kind"))
def test_what_is_stored_is_proto3_json(item: Item) -> None:
    """Defaults are left out and names are in lower camel case, as everywhere."""
    assert json_format.MessageToDict(item) == encoding.item_fields(item)


def test_items_of_a_newer_release_are_passed_over() -> None:
    """An unknown kind in the log does not break reading it."""
    assert Item() == encoding.item_message({"newKind": {"a": 1}})
    assert Item() == encoding.item_message({})


def test_an_encoding_is_made_once() -> None:
    """The same bytes serve every subscription."""
    fields = encoding.event_fields(sequence=1, turn_id="t", create_time=MOMENT, item=items()[0])
    event = encoding.LoggedEvent(fields)

    assert event.update_protobuf is event.update_protobuf


def test_events_know_which_blocks_they_end() -> None:
    """A message ends its own, an attempt and an outcome end all."""
    made = [
        encoding.LoggedEvent(
            encoding.event_fields(sequence=1, turn_id="t", create_time=MOMENT, item=item)
        )
        for item in items()
    ]

    completing = {event.item.WhichOneof("kind") for event in made if event.block_id}
    closing = {event.item.WhichOneof("kind") for event in made if event.closes_blocks}
    assert {"agent_message", "agent_thought"} == completing
    assert {"turn_attempt", "turn_outcome"} == closing


AGENT = agents_pb2.Agent(
    name="users/ada/agents/a1",
    display_name=TEXT,
    instructions=TEXT,
    backend="simulation",
    permission_mode=agents_pb2.Agent.PERMISSION_MODE_PLAN,
    create_time=encoding.timestamp(MOMENT),
    update_time=encoding.timestamp(MOMENT),
    etag="e",
    state=agents_pb2.Agent.STATE_WORKING,
    running_turn="r",
    queued_turns=["x"],
    head_sequence=7,
    activity_time=encoding.timestamp(MOMENT),
    model="m",
    turn_budget_usd_micros=2**60,
    budget_usd_micros=1,
    max_steps=3,
    allowed_rules=["Edit"],
    usage=agents_pb2.UsageTotal(
        input_tokens=1,
        output_tokens=2,
        cache_read_tokens=3,
        cache_write_tokens=4,
        cost_usd_micros=2**40,
        turns=5,
    ),
    queue_position=2,
    turn_usage=transcript_pb2.Usage(input_tokens=1, cost_usd_micros=2),
)
AGENTS = [AGENT, agents_pb2.Agent()]


def test_every_field_of_an_agent_is_tried() -> None:
    """A field added to the contract must be added here, or one encoder might forget it."""
    for message in (AGENT, AGENT.usage):
        assert len(message.DESCRIPTOR.fields) == len(message.ListFields())


def test_agent_updates_agree_too() -> None:
    """The list of agents has the same two encodings."""
    removed = json_format.Parse(encoding.removed_update_json("n"), agents_pb2.AgentUpdate())

    for agent in AGENTS:
        encoded = encoding.agent_update_json(agent)
        added = json_format.Parse(encoded, agents_pb2.AgentUpdate())
        assert agents_pb2.AgentUpdate(agent=agent) == added
    assert agents_pb2.AgentUpdate(removed="n") == removed


def test_escaped_texts_can_be_joined() -> None:
    """Neighbouring fragments are the text of the joined fragment, wherever it was cut."""
    whole = TEXT * 3
    for cut in range(len(whole)):
        joined = encoding.escaped(whole[:cut]) + encoding.escaped(whole[cut:])
        assert whole == orjson.loads(b'"' + joined + b'"')


def test_a_lone_surrogate_does_no_harm() -> None:
    """No UTF-8 can hold it; the rest of the text survives."""
    assert "a?b" == orjson.loads(b'"' + encoding.escaped("a\ud800b") + b'"')


def test_times_keep_their_microseconds_and_zone() -> None:
    """An instant is the same however it was written."""
    elsewhere = MOMENT.astimezone(timezone(timedelta(hours=9)))

    assert "2026-11-26T10:00:00.123456Z" == encoding.time_text(elsewhere)
    assert MOMENT == encoding.parse_time(encoding.time_text(MOMENT))
    assert MOMENT == encoding.timestamp(MOMENT).ToDatetime(UTC)
