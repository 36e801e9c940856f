"""A platform on one machine, several pods of each service, each leg through a proxy.

    gateway-i ──▶ [proxy] session-j ──▶ [proxy] executor-k
                          session-j ──▶ [proxy j] database

A proxy stands before each session and each executor, and one between each
session and the database, so that each can be cut off alone.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from joserfc import jwk, jwt

from services.local.ports import free_port
from tests.emulator import PROJECT, FirestoreEmulator
from tests.nemesis.connection import CALL_SECONDS
from tests.nemesis.pods import Pod
from tests.proxy import FaultProxy

ROOT = Path(__file__).resolve().parents[2]
ISSUER = "https://nemesis.test"
AUDIENCE = "moorline"
READY_SECONDS = 60.0
_TOKEN_SECONDS = 1800


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a cluster is like.

    Attributes:
        replicas: Pods of each service.
        lease_seconds: How long a pod that says nothing still owns its users.
        store: `firestore`, or `sqlite` for one session pod.
        source: Folder with `services/` and `moorline/`.
        settings: More variables, by service or by pod.
        clocks: By how much the clocks of some pods are wrong; see `Pod.clock`.
    """

    replicas: int = 2
    lease_seconds: float = 4.0
    store: str = "firestore"
    source: Path = ROOT
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    clocks: Mapping[str, str] = field(default_factory=dict)


