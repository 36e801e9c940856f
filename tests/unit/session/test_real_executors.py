"""The session's logic on real executors: what waits where when the store does not answer."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
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
from services.local.ports import free_port
from services.session.agents import LiveAgent
from services.session.clock import DatabaseClock
from services.session.executors.links import ExecutorLinks
from services.session.limits import Limits
from tests.unit.session.executors.servicer import KEY
from tests.unit.session.fakes import FaultyStore
from tests.unit.session.service import Service

Turn = turns_pb2.Turn

# Processes start here, and agents work; a machine may be busy with other things.
pytestmark = pytest.mark.timeout(90)
_PATIENCE = 30

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


def killable(workspaces: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start an executor that can die at once; returns its process and its address."""
    address = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [sys.executable, "-m", "services.executor"],
        env={
            "MOORLINE_IDENTITY_KEY": KEY,
            "MOORLINE_LISTEN": address,
            "MOORLINE_WORKSPACES": str(workspaces),
            "DISABLE_DOCKER": "true",
        },
        stderr=subprocess.DEVNULL,
    )
    return process, address


@asynccontextmanager
async def serving(
    store: FaultyStore, *addresses: str, unreachable: float = 20
) -> AsyncIterator[Service]:
    """The session's logic with executors."""
    async with AsyncExitStack() as stack:
        clock = DatabaseClock(monotonic=time.monotonic)
        clock.observe(await store.now())
        links = ExecutorLinks(
            discovery=await stack.enter_async_context(Discovery(target=",".join(addresses))),
            signer=Signer(key=KEY),
            metrics=Metrics(service="session"),
            clock=clock,
            monotonic=time.monotonic,
            unreachable=timedelta(seconds=unreachable),
        )
        await stack.enter_async_context(links)
        limits = Limits(unreachable=timedelta(seconds=unreachable))
        service = Service(store=store, executors=links, limits=limits)
        yield await stack.enter_async_context(service)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(_PATIENCE):
        while not condition():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.002)


async def ended(service: Service, turn_id: str = "t1") -> turns_pb2.Turn:
    """Wait until nothing is left to do, and return a turn."""
    agent = await service.live()
    await until(lambda: not agent.unfinished() and agent.log.idle)
    return await service.get_turn(turn_id)


def waiting(agent: LiveAgent) -> int:
    """Return how many events are in memory and not durable."""
    return agent.log.next - 1 - agent.log.head


def written(workspaces: Path) -> int:
    """Return how many files the agent has written."""
    return len(list(workspaces.glob("*/files/*.txt")))


async def grown(agent: LiveAgent) -> None:
    """Wait until some events more are durable, or all of them."""
    head = agent.log.head + 20
    await until(lambda: agent.log.head >= head or not agent.unfinished())


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
        assert written(root) <= agent.log.head // 2 + HELD_WRITES < WRITES

        store.held.set()
        turn = await ended(service)

        assert Turn.STATE_FINISHED == turn.state
        assert WRITES == written(root)
        assert 2 * WRITES + 3 == agent.log.head
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

        assert Turn.STATE_FINISHED == (await ended(service)).state
        assert 10 < most <= HELD_ITEMS
        assert 2 * WRITES + 3 == agent.log.head


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
            before = await ended(service, "t1")
            conversation = (await service.live()).record.conversation
        async with serving(store, second) as service:
            await service.create_turn("t2", prompt=prompt)
            after = await ended(service, "t2")
            agent = (await service.live()).record

    assert Turn.STATE_FINISHED == before.state == after.state
    assert "" != conversation == agent.conversation
    assert second == agent.executor


async def test_another_executor_goes_on_when_one_is_killed(
    store: FaultyStore, tmp_path: Path
) -> None:
    """Text it was writing is withdrawn, and written anew by the next attempt."""
    async with AsyncExitStack() as stack:
        process, first = killable(tmp_path / "first")
        stack.callback(process.wait)
        stack.callback(process.kill)
        second = await stack.enter_async_context(running(tmp_path / "second"))
        service = await stack.enter_async_context(serving(store, first, second, unreachable=1))
        await service.create_agent()
        agent = await service.live()
        # Reached, however long it takes to start: then it is where the agent's files are.
        await until(lambda: first == service.environment.executors.place(preferred=""))
        agent.record.executor = first
        await service.create_turn(prompt="/sim stream 250 20\n/sim ask Bash ls\n/sim say done")
        await until(lambda: any(block.text() for block in agent.timeline.blocks.values()))
        process.kill()
        pending = "moorline_permission_requests_pending"
        await until(lambda: service.metric(pending) == 1 and agent.log.idle)
        request = (await service.list_events())[-1].item.permission_request
        await service.resolve(request.permission_id)
        turn = await ended(service)
        kinds = await service.kinds()

    assert (Turn.STATE_FINISHED, 2) == (turn.state, turn.attempt)
    assert second == agent.record.executor
    assert ["user_message", "turn_attempt", "agent_message", "tool_call"] == kinds[:4]
    assert 2 == kinds.count("agent_message")


async def test_two_sessions_one_after_the_other_miss_nothing(
    store: FaultyStore, tmp_path: Path
) -> None:
    """The second one finds the execution at its executor, and goes on from the log."""
    async with AsyncExitStack() as stack:
        addresses = [
            await stack.enter_async_context(running(tmp_path / name)) for name in ("a", "b", "c")
        ]
        for first in (True, False, False):
            async with serving(store, *addresses) as service:
                if first:
                    await service.create_agent()
                    script = "".join(f"/sim say s{n}\n/sim sleep 5\n" for n in range(100))
                    await service.create_turn(prompt=script)
                agent = await service.live()
                await grown(agent)
        async with serving(store, *addresses) as service:
            turn = await ended(service)
            events = await service.list_events()

    said = [event.item.agent_message.text for event in events[1:-1]]
    assert (Turn.STATE_FINISHED, 1) == (turn.state, turn.attempt)
    assert [f"s{n}" for n in range(100)] == said
