"""Tests of `services.executor.queue`."""

from __future__ import annotations

import asyncio

import pytest

from services.chassis.metrics import Metrics
from services.chassis.tasks import Tasks
from services.executor.queue import FairQueue
from tests.unit.executor.fakes import until


class Crowd:
    """Those who come to a queue: who is in, and what the others hear."""

    def __init__(self, queue: FairQueue, tasks: Tasks) -> None:
        self.entered: list[str] = []
        self.heard: dict[str, list[int]] = {}
        self._queue = queue
        self._tasks = tasks
        self._leaving: dict[str, asyncio.Event] = {}
        self._coming: dict[str, asyncio.Task[None]] = {}

    async def come(self, *names: str) -> None:
        """Let some ask for a slot; the first letter of a name is its tenant."""
        for name in names:
            self._leaving[name] = asyncio.Event()
            self._coming[name] = self._tasks.spawn(self._stay(name), name=name)
            await asyncio.sleep(0)

    async def leave(self, *names: str) -> None:
        """Let some give their slots back."""
        for name in names:
            self._leaving[name].set()
            await self._coming[name]

    async def give_up(self, *names: str) -> None:
        """Let some go away, one right after the other, whether they have a slot or not."""
        for name in names:
            self._coming[name].cancel()
            await asyncio.sleep(0)
        await asyncio.wait({self._coming[name] for name in names})

    async def _stay(self, name: str) -> None:
        moved = self.heard.setdefault(name, []).append
        async with self._queue.slot(name[0], moved=moved):
            self.entered.append(name)
            await self._leaving[name].wait()


def make_crowd(tasks: Tasks, *, slots: int, tenant_slots: int = 99) -> Crowd:
    """Return a crowd before a queue."""
    metrics = Metrics(service="executor")
    return Crowd(FairQueue(slots=slots, tenant_slots=tenant_slots, metrics=metrics), tasks)


async def test_free_slot_is_had_at_once(tasks: Tasks) -> None:
    """Nobody hears of a queue when there is none."""
    crowd = make_crowd(tasks, slots=2)

    await crowd.come("a1", "b1")

    assert ["a1", "b1"] == crowd.entered
    assert {"a1": [], "b1": []} == crowd.heard


async def test_one_tenant_comes_in_order(tasks: Tasks) -> None:
    """First come, first served."""
    crowd = make_crowd(tasks, slots=1)

    await crowd.come("a1", "a2", "a3")
    await crowd.leave("a1", "a2", "a3")

    assert ["a1", "a2", "a3"] == crowd.entered


@pytest.mark.parametrize("slots", [1, 2, 5])
async def test_crowd_of_one_tenant_does_not_keep_another_waiting(tasks: Tasks, slots: int) -> None:
    """However many wait, the first slot that becomes free is for who has none."""
    crowd = make_crowd(tasks, slots=slots)
    many = [f"a{number}" for number in range(50)]

    await crowd.come(*many, "b1")
    await crowd.leave("a0")
    await until(lambda: len(crowd.entered) == slots + 1)

    assert "b1" == crowd.entered[-1]


async def test_tenants_take_turns(tasks: Tasks) -> None:
    """Each gets as much as the others, and nobody is passed over for newcomers for ever."""
    crowd = make_crowd(tasks, slots=1)

    await crowd.come("a1", "a2", "a3", "b1", "b2")
    await crowd.leave("a1")
    await crowd.come("c1")
    await crowd.leave("b1")
    await crowd.come("d1")
    await crowd.leave("a2", "b2", "c1", "a3", "d1")

    assert ["a1", "b1", "a2", "b2", "c1", "a3", "d1"] == crowd.entered


async def test_tenant_has_a_limit_of_its_own(tasks: Tasks) -> None:
    """A slot may stay free beside a tenant that has all it may have."""
    crowd = make_crowd(tasks, slots=3, tenant_slots=1)

    await crowd.come("a1", "a2", "b1")
    before = list(crowd.entered)
    await crowd.leave("b1")
    between = list(crowd.entered)
    await crowd.leave("a1", "a2")

    assert ["a1", "b1"] == before == between
    assert ["a1", "b1", "a2"] == crowd.entered


async def test_places_are_told_as_they_change(tasks: Tasks) -> None:
    """Whoever waits hears its place, and 0 when it has its slot."""
    crowd = make_crowd(tasks, slots=1)

    await crowd.come("a1", "a2", "a3")
    await until(lambda: crowd.heard["a3"])
    await crowd.come("b1")
    await until(lambda: crowd.heard["a3"] == [2, 3])
    await crowd.leave("a1", "b1", "a2")
    await until(lambda: crowd.heard["a3"][-1] == 0)

    assert [1] == crowd.heard["b1"][:-1]
    assert [1, 2] == crowd.heard["a2"][:2]
    assert 0 == crowd.heard["a2"][-1]


async def test_who_gives_up_makes_the_others_move(tasks: Tasks) -> None:
    """One that waits no more takes nobody's place."""
    crowd = make_crowd(tasks, slots=1)

    await crowd.come("a1", "a2", "a3", "b1")
    await until(lambda: crowd.heard["a3"][-1:] == [3])
    await crowd.give_up("b1")
    await crowd.give_up("a2")
    await until(lambda: crowd.heard["a3"][-1] == 1)
    await crowd.leave("a1")
    await crowd.leave("a3")

    assert ["a1", "a3"] == crowd.entered


async def test_slot_given_to_one_who_goes_is_given_on(tasks: Tasks) -> None:
    """It went away in the same moment."""
    crowd = make_crowd(tasks, slots=1)
    await crowd.come("a1", "a2", "a3")

    await crowd.give_up("a1", "a2")
    await crowd.leave("a3")

    assert ["a1", "a3"] == crowd.entered


async def test_taken_slot_counts(tasks: Tasks) -> None:
    """What runs already takes a slot though there is none, and the next waits for it."""
    queue = FairQueue(slots=1, tenant_slots=9, metrics=Metrics(service="executor"))
    queue.take("a")
    queue.take("a")
    crowd = Crowd(queue, tasks)

    await crowd.come("b1")
    queue.give_back("a")
    await asyncio.sleep(0)
    before = list(crowd.entered)
    queue.give_back("a")
    await crowd.leave("b1")

    assert [] == before
    assert ["b1"] == crowd.entered
