"""Tests of `services.executor.claude_code.processes`."""

from __future__ import annotations

from pathlib import Path

from moorline.executor.v1 import executions_pb2
from services.chassis.tasks import Tasks
from services.executor.claude_code.process import PATIENCE
from services.executor.claude_code.processes import ClaudeCodeProcesses
from services.executor.workspaces import Workspaces
from tests.unit.executor.fakes import (
    FakeBackend,
    make_work,
)


async def test_work_becomes_a_command_line(tasks: Tasks, tmp_path: Path) -> None:
    """Two executions of new conversations have different ids, the same one always the same."""
    make, backend = (
        ClaudeCodeProcesses(environment={"A": "b"}, patience=PATIENCE, tasks=tasks),
        FakeBackend(),
    )
    place = Workspaces(root=tmp_path).place("abcdefgh")
    mode = executions_pb2.Execution.PERMISSION_MODE_ACCEPT_ALL
    for execution_id in ("e1", "e2", "e1"):
        make(make_work(execution_id=execution_id, permission_mode=mode), backend, place)
    resumed = make(make_work(resume_from="s7"), backend, place)
    first, second, again, last = (launch.argv for launch in backend.launches)

    assert first == again != second
    assert "--permission-mode=bypassPermissions" in first
    assert "--resume=s7" in last
    assert "s7" == resumed.conversation
    assert {"A": "b"} == backend.launches[0].environment
