"""A session process sleeps for longer than it owns its users, and wakes up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf import json_format

from moorline.session.v1 import agents_pb2, events_pb2, turns_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from tests.nemesis.cluster import Cluster
from tests.system.clusters import Direct, Follower, cluster, documents, lease, owner, user, words
from tests.system.wire import Frame

pytestmark = [pytest.mark.alone, pytest.mark.firestore, pytest.mark.timeout(120)]

LEASE_SECONDS = 5.0
COUNT = 360
REFUSALS = {"NOT_OWNER", "SERVICE_UNAVAILABLE", "STORE_UNAVAILABLE", "DRAINING"}


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Two of each."""
    async with cluster(tmp_path, lease_seconds=LEASE_SECONDS) as site:
        yield site


class Listener:
    """Takes what one watch at one pod says, until that ends."""

    def __init__(self, call: Any) -> None:
        self.events: list[events_pb2.Event] = []
        self.texts: dict[str, str] = {}
        self.late: int = 0
        self.reason = ""
        self.awake = False
        self._call = call
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            async for response in self._call:
                for update in response.updates:
                    self.late += self.awake
                    self._take(update)
        except grpc.aio.AioRpcError as error:
            self.reason = Failure.from_rpc_error(error).reason_name

    def _take(self, update: events_pb2.EventUpdate) -> None:
        if update.HasField("event"):
            self.events.append(update.event)
        elif update.HasField("delta"):
            delta = update.delta
            known = "" if delta.snapshot else self.texts[delta.block_id]
            self.texts[delta.block_id] = known + delta.text


async def answer(call: Any) -> tuple[str, Any]:
    """Return why a call was refused, or nothing and its answer."""
    try:
        return "", await call
    except grpc.aio.AioRpcError as error:
        return Failure.from_rpc_error(error).reason_name, None


async def test_who_has_slept_adds_and_says_nothing(site: Cluster) -> None:
    """Stopped for twice its lease and continued, under a running turn and with calls waiting."""
    async with AsyncExitStack() as stack:
        wire = await stack.enter_async_context(user(site, "sleeper"))
        agent = await wire.agent()
        script = (
            f"/sim say before\n/sim stream {COUNT} 50\n/sim write notes.txt kept\n/sim say after"
        )
        turn = await wire.prompt(agent, script)
        follower = Follower(wire, agent)
        following = asyncio.create_task(follower.until(turn))
        await follower.begun()
        pod = await owner(site, wire.user)
        before = await lease(site, wire.user)
        direct = await stack.enter_async_context(Direct(site, address=pod.address, user=wire.user))
        request = events_pb2.WatchEventsRequest(parent=agent, include_deltas=True)
        listener = Listener(
            direct.stream("EventService/WatchEvents", request, events_pb2.WatchEventsResponse)
        )
        async with asyncio.timeout(30):
            while not listener.texts:  # noqa: ASYNC110 - another task's news
                await asyncio.sleep(0.02)

        pod.pause()
        await asyncio.sleep(2 * LEASE_SECONDS - 1)
        # What reaches it while it sleeps is what it finds first.
        calls = [asyncio.create_task(answer(call)) for call in questions(direct, agent, turn)]
        again = Listener(
            direct.stream("EventService/WatchEvents", request, events_pb2.WatchEventsResponse)
        )
        await asyncio.sleep(1)
        assert follower.transcript.sequence > 0
        listener.awake = True
        pod.resume()
        async with asyncio.timeout(15):
            answers = await asyncio.gather(*calls)
            await asyncio.gather(listener.task, again.task)
        later = [await answer(call) for call in questions(direct, agent, turn, number=1)]
        await following
        after = await lease(site, wire.user)
        log = (await documents(site, f"{agent}/log")).values()
        turns = await documents(site, f"{agent}/turns")

    transcript = follower.transcript
    assert after["epoch"] == before["epoch"] + 1
    assert after["address"] != before["address"]
    # Nothing was added by it, and none of the turns it was asked for was begun.
    assert [words(COUNT)] == [item["text"] for item in transcript.items("agentMessage")[1:-1]]
    assert "STATE_FINISHED" == (transcript.outcome(turn) or {})["state"]
    assert [turn.rpartition("/")[2]] == list(turns)
    epochs = [segment["epoch"] for segment in log]
    assert sorted(epochs) == epochs
    assert {before["epoch"], after["epoch"]} == set(epochs)
    # Whatever it said is what is in the log.
    for reason, _ in (*answers, *later):
        assert reason in REFUSALS
    for each in (listener, again):
        assert each.reason in REFUSALS
        assert [plain(event) for event in each.events] == [
            plain(event) for event in stored(transcript.events)[: len(each.events)]
        ]
        said = [item["text"] for item in transcript.items("agentMessage")]
        for text in each.texts.values():
            assert any(whole.startswith(text) for whole in said)
    assert not listener.late


def questions(direct: Direct, agent: str, turn: str, number: int = 0) -> list[Any]:
    """Calls that the owner alone may answer."""
    prompt = transcript_pb2.UserMessage(text="/sim say twice")
    return [
        direct.call(
            "TurnService/CreateTurn",
            turns_pb2.CreateTurnRequest(
                parent=agent, turn_id=f"late-{number}", turn=turns_pb2.Turn(prompt=prompt)
            ),
            turns_pb2.CreateTurnResponse,
        ),
        direct.call(
            "TurnService/CancelTurn",
            turns_pb2.CancelTurnRequest(name=turn),
            turns_pb2.CancelTurnResponse,
        ),
        direct.call(
            "TurnService/GetTurn", turns_pb2.GetTurnRequest(name=turn), turns_pb2.GetTurnResponse
        ),
        direct.call(
            "EventService/ListEvents",
            events_pb2.ListEventsRequest(parent=agent),
            events_pb2.ListEventsResponse,
        ),
        direct.call(
            "AgentService/GetAgent",
            agents_pb2.GetAgentRequest(name=agent),
            agents_pb2.GetAgentResponse,
        ),
    ]


def stored(events: list[Frame]) -> list[events_pb2.Event]:
    """Events of the wire as the services have them."""
    return [json_format.ParseDict(event, events_pb2.Event()) for event in events]


def plain(event: events_pb2.Event) -> bytes:
    """Something that compares."""
    return event.SerializeToString(deterministic=True)
