"""SIGKILL of the executor while real agents work in containers, seen from the WebSocket."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.agents.kinds import KINDS
from tests.standin.process import standing_in
from tests.system.stack import Stack, running
from tests.system.wire import Transcript, follow, open_wire

pytestmark = [pytest.mark.system, pytest.mark.docker, pytest.mark.timeout(180)]

WORDS = 60


@pytest.fixture
def docker_stack(tmp_path: Path) -> Iterator[Stack]:
    """The platform, as `make run BACKEND=docker UPSTREAM=...` starts it."""
    if missing := KINDS["docker"].missing():
        pytest.skip(f"docker: {missing}")
    key = f"sk-{uuid.uuid4().hex}"
    environment = {"ANTHROPIC_API_KEY": key, "DISABLE_DOCKER": "false"}
    with (
        standing_in(key) as url,
        running(tmp_path / "data", environment, "--backend=docker", f"--upstream={url}") as stack,
    ):
        yield stack


async def test_a_turn_goes_on_in_its_container(docker_stack: Stack) -> None:
    """It finishes, though a tool had run; every fragment and every event comes exactly once."""
    stack = docker_stack
    transcript = Transcript()
    killed = False
    async with open_wire(stack.url, stack.token) as wire:
        agent = await wire.agent(permissionMode="PERMISSION_MODE_ACCEPT_ALL")
        turn = await wire.prompt(
            agent, f"/sim write a.txt one\n/sim stream {WORDS} 100\n/sim say the end"
        )
        async with asyncio.timeout(120):
            async for update in wire.watch(agent, patience=60):
                transcript.apply(update)
                if not killed and any("w10 " in text for text in transcript.open.values()):
                    killed = True
                    await stack.kill("executor")
                if transcript.outcome(turn):
                    break
        fresh = await follow(wire, agent, Transcript(), turn)
    outcome = transcript.outcome(turn)
    texts = [message["text"].strip() for message in transcript.items("agentMessage")]

    assert killed
    assert outcome is not None
    assert outcome["state"] == "STATE_FINISHED"
    assert [" ".join(f"w{n}" for n in range(1, WORDS + 1)), "the end"] == texts[:2]
    assert fresh.events == transcript.events
    assert 1 == len(transcript.items("toolCall"))
    assert 1 == len(transcript.items("fileChanges"))
