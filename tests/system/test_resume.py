"""Coming back: a client that was cut sees exactly what one that was not."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.system.stack import Stack
from tests.system.wire import Transcript, Wire, WireError, follow, open_wire

TURN = "/sim think first\n/sim stream 60 25\n/sim write a.txt x\n/sim stream 60 25\n/sim say end"


async def cut_client(stack: Stack, agent: str, cuts: int, rng: random.Random) -> Transcript:
    """Follow an agent over connections that die at random moments."""
    transcript = Transcript()
    for _ in range(cuts):
        async with open_wire(stack.url, stack.token) as wire:
            transcript.connected()
            try:
                async with asyncio.timeout(rng.uniform(0.0, 0.25)):
                    async for update in wire.watch(agent, transcript.sequence):
                        transcript.apply(update)
            except TimeoutError:
                wire.socket.transport.abort()
    return transcript


@pytest.mark.timeout(180)
async def test_two_hundred_cuts_lose_and_double_nothing(stack: Stack, wire: Wire) -> None:
    """A client cut 200 times ends with the transcript of one that was never cut."""
    agent = await wire.agent()
    turns: list[str] = []

    async def prompts(finished: asyncio.Event) -> None:
        while not finished.is_set():
            turns.append(await wire.prompt(agent, TURN))
            await follow(wire, agent, Transcript(), turns[-1])

    finished = asyncio.Event()
    prompting = asyncio.create_task(prompts(finished))
    cut = [
        asyncio.create_task(cut_client(stack, agent, 50, random.Random(seed))) for seed in range(4)
    ]
    transcripts = await asyncio.gather(*cut)
    finished.set()
    await prompting
    async with open_wire(stack.url, stack.token) as other:
        whole = await follow(other, agent, Transcript(), *turns)
        for transcript in transcripts:
            await follow(other, agent, transcript, *turns)

    assert all(whole.events == transcript.events for transcript in transcripts)
    assert all(transcript.open == {} for transcript in transcripts)
    assert list(range(1, len(whole.events) + 1)) == [event["sequence"] for event in whole.events]


async def test_a_late_comer_gets_the_text_so_far_whole(stack: Stack, wire: Wire) -> None:
    """A second connection in mid-message shows what the first one shows."""
    agent = await wire.agent()
    turn = await wire.prompt(agent, "/sim stream 100 20")
    await asyncio.sleep(0.7)
    async with open_wire(stack.url, stack.token) as other:
        late, early = await asyncio.gather(
            follow(other, agent, Transcript(), turn), follow(wire, agent, Transcript(), turn)
        )

    assert early.events == late.events
    assert late.items("agentMessage")[0]["text"] == " ".join(f"w{n}" for n in range(1, 101))


async def test_a_position_that_does_not_exist_is_refused(wire: Wire) -> None:
    """A cursor from another history is told to start again, never given a mixture."""
    agent = await wire.agent()

    with pytest.raises(WireError) as caught:
        async for _ in wire.watch(agent, after=999):
            pass

    assert caught.value.reason == "SEQUENCE_UNKNOWN"
