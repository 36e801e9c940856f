"""The Docker backend: finds out whether there is an engine. It cannot run anything yet.

Does not know what an agent is. The library is imported only when the engine may be asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from datetime import timedelta

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.executor.backend import Capabilities, Link, View
from services.executor.channel import Channel, Launch
from services.executor.workspaces import Place

log = logging.getLogger(__name__)

DEFAULT_HOST = "unix:///var/run/docker.sock"


class Docker:
    """Would run agents in containers.

    Args:
        disabled: Whether the engine must not be touched.
        host: Address of the engine, as in DOCKER_HOST; empty for the default socket.
        patience: Time the engine gets to answer.
    """

    name = "docker"
    capabilities = Capabilities(deltas=True, permissions=True, resume=True, durable_workspace=True)
    link = Link.SOCKET

    def __init__(self, *, disabled: bool, host: str, patience: timedelta) -> None:
        self.unavailable = "Switched off by DISABLE_DOCKER."
        self._disabled = disabled
        self._host = host or DEFAULT_HOST
        self._patience = patience

    async def probe(self) -> None:
        """Find out whether there is an engine, unless it is switched off; called once at start.

        A missing engine is a warning in the log and never a failure.
        """
        if self._disabled:
            return
        problem = await _problem(self._host, self._patience)
        if problem:
            log.warning("Docker not available", extra={"host": self._host, "problem": problem})
            self.unavailable = f"Docker not available: {problem}."
        else:
            self.unavailable = (
                "A Docker engine was found, but running agents in it is not part of this version."
            )

    def view(self, place: Place) -> View:
        """Return where a container finds what it has."""
        return View(files="/workspace", state="/state", run="/run/moorline")

    def channel(self, launch: Launch) -> Channel:
        """Refuse.

        Raises:
            Failure: BACKEND_UNAVAILABLE.
        """
        raise Failure(
            errors_pb2.ERROR_REASON_BACKEND_UNAVAILABLE,
            f"Backend {self.name} cannot run {launch.place.workspace}: {self.unavailable}",
            backend=self.name,
        )

    async def survivors(self) -> Collection[str]:
        """Return none: nothing was ever started."""
        return ()

    def adopt(self, place: Place) -> Channel:
        """Refuse: there are no survivors.

        Raises:
            Failure: EXECUTION_LOST.
        """
        raise Failure(
            errors_pb2.ERROR_REASON_EXECUTION_LOST,
            f"Nothing runs for workspace {place.workspace}.",
        )

    async def reap(self, keep: Collection[str]) -> None:
        """Do nothing: nothing is left behind."""


async def _problem(host: str, patience: timedelta) -> str:
    """Ask the engine for its version; return what went wrong, empty for nothing."""
    try:
        import aiodocker  # noqa: PLC0415
    except ImportError:
        return "the package aiodocker is not installed"
    try:
        async with asyncio.timeout(patience.total_seconds()), aiodocker.Docker(url=host) as engine:
            await engine.version()
    except TimeoutError:
        return "the engine does not answer"
    except (aiodocker.DockerError, OSError, ValueError):
        return "there is no engine at its address"
    return ""
