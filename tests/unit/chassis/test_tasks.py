"""Tests of `services.chassis.tasks`."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

import pytest

from services.chassis.tasks import Tasks


async def forever() -> None:
    """Run until cancelled."""
    await asyncio.Event().wait()


async def test_a_task_gives_its_result() -> None:
    """What is spawned can be awaited, and is let go when it ends."""

    async def answer() -> int:
        return 42

    async with Tasks() as tasks:
        task = tasks.spawn(answer(), name="answer")

        assert await task == 42
        await asyncio.sleep(0)
        assert len(tasks) == 0


async def test_leaving_cancels_what_runs() -> None:
    """No task outlives its owner, not even one spawned by a task that ends."""
    second: list[asyncio.Task[None]] = []

    async def spawn_at_end(tasks: Tasks) -> None:
        try:
            await forever()
        finally:
            second.append(tasks.spawn(forever(), name="second"))

    async with Tasks() as tasks:
        first = tasks.spawn(spawn_at_end(tasks), name="first")
        await asyncio.sleep(0)

    assert (first.cancelled(), second[0].cancelled()) == (True, True)


async def test_a_failed_task_is_logged_and_concerns_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log has the task's name and the traceback."""

    async def fail() -> None:
        raise KeyError("missing")

    async with Tasks() as tasks:
        other = tasks.spawn(forever(), name="other")
        task = tasks.spawn(fail(), name="failing")
        await asyncio.wait([task])
        await asyncio.sleep(0)

        assert not other.done()

    record = caplog.records[0]
    assert (record.message, record.__dict__["task"]) == ("task failed", "failing")
    assert record.exc_info is not None


async def test_a_task_that_does_not_stop_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Leaving waits a limited time for a task that ignores its cancel."""
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    with caplog.at_level(logging.ERROR):
        async with Tasks(patience=timedelta(seconds=0.01)) as tasks:
            task = tasks.spawn(stubborn(), name="stubborn")
            await asyncio.sleep(0)

    assert [record.message for record in caplog.records] == ["task did not stop"]
    release.set()
    await task


async def test_tasks_can_be_closed_without_a_block() -> None:
    """For an owner that opens and closes by itself."""
    tasks = Tasks()
    task = tasks.spawn(forever(), name="forever")

    await tasks.close()

    assert task.cancelled()
