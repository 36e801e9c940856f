"""The Cloud Run backend. Listed, so that its absence can be explained; it cannot run anything yet.

Does not know Google's libraries.
"""

from __future__ import annotations

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.executor.backend import Capabilities
from services.executor.channel import Channel, Launch


class CloudRun:
    """Would run agents as Cloud Run Jobs."""

    name = "cloud_run"
    capabilities = Capabilities(deltas=True, permissions=True, resume=True, durable_workspace=True)
    unavailable = "Running agents as Cloud Run Jobs is not part of this version."

    def channel(self, launch: Launch) -> Channel:
        """Refuse.

        Raises:
            Failure: BACKEND_UNAVAILABLE.
        """
        raise Failure(
            errors_pb2.ERROR_REASON_BACKEND_UNAVAILABLE,
            f"Backend {self.name} cannot run workspace {launch.workspace}: {self.unavailable}",
            backend=self.name,
        )
