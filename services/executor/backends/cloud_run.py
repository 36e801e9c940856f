"""The Cloud Run backend. Listed, so that its absence can be explained; it cannot run anything yet.

Does not know Google's libraries.
"""

from __future__ import annotations

from collections.abc import Collection

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.executor.backend import Capabilities, Link, View
from services.executor.channel import Channel, Launch
from services.executor.place import Place


class CloudRun:
    """Would run agents as Cloud Run Jobs."""

    name = "cloud_run"
    capabilities = Capabilities(deltas=True, permissions=True, resume=True, durable_workspace=True)
    link = Link.TCP
    unavailable = "Running agents as Cloud Run Jobs is not part of this version."

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
