"""The process that serves a user ends in mid-turn, and nobody else comes to its address."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

import moorline
from moorline.connection import ConnectionState
from tests.nemesis.cluster import Cluster
from tests.system.clusters import Follower, cluster, lease, owner, silence, user, whole, words
from tests.system.lateness import Lateness

pytestmark = [
    pytest.mark.alone,
    pytest.mark.firestore,
    pytest.mark.timeout(150),
    pytest.mark.asyncio(loop_scope="module"),
]

KILLED_SECONDS = 20.0
"""Within so long a stream goes on whose owner was killed."""

TERMINATED_SECONDS = 2.0
"""Within so long a stream goes on whose owner was asked to end."""

DRAIN_SECONDS = 10.0
"""What a session service has for its end: who gave its users away only then would be seen."""
ENDS_SECONDS = DRAIN_SECONDS + 15.0
"""An end that is on its way has come by then on any machine."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """Two of each, with the time of a lease as it is unless somebody sets it."""
    settings = {"session": {"MOORLINE_DRAIN_SECONDS": str(DRAIN_SECONDS)}}
    folder = tmp_path_factory.mktemp("failover")
    async with cluster(folder, lease_seconds=15, settings=settings) as site:
        yield site


@dataclass
class Program:
    """Reads one turn by one call of the Python client."""

    blocks: dict[str, str] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)
    states: list[ConnectionState] = field(default_factory=list)

    async def read(self, agent: moorline.AsyncAgent, prompt: str) -> moorline.TurnResult:
        """Run a turn and note when its text came."""
        async with agent.run(prompt) as stream:
            async for event in stream:
                if isinstance(event, moorline.TextDelta):
                    self.times.append(asyncio.get_running_loop().time())
                    self._extend(event)
                assert not isinstance(event, moorline.TurnAttempt), "it was not begun again"
                assert not isinstance(event, moorline.MessageDiscarded), "no text was taken back"
            return stream.result

    def _extend(self, delta: moorline.TextDelta) -> None:
        known = self.blocks.get(delta.block_id, "")
        if delta.snapshot:
            assert delta.text.startswith(known), "no text was taken back"
        self.blocks[delta.block_id] = delta.text if delta.snapshot else known + delta.text


# What is measured first is measured in a cluster of which nothing has just come back.
@pytest.mark.parametrize("way", ["terminated", "killed"])
async def test_a_stream_goes_on_without_its_owner(site: Cluster, way: str) -> None:
    """In the same call of the Python client, and of a client on the wire at another gateway."""
    count, allowed = (480, KILLED_SECONDS) if way == "killed" else (140, TERMINATED_SECONDS)
    loop = asyncio.get_running_loop()
    await whole(site)
    async with AsyncExitStack() as stack:
        program = Program()
        client = await stack.enter_async_context(
            moorline.AsyncClient(
                site.gateways["gateway-1"], site.token(way), on_state=program.states.append
            )
        )
        agent = await client.agents.create()
        running = asyncio.create_task(
            program.read(agent, f"/sim say before\n/sim stream {count} 50\n/sim say after")
        )
        wire = await stack.enter_async_context(user(site, way, "gateway-2"))
        follower = Follower(wire, agent.name)
        following = asyncio.create_task(follower.until())
        async with asyncio.timeout(30):
            while "w5" not in follower.text:  # noqa: ASYNC110 - another task's news
                await asyncio.sleep(0.02)
        old, owned = await owner(site, wire.user), await lease(site, wire.user)
        late = await stack.enter_async_context(Lateness())
        begin = loop.time()
        if way == "killed":
            old.kill()
        else:
            await old.terminate(ENDS_SECONDS)
            assert old.process is not None
            # It goes by itself, and not before it has given its users away.
            assert 0 == old.process.returncode
            given = await lease(site, wire.user)
            assert given["released"] or given["epoch"] > owned["epoch"]
        result = await running
        new = await owner(site, wire.user)
        async with asyncio.timeout(5):
            while follower.transcript.sequence < result.outcome.sequence:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        following.cancel()
        history = await agent.history()

    assert new is not old
    assert not old.running
    assert result.finished
    assert f"before\n\n{words(count)}\n\nafter" == result.text
    assert ["before", words(count), "after"] == list(program.blocks.values())
    for times in (program.times, follower.times):
        assert silence(list(map(late.own, times)), late.own(begin)) < allowed
    assert [ConnectionState.CONNECTING, ConnectionState.CONNECTED] == program.states[:2]
    assert ConnectionState.RECONNECTING not in program.states
    assert [event.sequence for event in history] == [*follower.durable]
    assert [words(count)] == [
        message["text"] for message in follower.transcript.items("agentMessage")[1:-1]
    ]
