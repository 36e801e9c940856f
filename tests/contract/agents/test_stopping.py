"""Who stops an agent has stopped it, and who limits it has limited it."""

from __future__ import annotations

import time

import pytest

from tests.contract.agents.conftest import Serve
from tests.contract.agents.executors import ACCEPT_ALL, Agent
from tests.contract.agents.kinds import Kind
from tests.contract.agents.turns import AT_ONCE_SECONDS, Turn, until

STOPPED_SECONDS = 1.0
"""From the cancel to the outcome, whatever the agent does."""


async def stop(agent: Agent, turn: Turn) -> float:
    """Cancel a turn; return the seconds until it has ended."""
    began = time.monotonic()
    await agent.cancel(turn)
    await agent.end(turn)
    return turn.ended - began


@pytest.mark.alone
async def test_stopped_while_it_speaks(agent: Agent, kind: Kind) -> None:
    """Within a second; what was said so far is kept, and the next prompt works."""
    turn = await agent.begin("/sim stream 2000 20")
    await turn.until(lambda: any("w5" in text for text in turn.shown.values()))
    seconds = await stop(agent, turn)
    (said,) = turn.of("agent_message")
    after = await agent.run("/sim say alive")

    assert "cancelled" == turn.ending
    assert seconds < STOPPED_SECONDS
    assert said.text.startswith("w1 w2 w3 w4 w5")
    assert said.partial
    assert ["alive"] == after.texts
    assert [] == kind.commands(agent.workspace)


@pytest.mark.alone
async def test_stopped_in_a_command(agent: Agent, kind: Kind) -> None:
    """Within a second, and nothing of the command is left."""
    turn = await agent.begin(
        "/sim bash touch began.txt && sleep 100", "/sim say never", permission_mode=ACCEPT_ALL
    )
    await turn.until(lambda: turn.of("tool_call"))
    await until((agent.files / "began.txt").exists)
    seconds = await stop(agent, turn)
    after = await agent.run("/sim say alive", permission_mode=ACCEPT_ALL)

    assert "cancelled" == turn.ending
    assert seconds < STOPPED_SECONDS
    assert [] == turn.texts
    assert ["alive"] == after.texts
    assert [] == kind.commands(agent.workspace)


@pytest.mark.alone
async def test_stopped_at_an_open_question(agent: Agent) -> None:
    """Within a second; what was asked for is not done, and an answer that is late does no harm."""
    turn = await agent.begin("/sim bash touch a.txt", "/sim say never")
    request = await agent.asked(turn)
    seconds = await stop(agent, turn)
    after = await agent.run("/sim say alive")

    assert "cancelled" == turn.ending
    assert seconds < STOPPED_SECONDS
    assert not (agent.files / "a.txt").exists()
    assert request.permission_id
    assert ["alive"] == after.texts


@pytest.mark.alone
async def test_stopped_before_it_began(agent: Agent) -> None:
    """A turn whose process is still being started ends at once, too."""
    turn = await agent.begin("/sim sleep 500", "/sim say never")
    seconds = await stop(agent, turn)
    after = await agent.run("/sim say alive")

    assert "cancelled" == turn.ending
    assert seconds < STOPPED_SECONDS
    assert ["alive"] == after.texts


async def test_steps_are_limited(agent: Agent) -> None:
    """The turn fails with its reason, and the next one works."""
    turn = await agent.run("/sim fail max_turns", max_steps=2)
    after = await agent.run("/sim say alive", max_steps=2)

    assert "failed MAX_STEPS" == turn.ending
    assert ["alive"] == after.texts


async def test_time_is_limited(agent: Agent) -> None:
    """A turn that takes longer than it may ends with that reason."""
    await agent.run("/sim say warm")
    execution = {"timeout": {"seconds": 1}}
    turn = await agent.run("/sim stream 2000 20", **execution)
    after = await agent.run("/sim say alive")

    assert "failed TURN_TIMEOUT" == turn.ending
    assert turn.ended - turn.began < 1 + AT_ONCE_SECONDS
    assert ["alive"] == after.texts


async def test_silence_is_limited(serving: Serve) -> None:
    """An agent that owes a word and says none is ended with that reason, and may be tried again."""
    async with serving("silent", STALL_LIMIT="10") as executor:
        agent = executor.agent()
        await agent.run("/sim say warm")
        turn = await agent.run("/sim hang")
        after = await agent.run("/sim say alive")

    assert "failed AGENT_STALLED" == turn.ending
    assert turn.outcome.error.HasField("retry_delay")
    assert turn.ended - turn.began < 10 + AT_ONCE_SECONDS
    assert ["alive"] == after.texts
