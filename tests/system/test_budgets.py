"""What agents may cost: counted, shown and held to, through the three real services."""

from __future__ import annotations

import signal

from tests.system.clusters import insist
from tests.system.stack import Stack
from tests.system.wire import Transcript, Wire, follow, open_wire

COSTLY = "/sim say done\n/sim usage 10 20 60000"


async def turn(wire: Wire, agent: str, prompt: str) -> dict[str, object]:
    """The outcome of a prompt."""
    name = await wire.prompt(agent, prompt)
    transcript = await follow(wire, agent, Transcript(), name)
    return dict(transcript.items("turnOutcome")[-1])


async def test_an_agents_budget_is_held_and_raising_it_goes_on(wire: Wire) -> None:
    """A turn with nothing left fails at once, and says which budget it met."""
    agent = await wire.agent(budgetUsdMicros="100000")
    for _ in range(2):
        assert "STATE_FINISHED" == (await turn(wire, agent, COSTLY))["state"]

    refused = await turn(wire, agent, COSTLY)

    assert "STATE_FAILED" == refused["state"]
    error = refused["error"]
    assert isinstance(error, dict)
    assert {"budget": "agent"} == error["metadata"]
    shown = (await wire.call("getAgent", {"name": agent}))["agent"]
    assert {"120000", "3"} <= set(shown["usage"].values())
    await wire.call(
        "updateAgent",
        {"agent": {"name": agent, "budgetUsdMicros": "0"}, "updateMask": "budgetUsdMicros"},
    )
    assert "STATE_FINISHED" == (await turn(wire, agent, COSTLY))["state"]


async def test_a_users_month_outlives_agents_and_processes(own_stack: Stack) -> None:
    """What was consumed stays, whoever is deleted or killed."""
    async with open_wire(own_stack.url, own_stack.token) as wire:
        first, second = await wire.agent(), await wire.agent()
        for agent in (first, first, second):
            await turn(wire, agent, COSTLY)
        await wire.call("deleteAgent", {"name": first})
        await own_stack.kill("session", signal.SIGKILL)
    async with open_wire(own_stack.url, own_stack.token) as wire:
        # The session service may only just have been started.
        usage = (await insist(wire, "getUsage", {"name": "users/dev/usage/current"}))["usage"]

    assert ("3", "180000") == (usage["total"]["turns"], usage["total"]["costUsdMicros"])
