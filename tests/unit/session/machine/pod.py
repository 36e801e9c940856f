"""One process of the session service in the world: what it reaches, and its stopwatch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass

from moorline.executor.v1 import executions_pb2, workspaces_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.chassis.metrics import Metrics
from services.session.environment import Environment
from services.session.executors.executor import Listener
from services.session.ownership.lease import LeaseMeasures, Terms
from services.session.ownership.leases import Leases
from tests.unit.session.fakes import FakeExecution, FakeExecutor, FakeExecutors, FakeSubscription
from tests.unit.session.machine.memory_store import PodStore
from tests.unit.session.service import Service

LEASE_SECONDS = 15.0


class PodExecutors(FakeExecutors):
    """The executors as one pod reaches them; none once the pod is dead."""

    def __init__(self, *members: FakeExecutor) -> None:
        super().__init__(*members)
        self.dead = False
        self._followed: list[tuple[FakeExecution, Listener]] = []

    def place(self, *, preferred: str, avoid: Collection[str] = ()) -> str:
        """See `executor.Executors`; one that is away takes nothing."""
        self.unwilling = {address for address, one in self.members.items() if one.away}
        return super().place(preferred=preferred, avoid=avoid)

    async def create(
        self, address: str, execution_id: str, execution: executions_pb2.Execution
    ) -> None:
        """See `executor.Executors`."""
        await self._alive()
        await super().create(address, execution_id, execution)

    async def subscribe(
        self, address: str, execution_id: str, listener: Listener
    ) -> FakeSubscription:
        """See `executor.Executors`."""
        await self._alive()
        subscription = await super().subscribe(address, execution_id, listener)
        self._followed.append((self.members[address].executions[execution_id], listener))
        return subscription

    async def cancel(self, address: str, execution_id: str, failure: Failure | None = None) -> None:
        """See `executor.Executors`."""
        await self._alive()
        await super().cancel(address, execution_id, failure)

    async def resolve(
        self, address: str, execution_id: str, decision: transcript_pb2.PermissionDecision
    ) -> None:
        """See `executor.Executors`."""
        await self._alive()
        await super().resolve(address, execution_id, decision)

    async def restore(self, address: str, request: workspaces_pb2.RestoreTranscriptRequest) -> None:
        """See `executor.Executors`."""
        await self._alive()
        await super().restore(address, request)

    def die(self) -> None:
        """Hear of nothing any more, and have nothing done."""
        self.dead = True
        for execution, listener in self._followed:
            if listener in execution.listeners:
                execution.listeners.remove(listener)

    async def _alive(self) -> None:
        if self.dead:
            await asyncio.get_running_loop().create_future()


class PodClock:
    """A pod's stopwatch, which stands still as one does whose machine is suspended."""

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self._missed = 0.0
        self._stopped: float | None = None

    def __call__(self) -> float:
        """Return its seconds."""
        now = self._time() if self._stopped is None else self._stopped
        return now - self._missed

    def stop(self) -> None:
        """Stand still. Repeating it changes nothing."""
        self._stopped = self._stopped or self._time()

    def go(self) -> None:
        """Run on, without the time that was missed. Repeating it changes nothing."""
        if self._stopped is not None:
            self._missed += self._time() - self._stopped
            self._stopped = None


@dataclass
class Pod:
    """One process of the session service."""

    address: str
    clock: PodClock
    store: PodStore
    executors: PodExecutors
    service: Service


def leases(address: str, clock: PodClock, environment: Environment, metrics: Metrics) -> Leases:
    """Return the leases of a pod that is reached at an address."""
    terms = Terms(
        store=environment.store,
        tasks=environment.tasks,
        clock=environment.clock,
        seconds=LEASE_SECONDS,
        monotonic=clock,
        measures=LeaseMeasures(metrics=metrics),
    )
    return Leases(terms=terms, address=address)
