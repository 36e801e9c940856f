"""The simulation backend: agents that need nothing but this process. The default.

Does not know the script language.
"""

from __future__ import annotations

from services.chassis.tasks import Tasks
from services.executor.backend import Capabilities
from services.executor.channel import Channel, Launch
from services.executor.channels.simulation.channel import SimulationChannel
from services.executor.channels.simulation.ticker import Ticker


class Simulation:
    """Runs simulated agents in this process.

    Args:
        seed: Any number; with it the agents' ids are the same in each run.
        tasks: Owner of the agents' tasks.
    """

    name = "simulation"
    capabilities = Capabilities(deltas=True, permissions=True, resume=True, durable_workspace=True)
    unavailable = ""

    def __init__(self, *, seed: int, tasks: Tasks) -> None:
        self._seed = seed
        self._ticker = Ticker()
        self._tasks = tasks

    def channel(self, launch: Launch) -> Channel:
        """Return a channel to a simulated agent."""
        return SimulationChannel(
            launch=launch, seed=self._seed, ticker=self._ticker, tasks=self._tasks
        )
