"""Clusters for acceptance tests, and clients that note when what they see arrived.

Judges nothing but the client's two rules; does not know faults.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import grpc
import pytest
from google.protobuf.message import Message

from services.chassis.identity import METADATA_KEY, Identity, Signer
from tests.emulator import EmulatorMissingError, find_emulator
from tests.nemesis.cluster import Cluster, Shape
from tests.nemesis.evidence import Fields
from tests.nemesis.pods import Pod
from tests.nemesis.reading import emulator_documents
from tests.system.wire import Frame, Transcript, Wire, WireError, open_wire

BACK_SECONDS = 60.0


@contextlib.asynccontextmanager
async def cluster(folder: Path, **shape: Any) -> AsyncIterator[Cluster]:
    """A running cluster on the emulator; skips where there is none."""
    try:
        find_emulator()
    except EmulatorMissingError as error:
        pytest.skip(str(error))
    async with Cluster(dataclasses.replace(Shape(), **shape), folder=folder) as running:
        yield running


async def whole(cluster: Cluster) -> None:
    """Start every pod that is gone, and wait until all listen."""
    for pod in cluster.pods.values():
        pod.start()
    ready = await asyncio.gather(*(pod.listening(BACK_SECONDS) for pod in cluster.pods.values()))
    assert all(ready)


def words(count: int) -> str:
    """What `/sim stream` says."""
    return " ".join(f"w{number}" for number in range(1, count + 1))


async def documents(cluster: Cluster, collection: str) -> dict[str, Fields]:
    """Return what the database has in a collection, by id."""
    assert cluster.emulator is not None
    return dict(await emulator_documents(cluster.emulator)(collection))


async def lease(cluster: Cluster, user: str) -> Fields:
    """Return the lease on a user, `users/{user}`."""
    return (await documents(cluster, "users"))[user.rpartition("/")[2]]


async def owner(cluster: Cluster, user: str) -> Pod:
    """Return the session pod that serves a user."""
    address = (await lease(cluster, user))["address"]
    (name,) = (name for name, proxy in cluster.to_session.items() if proxy.host == address)
    return cluster.pods[name]


@dataclass
class Follower:
    """Follows one agent by one call, and notes when what came.

    Attributes:
        transcript: What it shows.
        times: When each update came, in the loop's seconds.
        durable: When each event came, by its number.
        log_id: Which history that is, as the last checkpoint said.
    """

    wire: Wire
    agent: str
    transcript: Transcript = field(default_factory=Transcript)
    times: list[float] = field(default_factory=list)
    durable: dict[int, float] = field(default_factory=dict)
    log_id: str = ""

    async def until(self, *turns: str, patience: float = 60) -> None:
        """Follow until each of these turns has its outcome."""
        loop = asyncio.get_running_loop()
        self.transcript.connected()
        async with asyncio.timeout(patience):
            updates = self.wire.watch(self.agent, self.transcript.sequence, patience)
            async with contextlib.aclosing(updates):
                async for update in updates:
                    self.times.append(loop.time())
                    self.transcript.apply(update)
                    if "event" in update:
                        self.durable[update["event"]["sequence"]] = loop.time()
                    if "checkpoint" in update:
                        self.log_id = update["checkpoint"].get("logId", "")
                    if turns and all(self.transcript.outcome(turn) for turn in turns):
                        return

    @property
    def text(self) -> str:
        """What is being written just now."""
        return "".join(self.transcript.open.values())

    async def begun(self, patience: float = 30) -> None:
        """Wait until text is being written."""
        async with asyncio.timeout(patience):
            while not self.text:  # noqa: ASYNC110 - another task's news
                await asyncio.sleep(0.02)


def silence(times: Sequence[float], since: float, until: float | None = None) -> float:
    """Return the longest time without anything between two instants."""
    inner = [time for time in times if since <= time and (until is None or time <= until)]
    edges = [since, *inner, *([] if until is None else [until])]
    return max((later - sooner for sooner, later in itertools.pairwise(edges)), default=0)


@contextlib.asynccontextmanager
async def user(cluster: Cluster, name: str, gateway: str = "gateway-1") -> AsyncIterator[Wire]:
    """A connection of a user."""
    async with open_wire(cluster.gateways[gateway], cluster.token(name)) as wire:
        yield wire


async def insist(wire: Wire, call: str, request: Frame) -> Frame:
    """Make a call that is safe to repeat until it is no more refused for the moment only."""
    while True:
        try:
            return await wire.call(call, request)
        except WireError as error:
            if "retryDelay" not in error.error:
                raise
        await asyncio.sleep(0.5)


class Direct:
    """Calls a session pod by itself, without a gateway, as a service does.

    Args:
        cluster: Whose key signs the calls.
        address: Of the pod.
        user: For whom, `users/{user}`.
    """

    def __init__(self, cluster: Cluster, *, address: str, user: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        token = Signer(key=cluster.identity_key).token(Identity(user=user))
        self._metadata = ((METADATA_KEY, token),)

    async def __aenter__(self) -> Self:
        """Connect."""
        async with asyncio.timeout(10):
            await self._channel.channel_ready()
        return self

    async def __aexit__(self, *_: object) -> None:
        """End every call."""
        await self._channel.close()

    async def call(self, method: str, request: Message, answer: type[Message]) -> Any:
        """Make a unary call, `Service/Method`."""
        return await self._channel.unary_unary(
            f"/moorline.session.v1.{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )(request, metadata=self._metadata, timeout=60)

    def stream(self, method: str, request: Message, answer: type[Message]) -> Any:
        """Make a call whose answers are many."""
        return self._channel.unary_stream(
            f"/moorline.session.v1.{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )(request, metadata=self._metadata)
