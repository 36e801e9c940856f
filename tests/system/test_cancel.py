"""Cancelling: in every situation within a second, and the next prompt works."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from tests.system.held import HOLD, allow
from tests.system.wire import Transcript, Wire, follow

pytestmark = pytest.mark.alone

LIMIT = 1.0
"""Seconds from the cancel to the outcome: the issue's own limit, in simulation."""

TRIES = 3
"""What shares the machine delays one of them, and the platform every one."""


async def cancel(wire: Wire, agent: str, turn: str, *, sign: str) -> tuple[Transcript, float]:
    """Cancel a turn at a sign, and follow to its outcome.

    Args:
        wire: A connection.
        agent: Whose turn it is.
        turn: Which one.
        sign: An item's name, or `delta`.

    Returns:
        What was seen, and the seconds from the cancel to the outcome.
    """
    transcript, begin = Transcript(), 0.0
    async with contextlib.aclosing(wire.watch(agent)) as updates:
        async for update in updates:
            transcript.apply(update)
            if not begin and (sign in update or sign in update.get("event", {}).get("item", {})):
                begin = time.monotonic()
                await wire.call("cancelTurn", {"name": turn})
            if transcript.outcome(turn):
                break
    return transcript, time.monotonic() - begin


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
    took: list[float] = []
    for _ in range(TRIES):
        agent = await wire.agent()
        turn = await wire.prompt(agent, prompt)
        transcript, elapsed = await cancel(wire, agent, turn, sign=sign)
        took.append(elapsed)
        following = await wire.prompt(agent, "/sim say next")
        await follow(wire, agent, transcript, following)

        outcome = transcript.outcome(turn)
        assert outcome is not None
        assert outcome["state"] == "STATE_CANCELLED"
        assert transcript.items("agentMessage")[-1]["text"] == "next"
        if sign == "delta":
            assert transcript.items("agentMessage")[0]["partial"]

    assert min(took) < LIMIT


async def test_a_queued_turn_is_cancelled_and_never_runs(wire: Wire) -> None:
    """A waiting turn ends at once; the ones around it run."""
    took: list[float] = []
    for _ in range(TRIES):
        agent = await wire.agent()
        running = await wire.prompt(agent, f"{HOLD}\n/sim say first")
        queued = await wire.prompt(agent, "/sim say never")
        last = await wire.prompt(agent, "/sim say last")
        transcript, elapsed = await cancel(wire, agent, queued, sign="permissionRequest")
        took.append(elapsed)
        await allow(wire, running, transcript.items("permissionRequest")[0]["permissionId"])
        await follow(wire, agent, transcript, running, last)

        outcome = transcript.outcome(queued)
        assert outcome is not None
        assert outcome["state"] == "STATE_CANCELLED"
        assert ["first", "last"] == [one["text"] for one in transcript.items("agentMessage")]

    assert min(took) < LIMIT


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
