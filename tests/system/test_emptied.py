"""The database is emptied under connected clients: they are told, and shown no mixture."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

import moorline
from tests.nemesis.cluster import Cluster
from tests.system.clusters import Follower, cluster, user, whole
from tests.system.wire import Transcript, Wire, WireError, follow

pytestmark = [
    pytest.mark.alone,
    pytest.mark.firestore,
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="module"),
]

LEASE_SECONDS = 5.0
TOLD_SECONDS = 10.0
"""Within so long everybody knows: a renewal of a lease, and a call that waits for it."""
RESETS = {"RESOURCE_NOT_FOUND", "SEQUENCE_UNKNOWN"}
"""What tells a client to forget what it shows."""
EXPECTED = {"RESOURCE_EXISTS", "STORE_UNAVAILABLE", "SERVICE_UNAVAILABLE"}
"""Why an agent cannot be made anew at once."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """Two of each."""
    folder = tmp_path_factory.mktemp("emptied")
    async with cluster(folder, lease_seconds=LEASE_SECONDS) as site:
        yield site


async def empty(site: Cluster, way: str) -> None:
    """Take every document out of the database."""
    assert site.emulator is not None
    if way == "cleared":
        await asyncio.to_thread(site.emulator.clear)
    else:
        await asyncio.to_thread(site.emulator.kill)
        await asyncio.to_thread(site.emulator.start)


async def told(follower: Follower) -> str:
    """Follow for as long as it goes, and return why it ended."""
    try:
        await follower.until()
    except WireError as error:
        return error.reason
    raise AssertionError("a watch ends with an error only")


async def list_of(wire: Wire, seen: list[str]) -> str:
    """Follow the user's agents; note who was removed."""
    number = await wire.send("watchAgents", {"parent": wire.user})
    while True:
        frame = await wire.reply(number, 60)
        if "error" in frame:
            return str(frame["error"]["reason"])
        for update in frame["watchAgentsResponse"].get("updates", []):
            seen += [update["removed"]] if "removed" in update else []


async def make_again(wire: Wire, agent: str) -> None:
    """Make an agent of the name there was, as soon as that is possible."""
    request = {"parent": wire.user, "agentId": agent.rpartition("/")[2]}
    while True:
        try:
            await wire.call("createAgent", {**request, "agent": {"displayName": "New"}})
        except WireError as error:
            if error.reason not in EXPECTED:
                raise
            await asyncio.sleep(0.1)
        else:
            return


async def grow(wire: Wire, agent: str, events: int) -> Transcript:
    """Give a new agent a longer history than the old one had."""
    seen = Transcript()
    while seen.sequence <= events:
        turn = await wire.prompt(agent, "/sim say new\n/sim say new")
        await follow(wire, agent, seen, turn)
    return seen


async def seen(what: Callable[[], bool]) -> None:
    """Wait until the followers have seen it."""
    async with asyncio.timeout(30):
        while not what():  # noqa: ASYNC110 - another task's news
            await asyncio.sleep(0.02)


def old_said(follower: Follower) -> bool:
    """Whether it shows the first message of the turn that is to be lost."""
    return "old" in [message["text"] for message in follower.transcript.items("agentMessage")]


@pytest.mark.parametrize("way", ["cleared", "restarted"])
async def test_clients_of_an_emptied_database_are_told(site: Cluster, way: str) -> None:
    """A turn runs, another agent rests, a program follows; the agent is made anew at once."""
    await whole(site)
    async with AsyncExitStack() as stack:
        wire = await stack.enter_async_context(user(site, f"user-{way}"))
        other = await stack.enter_async_context(user(site, f"user-{way}", "gateway-2"))
        # Somebody who does nothing but follow an agent that does nothing.
        quiet = await stack.enter_async_context(user(site, f"quiet-{way}"))
        busy, idle, still = await wire.agent(), await wire.agent(), await quiet.agent()
        grown = [
            (await grow(each, agent, 6)).sequence
            for each, agent in ((wire, busy), (wire, idle), (quiet, still))
        ]
        client = await stack.enter_async_context(
            moorline.AsyncClient(site.gateways["gateway-2"], site.token(f"user-{way}"))
        )
        await wire.prompt(busy, "/sim say old\n/sim stream 2000 50")
        followers = [
            Follower(wire, busy),
            Follower(other, busy),
            Follower(wire, idle),
            Follower(quiet, still),
        ]
        removed: list[str] = []
        watching = asyncio.create_task(list_of(other, removed))
        telling = [asyncio.create_task(told(follower)) for follower in followers]
        program = asyncio.create_task(program_of(client, busy))
        # From there on the turn adds nothing to its log: it writes one long text.
        await seen(lambda: all(old_said(each) and each.text for each in followers[:2]))
        await seen(lambda: [each.transcript.sequence for each in followers[2:]] == grown[1:])
        old = {follower.agent: follower.transcript.sequence for follower in followers}

        await empty(site, way)
        begin = asyncio.get_running_loop().time()
        making = asyncio.create_task(make_again(wire, busy))
        async with asyncio.timeout(2 * TOLD_SECONDS):
            reasons = await asyncio.gather(*telling)
            program_error = await program
            await making
        took = asyncio.get_running_loop().time() - begin
        new = await grow(wire, busy, old[busy])
        listed = (await wire.call("listAgents", {"parent": wire.user}))["agents"]
        resumed = [await resume(follower) for follower in followers]
        watching.cancel()

    for follower, reason in zip(followers, reasons, strict=True):
        assert reason in RESETS
        # Only what there was before.
        assert follower.transcript.sequence == old[follower.agent]
        assert "New" not in str(follower.transcript.events)
    assert isinstance(program_error, moorline.NotFoundError | moorline.SequenceUnknownError)
    assert took < TOLD_SECONDS
    assert [busy] == [agent["name"] for agent in listed]
    assert idle in removed
    unknown, gone = ["SEQUENCE_UNKNOWN"], ["RESOURCE_NOT_FOUND"]
    assert 2 * unknown + 2 * gone == resumed
    assert {"new"} == {message["text"] for message in new.items("agentMessage")}


async def program_of(client: moorline.AsyncClient, agent: str) -> BaseException | None:
    """Follow by the Python client for as long as it goes, and return why it ended."""
    live = await client.agents.get(agent)
    try:
        async for _ in live.events():
            pass
    except moorline.MoorlineError as error:
        return error
    return None


async def resume(follower: Follower) -> str:
    """Watch from where a client was, in the history it was in; return why not."""
    number = await follower.wire.send(
        "watchEvents",
        {
            "parent": follower.agent,
            "afterSequence": follower.transcript.sequence,
            "logId": follower.log_id,
        },
    )
    frame = await follower.wire.reply(number)
    return str(frame.get("error", {}).get("reason", "")).removeprefix("ERROR_REASON_")
