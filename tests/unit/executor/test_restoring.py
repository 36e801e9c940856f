"""Tests of `services.executor.restoring`; what is written, the contract of transcripts tells."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from services.executor.backend import View
from services.executor.executions import Executions
from services.executor.place import Place
from services.executor.restoring import Restoring
from tests.unit.executor.fakes import WORKSPACE, FakeBackend


async def test_nothing_is_written_beside_what_a_cancelled_call_still_writes(
    executions: Executions, backend: FakeBackend
) -> None:
    """Else the older one, ending last, would take away what was written after it."""
    began, may_end = threading.Event(), threading.Event()
    ended: list[int] = []

    def write(
        place: Place, view: View, conversation: str, file: str, position: int, lines: Sequence[str]
    ) -> None:
        if position == 0:
            began.set()
            may_end.wait()
        ended.append(position)

    restoring = Restoring(executions=executions, backends=[backend], write=write)
    cut = asyncio.ensure_future(restoring.restore(WORKSPACE, "c", "", 0, ["{}"]))
    await asyncio.to_thread(began.wait)
    cut.cancel()
    after = asyncio.ensure_future(restoring.restore(WORKSPACE, "c", "", 1, ["{}"]))
    await asyncio.wait({after}, timeout=0.1)
    may_end.set()
    await after

    with pytest.raises(asyncio.CancelledError):
        await cut
    assert [0, 1] == ended
