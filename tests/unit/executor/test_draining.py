"""Tests of `services.executor.draining`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from services.chassis.failures import Failure
from services.chassis.feed import Feeds
from services.executor import draining, feed_api
from services.executor.agent_process import Result
from services.executor.executions import Executions
from services.executor.following import ExecutionFeeds
from tests.unit.executor.fake_processes import FakeProcesses
from tests.unit.executor.fakes import until
from tests.unit.executor.test_executions import running, start

WHOLE = timedelta(minutes=10)

Pass = Callable[[timedelta], None]


@pytest.fixture
def feeds() -> ExecutionFeeds:
    """The feeds of a test."""
    return Feeds(response=feed_api.response, empty=feed_api.response)


@pytest.fixture(autouse=True)
def ample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Much time for the end, and none to be told of it."""
    monkeypatch.setattr(draining, "ENDED_WITHIN", timedelta(minutes=1))
    monkeypatch.setattr(draining, "TOLD_WITHIN", timedelta(0))


@pytest.fixture
async def let_pass(monkeypatch: pytest.MonkeyPatch) -> Pass:
    """Lets the loop find that time has passed, all at once, as on a machine that stood still."""
    loop = asyncio.get_running_loop()

    def jump(time: timedelta) -> None:
        now = loop.time
        monkeypatch.setattr(loop, "time", lambda: now() + time.total_seconds())

    return jump


async def draining_of(executions: Executions, feeds: ExecutionFeeds) -> asyncio.Task[None]:
    """Return a drain that waits already, cut off by who limits it at the end of its time."""

    async def limited() -> None:
        async with asyncio.timeout(WHOLE.total_seconds()):
            await draining.drain(executions, feeds, whole=WHOLE)

    drain = asyncio.ensure_future(limited())
    await asyncio.sleep(0)
    return drain


def closing(executions: Executions) -> bool:
    """Tell whether followers are sent away."""
    try:
        executions.check_serving()
    except Failure:
        return True
    return False


async def test_what_has_ended_is_waited_for_no_longer(
    executions: Executions, processes: FakeProcesses, feeds: ExecutionFeeds
) -> None:
    """Its outcome is stored, so that nobody needs this executor any more."""
    execution = start(executions)
    process = await running(processes, "e1")
    drain = await draining_of(executions, feeds)
    process.end(Result.FINISHED)
    await execution.over()
    early = closing(executions)
    executions.acknowledge("e1", 1)
    await drain

    assert not early
    assert closing(executions)


async def test_all_is_ended_though_every_deadline_is_missed_at_once(
    executions: Executions, processes: FakeProcesses, feeds: ExecutionFeeds, let_pass: Pass
) -> None:
    """Otherwise followers would be cut off, and agents would go on."""
    execution = start(executions)
    process = await running(processes, "e1")
    drain = await draining_of(executions, feeds)
    let_pass(2 * WHOLE)
    with pytest.raises(TimeoutError):
        await drain

    assert closing(executions)
    assert process.killed
    assert execution.book.ended


async def test_the_end_is_not_cut_short(
    executions: Executions, processes: FakeProcesses, feeds: ExecutionFeeds, let_pass: Pass
) -> None:
    """Begun late, it has its own time all the same."""
    stream = feeds.open("feed", "owner")
    await anext(stream)
    start(executions)
    process = await running(processes, "e1")
    drain = await draining_of(executions, feeds)
    let_pass(WHOLE - timedelta(seconds=30))
    await until(lambda: closing(executions))
    let_pass(timedelta(seconds=31))
    await until(drain.cancelling)
    early = process.killed
    with pytest.raises(Failure, match="shutting down"):
        [response async for response in stream]
    with pytest.raises(TimeoutError):
        await drain

    assert not early
    assert process.killed


async def test_an_end_that_does_not_come_is_given_up(
    executions: Executions, feeds: ExecutionFeeds, let_pass: Pass
) -> None:
    """Somebody follows who does not leave."""
    stream = feeds.open("feed", "owner")
    await anext(stream)
    drain = await draining_of(executions, feeds)
    await until(lambda: closing(executions))
    let_pass(timedelta(minutes=2))
    with pytest.raises(TimeoutError):
        await drain