class Cluster:
    """Running pods, proxies and the database; an async context manager.

    Attributes:
        pods: By name.
        to_session: The proxy before each session pod, by the pod's name.
        to_executor: The proxy before each executor pod, by the pod's name.
        to_store: Each session pod's proxy to the database, by the pod's name.
        emulator: The database; None on SQLite.
        identity_key: Signs who a caller is between services.
    """

    def __init__(self, shape: Shape, *, folder: Path) -> None:
        self.shape = shape
        self.folder = folder
        self.pods: dict[str, Pod] = {}
        self.to_session: dict[str, FaultProxy] = {}
        self.to_executor: dict[str, FaultProxy] = {}
        self.to_store: dict[str, FaultProxy] = {}
        self.emulator: FirestoreEmulator | None = None
        self.identity_key = secrets.token_hex(32)
        self._signing = jwk.generate_key("OKP", "Ed25519", parameters={"kid": "nemesis"})
        self._stack = AsyncExitStack()
        self._ports: set[int] = set()

    async def __aenter__(self) -> Self:
        """Start everything, and wait until every pod listens."""
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)
        keys = {"keys": [self._signing.as_dict(private=False)]}
        (self.folder / "keys.json").write_text(json.dumps(keys))
        try:
            await self._start()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End every process."""
        for pod in self.pods.values():
            pod.kill()
        await self._stack.aclose()

    def of(self, service: str) -> list[Pod]:
        """The pods of a service."""
        return [pod for pod in self.pods.values() if pod.service == service]

    @property
    def gateways(self) -> dict[str, str]:
        """Address for clients of each gateway, by name."""
        return {pod.name: f"http://{pod.address}" for pod in self.of("gateway")}

    @property
    def workspaces(self) -> list[Path]:
        """Where each executor keeps its agents' files."""
        return [self.folder / f"workspaces-{n + 1}" for n in range(self.shape.replicas)]

    def token(self, user: str, shift: float = 0) -> str:
        """A bearer token of a user, good now by our clock, or `shift` seconds later."""
        now = int(time.time() + shift)
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": user, "nbf": now - 5}
        header = {"alg": "Ed25519", "kid": "nemesis"}
        claims |= {"exp": now + _TOKEN_SECONDS}
        return jwt.encode(header, claims, self._signing, algorithms=["Ed25519"])

    async def _start(self) -> None:
        names = range(1, self.shape.replicas + 1)
        if self.shape.store == "firestore":
            log = self.folder / "logs" / "database.log"
            self.emulator = FirestoreEmulator(log=log, port=self._port(), heap="4g")
            await asyncio.to_thread(self.emulator.start)
            self._stack.push_async_callback(asyncio.to_thread, self.emulator.stop)
            for number in names:
                proxy = await self._proxy(self.emulator.host)
                self.to_store[f"session-{number}"] = proxy
        for number in names:
            pod = self._pod("executor", number, self._executor(number))
            self.to_executor[pod.name] = await self._proxy(pod.address)
        for number in names if self.shape.store == "firestore" else (1,):
            pod = self._pod("session", number, {})
            self.to_session[pod.name] = await self._proxy(pod.address)
            # What the shape says goes before.
            pod.environment = {**self._session(pod.name), **pod.environment}
        for number in names:
            self._pod("gateway", number, self._gateway())
        for pod in self.pods.values():
            pod.start()
        listening = [pod.listening(READY_SECONDS) for pod in self.pods.values()]
        for pod, ready in zip(self.pods.values(), await asyncio.gather(*listening), strict=True):
            if not ready:
                raise RuntimeError(f"{pod.name} does not listen: {pod.log.read_text()[-2000:]}")

    def _pod(self, service: str, number: int, own: Mapping[str, str]) -> Pod:
        name = f"{service}-{number}"
        port = self._port()
        pod = Pod(
            name=name,
            service=service,
            port=port,
            source=self.shape.source,
            environment={
                "PATH": "/usr/bin:/bin",
                "HOME": str(self.folder),
                "DISABLE_DOCKER": "true",
                "MOORLINE_IDENTITY_KEY": self.identity_key,
                "MOORLINE_LISTEN": f"127.0.0.1:{port}",
                "MOORLINE_DRAIN_SECONDS": "2",
                **own,
                **self.shape.settings.get(service, {}),
                **self.shape.settings.get(name, {}),
            },
            log=self.folder / "logs" / f"{name}.log",
            clock=self.shape.clocks.get(name, ""),
        )
        self.pods[name] = pod
        return pod

    def _executor(self, number: int) -> dict[str, str]:
        return {"MOORLINE_WORKSPACES": str(self.folder / f"workspaces-{number}")}

    def _session(self, name: str) -> dict[str, str]:
        own = {
            "MOORLINE_EXECUTOR": _joined(self.to_executor),
            "MOORLINE_EXECUTOR_UNREACHABLE": "5",
        }
        if self.shape.store != "firestore":
            return own | {"MOORLINE_STORE": f"sqlite:{self.folder / 'moorline.db'}"}
        return own | {
            "MOORLINE_STORE": "firestore",
            "MOORLINE_ADDRESS": self.to_session[name].host,
            "MOORLINE_LEASE_SECONDS": str(self.shape.lease_seconds),
            "GOOGLE_CLOUD_PROJECT": PROJECT,
            "FIRESTORE_EMULATOR_HOST": self.to_store[name].host,
        }

    def _gateway(self) -> dict[str, str]:
        return {
            "MOORLINE_SESSION": _joined(self.to_session),
            "MOORLINE_EXECUTOR": ",".join(pod.address for pod in self.of("executor")),
            "MOORLINE_AUTH": "jwt",
            "MOORLINE_JWT_JWKS_FILE": str(self.folder / "keys.json"),
            "MOORLINE_JWT_ISSUER": ISSUER,
            "MOORLINE_JWT_AUDIENCE": AUDIENCE,
            "MOORLINE_CALL_TIMEOUT": str(CALL_SECONDS),
            "MOORLINE_HEARTBEAT": "2",
            "MOORLINE_FRAMES_PER_SECOND": "1000",
            "MOORLINE_FRAMES_BURST": "1000",
        }

    async def _proxy(self, target: str) -> FaultProxy:
        proxy = FaultProxy(target=target, port=self._port())
        return await self._stack.enter_async_context(proxy)

    def _port(self) -> int:
        port = free_port(taken=self._ports)
        self._ports.add(port)
        return port


def _joined(proxies: Mapping[str, FaultProxy]) -> str:
    return ",".join(proxy.host for proxy in proxies.values())
