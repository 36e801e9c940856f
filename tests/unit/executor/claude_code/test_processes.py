"""Tests of `services.executor.claude_code.processes`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moorline.executor.v1 import executions_pb2
from services.chassis.tasks import Tasks
from services.executor.backend import Link
from services.executor.claude_code import transcripts
from services.executor.claude_code.patience import PATIENCE
from services.executor.claude_code.processes import ClaudeCodeProcesses
from services.executor.place import Place
from services.executor.workspaces import Workspaces
from tests.unit.executor.fakes import (
    FakeBackend,
    FakeChannel,
    make_work,
)


def make_processes(tasks: Tasks, **changed: Any) -> ClaudeCodeProcesses:
    """Return what makes processes."""
    values: dict[str, Any] = {
        "default_model": "",
        "fallback_model": "",
        "retries": 2,
        "patience": PATIENCE,
    }
    return ClaudeCodeProcesses(tasks=tasks, **(values | changed))


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    """What an agent has."""
    return await Workspaces(root=tmp_path).make("abcdefgh")


async def test_work_becomes_a_command_line(tasks: Tasks, place: Place) -> None:
    """Two executions of new conversations have different ids, the same one always the same."""
    processes, backend = make_processes(tasks), FakeBackend()
    mode = executions_pb2.Execution.PERMISSION_MODE_PLAN
    for execution_id in ("e1", "e2", "e1"):
        work = make_work(execution_id=execution_id, permission_mode=mode)
        processes.make(work, backend, place, {})
    resumed = processes.make(make_work(resume_from="s7"), backend, place, {})
    first, second, again, last = (launch.argv for launch in backend.launches)

    assert first == again != second
    assert "--permission-mode=plan" in first
    assert "--resume=s7" in last
    assert "s7" == resumed.conversation


async def test_environment_names_what_only_this_agent_has(tasks: Tasks, place: Place) -> None:
    """What leads to the model is added."""
    backend = FakeBackend()
    make_processes(tasks).make(make_work(), backend, place, {"ANTHROPIC_BASE_URL": "http://x"})
    environment = backend.launches[0].environment

    assert f"{place.state}/claude" == environment["CLAUDE_CONFIG_DIR"]
    assert f"{place.state}/home" == environment["HOME"]
    assert "2" == environment["CLAUDE_CODE_MAX_RETRIES"]
    assert "http://x" == environment["ANTHROPIC_BASE_URL"]


async def test_model_is_the_execution_s_or_the_default(tasks: Tasks, place: Place) -> None:
    """Another one goes on when it is overloaded."""
    backend = FakeBackend()
    processes = make_processes(tasks, default_model="big", fallback_model="small")
    processes.make(make_work(), backend, place, {})
    processes.make(make_work(model="small"), backend, place, {})
    default, chosen = (launch.argv for launch in backend.launches)

    assert {"--model=big", "--fallback-model=small"} <= set(default)
    assert "--model=small" in chosen
    assert "--fallback-model=small" not in chosen


class Survivors(FakeBackend):
    """A backend whose process has outlived its executor."""

    def __init__(self) -> None:
        super().__init__()
        self.link = Link.SOCKET
        self.channel_left = FakeChannel()

    def adopt(self, place: Place) -> FakeChannel:
        """See `Backend`."""
        return self.channel_left


async def test_survivor_is_not_launched(tasks: Tasks, place: Place) -> None:
    """Its channel is the one the backend has kept."""
    backend = Survivors()
    process = make_processes(tasks).survivor(make_work(resume_from="s7"), backend, place)
    await process.open()

    assert [] == backend.launches
    assert backend.channel_left.opened
    assert (place.state / "claude").is_dir()
    assert "s7" == process.conversation
    backend.channel_left.exit(0)


async def test_conversation_that_left_nothing_begins_anew(tasks: Tasks, place: Place) -> None:
    """As when its program was killed at once; one that is stored, or is here, is resumed."""
    backend = Survivors()
    processes, view = make_processes(tasks), backend.view(place)
    lost = processes.make(make_work(resume_from="s7"), backend, place, {})
    processes.make(make_work(resume_from="s7", last_entry="u1"), backend, place, {})
    transcripts.restore(place, view, "s7", "", 0, ['{"type":"user","uuid":"u1"}'])
    processes.make(make_work(resume_from="s7"), backend, place, {})
    anew, stored, here = ("--resume=s7" in launch.argv for launch in backend.launches)

    assert "" == lost.conversation
    assert [False, True, True] == [anew, stored, here]
