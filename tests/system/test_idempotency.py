"""Sending again: a turn id makes one turn."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from tests.system.stack import Stack
from tests.system.wire import Transcript, Wire, WireError, follow, open_wire


async def test_fifty_sends_at_once_make_one_turn(stack: Stack, wire: Wire) -> None:
    """The same turn id sent 50 times over several connections is one turn."""
    agent = await wire.agent()
    async with AsyncExitStack() as connections:
        wires = [
            await connections.enter_async_context(open_wire(stack.url, stack.token))
            for _ in range(5)
        ]
        names = await asyncio.gather(
            *(wires[n % 5].prompt(agent, "/sim say once", "same-id") for n in range(50))
        )
        transcript = await follow(wire, agent, Transcript(), names[0])

    assert {f"{agent}/turns/same-id"} == set(names)
    assert [message["text"] for message in transcript.items("userMessage")] == ["/sim say once"]
    assert len(transcript.items("agentMessage")) == 1


async def test_the_same_id_with_other_content_is_refused(wire: Wire) -> None:
    """A turn id cannot be used for another prompt, while it runs or later."""
    agent = await wire.agent()
    turn = await wire.prompt(agent, "/sim say one", "reused")
    reasons = []
    for _ in range(2):
        try:
            await wire.prompt(agent, "/sim say two", "reused")
        except WireError as error:
            reasons.append(error.reason)
        await follow(wire, agent, Transcript(), turn)

    assert reasons == ["RESOURCE_EXISTS"] * 2
    assert turn == await wire.prompt(agent, "/sim say one", "reused")
