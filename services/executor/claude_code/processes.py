"""Makes Claude Code processes for executions. Does not know what is said to them."""

from __future__ import annotations

from collections.abc import Mapping

from moorline.executor.v1 import executions_pb2
from services.chassis.tasks import Tasks
from services.executor.agent_process import Work
from services.executor.backend import Backend
from services.executor.channel import Launch
from services.executor.claude_code import frames
from services.executor.claude_code.process import ClaudeCode, Patience
from services.executor.workspaces import Place


class ClaudeCodeProcesses:
    """Makes processes for executions; the only place that turns `Work` into a command line.

    Args:
        environment: What every process gets.
        patience: How long a process may take for what it owes.
        tasks: Owner of the processes' tasks.
    """

    def __init__(self, *, environment: Mapping[str, str], patience: Patience, tasks: Tasks) -> None:
        self._environment = environment
        self._patience = patience
        self._tasks = tasks

    def __call__(self, work: Work, backend: Backend, place: Place) -> ClaudeCode:
        """Return a process that can take the execution's turn once it is open.

        Raises:
            Failure: BACKEND_UNAVAILABLE.
        """
        argv = frames.command_line(
            directory=backend.view(place).files,
            permission_mode=work.permission_mode,
            instructions=work.instructions,
            session_id=frames.stable_uuid(f"session/{work.execution_id}"),
            resume=work.resume_from,
        )
        launch = Launch(
            place=place,
            tenant=work.tenant,
            argv=argv,
            environment=self._environment,
        )
        return ClaudeCode(
            channel=backend.channel(launch),
            resume=work.resume_from,
            accept_all=work.permission_mode == executions_pb2.Execution.PERMISSION_MODE_ACCEPT_ALL,
            patience=self._patience,
            tasks=self._tasks,
        )
