"""Frames no client should send: a typed error or a documented close code each."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.system.stack import Stack
from tests.system.wire import open_wire

FRAMES = 100_000
"""How many mutated frames are sent; from the issue."""

SPOILED = 8
"""Bad messages on one connection: fewer than it is closed over."""

PROBE = '{"id": %d, "listBackends": {}}'
"""A good frame, whose answer shows that the ones before it were judged."""

SEED = 20261126
"""First of the eight seeds, one for each connection that attacks."""

CLOSE_CODES = {4005, 4500}
"""What the server may close with over a frame; never without a word (1006)."""

SEEDS: list[bytes] = [
    json.dumps(frame).encode()
    for frame in (
        {"id": 1, "createAgent": {"parent": "users/dev", "agent": {"displayName": "한글"}}},
        {"id": 2, "getAgent": {"name": "users/dev/agents/a1"}},
        {
            "id": 3,
            "listAgents": {"parent": "users/dev", "pageSize": 5, "pageToken": "1795000000.5.a1"},
        },
        {"id": 4, "updateAgent": {"agent": {"name": "users/dev/agents/a1"}, "updateMask": "*"}},
        {"id": 5, "deleteAgent": {"name": "users/dev/agents/a1", "etag": "x"}},
        {"id": 6, "watchAgents": {"parent": "users/dev"}},
        {"id": 7, "createTurn": {"parent": "users/dev/agents/a1", "turnId": "t", "turn": {}}},
        {"id": 8, "listTurns": {"parent": "users/dev/agents/a1", "pageToken": "17"}},
        {"id": 9, "cancelTurn": {"name": "users/dev/agents/a1/turns/t"}},
        {"id": 10, "listEvents": {"parent": "users/dev/agents/a1", "afterSequence": -1}},
        {"id": 11, "watchEvents": {"parent": "users/dev/agents/a1", "includeDeltas": True}},
        {"id": 11, "cancel": {}},
        {"id": 12, "listBackends": {}},
        {"id": 13, "authenticate": {"token": "x"}},
        {"id": 14, "createKey": {"parent": "users/dev", "ttl": "5s"}},
        {"id": 15, "revokeKey": {"name": "users/dev/keys/aaaaaaaaaaaa"}},
    )
]
TRAPS: list[bytes] = [
    b"",
    b"[]",
    b"null",
    b"{}",
    b'{"id":0,"listBackends":{}}',
    b'{"id":2147483648,"listBackends":{}}',
    b'{"id":1e400,"listBackends":{}}',
    b'{"id":NaN,"listBackends":{}}',
    b'{"id":1,"listBackends":{},"getAgent":{}}',
    b'{"id":1,"id":2,"listBackends":{}}',
    b'{"id":1,"nothing":{}}',
    b'{"id":1,"listAgents":{"parent":"\\ud800"}}',
    b'{"id":1,"listAgents":{"pageSize":' + b"9" * 5000 + b"}}",
    b'{"id":1,"listAgents":{"parent":"users/dev","pageToken":"' + b"9" * 5000 + b'.1.a"}}',
    b"[" * 5000,
    b'{"a":' * 3000,
]


VALUES: list[object] = [
    None,
    True,
    -1,
    0,
    2**31,
    1.5,
    "",
    "users/dev",
    "\x00",
    "한" * 500,
    [],
    [1, "a"],
    {},
    {"a": {}},
]
"""What a member is replaced by."""


def spoil(rng: random.Random, message: object) -> object:
    """A JSON value like the one given, with one place of it changed."""
    if not isinstance(message, dict) or not message or rng.random() < 0.2:
        return rng.choice(VALUES)
    key = rng.choice(list(message))
    spoiled = dict(message)
    match rng.randrange(4):
        case 0:
            spoiled[key] = spoil(rng, message[key])
        case 1:
            del spoiled[key]
        case 2:
            spoiled[rng.choice(["x", "id", key.upper(), key + "_"])] = spoiled.pop(key)
        case _:
            spoiled[rng.choice(list(json.loads(rng.choice(SEEDS))))] = rng.choice(VALUES)
    return spoiled


def damage(rng: random.Random) -> bytes:
    """A frame like one a client sends, with some of its bytes changed."""
    if rng.random() < 0.2:
        return rng.choice(TRAPS)
    frame = bytearray(rng.choice(SEEDS))
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(frame))
        match rng.randrange(4):
            case 0:
                frame[place] = rng.randrange(256)
            case 1:
                frame[place : place + rng.randint(1, 8)] = b"?"
            case 2:
                frame[place:place] = rng.randbytes(rng.randint(1, 4))
            case _:
                frame += frame[place : place + 20]
    return bytes(frame)


async def attack(stack: Stack, frames: int, rng: random.Random) -> set[int]:
    """Send frames over as many connections as it takes; the close codes seen."""
    codes: set[int] = set()
    sent = 0
    while sent < frames:
        try:
            async with connect(
                f"{stack.url.replace('http', 'ws', 1)}/v1/ws",
                additional_headers={"Authorization": f"Bearer {stack.token}"},
                subprotocols=["moorline.v1"],  # type: ignore[list-item]
                compression=None,
                max_size=None,
                proxy=None,
            ) as socket:
                sent += await burst(socket, rng)
                if socket.close_code is not None:
                    codes.add(socket.close_code)
        except InvalidStatus as refused:
            if refused.response.status_code not in {429, 503}:
                raise
            await asyncio.sleep(0.2)
    return codes


async def burst(socket: ClientConnection, rng: random.Random) -> int:
    """Send bad frames on one connection; how many were sent before the server closed it.

    The one whose bytes are damaged comes last, because it may end the connection.
    """
    sent = 0
    with contextlib.suppress(ConnectionClosed):
        for _ in range(SPOILED):
            text = json.dumps(spoil(rng, json.loads(rng.choice(SEEDS))))
            await socket.send(text if text.startswith("{") else f'{{"id": 5, "x": {text}}}')
            sent += 1
        await socket.send(PROBE % 1000)
        await until_probed(socket, 1000)
        damaged = damage(rng)
        await socket.send(damaged if rng.random() < 0.1 else damaged.decode(errors="replace"))
        sent += 1
        await socket.send(PROBE % 1001)
        await until_probed(socket, 1001)
    return sent


async def until_probed(socket: ClientConnection, number: int) -> None:
    """Read answers, which must be typed, until the one of a good frame."""
    async for answer in socket:
        frame = json.loads(answer)
        if "error" in frame:
            assert frame["error"]["reason"] != "ERROR_REASON_INTERNAL", frame
            assert frame["error"]["message"], frame
        if frame.get("id") == number:
            return


@pytest.mark.timeout(400)
async def test_mutated_frames_never_crash_anything(own_stack: Stack) -> None:
    """100,000 damaged frames: typed errors or documented closes, and a clean log."""
    stack = own_stack
    pids = [stack.pid(service) for service in ("gateway", "session", "executor")]
    codes: set[int] = set()
    for result in await asyncio.gather(
        *(attack(stack, FRAMES // 8, random.Random(SEED + n)) for n in range(8))
    ):
        codes |= result
    async with open_wire(stack.url, stack.token) as wire:
        await wire.call("listAgents", {"parent": wire.user})

    assert codes <= CLOSE_CODES
    assert pids == [stack.pid(service) for service in ("gateway", "session", "executor")]
    logs = stack.logs()
    assert "Traceback" not in logs
    assert "unexpected" not in logs
    assert "never retrieved" not in logs


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("x" * (512 * 1024 + 1), 4500),
        ("not json", 4500),
        (b"\xff\xff\xff", 4500),
    ],
    ids=["oversize", "no-json", "no-protobuf"],
)
async def test_a_bad_frame_closes_with_its_code(
    stack: Stack, message: str | bytes, code: int
) -> None:
    """What cannot be a frame closes the connection, and says so in the code."""
    async with connect(
        f"{stack.url.replace('http', 'ws', 1)}/v1/ws",
        additional_headers={"Authorization": f"Bearer {stack.token}"},
        subprotocols=["moorline.v1"],  # type: ignore[list-item]
        compression=None,
        proxy=None,
    ) as socket:
        await socket.send(message)
        await socket.wait_closed()

    assert code == socket.close_code


async def test_the_other_encoding_after_the_first_frame_closes(stack: Stack) -> None:
    """A connection that began in JSON is closed over a binary frame."""
    async with open_wire(stack.url, stack.token) as wire:
        await wire.socket.send(b"\x08\x01")
        await wire.socket.wait_closed()
        assert wire.socket.close_code == 4500
