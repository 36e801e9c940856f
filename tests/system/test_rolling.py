"""Every process is replaced, one after the other, under turns that stream all the while."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest
import pytest_asyncio

import moorline
from services.local.readiness import until_ready
from tests.nemesis.cluster import Cluster
from tests.nemesis.pods import Pod
from tests.system.clusters import cluster, silence, words

pytestmark = [pytest.mark.alone, pytest.mark.firestore, pytest.mark.timeout(180)]

CLIENTS = 20
COUNT = 150
LIVE_SECONDS = 10.0
"""Within so long every client is live again; from the issue."""
DRAIN = {"executor": {"MOORLINE_DRAIN_SECONDS": "60"}}
"""The clients' turns end within seconds; an executor waits for them, as it does by itself."""


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Two of each."""
    async with cluster(tmp_path, lease_seconds=15, settings=DRAIN) as site:
        yield site


class Balancer:
    """One address for several servers, as a Service of a cluster is; a context manager.

    Args:
        addresses: The servers. A connection goes to the next one that takes it.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = list(addresses)
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop; connections end with their servers or clients."""
        if self._server is not None:
            self._server.close()

    @property
    def url(self) -> str:
        """Where clients connect."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            for _ in self._addresses:
                self._addresses.append(self._addresses.pop(0))
                host, _, port = self._addresses[-1].rpartition(":")
                with contextlib.suppress(OSError):
                    back, forth = await asyncio.open_connection(host, int(port))
                    with contextlib.closing(forth):
                        await asyncio.gather(self._pump(reader, forth), self._pump(back, writer))
                    return

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(65536):
                writer.write(chunk)
                await writer.drain()
        writer.close()


@dataclass
class Person:
    """Runs one turn after another, and notes when what of them came."""

    client: moorline.AsyncClient
    agent: moorline.AsyncAgent
    times: list[float] = field(default_factory=list)
    turns: int = 0

    async def work(self, over: asyncio.Event) -> None:
        """Run turns until it is over; each must succeed, in the call that made it."""
        while not over.is_set():
            async with self.agent.run(f"/sim stream {COUNT} 50") as stream:
                async for event in stream:
                    assert not isinstance(event, moorline.TurnAttempt), "it was not begun again"
                    self.times.append(asyncio.get_running_loop().time())
                result = stream.result
            assert result.finished, result
            assert words(COUNT) == result.text
            self.turns += 1


async def replace(pod: Pod) -> None:
    """SIGTERM a pod, start another when it has ended, and wait until that is ready."""
    await pod.terminate(70)
    pod.start()
    async with asyncio.timeout(60):
        ports = [pod.port]
        if pod.service == "gateway":
            await until_ready(grpc_ports=[], http_ports=ports)
        else:
            await until_ready(grpc_ports=ports, http_ports=[])


async def test_replacing_every_process_fails_no_turn(site: Cluster) -> None:
    """Two of each of three services; twenty clients of the Python client."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    async with AsyncExitStack() as stack:
        gateways = [pod.address for pod in site.of("gateway")]
        balancer = await stack.enter_async_context(Balancer(gateways))
        people = []
        for number in range(CLIENTS):
            client = await stack.enter_async_context(
                moorline.AsyncClient(balancer.url, site.token(f"person-{number}"))
            )
            people.append(Person(client, await client.agents.create()))
        async with asyncio.TaskGroup() as group:
            for person in people:
                group.create_task(person.work(over))
            await asyncio.sleep(2)
            begin = loop.time()
            for service in ("gateway", "session", "executor"):
                for pod in site.of(service):
                    await replace(pod)
            end = loop.time()
            over.set()

    assert all(person.turns for person in people)
    for person in people:
        assert silence(person.times, begin, end) < LIVE_SECONDS
