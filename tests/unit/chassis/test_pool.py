"""Tests of `services.chassis.pool`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from services.chassis.discovery import Discovery
from services.chassis.pool import Pool
from tests.unit.chassis.service import until


class Pod:
    """A member that notes what happens to it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.busy = False
        self.closed = 0
        # Closing waits for it.
        self.gate = asyncio.Event()
        self.gate.set()

    async def close(self) -> None:
        """See `Member`."""
        await self.gate.wait()
        self.closed += 1


class World:
    """The pods that there are, all that were opened, and the pool."""

    def __init__(self, *addresses: str) -> None:
        self.addresses: Iterable[str] = addresses
        self.opened: list[Pod] = []

    def open(self, address: str) -> Pod:
        """Open a member."""
        self.opened.append(Pod(address))
        return self.opened[-1]

    async def resolve(self, host: str, port: int) -> Iterable[str]:
        """See `Resolve`."""
        return self.addresses

    @asynccontextmanager
    async def pool(self, *, idle_seconds: float = 60.0) -> AsyncIterator[Pool[Pod]]:
        """Run a pool that knows the pods."""
        found = Discovery(
            target="dns:///pods:1", period=timedelta(milliseconds=1), resolve=self.resolve
        )
        async with (
            found as discovery,
            Pool(discovery=discovery, open=self.open, idle=timedelta(seconds=idle_seconds)) as pool,
        ):
            await until(lambda: discovery.addresses == set(self.addresses))
            await asyncio.sleep(0)
            yield pool


async def test_what_is_discovered_has_a_member() -> None:
    """Without being asked for, also when it is discovered later."""
    world = World("b:1", "a:1")
    async with world.pool() as pool:
        first = pool.discovered()
        assert [pod.address for pod in first] == ["a:1", "b:1"]

        world.addresses = ["a:1", "c:1"]

        await until(lambda: len(pool) == 3)
        assert [pod.address for pod in pool.discovered()] == ["a:1", "c:1"]
        assert pool.discovered()[0] is first[0]
        assert set(pool.members()) == {"a:1", "b:1", "c:1"}
    assert len(world.opened) == 3


async def test_static_addresses_have_members_at_once() -> None:
    """Nothing needs to be waited for."""
    world = World()
    async with (
        Discovery(target="a:1,b:1") as discovery,
        Pool(discovery=discovery, open=world.open) as pool,
    ):
        assert world.opened == pool.discovered()


async def test_a_pool_may_be_empty() -> None:
    """Before the first answer, and at the end."""
    world = World()
    async with world.pool() as pool:
        assert (len(pool), pool.discovered(), pool.members()) == (0, [], {})


async def test_any_address_has_one_member() -> None:
    """It need not be discovered, and is made once."""
    world = World("a:1")
    async with world.pool() as pool:
        elsewhere = pool.get("x:1")

        assert pool.get("x:1") is elsewhere
        assert elsewhere not in pool.discovered()
        assert pool.get("a:1") is world.opened[0]


async def test_what_nobody_needs_is_closed() -> None:
    """Neither what is discovered nor what is busy; asked for again it is a new one."""
    world = World("a:1")
    async with world.pool(idle_seconds=0.02) as pool:
        pool.get("busy:1").busy = True
        idle = pool.get("idle:1")

        await until(lambda: idle.closed == 1)

        assert set(pool.members()) == {"a:1", "busy:1"}
        assert pool.get("idle:1") is not idle
        pool.get("busy:1").busy = False
        world.addresses = ["b:1"]
        await until(lambda: set(pool.members()) == {"b:1"})
    assert [pod.closed for pod in world.opened] == [1] * len(world.opened)


async def test_what_is_asked_for_is_kept() -> None:
    """Use counts, though the member itself says it is not busy."""
    world = World("a:1")
    async with world.pool(idle_seconds=0.2) as pool:
        kept = pool.get("x:1")
        loop = asyncio.get_running_loop()
        end = loop.time() + 0.5
        while loop.time() < end:
            assert pool.get("x:1") is kept
            await asyncio.sleep(0.01)

    assert kept.closed == 1


async def test_a_member_that_closes_slowly_is_replaced_meanwhile() -> None:
    """Who asks gets a new one, and the end waits for both."""
    world = World("a:1")
    async with world.pool(idle_seconds=0.01) as pool:
        slow = pool.get("x:1")
        slow.gate.clear()
        await until(lambda: "x:1" not in pool.members())

        fast = pool.get("x:1")

        asyncio.get_running_loop().call_later(0.05, slow.gate.set)
        assert (slow.closed, fast is slow) == (0, False)
    assert [pod.closed for pod in world.opened] == [1, 1, 1]


async def test_a_member_that_fails_to_close_does_not_hinder_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The failure is logged."""

    class Bad(Pod):
        async def close(self) -> None:
            raise KeyError(self.address)

    pods = {"a:1": Bad("a:1"), "b:1": Pod("b:1")}
    async with (
        Discovery(target="a:1,b:1") as discovery,
        Pool(discovery=discovery, open=pods.__getitem__),
    ):
        pass

    assert pods["b:1"].closed == 1
    assert "task failed" in caplog.messages


async def test_a_pool_is_used_while_it_is_open() -> None:
    """Before and after, asking is a mistake of the code, and changes are ignored."""
    world = World("a:1")
    pool = Pool(discovery=Discovery(target="a:1"), open=world.open)
    with pytest.raises(RuntimeError, match="not open"):
        pool.get("a:1")

    found = Discovery(
        target="dns:///pods:1", period=timedelta(milliseconds=1), resolve=world.resolve
    )
    async with found as discovery:
        async with Pool(discovery=discovery, open=world.open) as pool:
            await until(lambda: len(pool) == 1)
        world.addresses = ["b:1"]
        await until(lambda: discovery.addresses == {"b:1"})
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="not open"):
            pool.discovered()

    assert [pod.address for pod in world.opened] == ["a:1"]
