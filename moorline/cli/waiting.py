"""Tells a person why nothing happens: the turn waits for room, and for how many others.

Does not know how the turn is followed.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import moorline
from moorline.cli.invocation import Invocation

PATIENCE_SECONDS = 1.0
"""Most turns have begun by then, and nobody needs to be told."""


async def tell_place(
    client: moorline.AsyncClient, invocation: Invocation, turn: moorline.AsyncTurn
) -> None:
    """Tell a turn's place in the queue, and each new one, until it runs; cancel it before."""
    await asyncio.sleep(PATIENCE_SECONDS)
    told = 0
    # That the connection is gone is told by who follows the turn.
    with suppress(moorline.MoorlineError):
        async with client.agents.watch() as agents:
            async for agent in agents:
                if not isinstance(agent, moorline.Agent) or agent.name != turn.agent:
                    continue
                if agent.running_turn != turn.id:
                    # It waits for another turn of its agent, which was told before.
                    continue
                place = agent.queue_position
                if not place:
                    return
                if place != told:
                    invocation.say("place", position=place)
                    told = place
