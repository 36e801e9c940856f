"""SIGKILL of each service during a streamed turn."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from websockets.exceptions import WebSocketException

from tests.system.clusters import insist
from tests.system.stack import Stack
from tests.system.wire import Transcript, follow, open_wire

STATES = {
    "gateway": {"STATE_FINISHED"},
    "session": {"STATE_FINISHED"},
    "executor": {"STATE_FINISHED", "STATE_LOST"},
}


async def follow_through(
    stack: Stack, agent: str, transcript: Transcript, turns: list[str]
) -> Transcript:
    """Follow to the end over as many connections as it takes."""
    while not all(transcript.outcome(turn) for turn in turns):
        with contextlib.suppress(OSError, WebSocketException):
            async with open_wire(stack.url, stack.token) as wire:
                await follow(wire, agent, transcript, *turns)
        await asyncio.sleep(0.1)
    return transcript


@pytest.mark.timeout(120)
@pytest.mark.parametrize("service", ["gateway", "session", "executor"])
async def test_no_turn_is_lost_when_a_service_is_killed(own_stack: Stack, service: str) -> None:
    """After SIGKILL and restart every acknowledged turn ends once, within 30 s."""
    stack = own_stack
    async with open_wire(stack.url, stack.token) as wire:
        agents = [await wire.agent() for _ in range(3)]
        turns = {
            agent: [
                await wire.prompt(agent, "/sim say before\n/sim stream 80 25\n/sim say after"),
                await wire.prompt(agent, "/sim say queued"),
            ]
            for agent in agents
        }
        await asyncio.sleep(0.8)
    transcripts = {agent: Transcript() for agent in agents}
    following = [
        asyncio.create_task(follow_through(stack, agent, transcripts[agent], turns[agent]))
        for agent in agents
    ]
    await asyncio.sleep(0.3)
    await stack.kill(service)
    async with asyncio.timeout(30):
        await asyncio.gather(*following)
    async with open_wire(stack.url, stack.token) as wire:
        fresh = {agent: await follow(wire, agent, Transcript(), *turns[agent]) for agent in agents}

    for agent in agents:
        first, second = (fresh[agent].outcome(turn) for turn in turns[agent])
        assert first is not None
        assert second is not None
        assert first["state"] in STATES[service]
        assert second["state"] == "STATE_FINISHED"
        assert fresh[agent].events == transcripts[agent].events
        streamed = " ".join(f"w{n}" for n in range(1, 81))
        if first["state"] == "STATE_FINISHED":
            assert streamed in [message["text"] for message in fresh[agent].items("agentMessage")]


@pytest.mark.timeout(120)
async def test_a_tool_that_may_have_run_is_not_run_again(own_stack: Stack) -> None:
    """When the executor dies after a tool call, the turn is lost, and says so."""
    stack = own_stack
    async with open_wire(stack.url, stack.token) as wire:
        agent = await wire.agent()
        turn = await wire.prompt(agent, "/sim write a.txt x\n/sim stream 1000 20")
        following = await wire.prompt(agent, "/sim read a.txt")
        transcript = Transcript()
        async with contextlib.aclosing(wire.watch(agent)) as updates:
            async for update in updates:
                transcript.apply(update)
                if transcript.items("toolResult") and transcript.open:
                    break
        await stack.kill("executor")
        await follow(wire, agent, transcript, turn, following)

    outcome = transcript.outcome(turn)
    assert outcome is not None
    assert outcome["state"] == "STATE_LOST"
    assert outcome["error"]["reason"] == "ERROR_REASON_EXECUTION_LOST"
    assert transcript.items("toolResult")[-1]["output"] == "x"


@pytest.mark.timeout(120)
async def test_an_open_permission_survives_the_death_of_every_service(own_stack: Stack) -> None:
    """A permission asked before gateway and session died is answered after."""
    stack = own_stack
    async with open_wire(stack.url, stack.token) as wire:
        agent = await wire.agent()
        turn = await wire.prompt(agent, "/sim ask Bash ls\n/sim say done")
        seen = Transcript()
        async for update in wire.watch(agent):
            seen.apply(update)
            if seen.items("permissionRequest"):
                break
    await stack.kill("session")
    await stack.kill("gateway")
    permission = seen.items("permissionRequest")[0]["permissionId"]
    answered = False
    transcript = Transcript()
    async with asyncio.timeout(30):
        while not answered:
            with contextlib.suppress(OSError, WebSocketException):
                async with open_wire(stack.url, stack.token) as wire:
                    # The session service may only just have been started.
                    await insist(
                        wire,
                        "resolvePermission",
                        {"name": turn, "decision": {"permissionId": permission, "allowed": True}},
                    )
                    answered = True
            await asyncio.sleep(0.1)
        await follow_through(stack, agent, transcript, [turn])

    assert transcript.items("toolResult")[0]["output"] == "ok"


@pytest.mark.timeout(120)
async def test_a_tool_that_waits_for_permission_is_asked_about_again(own_stack: Stack) -> None:
    """It cannot have run when the executor dies, so the turn is tried again, and goes on."""
    stack = own_stack
    async with open_wire(stack.url, stack.token) as wire:
        agent = await wire.agent()
        turn = await wire.prompt(agent, "/sim ask Bash ls\n/sim say done")
        transcript = Transcript()
        killed = False
        async with asyncio.timeout(60):
            async for update in wire.watch(agent):
                transcript.apply(update)
                asked = len(transcript.items("permissionRequest"))
                if asked == 1 and not killed:
                    killed = True
                    await stack.kill("executor")
                elif asked == 2 and len(transcript.items("permissionDecision")) == 1:
                    permission = transcript.items("permissionRequest")[1]["permissionId"]
                    await wire.call(
                        "resolvePermission",
                        {"name": turn, "decision": {"permissionId": permission, "allowed": True}},
                    )
                if transcript.outcome(turn):
                    break

    outcome = transcript.outcome(turn)
    assert outcome is not None
    assert outcome["state"] == "STATE_FINISHED"
    assert [2] == [attempt["attempt"] for attempt in transcript.items("turnAttempt")]
    assert ["ok"] == [result["output"] for result in transcript.items("toolResult")]
