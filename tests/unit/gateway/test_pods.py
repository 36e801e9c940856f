"""Tests of `services.gateway.pods`, over real servers."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from moorline.session.v1 import agents_pb2
from services.chassis.identity import Identity
from services.chassis.metrics import Metrics
from services.gateway.platform_clock import PlatformClock
from services.gateway.pods import LOST_SECONDS, ExecutorPod, SessionPod
from tests.unit.chassis.service import peer_of
from tests.unit.gateway.cluster_api import Cluster, cluster, connected
from tests.unit.gateway.fakes import FakeClient, FakeClock, until
from tests.unit.gateway.session_api import fake_session

ADA = Identity(user="users/ada")
AGENT = "users/ada/agents/a"


async def test_a_pod_is_busy_while_it_is_followed_or_called() -> None:
    """Only then is it kept although it is no longer discovered."""
    async with cluster(1) as (_, reach):
        await until(connected(reach, 1))
        [pod] = reach.pool.discovered()
        assert not pod.busy
        reach.watch(FakeClient(), AGENT)
        await until(lambda: pod.busy)
        assert not pod.lost


async def test_a_pod_without_a_feed_is_lost_after_a_while() -> None:
    """It may just be starting again."""
    made = Cluster()
    address = (await made.start()).address
    pod = SessionPod(peer=peer_of(address), on_time=lambda _: None)
    await until(lambda: pod.connected)
    await made.kill(address)
    await until(lambda: not pod.connected)
    since = pod.link.disconnected_since
    await until(lambda: pod.lost)
    assert since is not None
    assert asyncio.get_running_loop().time() - since >= LOST_SECONDS
    await pod.close()


async def test_a_feed_tells_the_time_and_that_the_pod_lives() -> None:
    """With its first response already."""
    loop = asyncio.get_running_loop()
    clock = PlatformClock(monotonic=FakeClock(1), wall=FakeClock(2))
    async with fake_session(time=1_700_000_000) as session:
        begin = loop.time()
        pod = SessionPod(peer=peer_of(session.target), on_time=clock.told)
        await until(lambda: pod.connected)

        assert 1_700_000_000 == clock()
        assert begin <= pod.heard <= loop.time()
        await pod.close()


async def test_both_kinds_are_called_and_asked_for_their_health() -> None:
    """An executor is one without a feed."""
    async with fake_session() as session:
        one = SessionPod(peer=peer_of(session.target), on_time=lambda _: None)
        two = ExecutorPod(peer=peer_of(session.target, Metrics(service="other")))
        for pod in (one, two):
            answer = await pod.call(
                "/moorline.session.v1.AgentService/GetAgent",
                agents_pb2.GetAgentRequest(name=AGENT),
                agents_pb2.GetAgentResponse,
                identity=ADA,
                timeout=timedelta(seconds=5),
            )

            assert AGENT == answer.agent.name
            assert await pod.healthy(timedelta(seconds=5))
            assert session.target == pod.address
            assert not pod.busy
            await pod.close()
