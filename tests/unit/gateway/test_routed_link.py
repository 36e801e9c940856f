"""Tests of `services.gateway.routed_link`, over pods on real servers."""

from __future__ import annotations

import asyncio
import time

from moorline.session.v1 import feed_pb2
from services.chassis.identity import Identity
from services.chassis.tasks import Tasks
from services.gateway.rebalancing import Rebalancer
from services.gateway.routed_link import RoutedLink
from services.gateway.routing import Router
from tests.unit.gateway.cluster_api import Cluster, Reach, cluster, connected
from tests.unit.gateway.delivering import sequences
from tests.unit.gateway.fake_pods import FakePods, failure
from tests.unit.gateway.fakes import FakeClient, until

USERS = [f"users/u{number}" for number in range(40)]


class Crowd:
    """Clients that watch one agent each, some of one user."""

    def __init__(self, made: Cluster, reach: Reach, *, agents: int) -> None:
        self._made = made
        self.clients: dict[str, FakeClient] = {}
        self.seen: dict[str, list[int]] = {}
        for user in USERS:
            for number in range(agents):
                agent = f"{user}/agents/a{number}"
                self.clients[agent] = FakeClient()
                self.seen[agent] = []
                reach.watch(self.clients[agent], agent)

    def say(self) -> None:
        """Let something happen to every agent."""
        for agent in self.clients:
            self._made.append(agent)

    def read(self, count: int) -> bool:
        """Read; True when each has been told of so many events."""
        for agent, client in self.clients.items():
            self.seen[agent] += sequences(client.updates())
        return all(len(seen) >= count for seen in self.seen.values())

    @property
    def told(self) -> set[tuple[int, ...]]:
        """The different things that clients were told."""
        return {tuple(seen) for seen in self.seen.values()}

    @property
    def ended(self) -> list[str]:
        """Why streams ended."""
        return [
            failure.reason_name for client in self.clients.values() for _, failure in client.ended
        ]


async def test_two_hundred_subscriptions_move_and_lose_and_double_nothing() -> None:
    """When their pod dies in the middle of what it says, and another takes over later."""
    async with cluster(2) as (made, reach):
        await until(connected(reach, 2))
        crowd = Crowd(made, reach, agents=5)
        crowd.say()
        await until(lambda: crowd.read(1))
        made.lease = 0.5
        dead = next(iter(made.pods))
        alive = made.pods[next(address for address in made.pods if address != dead)]
        before = alive.subscribes
        lost = sum(owner == dead for owner in made.owners.values())
        killing = asyncio.create_task(made.kill(dead))
        for _ in range(10):
            crowd.say()
            await asyncio.sleep(0.02)
        await killing
        crowd.say()
        await until(lambda: crowd.read(12))

        assert {tuple(range(1, 13))} == crowd.told
        assert [] == crowd.ended
        assert 5 < lost < 35
        assert {alive.address} == set(made.owners.values())
        assert 200 == len(reach.link)
        assert 0 == reach.link.moving
        # One of each user asks until the lease is over, and the others once.
        assert alive.subscribes - before <= lost * (4 + 10)


async def test_a_pod_that_lets_go_is_left_at_once() -> None:
    """For the next choice, as in a rolling restart."""
    async with cluster(2) as (made, reach):
        await until(connected(reach, 2))
        crowd = Crowd(made, reach, agents=1)
        crowd.say()
        await until(lambda: crowd.read(1))
        leaving, staying = made.pods
        before = {address: pod.subscribes for address, pod in made.pods.items()}
        users = [user for user, owner in made.owners.items() if owner == leaving]
        for user in users:
            made.owners[user] = leaving
            made.release(user)
            # Nobody may be served there any more.
            made.owners[user] = staying
        crowd.say()
        await until(lambda: crowd.read(2))

        assert {(1, 2)} == crowd.told
        await until(lambda: {staying} == {reach.router.owners.get(user) for user in users})
        asked = {address: pod.subscribes - before[address] for address, pod in made.pods.items()}
        # Of the one that they have left each learns whom to ask, and asks nobody twice.
        assert len(users) == asked[staying]
        assert len(users) >= asked[leaving]


