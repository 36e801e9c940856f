"""More session services and executors come while work goes on: they get their share of it."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from tests.nemesis.cluster import Cluster
from tests.system.clusters import cluster, documents, insist, user
from tests.system.wire import Transcript, Wire, follow

pytestmark = [pytest.mark.alone, pytest.mark.firestore, pytest.mark.timeout(300)]

OLD_USERS = 6
NEW_USERS = 240
"""Enough that a third of them is a fifth of them by bad luck only once in a million."""
AT_ONCE = 6
READY_SECONDS = 60.0
SHARE = 1 / 5
"""What each new one serves of the new work; from the issue."""
LATER = ("session-2", "session-3", "executor-2", "executor-3", "gateway-2", "gateway-3")
SCRIPT = "/sim write a.txt kept\n/sim say done"


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Cluster]:
    """One of each; two more session services and executors are known, and not there yet."""
    async with cluster(tmp_path, replicas=3, lease_seconds=15) as site:
        for name in LATER:
            site.pods[name].kill()
        yield site


class Work:
    """Users who come and give their new agents turns.

    Args:
        site: Where.
        name: Begins their names.
    """

    def __init__(self, site: Cluster, name: str) -> None:
        self.agents: list[str] = []
        self._name = name
        self._site = site
        self._begun = 0

    async def come(self, over: asyncio.Event) -> None:
        """Be one new user after another, until it is over or enough have come."""
        while not over.is_set() and self._begun < NEW_USERS:
            self._begun += 1
            async with user(self._site, f"{self._name}-{self._begun}") as wire:
                agent = await made(wire)
                await give(wire, agent, Transcript())
            self.agents.append(agent)


async def made(wire: Wire) -> str:
    """Make the user's agent."""
    request = {"parent": wire.user, "agentId": "only", "agent": {}}
    return str((await insist(wire, "createAgent", request))["agent"]["name"])


async def give(wire: Wire, agent: str, seen: Transcript) -> None:
    """Give an agent a turn, which must finish."""
    request = {"parent": agent, "turnId": uuid.uuid4().hex, "turn": {"prompt": {"text": SCRIPT}}}
    turn = str((await insist(wire, "createTurn", request))["turn"]["name"])
    await follow(wire, agent, seen, turn)
    outcome = seen.outcome(turn)
    assert outcome is not None
    assert "STATE_FINISHED" == outcome["state"]


async def stay(site: Cluster, number: int, over: asyncio.Event) -> None:
    """Be a user who was there before, and goes on."""
    async with user(site, f"old-{number}") as wire:
        agent, seen = await made(wire), Transcript()
        while not over.is_set():
            await give(wire, agent, seen)
            await asyncio.sleep(1)


async def test_new_replicas_get_their_share_of_new_work(site: Cluster) -> None:
    """From one of each to three of each."""
    over, before, never = asyncio.Event(), asyncio.Event(), asyncio.Event()
    earlier, work = Work(site, "early"), Work(site, "new")
    async with AsyncExitStack() as stack:
        group = await stack.enter_async_context(asyncio.TaskGroup())
        for number in range(OLD_USERS):
            group.create_task(stay(site, number, over))
        coming = [group.create_task(earlier.come(before)) for _ in range(AT_ONCE)]
        await asyncio.sleep(3)
        for name in LATER[:4]:
            site.pods[name].start()
        ready = [site.pods[name].listening(READY_SECONDS) for name in LATER[:4]]
        assert all(await asyncio.gather(*ready))
        await asyncio.sleep(5)
        before.set()
        await asyncio.gather(*coming)
        coming = [group.create_task(work.come(never)) for _ in range(AT_ONCE)]
        await asyncio.gather(*coming)
        over.set()
    sessions = await sessions_of(site, work.agents)
    executors = await executors_of(site, work.agents)
    assert len(work.agents) == NEW_USERS
    for name in LATER[:2]:
        assert sessions[name] >= SHARE * len(work.agents)
    for name in LATER[2:4]:
        assert executors[name] >= SHARE * len(work.agents)


async def sessions_of(site: Cluster, agents: list[str]) -> Counter[str]:
    """Count the agents' users by who serves them."""
    leases = await documents(site, "users")
    names = {proxy.host: name for name, proxy in site.to_session.items()}
    return Counter(names[leases[agent.split("/")[1]]["address"]] for agent in agents)


async def executors_of(site: Cluster, agents: list[str]) -> Counter[str]:
    """Count the agents' turns by who played them."""
    names = {proxy.host: name for name, proxy in site.to_executor.items()}
    found: Counter[str] = Counter()
    for agent in agents:
        turns = await documents(site, f"{agent}/turns")
        found.update(names[turn["executor"]] for turn in turns.values())
    return found
