"""An executor is killed in the middle of a turn, and another one comes in its place."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from moorline.executor.v1 import executions_pb2
from services.chassis.failures import Failure
from tests.contract.agents.conftest import KEY
from tests.contract.agents.executors import ACCEPT_ALL
from tests.contract.agents.kinds import KINDS, Kind
from tests.contract.agents.restarts import Restarts, restarts
from tests.contract.agents.turns import Turn, until
from tests.standin.server import StandIn

DOCKER = pytest.mark.parametrize("kind", ["docker"], indirect=True)
PROCESS = pytest.mark.parametrize("kind", ["process"], indirect=True)

pytestmark = pytest.mark.timeout(150)


@pytest.fixture
async def executor(kind: Kind, provider: StandIn, tmp_path: Path) -> AsyncIterator[Restarts]:
    """An executor that can be restarted."""
    key = tmp_path / "key"
    key.write_text(KEY)
    settings = {
        "DISABLE_DOCKER": "true",
        **KINDS[kind.name].settings,
        "MOORLINE_DEFAULT_BACKEND": kind.name,
        "MOORLINE_MODEL_KEY_FILE": str(key),
        "MOORLINE_MODEL_UPSTREAM": provider.url,
    }
    async with restarts(root=tmp_path / "workspaces", settings=settings) as executor:
        yield executor


@DOCKER
async def test_turn_goes_on_after_the_executor_was_killed(
    executor: Restarts, kind: Kind, provider: StandIn
) -> None:
    """Every item comes once, in order, every text once, and what was used is counted once."""
    script = ["write a.txt one", "stream 40 50", "bash echo two >> a.txt", "say the end"]
    prompt = "\n".join(f"/sim {line}" for line in script)
    turn = Turn("restarts-1")
    await executor.begin(turn.execution_id, prompt, permission_mode=ACCEPT_ALL)
    following = asyncio.ensure_future(executor.follow(turn))
    await turn.until(lambda: any("w20" in text for text in turn.shown.values()))
    heard = len(turn.sequences)
    await executor.end(signal.SIGKILL)
    await executor.start()
    await following
    await executor.acknowledge(turn)
    after = Turn("restarts-2")
    await executor.begin(
        after.execution_id, "/sim say again", permission_mode=ACCEPT_ALL,
        resume_from=turn.conversation,
    )  # fmt: skip
    await executor.follow(after)
    pieces = [one.text for one in turn.of("agent_message")]
    calls = [one.tool_name for one in turn.of("tool_call")]
    usage = [turn.outcome.usage, after.outcome.usage]

    assert heard > 0
    assert "finished" == turn.ending
    assert list(range(1, len(turn.sequences) + 1)) == turn.sequences
    assert [" ".join(f"w{n}" for n in range(1, 41)), "the end"] == [
        text.strip() for text in pieces if text != "Done."
    ]
    assert ["Write", "Bash"] == calls
    assert "onetwo\n" == (executor.root / "restarts" / "files" / "a.txt").read_text()
    assert 1 == len(turn.of("file_changes"))
    assert ["again"] == after.texts
    assert sum(entry.output_tokens for entry in provider.ledger.entries) == sum(
        one.output_tokens for one in usage
    )


@DOCKER
async def test_question_is_asked_again_after_the_executor_was_killed(executor: Restarts) -> None:
    """Under the same name, so that whoever was asked can still answer."""
    turn = Turn("restarts-1")
    await executor.begin(turn.execution_id, "/sim bash echo yes > a.txt\n/sim say the end")
    following = asyncio.ensure_future(executor.follow(turn))
    asked = await turn.item("permission_request")
    await executor.end(signal.SIGKILL)
    await executor.start()
    request = executions_pb2.ResolvePermissionRequest(name=f"executions/{turn.execution_id}")
    request.decision.permission_id = asked.permission_id
    request.decision.allowed = True
    await executor.call("ResolvePermission", request, executions_pb2.ResolvePermissionResponse)
    await following

    assert "finished" == turn.ending
    assert 1 == len(turn.of("permission_request"))
    assert "yes\n" == (executor.root / "restarts" / "files" / "a.txt").read_text()


@DOCKER
async def test_turn_that_ended_meanwhile_is_told_to_its_end(
    executor: Restarts, kind: Kind, provider: StandIn
) -> None:
    """The outcome was not stored when the executor was killed, so another one tells it."""
    first, second = Turn("restarts-1"), Turn("restarts-1")
    await executor.begin(first.execution_id, "/sim say one", permission_mode=ACCEPT_ALL)
    await executor.follow(first)
    await executor.end(signal.SIGKILL)
    await executor.start()
    await executor.follow(second)

    assert first.items[:-1] == second.items[:-1]
    assert first.sequences == second.sequences
    assert first.outcome.usage == second.outcome.usage


@DOCKER
async def test_agents_without_a_turn_end_with_their_executor(
    executor: Restarts, kind: Kind
) -> None:
    """The next executor ends them; the conversation goes on in a new process."""
    turn, after = Turn("restarts-1"), Turn("restarts-2")
    await executor.begin(turn.execution_id, "first\n/sim say one", permission_mode=ACCEPT_ALL)
    await executor.follow(turn)
    await executor.acknowledge(turn)
    await executor.end(signal.SIGKILL)
    before = kind.processes("restarts")
    await executor.start()
    # The engine may say that a container is gone a moment before its last process is.
    await until(lambda: not kind.processes("restarts"))
    await executor.begin(
        after.execution_id, "/sim recall", permission_mode=ACCEPT_ALL,
        resume_from=turn.conversation,
    )  # fmt: skip
    await executor.follow(after)

    assert before
    assert ["I remember: first"] == after.texts


@PROCESS
async def test_turn_is_lost_when_its_process_ends_with_the_executor(
    executor: Restarts, kind: Kind
) -> None:
    """It may have used tools unheard, so that it must not be taken for one that never began."""
    turn = Turn("restarts-1")
    await executor.begin(turn.execution_id, "/sim stream 500 50", permission_mode=ACCEPT_ALL)
    following = asyncio.ensure_future(executor.follow(turn))
    await turn.until(lambda: turn.shown)
    await executor.end(signal.SIGKILL)
    await executor.start()
    with pytest.raises(Failure) as caught:
        await following
    await until(lambda: not kind.processes("restarts"))

    assert "EXECUTION_LOST" == caught.value.reason_name
