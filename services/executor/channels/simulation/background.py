"""What a simulated process has in the background. Does not know turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from services.chassis.tasks import Tasks
from services.executor.channels.simulation.frames import Frames
from services.executor.channels.simulation.lines import Lines


class Background:
    """Commands that go on while the agent says something else, or nothing.

    Args:
        frames: Builds the lines.
        lines: Where they go.
        tasks: Owner of the commands.
        ended: Called with what a command was, when it has ended and that was printed.
    """

    def __init__(
        self, *, frames: Frames, lines: Lines, tasks: Tasks, ended: Callable[[str], None]
    ) -> None:
        self._frames = frames
        self._lines = lines
        self._owner = tasks
        self._ended = ended
        self._tasks: dict[str, dict[str, Any]] = {}
        self._running: set[asyncio.Task[None]] = set()

    def start(self, call: str, description: str, pause: float) -> str:
        """Begin a command, and return its id.

        Args:
            call: The tool call that started it.
            description: What it is.
            pause: Seconds it takes.
        """
        task = self._frames.new_id("task")
        self._tasks[task] = {
            "task_id": task,
            "task_type": "local_bash",
            "description": description,
        }
        self._print_changed()
        self._lines.put(
            self._frames.system(
                "task_started",
                task_id=task,
                tool_use_id=call,
                description=description,
                is_backgrounded=True,
                task_type="local_bash",
            )
        )
        running = self._owner.spawn(self._run(task, call, pause), name="simulated-background")
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        return task

    def end(self) -> None:
        """End all commands, without a word."""
        for running in self._running:
            running.cancel()

    async def _run(self, task: str, call: str, pause: float) -> None:
        await asyncio.sleep(pause)
        description = self._tasks.pop(task)["description"]
        put, system = self._lines.put, self._frames.system
        put(system("task_updated", task_id=task, patch={"status": "completed"}))
        put(
            system(
                "task_notification",
                task_id=task,
                tool_use_id=call,
                status="completed",
                summary=f'Background command "{description}" completed (exit code 0)',
            )
        )
        self._print_changed()
        self._ended(description)

    def _print_changed(self) -> None:
        tasks = list(self._tasks.values())
        self._lines.put(self._frames.system("background_tasks_changed", tasks=tasks))