async def test_a_cut_connection_is_mended_where_it_was() -> None:
    """The owner is alive and named by the others; nobody has to take over."""
    async with cluster(2) as (made, reach):
        await until(connected(reach, 2))
        crowd = Crowd(made, reach, agents=1)
        crowd.say()
        await until(lambda: crowd.read(1))
        owners = dict(made.owners)
        made.gate.clear()
        for pod in made.pods.values():
            pod.cut()
        await until(lambda: not any(pod.connected for pod in reach.pool.discovered()))
        crowd.say()
        made.gate.set()
        await until(lambda: crowd.read(2))

        assert owners == made.owners
        assert {(1, 2)} == crowd.told


async def test_a_position_of_another_history_ends_the_stream() -> None:
    """The database was emptied and filled anew: not one event of it is shown."""
    async with cluster(2) as (made, reach):
        await until(connected(reach, 2))
        crowd = Crowd(made, reach, agents=1)
        crowd.say()
        await until(lambda: crowd.read(1))
        made.histories = {}
        made.log_id = "log-2"
        crowd.say()
        crowd.say()
        for user in USERS:
            made.release(user)
        await until(lambda: len(crowd.ended) == len(USERS))

        assert {"SEQUENCE_UNKNOWN"} == set(crowd.ended)
        assert crowd.read(1)
        assert {(1,)} == crowd.told


async def test_a_pod_that_joins_gets_its_share() -> None:
    """Also of those who are watched all the time, and nobody notices."""
    async with cluster(1) as (made, reach):
        await until(connected(reach, 1))
        crowd = Crowd(made, reach, agents=1)
        crowd.say()
        await until(lambda: crowd.read(1))
        rebalancer = Rebalancer(
            pods=reach.pool,
            owners=reach.router.owners,
            look_seconds=0.01,
            settle_seconds=0.05,
            pause_seconds=0.001,
        )
        reach.tasks.spawn(rebalancer.run(), name="rebalancer")
        await asyncio.sleep(0.1)
        joined = [(await made.start()).address, (await made.start()).address]

        def share(address: str) -> int:
            return sum(owner == address for owner in made.owners.values())

        await until(lambda: all(share(address) >= len(USERS) / 5 for address in joined))
        crowd.say()
        await until(lambda: crowd.read(2))

        assert {(1, 2)} == crowd.told
        assert [] == crowd.ended


async def test_who_leaves_while_the_user_is_looked_for_leaves_nothing_behind() -> None:
    """Neither a subscription nor a search without end."""
    async with cluster(2) as (made, reach):
        await until(connected(reach, 2))
        client, agent = FakeClient(), "users/ada/agents/a"
        reach.watch(client, agent)
        await until(lambda: len(reach.link) == 1)
        made.lease = 60
        owner = made.owners["users/ada"]
        await made.kill(owner)
        await until(lambda: reach.link.moving == 1)
        [watch] = next(iter(reach.delivery._sources.values()))[0].watches
        reach.delivery.leave(watch)
        await until(lambda: reach.link.moving == 0)

        assert 0 == len(reach.link)


async def test_the_users_of_a_dead_pod_do_not_all_ask_at_once() -> None:
    """A thousand are spread over seconds, and few calls are made at a time."""
    pods = FakePods("a:1", "b:1")
    async with Tasks() as tasks:
        link = RoutedLink(router=Router(pods=pods), tasks=tasks)
        pods.known = ["a:1"]
        for number in range(1000):
            await link.subscribe(
                identity=Identity(user=f"users/u{number}"),
                request=lambda _, __: feed_pb2.SubscribeRequest(),
                on_updates=lambda _: None,
                on_end=lambda _: None,
                on_reset=lambda: None,
            )
        pods.known = ["a:1", "b:1"]
        pods["a:1"].go()
        asked = pods["b:1"].link.requests
        pods["b:1"].link.gate.clear()
        for subscription in list(pods["a:1"].link.open):
            pods["a:1"].link.end(failure("SERVICE_UNAVAILABLE"), to=0)
            assert not subscription.open
        begin = time.monotonic()
        assert 1000 == link.moving
        # The gate holds those that ask: no more than there are slots.
        await until(pods["b:1"].slots.locked)
        assert [] == asked
        pods["b:1"].link.gate.set()
        await until(lambda: link.moving == 0)

        assert time.monotonic() - begin > 1.5
        assert 1000 == len(asked) == len(link)
