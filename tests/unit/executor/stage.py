"""Runs executions on fake processes."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from services.executor.agent_process import Ending
from services.executor.execution import Execution
from services.executor.notes import Note
from services.executor.provisions import Limits, Provisions
from tests.unit.executor.fake_processes import (
    FakeProcess,
    FakeProcesses,
)
from tests.unit.executor.fakes import (
    make_work,
    until,
)


class Stage:
    """Runs executions and remembers how they ended."""

    def __init__(self, *, provisions: Provisions, processes: FakeProcesses, limits: Limits) -> None:
        self.ended: list[tuple[Execution, Ending | None]] = []
        self.provisions = provisions
        self._processes = processes
        self._limits = limits

    def make(self, *, adopted: Note | None = None, **changed: Any) -> Execution:
        """Return an execution that is not started."""
        return Execution(
            work=make_work(**changed),
            limits=self._limits,
            provisions=self.provisions,
            adopted=adopted,
            ended=lambda execution, ending: self.ended.append((execution, ending)),
        )

    async def start(self, **changed: Any) -> tuple[Execution, FakeProcess]:
        """Return an execution whose turn has begun, and its process."""
        execution = self.make(**changed)
        before = len(self._processes.made)
        self.provisions.tasks.spawn(execution.run(), name="execution")
        await until(lambda: len(self._processes.made) > before and self._processes.made[-1].ending)
        return execution, self._processes.made[-1]


def impatient(provisions: Provisions, processes: FakeProcesses, **changed: timedelta) -> Stage:
    """Return a stage with some limits of its own."""
    values = {
        "timeout": timedelta(minutes=1),
        "stall": timedelta(minutes=1),
        "grace": timedelta(seconds=0.02),
    }
    limits = Limits(**(values | changed))
    return Stage(provisions=provisions, processes=processes, limits=limits)


def started(seconds_ago: float, **changed: Any) -> Note:
    """Return the note of an execution that was begun some time ago."""
    begin = time.time_ns() - round(seconds_ago * 1e9)
    return Note(work=make_work(**changed), create_time_ns=begin, begin_time_ns=begin)
