"""Starts two of each service and the Firestore emulator, on free ports, nothing in between.

Does not know what is measured.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson

from services.local.ports import free_port
from services.local.readiness import until_ready
from tests.emulator import DATABASE, PROJECT, FirestoreEmulator
from tests.load.systems import ROOT, START_SECONDS, System
from tests.nemesis.pods import Pod

REPLICAS = 2

DOCUMENTS = re.compile(r'^moorline_store_documents_total\{operation="(\w+)"\} (\S+)$', re.MULTILINE)


class Cluster:
    """What runs; an async context manager.

    Args:
        folder: Where everything lies: logs, and files of agents.

    Attributes:
        pods: Every process of a service, by name, such as `session-1`.
        emulator: The database.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports: set[int] = set()
        self._metrics: dict[str, str] = {}
        self._token = secrets.token_hex(16)
        self.pods: dict[str, Pod] = {}
        self.emulator = FirestoreEmulator(log=folder / "emulator.log", port=self._port())

    async def __aenter__(self) -> Self:
        """Start everything, and wait until all of it is ready."""
        await asyncio.to_thread(self.emulator.start)
        try:
            self._add_pods()
            # Gateways last, or some would wait to try again whom they found too early.
            for name, pod in self.pods.items():
                pod.start()
                await self.listening(name)
            async with asyncio.timeout(START_SECONDS):
                await until_ready(
                    grpc_ports=self._ports_of("executor") + self._ports_of("session"),
                    http_ports=self._ports_of("gateway"),
                )
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End every process."""
        await self._end()

    async def listening(self, name: str) -> None:
        """Wait until a pod accepts connections.

        Raises:
            RuntimeError: It does not.
        """
        pod = self.pods[name]
        if not await pod.listening(START_SECONDS):
            msg = f"{name} did not start:\n{pod.log.read_text()}"
            raise RuntimeError(msg)

    def system(self, gateway: str) -> System:
        """The platform as it is reached through one of the gateways."""
        return System(url=f"ws://{self.pods[gateway].address}/v1/ws", token=self._token, pids={})

    async def owner(self, user: str) -> str:
        """Name of the session pod that a user belongs to."""
        path = f"/v1/projects/{PROJECT}/databases/{DATABASE}/documents/{user}"
        document = await asyncio.to_thread(self.emulator.request, "GET", path)
        address = orjson.loads(document["fields"]["json"]["stringValue"])["address"]
        return next(name for name, pod in self.pods.items() if pod.address == address)

    async def left(self, user: str, name: str) -> None:
        """Wait until a user belongs to another session pod than this one."""
        while await self.owner(user) == name:  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.2)

    async def documents(self) -> dict[str, float]:
        """Documents that all session pods together have written, read, deleted so far."""
        documents = {"write": 0.0, "read": 0.0, "delete": 0.0}
        for name, address in self._metrics.items():
            if name.startswith("session"):
                for operation, count in DOCUMENTS.findall(await _page(address)):
                    documents[operation] += float(count)
        return documents

    def _ports_of(self, service: str) -> list[int]:
        return [pod.port for pod in self.pods.values() if pod.service == service]

    def _add_pods(self) -> None:
        numbers = range(1, REPLICAS + 1)
        executors = [
            self._pod(
                "executor",
                number,
                {"MOORLINE_WORKSPACES": str(self._folder / f"workspaces-{number}")},
            ).address
            for number in numbers
        ]
        database = {
            "MOORLINE_EXECUTOR": ",".join(executors),
            "MOORLINE_STORE": "firestore",
            "GOOGLE_CLOUD_PROJECT": PROJECT,
            "FIRESTORE_EMULATOR_HOST": self.emulator.host,
        }
        sessions = [self._pod("session", number, database).address for number in numbers]
        for number in numbers:
            self._pod(
                "gateway",
                number,
                {
                    "MOORLINE_SESSION": ",".join(sessions),
                    "MOORLINE_EXECUTOR": ",".join(executors),
                    "MOORLINE_AUTH": "development",
                    "MOORLINE_DEVELOPMENT_TOKEN": self._token,
                },
            )

    def _pod(self, service: str, number: int, own: Mapping[str, str]) -> Pod:
        name, port = f"{service}-{number}", self._port()
        self._metrics[name] = f"127.0.0.1:{self._port()}"
        self.pods[name] = Pod(
            name=name,
            service=service,
            port=port,
            source=ROOT,
            environment={
                "PATH": os.defpath,
                "HOME": str(self._folder),
                "DISABLE_DOCKER": "true",
                # The same for all of a cluster, and for no other.
                "MOORLINE_IDENTITY_KEY": self._token * 2,
                "MOORLINE_LISTEN": f"127.0.0.1:{port}",
                "MOORLINE_METRICS_LISTEN": self._metrics[name],
                **own,
            },
            log=self._folder / f"{name}.log",
        )
        return self.pods[name]

    def _port(self) -> int:
        port = free_port(taken=self._ports)
        self._ports.add(port)
        return port

    async def _end(self) -> None:
        for pod in self.pods.values():
            pod.kill()
        await asyncio.to_thread(self.emulator.stop)


async def _page(address: str) -> str:
    """The metrics page at an address."""
    host, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
    text = await reader.read()
    writer.close()
    return text.decode()
