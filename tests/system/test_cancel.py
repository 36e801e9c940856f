"""Cancelling: in every situation within a second, and the next prompt works."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.system.wire import Transcript, Wire, follow

pytestmark = pytest.mark.alone

LIMIT = 1.0
"""Seconds from the cancel to the outcome: the issue's own limit, in simulation."""


async def until(wire: Wire, agent: str, kind: str) -> None:
    """Wait for an update of a kind: an item's name, or `delta`."""
    async for update in wire.watch(agent):
        if kind in update or kind in update.get("event", {}).get("item", {}):
            return


@pytest.mark.parametrize(
    ("prompt", "sign"),
    [
        ("/sim stream 500 10", "delta"),
        ("/sim ask Bash rm -rf /", "permissionRequest"),
        ("/sim say before\n/sim hang", "agentMessage"),
        ("/sim stream 900000 0", "delta"),
    ],
    ids=["streaming", "asking", "hung", "flooding"],
)
async def test_a_running_turn_is_cancelled_within_a_second(
    wire: Wire, prompt: str, sign: str
) -> None:
    """A running turn ends as cancelled, keeps what was shown, and the agent goes on."""
    agent = await wire.agent()
    turn = await wire.prompt(agent, prompt)
    await until(wire, agent, sign)
    begin = time.monotonic()
    await wire.call("cancelTurn", {"name": turn})
    transcript = await follow(wire, agent, Transcript(), turn)
    elapsed = time.monotonic() - begin
    following = await wire.prompt(agent, "/sim say next")
    await follow(wire, agent, transcript, following)

    outcome = transcript.outcome(turn)
    assert outcome is not None
    assert outcome["state"] == "STATE_CANCELLED"
    assert elapsed < LIMIT
    assert transcript.items("agentMessage")[-1]["text"] == "next"
    if sign == "delta":
        assert transcript.items("agentMessage")[0]["partial"]


async def test_a_queued_turn_is_cancelled_and_never_runs(wire: Wire) -> None:
    """A waiting turn ends at once; the ones around it run."""
    agent = await wire.agent()
    running = await wire.prompt(agent, "/sim sleep 600\n/sim say first")
    queued = await wire.prompt(agent, "/sim say never")
    last = await wire.prompt(agent, "/sim say last")
    begin = time.monotonic()
    await wire.call("cancelTurn", {"name": queued})
    transcript = await follow(wire, agent, Transcript(), queued)
    elapsed = time.monotonic() - begin
    await follow(wire, agent, transcript, running, last)

    outcome = transcript.outcome(queued)
    assert outcome is not None
    assert outcome["state"] == "STATE_CANCELLED"
    assert elapsed < LIMIT
    assert [message["text"] for message in transcript.items("agentMessage")] == ["first", "last"]


async def test_leaving_a_connection_cancels_nothing(wire: Wire) -> None:
    """Only `cancelTurn` cancels."""
    agent = await wire.agent()
    turn = await wire.prompt(agent, "/sim stream 40 20")
    watching = await wire.send("watchEvents", {"parent": agent})
    await wire.socket.send(f'{{"id": {watching}, "cancel": {{}}}}')
    while "end" not in await wire.reply(watching):
        pass
    await asyncio.sleep(0.2)
    transcript = await follow(wire, agent, Transcript(), turn)

    outcome = transcript.outcome(turn)
    assert outcome is not None
    assert outcome["state"] == "STATE_FINISHED"
