"""Tests of `services.gateway.rebalancing`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.chassis.tasks import Tasks
from services.gateway.rebalancing import SETTLE_SECONDS, Rebalancer
from services.gateway.routing import Owners
from tests.unit.gateway.fake_pods import FakePods, failure
from tests.unit.gateway.fakes import until

USERS = [f"users/u{number}" for number in range(60)]


@asynccontextmanager
async def rebalancing(
    pods: FakePods, owners: Owners, pause: float = 0.0
) -> AsyncIterator[Rebalancer]:
    """Rebalance while inside, looking often."""
    rebalancer = Rebalancer(
        pods=pods, owners=owners, look_seconds=0.01, settle_seconds=0.05, pause_seconds=pause
    )
    async with Tasks() as tasks:
        tasks.spawn(rebalancer.run(), name="rebalancer")
        await asyncio.sleep(0.1)
        yield rebalancer


def spread(pods: FakePods) -> Owners:
    """Put every user where all gateways would."""
    owners = Owners()
    for user in USERS:
        owners.put(user, pods.order(user)[0].address)
    return owners


def released(pods: FakePods) -> list[str]:
    """The users that were asked for."""
    return [request.name for pod in pods.by_address.values() for _, request, _ in pod.calls]


async def test_a_pod_that_joins_gets_its_users() -> None:
    """Each of those it is the first choice for, once, from whom has them; no others."""
    pods = FakePods("a:1", "b:1")
    owners = spread(pods)
    async with rebalancing(pods, owners):
        pods.join("c:1")
        mine = {user for user in USERS if pods.order(user)[0].address == "c:1"}
        await until(lambda: len(released(pods)) == len(mine))
        await asyncio.sleep(0.1)

    assert mine == set(released(pods))
    assert len(mine) == len(released(pods))
    assert 10 < len(mine) < 30
    assert not mine & {user for user, _ in owners.items()}
    assert "services/gateway" == pods["a:1"].calls[0][2].user


async def test_who_was_there_before_gets_none() -> None:
    """A gateway that starts moves nobody, wherever the users are."""
    pods = FakePods("a:1", "b:1")
    owners = Owners()
    for user in USERS:
        owners.put(user, "a:1")
    async with rebalancing(pods, owners):
        assert [] == released(pods)


async def test_who_was_there_before_the_first_look_gets_none() -> None:
    """However long after its making that is: a gateway may take a while to start."""
    pods = FakePods("a:1", "b:1")
    owners = Owners()
    for user in USERS:
        owners.put(user, "a:1")
    rebalancer = Rebalancer(pods=pods, owners=owners)
    await asyncio.sleep(2 * SETTLE_SECONDS)
    async with Tasks() as tasks:
        tasks.spawn(rebalancer.run(), name="rebalancer")
        await asyncio.sleep(10 * SETTLE_SECONDS)

    assert [] == released(pods)


async def test_a_pod_that_came_back_has_joined() -> None:
    """It gets those again that went elsewhere while it was away."""
    pods = FakePods("a:1", "b:1")
    owners = spread(pods)
    async with rebalancing(pods, owners):
        pods["b:1"].connected = False
        await asyncio.sleep(0.05)
        theirs = {user for user, address in owners.items() if address == "b:1"}
        for user in theirs:
            owners.put(user, "a:1")
        pods["b:1"].connected = True
        await until(lambda: theirs == set(released(pods)))

    assert len(theirs) == len(released(pods))


async def test_users_move_one_by_one() -> None:
    """A pod that joins is not run over."""
    pods = FakePods("a:1")
    owners = spread(pods)
    async with rebalancing(pods, owners, pause=0.02):
        pods.join("c:1")
        await until(lambda: len(released(pods)) >= 1)
        loop = asyncio.get_running_loop()
        begin, count = loop.time(), len(released(pods))
        await until(lambda: len(released(pods)) >= count + 10)

        assert loop.time() - begin >= 0.15


async def test_a_user_who_is_not_let_go_stays() -> None:
    """Its owner is remembered; so is one who has gone elsewhere by now."""
    pods = FakePods("a:1")
    owners = spread(pods)
    async with rebalancing(pods, owners, pause=0.01):
        pods["a:1"].answers = [failure("SERVICE_UNAVAILABLE")]
        pods.join("c:1")
        mine = [user for user in USERS if pods.order(user)[0].address == "c:1"]
        await until(lambda: len(released(pods)) >= 1)
        owners.put(mine[-1], "c:1")
        await until(lambda: len(released(pods)) >= len(mine) - 1)
        await asyncio.sleep(0.1)

    assert set(mine[:-1]) == set(released(pods))
    assert {"a:1", "c:1"} == {owners.get(user) for user in mine}


async def test_looking_through_many_users_holds_nobody_up() -> None:
    """Although none of them has to move."""
    pods, owners = FakePods("a:1", "b:1"), Owners()
    for number in range(2000):
        user = f"users/u{number}"
        owners.put(user, pods.order(user)[0].address)
    rebalancer = Rebalancer(pods=pods, owners=owners, look_seconds=0.01, settle_seconds=0)
    passes = 0

    async def count() -> None:
        nonlocal passes
        while True:
            passes += 1
            await asyncio.sleep(0)

    async with Tasks() as tasks:
        rebalancer._look()
        tasks.spawn(count(), name="count")
        await rebalancer._move_to({"b:1"})

        assert passes >= 10
    assert [] == released(pods)


async def test_nobody_is_sent_to_a_pod_that_has_left_again() -> None:
    """Users would have moved for nothing."""
    pods = FakePods("a:1")
    owners = spread(pods)
    async with rebalancing(pods, owners, pause=0.02):
        pods.join("c:1")
        await until(lambda: len(released(pods)) >= 2)
        pods["c:1"].connected = False
        count = len(released(pods))
        await asyncio.sleep(0.2)

        assert len(released(pods)) <= count + 1
