"""The session's logic on real executors: what waits where when the store does not answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from moorline.session.v1 import turns_pb2
from services.chassis.discovery import Discovery
from services.chassis.identity import Signer
from services.chassis.metrics import Metrics
from services.executor import __main__ as program
from services.executor.book import ITEMS_LIMIT
from services.executor.channels.simulation import lines
from services.executor.settings import Settings
from services.session.agents import LiveAgent
from services.session.clock import DatabaseClock
from services.session.executor_links import ExecutorLinks
from services.session.limits import Limits
from tests.unit.session.executor_servicer import KEY
from tests.unit.session.fakes import FaultyStore
from tests.unit.session.service import Service, until

Turn = turns_pb2.Turn

WRITES = 900
SCRIPT = "\n".join(f"/sim write f{number}.txt x" for number in range(WRITES))
"""Two items for each line, nearly twice as many in all as may wait for an acknowledgement."""

HELD_ITEMS = ITEMS_LIMIT + 10
"""Items beyond the limit are those of one frame."""

HELD_WRITES = HELD_ITEMS // 2 + lines.LIMIT // 2
"""A write is two items in the book, or at least two lines in the agent's pipe."""


@asynccontextmanager
async def running(workspaces: Path) -> AsyncIterator[str]:
    """Run an executor until the block ends; gives its address."""
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    settings = Settings(
        listen="127.0.0.1:0", identity_key=KEY, workspaces=workspaces, disable_docker=True
    )
    task = asyncio.ensure_future(program.main(settings, on_listening=listening.set_result))
    try:
        yield f"127.0.0.1:{await listening}"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def serving(store: FaultyStore, *addresses: str) -> AsyncIterator[Service]:
    """The session's logic with executors, and an agent of Ada's."""
    async with AsyncExitStack() as stack:
        clock = DatabaseClock(monotonic=time.monotonic)
        clock.observe(await store.now())
        links = ExecutorLinks(
            discovery=await stack.enter_async_context(Discovery(target=",".join(addresses))),
            signer=Signer(key=KEY),
            metrics=Metrics(service="session"),
            clock=clock,
            monotonic=time.monotonic,
            unreachable=timedelta(seconds=20),
        )
        await stack.enter_async_context(links)
        service = Service(store=store, executors=links, limits=Limits())
        yield await stack.enter_async_context(service)


def waiting(agent: LiveAgent) -> int:
    """Return how many events are in memory and not durable."""
    return agent.log.next - 1 - agent.log.head


def written(workspaces: Path) -> int:
    """Return how many files the agent has written."""
    return len(list(workspaces.glob("*/*.txt")))


async def still(agent: LiveAgent) -> None:
    """Wait until nothing more arrives."""
    before = -1
    while waiting(agent) != before:
        before = waiting(agent)
        await asyncio.sleep(0.2)


async def test_a_store_that_is_away_holds_the_agent(store: FaultyStore, tmp_path: Path) -> None:
    """Memory stays bounded here and at the executor, and then nothing is missing."""
    root = tmp_path / "workspaces"
    async with running(root) as address, serving(store, address) as service:
        await service.create_agent()
        await service.create_turn(prompt=SCRIPT)
        agent = await service.live()
        await until(lambda: agent.log.head > 1)
        store.held.clear()
        await until(lambda: waiting(agent) >= ITEMS_LIMIT)
        await still(agent)

        assert waiting(agent) <= HELD_ITEMS
        assert written(root) <= HELD_WRITES < WRITES

        store.held.set()
        turn = await service.ended()

        assert Turn.STATE_FINISHED == turn.state
        assert WRITES == written(root)
        assert 2 * WRITES + 2 == agent.log.head
        assert 0 == waiting(agent)


async def test_a_store_that_is_slow_slows_the_agent(store: FaultyStore, tmp_path: Path) -> None:
    """What waits here never exceeds what is not acknowledged there."""
    root, most = tmp_path / "workspaces", 0
    async with running(root) as address, serving(store, address) as service:
        await service.create_agent()
        await service.create_turn(prompt=SCRIPT)
        agent = await service.live()
        store.delay = 0.3
        while agent.unfinished():
            most = max(most, waiting(agent))
            await asyncio.sleep(0.005)

        assert Turn.STATE_FINISHED == (await service.ended()).state
        assert 10 < most <= HELD_ITEMS
        assert 2 * WRITES + 2 == agent.log.head


@pytest.mark.parametrize("prompt", ["hello", "/sim write a.txt x\n/sim read a.txt"])
async def test_a_conversation_goes_on_at_another_executor(
    store: FaultyStore, tmp_path: Path, prompt: str
) -> None:
    """The simulated agent takes up a conversation that it has never heard of."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(running(tmp_path / "first"))
        second = await stack.enter_async_context(running(tmp_path / "second"))
        async with serving(store, first) as service:
            await service.create_agent()
            await service.create_turn("t1", prompt=prompt)
            before = await service.ended("t1")
            conversation = (await service.live()).record.conversation
        async with serving(store, second) as service:
            await service.create_turn("t2", prompt=prompt)
            after = await service.ended("t2")
            agent = (await service.live()).record

    assert Turn.STATE_FINISHED == before.state == after.state
    assert "" != conversation == agent.conversation
    assert second == agent.executor
