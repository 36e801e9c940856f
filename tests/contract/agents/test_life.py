"""An agent outlives its processes, and the machines they run on."""

from __future__ import annotations

import time

import pytest

from tests.contract.agents.conftest import Serve
from tests.contract.agents.executors import ACCEPT_ALL, Agent
from tests.contract.agents.kinds import ONLY_REAL, Kind
from tests.contract.agents.turns import Turn, until

CRASHED_SECONDS = 2.0
"""From the end of the program to the outcome."""


@pytest.mark.alone
async def test_crash_ends_the_turn_and_nothing_else(agent: Agent, kind: Kind) -> None:
    """Within two seconds, with its reason; the next prompt goes on with the conversation."""
    await agent.run("the first", "/sim say before", permission_mode=ACCEPT_ALL)
    turn = await agent.begin(
        "/sim stream 2000 20" if kind.real else "/sim stream 20 20",
        "/sim crash",
        permission_mode=ACCEPT_ALL,
    )
    await turn.until(lambda: any("w5" in text for text in turn.shown.values()))
    killed = time.monotonic()
    kind.kill(agent.workspace)
    await agent.end(turn)
    after = await agent.run("/sim recall", permission_mode=ACCEPT_ALL)

    assert "failed AGENT_CRASHED" == turn.ending
    assert turn.ended - killed < CRASHED_SECONDS
    assert turn.texts[0].startswith("w1 w2 w3 w4 w5")
    assert ["I remember: the first"] == after.texts


async def test_killed_at_once_is_not_lost(serving: Serve) -> None:
    """An agent whose first turn was killed before it had told anything goes on all the same."""
    async with serving("strict", GRACE="0") as executor:
        agent = executor.agent()
        turn = await agent.begin("/sim stream 2000 20")
        await turn.until(lambda: turn.deltas > 2)
        await agent.cancel(turn)
        await agent.end(turn)
        after = await agent.run("/sim say alive")

    assert "cancelled" == turn.ending
    assert ["alive"] == after.texts


@ONLY_REAL
@pytest.mark.alone
async def test_crash_in_a_command_leaves_nothing_running(agent: Agent, kind: Kind) -> None:
    """The command dies with the program; nobody knows what it did, so the turn is lost."""
    turn = await agent.begin("/sim bash touch a && sleep 100", permission_mode=ACCEPT_ALL)
    await until(lambda: any("sleep 100" in line for line in kind.commands(agent.workspace)))
    killed = time.monotonic()
    kind.kill(agent.workspace)
    await agent.end(turn)
    # The engine may say that a container is gone a moment before its last process is.
    await until(lambda: not kind.processes(agent.workspace))

    assert "lost AGENT_CRASHED" == turn.ending
    assert turn.ended - killed < CRASHED_SECONDS


async def test_idle_agent_sleeps_and_wakes(serving: Serve, kind: Kind) -> None:
    """Its process ends; the next prompt finds the conversation as it was."""
    async with serving("sleepy", IDLE_LIMIT="0.1") as executor:
        agent = executor.agent()
        await agent.run("the first", "/sim say one")
        await until(lambda: not kind.processes(agent.workspace))
        turn = await agent.run("/sim recall")

    assert ["I remember: the first"] == turn.texts


async def test_agent_moves_to_an_empty_machine(serving: Serve) -> None:
    """With what was heard of its transcript, which is all that the platform keeps."""
    async with serving("first") as executor:
        agent = executor.agent(permission_mode=ACCEPT_ALL)
        await agent.run("the first", "/sim say one", "/sim bash echo x > a.txt")
        await agent.run("the second", "/sim task say sub", "/sim say two")
    async with serving("second") as executor:
        agent.executor = executor
        missing = await _needs_transcript(agent)
        for file, lines in agent.transcript.items():
            await executor.restore(agent.workspace, agent.conversation, file, *lines)
        turn = await agent.run("/sim recall")

    assert missing
    assert "finished" == turn.ending
    assert ["I remember: the first, the second"] == turn.texts


async def test_transcript_is_told_before_the_outcome(agent: Agent) -> None:
    """Numbered like the facts, without holes; the last entry told is what the next turn names."""
    turn = await agent.run("a remark", "/sim say one")

    assert list(range(1, len(turn.sequences) + 1)) == turn.sequences
    assert turn.parts
    assert {agent.conversation} == {part.conversation for part in turn.parts}
    assert agent.last_entry in agent.transcript[""][-1] or agent.last_entry


async def test_background_work_never_ends_the_users_turn(agent: Agent) -> None:
    """The turn ends when it ends; the outcome tells how much goes on behind it."""
    turn = await agent.run(
        "/sim background 60000 never", "/sim say meanwhile", permission_mode=ACCEPT_ALL
    )
    after = await agent.run("/sim say still there", permission_mode=ACCEPT_ALL)

    assert "finished" == turn.ending == after.ending
    assert ["meanwhile"] == turn.texts
    assert ["still there"] == after.texts
    assert 1 == turn.outcome.background_tasks == after.outcome.background_tasks


async def test_background_work_is_heard_in_a_turn_of_its_own(agent: Agent) -> None:
    """It ends when nothing is left, and the conversation goes on with what it said."""
    await agent.run(
        "the first",
        "/sim background 700 all built",
        "/sim say wait",
        permission_mode=ACCEPT_ALL,
    )
    turn = await agent.run(background=True, permission_mode=ACCEPT_ALL)
    after = await agent.run("/sim recall", permission_mode=ACCEPT_ALL)

    assert "finished" == turn.ending
    assert ["all built"] == turn.texts
    assert 0 == turn.outcome.background_tasks
    assert ["I remember: the first"] == after.texts


async def test_background_turn_gives_way(agent: Agent) -> None:
    """The user's prompt comes first; the work goes on."""
    await agent.run("/sim background 60000 never", permission_mode=ACCEPT_ALL)
    waiting = await agent.begin(background=True, permission_mode=ACCEPT_ALL)
    turn = await agent.run("/sim say mine", permission_mode=ACCEPT_ALL)
    await waiting.over()

    assert ["mine"] == turn.texts
    assert 1 == turn.outcome.background_tasks
    assert [] == waiting.texts


async def test_deleted_agent_leaves_nothing(agent: Agent, kind: Kind) -> None:
    """Neither a process nor a file."""
    turn = await agent.begin("/sim stream 2000 20")
    await turn.until(lambda: turn.deltas > 2)
    await agent.executor.delete(agent.workspace)
    await turn.over()
    await until(lambda: not kind.processes(agent.workspace))

    assert "cancelled" == turn.ending
    assert not agent.files.parent.exists()


async def test_executor_that_ends_leaves_nothing(serving: Serve, kind: Kind) -> None:
    """Not even of agents that are at work."""
    async with serving("short") as executor:
        agent = executor.agent(permission_mode=ACCEPT_ALL)
        turn = await agent.begin("/sim bash touch a.txt && sleep 100")
        await until((agent.files / "a.txt").exists)
    await until(lambda: not kind.processes(agent.workspace))

    assert [] == turn.of("turn_outcome")


async def _needs_transcript(agent: Agent) -> bool:
    """Tell whether a prompt is refused, or its turn fails, for want of the transcript."""
    from services.chassis.failures import Failure

    try:
        turn: Turn = await agent.begin("/sim recall")
        await turn.over()
    except Failure as failure:
        return failure.reason_name == "TRANSCRIPT_NEEDED"
    return "TRANSCRIPT_NEEDED" in turn.ending
