"""Tests of `services.executor.files.disk`."""

from __future__ import annotations

import asyncio
import threading

import pytest

from services.executor.files import disk as module
from services.executor.files.disk import Disk
from tests.unit.executor.fakes import until


class Work:
    """Something in a thread that waits until the test lets it go on."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.gate = threading.Event()
        self._lock = threading.Lock()

    def __call__(self, value: int) -> int:
        """Wait, and return the value."""
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        assert self.gate.wait(10)
        with self._lock:
            self.running -= 1
        return value


async def settle() -> None:
    """Let a thread begin that should not."""
    await asyncio.sleep(0.05)


async def test_results_and_failures_come_back() -> None:
    """As if it were a call."""
    async with Disk() as disk:
        assert 3 == await disk.run("a", max, 1, 3)
        with pytest.raises(ZeroDivisionError):
            await disk.run("a", lambda: 1 / 0)
        assert {} == disk._shares


async def test_one_workspace_has_its_share_only() -> None:
    """However much is wanted of it; others have theirs meanwhile."""
    async with Disk() as disk:
        many, one = Work(), Work()
        tasks = [asyncio.create_task(disk.run("many", many, number)) for number in range(20)]
        await until(lambda: module.SHARE == many.running)
        one.gate.set()
        assert 7 == await disk.run("other", one, 7)
        await settle()
        assert module.SHARE == many.running
        many.gate.set()
        assert list(range(20)) == await asyncio.gather(*tasks)
        assert module.SHARE == many.most
        assert {} == disk._shares


async def test_all_together_have_so_many_threads() -> None:
    """Of as many workspaces as there are."""
    async with Disk() as disk:
        work = Work()
        tasks = [asyncio.create_task(disk.run(f"w{number}", work, number)) for number in range(20)]
        await until(lambda: module.THREADS == work.running)
        await settle()
        assert module.THREADS == work.running
        work.gate.set()
        await asyncio.gather(*tasks)
        assert module.THREADS == work.most


async def test_a_cancelled_call_returns_at_once_and_keeps_its_share_until_it_ends() -> None:
    """So that cancelling is no way to have more."""
    async with Disk() as disk:
        work, after = Work(), Work()
        tasks = [asyncio.create_task(disk.run("a", work, number)) for number in range(2)]
        await until(lambda: work.running == 2)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks)
        waiting = asyncio.create_task(disk.run("a", after, 5))
        await settle()
        assert 0 == after.running
        work.gate.set()
        after.gate.set()
        assert 5 == await waiting


async def test_who_waits_can_be_cancelled() -> None:
    """And leaves nothing."""
    async with Disk() as disk:
        work = Work()
        tasks = [asyncio.create_task(disk.run("a", work, number)) for number in range(3)]
        await until(lambda: work.running == 2)
        tasks[2].cancel()
        await asyncio.wait([tasks[2]])
        work.gate.set()
        await asyncio.gather(*tasks[:2])
        assert {} == disk._shares


async def test_the_end_waits_for_what_runs() -> None:
    """A file half written would be left."""
    work = Work()
    async with Disk() as disk:
        task = asyncio.create_task(disk.run("a", work, 1))
        await until(lambda: work.running)
        asyncio.get_running_loop().call_later(0.05, work.gate.set)

    assert 0 == work.running
    assert 1 == await task
