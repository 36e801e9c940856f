"""Damaged frames against the connection: typed errors or documented closes, nothing else."""

from __future__ import annotations

import contextlib
import json
import random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorline.gateway.v1 import frames_pb2
from services.gateway.connection import Connection
from services.gateway.encoding import JSON, BadFrame, BadMessage
from tests.unit.gateway.fakes import AGENT, Bench, FakeSocket, bench, settle

CALLS = frames_pb2.ClientFrame.DESCRIPTOR.oneofs_by_name["call"].fields
MEMBERS = [field.json_name for field in CALLS]
NAMES = st.sampled_from(
    ["parent", "name", "agent", "turn", "prompt", "text", "createTime", "ttl", "updateMask"]
) | st.sampled_from(["decision", "state", "usage", "error", "metadata", "retryDelay", "pageSize"])
FRAMES = 4000
CLOSE_CODES = {4005, 4500}

SEEDS = [
    {"id": 1, "createAgent": {"parent": "users/ada", "agent": {"displayName": "한글"}}},
    {"id": 2, "updateAgent": {"agent": {"name": AGENT}, "updateMask": "displayName,backend"}},
    {"id": 3, "createTurn": {"parent": AGENT, "turnId": "t", "turn": {"prompt": {"text": "x"}}}},
    {"id": 4, "watchEvents": {"parent": AGENT, "afterSequence": 3, "includeDeltas": True}},
    {"id": 4, "cancel": {}},
    {"id": 5, "createKey": {"parent": "users/ada", "ttl": "5s"}},
    {"id": 6, "authenticate": {"token": "x"}},
    {"id": 7, "resolvePermission": {"name": AGENT, "decision": {"allowed": True}}},
    {"id": 8, "listEvents": {"parent": AGENT, "pageSize": 1.0}},
]


def binary_seed(rng: random.Random) -> bytes:
    """A good frame in protobuf."""
    frame = frames_pb2.ClientFrame(id=rng.randint(1, 9))
    frame.create_turn.parent = AGENT
    frame.create_turn.turn.prompt.text = "x" * rng.randint(0, 40)
    return frame.SerializeToString()


def damaged(rng: random.Random, frame: bytes) -> bytes:
    """A frame with bytes changed, removed, added or repeated."""
    damage = bytearray(frame)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(damage) + 1)
        match rng.randrange(4):
            case 0:
                damage[place : place + 1] = rng.randbytes(1)
            case 1:
                del damage[place : place + rng.randint(1, 8)]
            case 2:
                damage[place:place] = rng.choice([b"null", b"[]", b"{", b"1e9", b'"', b"\\u0000"])
            case _:
                damage[place:place] = damage[place : place + 20]
    return bytes(damage)


async def check(b: Bench, socket: FakeSocket, *, binary: bool) -> int:
    """Look at what a connection has sent; how many errors there were."""
    await settle()
    errors = 0
    for payload, _ in socket.sent:
        frame = frames_pb2.ServerFrame()
        if binary:
            frame.ParseFromString(payload)
        else:
            assert isinstance(orjson.loads(payload), dict)
        errors += b"ERROR_REASON" in payload or frame.HasField("error")
        assert b"ERROR_REASON_INTERNAL" not in payload
    socket.sent.clear()
    assert all(code in CLOSE_CODES for code, _ in b.closes)
    return errors


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
async def test_damaged_frames_do_no_harm(binary: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Thousands of them, each answered, and not one line in the log."""
    rng = random.Random(20261126)
    async with bench(frames_burst=10**9, calls_in_flight=4) as b:
        connection: Connection | None = None
        errors = 0
        for _ in range(FRAMES):
            if connection is None or connection.closed:
                connection, socket = b.connect()
            seed = binary_seed(rng) if binary else orjson.dumps(rng.choice(SEEDS))
            connection.receive(damaged(rng, seed), binary=binary)
            b.clock.now += 2
            errors += await check(b, socket, binary=binary)

    assert errors
    assert b.closes
    assert [] == [record for record in caplog.records if record.levelname == "ERROR"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(), inner),
    max_leaves=8,
)


@given(frame=st.dictionaries(st.sampled_from(["id", *MEMBERS]) | st.text(), VALUES))
def test_no_json_breaks_the_parser(frame: Any) -> None:
    """Whatever stands where, it is a call, or a bad frame or message."""
    try:
        payload = json.dumps(frame).encode()
        parsed = JSON.parse(payload)
    except (BadFrame, BadMessage):
        return
    assert parsed.id >= 1


@given(name=st.sampled_from(MEMBERS), content=st.dictionaries(NAMES, VALUES))
def test_no_request_breaks_the_parser(name: str, content: Any) -> None:
    """The same one level deeper, where the messages' own types are."""
    with contextlib.suppress(BadFrame, BadMessage):
        assert 1 == JSON.parse(json.dumps({"id": 1, name: content}).encode()).id
