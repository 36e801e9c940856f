"""Real agents and the session's logic together: what is said outlives every machine."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from moorline.session.v1 import agents_pb2, turns_pb2
from services.chassis.discovery import Discovery
from services.chassis.identity import Signer
from services.chassis.metrics import Metrics
from services.session.clock import DatabaseClock
from services.session.executors.links import ExecutorLinks
from services.session.limits import Limits
from services.session.stores.sqlite import SqliteStore
from tests.contract.agents.conftest import Serve
from tests.contract.agents.executors import Executor
from tests.contract.agents.kinds import Kind
from tests.unit.session.service import Service

Turn = turns_pb2.Turn

_KEY = "k" * 32

pytestmark = pytest.mark.timeout(120)


@asynccontextmanager
async def session(executor: Executor, data: Path) -> AsyncIterator[Service]:
    """Run the session's logic with one executor, on what is stored in a folder."""
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(SqliteStore(path=data / "moorline.db"))
        clock = DatabaseClock(monotonic=time.monotonic)
        clock.observe(await store.now())
        links = ExecutorLinks(
            discovery=await stack.enter_async_context(Discovery(target=executor.address)),
            signer=Signer(key=_KEY),
            metrics=Metrics(service="session"),
            clock=clock,
            monotonic=time.monotonic,
            unreachable=timedelta(seconds=20),
        )
        await stack.enter_async_context(links)
        limits = Limits()
        yield await stack.enter_async_context(Service(store=store, executors=links, limits=limits))


async def tell(service: Service, turn_id: str, prompt: str) -> list[str]:
    """Let a turn run to its end; return what the agent said."""
    await service.create_turn(turn_id, prompt=prompt)
    agent = await service.live()
    async with asyncio.timeout(60):
        while agent.knows(turn_id) or not agent.log.idle:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.02)
    turn = await service.get_turn(turn_id)
    assert Turn.STATE_FINISHED == turn.state, turn.error
    return await said(service, turn_id)


async def said(service: Service, turn_id: str) -> list[str]:
    """Return what the agent said in a turn."""
    return [
        event.item.agent_message.text
        for event in await service.list_events()
        if event.turn_id == turn_id and event.item.HasField("agent_message")
    ]


async def test_a_fresh_machine_with_an_empty_disk_continues_the_conversation(
    kind: Kind, serving: Serve, tmp_path: Path
) -> None:
    """All that is left of the first machine is what the session service has stored."""
    async with serving("first") as executor, session(executor, tmp_path) as service:
        await service.create_agent(
            backend=kind.name, permission_mode=agents_pb2.Agent.PERMISSION_MODE_ACCEPT_EDITS
        )
        await tell(service, "t1", "Blue is best\n/sim write a.txt x\n/sim say fine")
        await tell(service, "t2", "Seven is lucky\n/sim say fine")
    shutil.rmtree(tmp_path / "first")

    async with serving("second") as executor, session(executor, tmp_path) as service:
        first = await tell(service, "t3", "Dogs bark\n/sim recall")
        second = await tell(service, "t4", "/sim recall")

    assert ["I remember: Blue is best, Seven is lucky"] == first
    assert ["I remember: Blue is best, Seven is lucky, Dogs bark"] == second


async def test_what_ends_in_the_background_is_heard(
    kind: Kind, serving: Serve, tmp_path: Path
) -> None:
    """In a turn that nobody asked for; a prompt that comes first is answered first."""
    async with serving("first") as executor, session(executor, tmp_path) as service:
        await service.create_agent(backend=kind.name, allowed_rules=["Bash"])
        await tell(service, "t1", "/sim background 10000 the build is done\n/sim say started")
        await tell(service, "t2", "/sim say still here")
        agent = await service.live()
        async with asyncio.timeout(60):
            while agent.unfinished() or not agent.log.idle:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.02)
        events = await service.list_events()

    texts = [event.item.agent_message.text for event in events]
    kinds = [event.item.WhichOneof("kind") for event in events]
    assert texts.index("still here") < texts.index("the build is done")
    assert 1 == texts.count("the build is done")
    assert 2 == kinds.count("background_work")
