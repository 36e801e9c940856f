"""The simulation backend: agents that need nothing but this process. The default.

Does not know the script language.
"""

from __future__ import annotations

from collections.abc import Collection

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.chassis.tasks import Tasks
from services.executor.backend import Capabilities, Link, View
from services.executor.channel import Channel, Launch
from services.executor.channels.simulation.channel import SimulationChannel
from services.executor.channels.simulation.ticker import Ticker
from services.executor.place import Place


class Simulation:
    """Runs simulated agents in this process.

    Args:
        seed: Any number; with it the agents' ids are the same in each run.
        tasks: Owner of the agents' tasks.
    """

    name = "simulation"
    capabilities = Capabilities(deltas=True, permissions=True, resume=True, durable_workspace=True)
    unavailable = ""
    link = Link.NONE

    def __init__(self, *, seed: int, tasks: Tasks) -> None:
        self._seed = seed
        self._ticker = Ticker()
        self._tasks = tasks

    def view(self, place: Place) -> View:
        """Return the folders as they are: it is in this process."""
        return View(files=str(place.files), state=str(place.state), run=str(place.run))

    def channel(self, launch: Launch) -> Channel:
        """Return a channel to a simulated agent."""
        return SimulationChannel(
            launch=launch, seed=self._seed, ticker=self._ticker, tasks=self._tasks
        )

    async def survivors(self) -> Collection[str]:
        """Return none: a simulated agent ends with this process."""
        return ()

    def adopt(self, place: Place) -> Channel:
        """Refuse: there are no survivors.

        Raises:
            Failure: EXECUTION_LOST.
        """
        raise Failure(
            errors_pb2.ERROR_REASON_EXECUTION_LOST,
            f"The simulated agent of workspace {place.workspace} ended with its executor.",
        )

    async def reap(self, keep: Collection[str]) -> None:
        """Do nothing: nothing is left behind."""
