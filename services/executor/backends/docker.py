"""The Docker backend: agents in containers of their own, with no network and no rights.

Does not know what an agent says. The engine may come and go, and the image may be built while
this runs; without the engine's library nothing here is imported that needs it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Self

from moorline.diagnosis.v1 import diagnosis_pb2
from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.chassis.tasks import Tasks
from services.executor.backend import Capabilities, Link, View
from services.executor.backends import docker_findings as findings
from services.executor.channel import Channel, Launch
from services.executor.channels.docker.container import VIEW, Setting
from services.executor.place import Place

if TYPE_CHECKING:
    from services.executor.channels.docker.containers import Containers
    from services.executor.channels.docker.engine import Engine

log = logging.getLogger(__name__)

DEFAULT_HOST = "unix:///var/run/docker.sock"


class Docker:
    """Runs agents in containers; an async context manager.

    Args:
        disabled: Whether the engine must not be touched.
        host: Address of the engine, as in DOCKER_HOST; empty for the default socket.
        setting: What all containers have in common.
        patience: Time the engine gets to answer a look; the executor waits for the first one.
        interval: From one look at the engine to the next.
        tasks: Owner of the tasks that listen to agents.
    """

    name = "docker"
    capabilities = Capabilities(deltas=True, permissions=True, resume=True, durable_workspace=True)
    link = Link.SOCKET

    def __init__(
        self,
        *,
        disabled: bool,
        host: str,
        setting: Setting,
        patience: timedelta,
        interval: timedelta,
        tasks: Tasks,
    ) -> None:
        self._disabled = disabled
        self._host = host or DEFAULT_HOST
        self._setting = setting
        self._patience = patience
        self._interval = interval
        self._tasks = tasks
        self._found = findings.DISABLED
        self._engine: Engine | None = None
        self._containers: Containers | None = None
        self._looking: asyncio.Task[None] | None = None
        self._reaped = False

    async def __aenter__(self) -> Self:
        """Look for the engine, unless it is switched off, and go on looking.

        A missing engine is a warning in the log and never a failure.
        """
        if self._disabled:
            return self
        try:
            # An optional part of the installation.
            import aiodocker  # noqa: F401, PLC0415

            from services.executor.channels.docker.containers import Containers  # noqa: PLC0415
            from services.executor.channels.docker.engine import Engine  # noqa: PLC0415
        except ImportError:
            self._take(findings.NO_LIBRARY)
            return self
        try:
            self._engine = engine = Engine(host=self._host)
        except ValueError:
            self._take(findings.bad_address(self._host))
            return self
        self._containers = Containers(engine=engine, setting=self._setting, tasks=self._tasks)
        self._take(await self._containers.look(self._patience))
        looking = self._go_on_looking(self._containers)
        self._looking = self._tasks.spawn(looking, name="docker-probe")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close every connection to the engine; containers that nobody ended are left alone."""
        if self._looking is not None:
            self._looking.cancel()
        if self._containers is not None:
            await self._containers.settle()
        if self._engine is not None:
            await self._engine.close()

    @property
    def unavailable(self) -> str:
        """Why no execution can run here; empty when one can."""
        return self._found.unavailable

    def checks(self) -> tuple[diagnosis_pb2.Check, ...]:
        """Tell what the last look has found of engine and image, for a diagnosis."""
        return self._found.checks

    def view(self, place: Place) -> View:
        """Return where a container finds what it has."""
        return VIEW

    def channel(self, launch: Launch) -> Channel:
        """Return a channel to a container that is not there yet.

        Raises:
            Failure: BACKEND_UNAVAILABLE.
        """
        if self._containers is None or self.unavailable:
            raise Failure(
                errors_pb2.ERROR_REASON_BACKEND_UNAVAILABLE,
                f"Backend {self.name} cannot run {launch.place.workspace}: {self.unavailable}",
                backend=self.name,
            )
        return self._containers.new(launch)

    async def survivors(self) -> Collection[str]:
        """Return the workspaces whose containers still run."""
        if self._containers is None or not self._found.answers:
            return ()
        return await self._containers.survivors()

    def adopt(self, place: Place) -> Channel:
        """Return a channel to a container that still runs.

        Raises:
            Failure: EXECUTION_LOST.
        """
        adopted = None if self._containers is None else self._containers.adopt(place)
        if adopted is None:
            raise Failure(
                errors_pb2.ERROR_REASON_EXECUTION_LOST,
                f"No container runs for workspace {place.workspace}.",
            )
        return adopted

    async def reap(self, keep: Collection[str]) -> None:
        """Remove this executor's containers, but for the survivors of some workspaces."""
        self._reaped = True
        if self._containers is not None and self._found.answers:
            await self._containers.reap(keep)

    async def _go_on_looking(self, containers: Containers) -> None:
        while True:
            await asyncio.sleep(self._interval.total_seconds())
            before = self.unavailable
            self._take(await self._look(containers))
            if before and not self.unavailable:
                log.info("Docker available")
            # What ran when the engine went is out of our sight, and may run on; it may also have
            # gone and come back between two looks.
            if self._reaped and not self.unavailable and (before or containers.behind):
                await containers.sweep()

    async def _look(self, containers: Containers) -> findings.Findings:
        found = await containers.look(self._patience)
        if found.unavailable and not self.unavailable:
            # A busy engine is too slow once in a while, and turns would fail until the next look.
            found = await containers.look(self._patience)
        return found

    def _take(self, found: findings.Findings) -> None:
        if found.unavailable and found.unavailable != self._found.unavailable:
            log.warning("Docker not available", extra={"problem": found.unavailable})
        self._found = found
