"""What a turn costs: a minute of streaming with ten tool calls, in virtual time."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from moorline.transcript.v1 import transcript_pb2
from services.chassis.identity import act_as
from services.chassis.metrics import Metrics
from services.session.environment import Environment
from services.session.ownership.lease import LeaseMeasures, Terms
from services.session.ownership.leases import Leases
from services.session.settings import Settings
from tests.contract.store.limits import LimitedStore
from tests.unit.session.fakes import FakeExecution, FakeExecutor, FakeExecutors
from tests.unit.session.machine.memory_store import MemoryDatabase, PodStore
from tests.unit.session.machine.virtual_time import VirtualLoop
from tests.unit.session.service import ADA, Service

MOST_WRITES = 40
MOST_A_SECOND = 1.0
"""Writes that one document takes for long."""
BURST = 3

SECONDS = 60.0
TOOL_CALLS = 10
PAUSE = 0.025
"""Between two fragments."""

SETTINGS = Settings(
    identity_key="k" * 32, executor="e1:1", store="firestore", listen="127.0.0.1:7001"
)
"""What a session service on Firestore runs with, unless it is told otherwise."""

LEASE_SECONDS = SETTINGS.lease_seconds.total_seconds()


class DatedStore(LimitedStore):
    """A `LimitedStore` that also knows when each document was written."""

    def __init__(self, database: MemoryDatabase, loop: VirtualLoop) -> None:
        super().__init__(PodStore(database), clock=loop.time)
        self.written: list[tuple[float, str]] = []
        self._loop = loop

    def _count(self, path: str) -> None:
        super()._count(path)
        self.written.append((self._loop.time(), path))


@dataclass
class Pod:
    """One session service on Firestore as it is deployed, with one agent of Ada's."""

    loop: VirtualLoop = field(default_factory=VirtualLoop)

    def __post_init__(self) -> None:
        self.loop.context.run(act_as, ADA)
        self.store = DatedStore(MemoryDatabase(clock=self.loop.time), self.loop)
        self.executor = FakeExecutor()
        self._turns = 0
        self.service = Service(
            store=self.store,
            executors=FakeExecutors(self.executor),
            limits=SETTINGS.limits(),
            ownership=self._leases,
            sweep=SETTINGS.sweep_seconds.total_seconds(),
            monotonic=self.loop.time,
        )
        self.loop.finish(self._begin(), within=60)

    def _leases(self, environment: Environment, metrics: Metrics) -> Leases:
        terms = Terms(
            store=environment.store,
            tasks=environment.tasks,
            clock=environment.clock,
            seconds=LEASE_SECONDS,
            monotonic=self.loop.time,
            measures=LeaseMeasures(metrics=metrics),
        )
        return Leases(terms=terms, address=SETTINGS.reached_at)

    async def _begin(self) -> None:
        await self.service.__aenter__()
        await self.service.create_agent()

    def close(self) -> None:
        """Drop it."""
        self.loop.finish(self.service.__aexit__(None, None, None), within=60)
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    async def play(self, turn: str, *, typing: float, working: float) -> None:
        """Run a turn of a minute.

        Args:
            turn: Its id.
            typing: Seconds from the end of a message to the tool call that follows.
            working: Seconds that each tool works.
        """
        loop = asyncio.get_running_loop()
        await self.service.create_turn(turn, "Go and look at everything.")
        execution = await self._followed()
        began = loop.time()
        for number in range(TOOL_CALLS):
            call = began + SECONDS * (number + 1) / (TOOL_CALLS + 1)
            await self._stream(execution, f"{turn}-{number}", until=call - typing - working)
            await asyncio.sleep(typing)
            execution.call_tool(f"{turn}-tool-{number}")
            await asyncio.sleep(working)
            execution.add(_result(f"{turn}-tool-{number}"))
        await self._stream(execution, f"{turn}-last", until=began + SECONDS)
        execution.end()
        await self.service.ended(turn)
        # What is written late.
        await asyncio.sleep(2)

    async def answer(self, turn: str) -> None:
        """Run a turn that is over at once."""
        await self.service.create_turn(turn, "Hello.")
        execution = await self._followed()
        execution.say(turn, "word")
        execution.complete(turn)
        execution.end()
        await self.service.ended(turn)

    async def _followed(self) -> FakeExecution:
        self._turns += 1
        return await self.executor.execution(self._turns)

    async def _stream(self, execution: FakeExecution, block: str, *, until: float) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < until:
            execution.say(block, "word ")
            await asyncio.sleep(PAUSE)
        execution.complete(block)


@pytest.fixture
def pod() -> Iterator[Pod]:
    """A session service that runs in virtual time."""
    pod = Pod()
    yield pod
    pod.close()


PACES: list[Any] = [
    pytest.param(0.0, 0.0, id="at-once"),
    pytest.param(0.02, 0.2, id="quick"),
    pytest.param(1.0, 0.5, id="typed"),
    pytest.param(0.4, 3.0, id="working"),
]


@pytest.mark.parametrize(("typing", "working"), PACES)
def test_a_minute_with_ten_tool_calls_costs_at_most_forty_writes(
    pod: Pod, typing: float, working: float
) -> None:
    """However the calls lie in the minute; renewals of the lease and deletions included."""
    pod.loop.advance(3 * LEASE_SECONDS)
    pod.store.written.clear()

    pod.loop.finish(pod.play("t1", typing=typing, working=working), within=90)

    kinds = Counter(re.sub(r"/[^/]*\d[^/]*$", "/*", path) for _, path in pod.store.written)
    assert len(pod.store.written) <= MOST_WRITES, kinds
    assert kinds["users/ada"] >= SECONDS / LEASE_SECONDS


def test_no_document_is_written_more_than_once_a_second(pod: Pod) -> None:
    """Not for long: a short turn after the other, and then a minute of streaming."""
    pod.loop.finish(pod.play("t1", typing=0.02, working=0.2), within=90)
    for number in range(20):
        pod.loop.finish(pod.answer(f"short-{number}"), within=10)

    for path in set(pod.store.writes):
        times = [time for time, written in pod.store.written if written == path]
        spans = [
            (later - earlier, count)
            for first, earlier in enumerate(times)
            for count, later in enumerate(times[first:])
        ]
        # From one write to the next so many, less the few that may come at once.
        assert all(count - BURST <= span * MOST_A_SECOND for span, count in spans), path


def _result(call: str) -> transcript_pb2.Item:
    result = transcript_pb2.ToolResult(tool_call_id=call, output="done")
    return transcript_pb2.Item(tool_result=result)
