"""The session's logic on real executors: what outlives a machine, and a turn."""

from __future__ import annotations

import shutil
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from moorline.session.v1 import sessions_pb2, turns_pb2
from tests.unit.session.fakes import FaultyStore
from tests.unit.session.service import AGENT, CONTEXT, Service
from tests.unit.session.test_real_executors import ended, running, serving, until

Turn = turns_pb2.Turn

pytestmark = pytest.mark.timeout(90)


async def said(service: Service, turn_id: str) -> list[str]:
    """Return what the agent said in a turn."""
    return [
        event.item.agent_message.text
        for event in await service.list_events()
        if event.turn_id == turn_id and event.item.HasField("agent_message")
    ]


async def tell(service: Service, turn_id: str, prompt: str) -> turns_pb2.Turn:
    """Let a turn run to its end."""
    await service.create_turn(turn_id, prompt=prompt)
    return await ended(service, turn_id)


async def test_a_fresh_machine_with_an_empty_disk_continues_the_conversation(
    store: FaultyStore, tmp_path: Path
) -> None:
    """The agent remembers what was said on a machine that is gone, and then on both."""
    async with AsyncExitStack() as stack:
        async with running(tmp_path / "first") as first, serving(store, first) as service:
            await service.create_agent()
            await tell(service, "t1", "Blue is best\n/sim say fine")
            await tell(service, "t2", "Seven is lucky\n/sim say fine")
        shutil.rmtree(tmp_path / "first")
        second = await stack.enter_async_context(running(tmp_path / "second"))
        async with serving(store, second) as service:
            asked = await tell(service, "t3", "Dogs bark\n/sim recall")
            again = await tell(service, "t4", "/sim recall")
            answers = await said(service, "t3"), await said(service, "t4")

    assert (Turn.STATE_FINISHED, 1) == (asked.state, asked.attempt)
    assert Turn.STATE_FINISHED == again.state
    assert ["I remember: Blue is best, Seven is lucky"] == answers[0]
    assert ["I remember: Blue is best, Seven is lucky, Dogs bark"] == answers[1]


async def test_a_machine_that_comes_back_learns_what_it_missed(
    store: FaultyStore, tmp_path: Path
) -> None:
    """Its own copy of the conversation is an old one, and is replaced."""
    async with running(tmp_path / "first") as first, serving(store, first) as service:
        await service.create_agent()
        await tell(service, "t1", "Blue is best\n/sim say fine")
    async with running(tmp_path / "second") as second, serving(store, second) as service:
        await tell(service, "t2", "Seven is lucky\n/sim say fine")
    async with running(tmp_path / "first") as first, serving(store, first) as service:
        await tell(service, "t3", "/sim recall")
        answer = await said(service, "t3")

    assert ["I remember: Blue is best, Seven is lucky"] == answer


async def test_where_files_are_is_where_the_first_turn_runs(
    store: FaultyStore, tmp_path: Path
) -> None:
    """Whichever executor it is."""
    async with AsyncExitStack() as stack:
        addresses = [
            await stack.enter_async_context(running(tmp_path / name)) for name in ("a", "b", "c")
        ]
        service = await stack.enter_async_context(serving(store, *addresses))
        await service.create_agent()
        await until(lambda: bool(service.environment.executors.place(preferred="")))
        request = sessions_pb2.LocateWorkspaceRequest(name=AGENT)
        located = await service.session.LocateWorkspace(request, CONTEXT)
        await tell(service, "t1", "hello")
        record = (await service.live()).record

    assert located.address in addresses
    assert located.address == record.executor
    assert f"workspaces/{record.workspace}" == located.workspace


async def test_what_ends_in_the_background_is_heard(store: FaultyStore, tmp_path: Path) -> None:
    """In a turn of its own, which ends when nothing is left."""
    async with running(tmp_path / "first") as first, serving(store, first) as service:
        await service.create_agent(permission_mode=3)
        await service.create_turn("t1", prompt="/sim background 300 the build is done\n/sim say ok")
        await until(lambda: service.metric("moorline_turns_total", outcome="finished") == 2)
        turns = (
            await service.turns.ListTurns(turns_pb2.ListTurnsRequest(parent=AGENT), CONTEXT)
        ).turns
        answer = await said(service, turns[0].name.rpartition("/")[2])

    assert [True, False] == [turn.background for turn in turns]
    assert [Turn.STATE_FINISHED] * 2 == [turn.state for turn in turns]
    assert ["the build is done"] == answer


async def test_a_prompt_comes_before_what_is_in_the_background(
    store: FaultyStore, tmp_path: Path
) -> None:
    """The work goes on meanwhile, and is heard of after that."""
    async with running(tmp_path / "first") as first, serving(store, first) as service:
        await service.create_agent(permission_mode=3)
        await service.create_turn("t1", prompt="/sim background 5000 the build is done")
        agent = await service.live()
        await until(lambda: any(turn.background for turn in agent.unfinished()))
        await service.create_turn("t2", prompt="/sim say first this")
        await until(lambda: service.metric("moorline_turns_total", outcome="finished") == 4)
        events = await service.list_events()
        texts = [event.item.agent_message.text for event in events]

    assert texts.index("first this") < texts.index("the build is done")
    assert 1 == texts.count("the build is done")
