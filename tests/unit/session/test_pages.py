"""Tests of `services.session.pages`, and of the lists that come in pages."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from moorline.session.v1 import agents_pb2, events_pb2, turns_pb2
from services.session.limits import Limits
from services.session.pages import PAGE_BYTES, Page
from services.session.store import Delete
from tests.unit.session.fakes import FakeExecutor, FaultyStore
from tests.unit.session.machine.world import World
from tests.unit.session.service import AGENT, CONTEXT, Service

LARGEST_TURN = 3 * 100_000 + 1000
"""Bytes of the largest prompt in the widest common script, and what is around it."""


def entry(size: int) -> turns_pb2.Turn:
    """Return a message of about so many bytes."""
    return turns_pb2.Turn(name="x" * size)


def test_a_page_is_full_by_number() -> None:
    """However small the entries are."""
    page: Page[turns_pb2.Turn] = Page(size=2)
    page.add(entry(1))
    assert not page.full
    page.add(entry(1))

    assert page.full
    assert 2 == len(page.entries)


def test_a_page_is_full_by_bytes() -> None:
    """However few the entries are; one is always taken."""
    page: Page[turns_pb2.Turn] = Page(size=200)
    assert not page.full
    page.add(entry(PAGE_BYTES))

    assert page.full


async def turn_pages(service: Service, **request: Any) -> list[turns_pb2.ListTurnsResponse]:
    """Return all pages of an agent's turns."""
    pages: list[turns_pb2.ListTurnsResponse] = []
    while not pages or pages[-1].next_page_token:
        token = pages[-1].next_page_token if pages else ""
        pages.append(
            await service.turns.ListTurns(
                turns_pb2.ListTurnsRequest(parent=AGENT, page_token=token, **request), CONTEXT
            )
        )
    return pages


class TestLargeEntries:
    @pytest.fixture
    def limits(self) -> Limits:
        """Limits that let many turns wait."""
        return Limits(queued_turns=50)

    @pytest.mark.parametrize("unfinished_only", [True, False])
    async def test_turns_come_in_pages_of_so_many_bytes(
        self, service: Service, executor: FakeExecutor, unfinished_only: bool
    ) -> None:
        """No turn is left out, and no page is larger than a client can take."""
        ids = [f"t{number:02}" for number in range(20)]
        for turn_id in ids:
            await service.create_turn(turn_id, "가" * 100_000)

        pages = await turn_pages(service, unfinished_only=unfinished_only)

        names = [turn.name.rpartition("/")[2] for page in pages for turn in page.turns]
        assert names == (ids if unfinished_only else ids[::-1])
        assert all(page.turns for page in pages)
        assert max(page.ByteSize() for page in pages) < PAGE_BYTES + LARGEST_TURN

    async def test_small_turns_come_in_pages_of_so_many(self, service: Service) -> None:
        """Of more than are read at once."""
        ids = [f"t{number:02}" for number in range(30)]
        for turn_id in ids:
            await service.create_turn(turn_id)

        pages = await turn_pages(service, page_size=20)

        assert [20, 10] == [len(page.turns) for page in pages]
        names = [turn.name.rpartition("/")[2] for page in pages for turn in page.turns]
        assert ids[::-1] == names

    async def test_a_turn_that_is_gone_is_left_out(
        self, service: Service, executor: FakeExecutor, store: FaultyStore
    ) -> None:
        """The ones beside it are shown."""
        executor.script = lambda execution: execution.end()
        for turn_id in ("t1", "t2", "t3"):
            await service.create_turn(turn_id)
            await service.ended(turn_id)
        await store.inner.commit([Delete(f"{AGENT}/turns/t2")])

        (page,) = await turn_pages(service)

        assert ["t3", "t1"] == [turn.name.rpartition("/")[2] for turn in page.turns]

    async def test_agents_come_in_pages_of_so_many_bytes(self, service: Service) -> None:
        """Whose instructions are what is large."""
        for number in range(20):
            await service.create_agent(f"large{number}", instructions="가" * 20_000)
        names: list[str] = []
        sizes: list[int] = []
        token = ""
        while token or not sizes:
            page = await service.agents.ListAgents(
                agents_pb2.ListAgentsRequest(parent="users/ada", page_token=token), CONTEXT
            )
            names += [agent.name for agent in page.agents]
            sizes.append(page.ByteSize())
            token = page.next_page_token

        assert 21 == len(names) == len(set(names))
        assert max(sizes) < PAGE_BYTES + 3 * 20_000 + 1000


def test_a_slow_store_makes_pages_short_and_never_none() -> None:
    """What was read within two seconds is the page, so that reading on comes to the end."""
    world = World()
    try:
        world.submit("turn-0", "hello")
        world.loop.advance(1)
        [execution] = world.running()
        for number in range(200):
            world.loop.act(functools.partial(execution.call_tool, f"tool-{number}"))
            world.loop.advance(0.2)
        for pod in world.pods:
            pod.store.way = 0.6
        pages = [0]
        while pages[-1] < 200:
            before = world.loop.time()
            listed = world.loop.finish(_page(world, after=pages[-1]), within=20)
            assert world.loop.time() - before < 5
            assert listed.events
            pages.append(listed.events[-1].sequence)
        assert len(pages) > 3
        for pod in world.pods:
            pod.store.way = 0.002
        world.heal()
        assert [] == world.judge()
    finally:
        world.close()


async def _page(world: World, *, after: int) -> events_pb2.ListEventsResponse:
    request = events_pb2.ListEventsRequest(parent=AGENT, page_size=1000, after_sequence=after)
    return await world.call(lambda pod: pod.service.events.ListEvents(request, CONTEXT))
