"""The same protocol in protobuf: binary frames carry what text frames carry."""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format
from websockets.asyncio.client import connect

from moorline.gateway.v1 import frames_pb2
from moorline.session.v1 import events_pb2
from tests.system.stack import Stack
from tests.system.wire import Transcript, Wire, follow


async def test_a_binary_client_sees_what_a_text_client_sees(stack: Stack, wire: Wire) -> None:
    """Two clients of one agent, one in each encoding, end with the same transcript."""
    agent = await wire.agent()
    turn = await wire.prompt(agent, "/sim think 생각\n/sim stream 50 5\n/sim write a.txt x")
    seen = Transcript()
    async with connect(
        f"{stack.url.replace('http', 'ws', 1)}/v1/ws",
        additional_headers={"Authorization": f"Bearer {stack.token}"},
        subprotocols=["moorline.v1"],  # type: ignore[list-item]
        compression=None,
        proxy=None,
    ) as socket:
        frame = frames_pb2.ClientFrame(id=1)
        frame.watch_events.parent = agent
        frame.watch_events.include_deltas = True
        await socket.send(frame.SerializeToString())
        welcome = frames_pb2.ServerFrame.FromString(await socket.recv(decode=False))
        while not seen.outcome(turn):
            reply = frames_pb2.ServerFrame.FromString(await socket.recv(decode=False))
            for update in reply.watch_events_response.updates:
                seen.apply(json_format.MessageToDict(update))
    text = await follow(wire, agent, Transcript(), turn)

    assert "users/dev" == welcome.welcome.user
    # Parsed: a whole millisecond has two right spellings.
    assert [parsed(event) for event in text.events] == [parsed(event) for event in seen.events]


def parsed(event: Any) -> events_pb2.Event:
    """Return an event as the message that its JSON means."""
    return json_format.ParseDict(event, events_pb2.Event())
