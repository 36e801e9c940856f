"""The kill matrix: each service dies at each step of a turn's life, one cell after the other.

One cluster serves all cells. Every cell is judged by the promises, and by what the
delivery table says a client sees.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.nemesis.checker import check
from tests.nemesis.clients import Device, Following
from tests.nemesis.cluster import ROOT, Cluster, Shape
from tests.nemesis.effects import Effects
from tests.nemesis.evidence import AgentEvidence, Evidence, Violation, kind_of
from tests.nemesis.failpoints import FOLDER, PROMPTS, Cell, Failpoints, copy_with_failpoints
from tests.nemesis.history import History, Kind
from tests.nemesis.reading import alarms, emulator_documents, read_agent

PATIENCE_SECONDS = 45.0
"""How long a cell is waited for at most."""
SOON_SECONDS = 20.0
"""How long after a death a turn must have ended at the latest."""
_LEASE_SECONDS = 3.0
_RESTART_SECONDS = 0.3
_READY_SECONDS = 30.0
_USER = "canarymatrix"
_SLOW = "/sim stream 20 50"


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """What came of a cell.

    Attributes:
        cell: The cell.
        reached: Whether somebody came by the point.
        seconds: From sending the turn to seeing its outcome.
    """

    cell: Cell
    reached: bool
    seconds: float


class Matrix:
    """The cells of the kill matrix on one cluster.

    Args:
        cluster: Runs a copy of the services with failpoints.
        failpoints: The points.
    """

    def __init__(self, cluster: Cluster, failpoints: Failpoints) -> None:
        self._cluster = cluster
        self._failpoints = failpoints
        self._history = History()
        self._devices: list[Device] = []

    async def run(self, cells: Sequence[Cell]) -> tuple[list[Passed], Evidence]:
        """Go through the cells, then read what they left behind."""
        keeper = asyncio.create_task(self._keep(), name="keeper")
        with Effects(self._cluster.workspaces) as effects:
            passed = [await self._pass(number, cell) for number, cell in enumerate(cells)]
            agents = await self._agents()
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
        evidence = Evidence(
            history=self._history,
            users={device.name: device.user for device in self._devices},
            canaries={_USER: _USER},
            agents=agents,
            effects=effects.counts,
            alarms=alarms(list(self._cluster.pods.values())),
        )
        return passed, evidence

    async def _pass(self, number: int, cell: Cell) -> Passed:
        name = agent_of(cell)
        device = self._device(number, cell.name)
        device.following[name] = Following()
        loop = asyncio.get_running_loop()
        async with _connected(device):
            await self._ready()
            agent_id = name.rpartition("/")[2]
            request = {"parent": f"users/{_USER}", "agentId": agent_id, "agent": {}}
            await device.insist("createAgent", request)
            turns = turns_of(cell)
            if cell.queued:
                await self._send(device, name, turns[0], _SLOW)
            self._arm(cell)
            began = loop.time()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    text = PROMPTS[cell.prompt].format(turn=turns[-1])
                    await self._send(device, name, turns[-1], text)
                    for turn in turns:
                        await device.seen(name, turn)
        reached = self._failpoints.fired(cell.point)
        self._failpoints.disarm(cell.point)
        return Passed(cell=cell, reached=reached, seconds=loop.time() - began)

    def _arm(self, cell: Cell) -> None:
        self._failpoints.know(list(self._cluster.pods.values()))
        self._history.add(Kind.NOTE, text=f"armed {cell.name}")
        self._failpoints.arm(cell.point, cell.victim)
        if cell.executor_first:
            self._failpoints.arm("9", "executor")

    async def _send(self, device: Device, agent: str, turn: str, text: str) -> None:
        request = {"parent": agent, "turnId": turn, "turn": {"prompt": {"text": text}}}
        await device.insist("createTurn", request)

    async def _keep(self) -> None:
        """Start again whoever has died."""
        while True:
            for pod in self._cluster.pods.values():
                if not pod.running:
                    await asyncio.sleep(_RESTART_SECONDS)
                    pod.start()
                    self._failpoints.know(list(self._cluster.pods.values()))
            await asyncio.sleep(0.05)

    async def _ready(self) -> None:
        pods = self._cluster.pods.values()
        await asyncio.gather(*(pod.listening(_READY_SECONDS) for pod in pods))

    async def _agents(self) -> dict[str, AgentEvidence]:
        emulator = self._cluster.emulator
        documents = emulator_documents(emulator) if emulator is not None else None
        reader = self._device(-1, "reads")
        names = [name for device in self._devices for name in device.following]
        async with _connected(reader):
            return {
                name: await read_agent(reader, name, documents, seconds=PATIENCE_SECONDS)
                for name in names
            }

    def _device(self, number: int, name: str) -> Device:
        device = Device(
            name=f"{_USER}-{name.replace('-', '_')}",
            user=_USER,
            token=lambda: self._cluster.token(_USER),
            gateways=self._cluster.gateways,
            history=self._history,
            chance=random.Random(number),
        )
        self._devices.append(device)
        return device


@contextlib.asynccontextmanager
async def _connected(device: Device) -> AsyncIterator[None]:
    task = asyncio.create_task(device.run(), name=device.name)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def agent_of(cell: Cell) -> str:
    """Name of the agent that a cell's turn is given to."""
    return f"users/{_USER}/agents/p{cell.name}"


def turns_of(cell: Cell) -> list[str]:
    """Ids of a cell's turns; the last one is whom it is about."""
    return [f"{cell.name}-{number}" for number in ((1, 2) if cell.queued else (1,))]


def judge(passed: Sequence[Passed], evidence: Evidence) -> list[Violation]:
    """Every violation: of a promise, or of what the delivery table says."""
    violations = check(evidence)
    for each in passed:
        cell = each.cell
        events = evidence.agents[agent_of(cell)].of_turn(turns_of(cell)[-1])
        outcomes = [
            event["item"]["turnOutcome"] for event in events if "turnOutcome" in event["item"]
        ]
        states = {outcome["state"].removeprefix("STATE_") for outcome in outcomes}
        attempts = 1 + sum(kind_of(event) == "turnAttempt" for event in events)
        if not each.reached:
            violations.append(Violation("harness", cell.name, "nobody came by"))
        if not states or not states <= cell.states:
            wanted = " or ".join(sorted(cell.states))
            violations.append(Violation("table", cell.name, f"{states or 'open'}, not {wanted}"))
        if attempts > cell.attempts:
            text = f"{attempts} attempts, not {cell.attempts}"
            violations.append(Violation("table", cell.name, text))
        if each.seconds > SOON_SECONDS:
            violations.append(Violation("table", cell.name, f"took {each.seconds:.1f} s"))
    return violations


async def run_matrix(
    cells: Sequence[Cell], folder: Path, *, source: Path = ROOT
) -> tuple[list[Passed], list[Violation]]:
    """Go through cells of the matrix on a cluster of their own, and judge them.

    Args:
        cells: The cells.
        folder: For data, logs and the record.
        source: Folder with `services/` to copy.
    """
    failpoints = Failpoints(folder / "failpoints")
    told = {FOLDER: str(failpoints.folder)}
    shape = Shape(
        lease_seconds=_LEASE_SECONDS,
        source=copy_with_failpoints(folder / "source", source=source),
        settings={
            "gateway": told,
            # All executors die in some cells, and this machine may be slow to start others.
            "session": {**told, "MOORLINE_EXECUTOR_UNREACHABLE": "10"},
            "executor": told,
        },
    )
    async with Cluster(shape, folder=folder) as cluster:
        passed, evidence = await Matrix(cluster, failpoints).run(cells)
    violations = judge(passed, evidence)
    if violations:
        evidence.history.write(folder / "history.jsonl")
    return passed, violations


def report(passed: Sequence[Passed], violations: Sequence[Violation]) -> str:
    """Tell everything in a few lines."""
    slowest = sorted(passed, key=lambda each: -each.seconds)[:5]
    lines = [
        f"{len(passed)} cells, {len(violations)} violations",
        "slowest: " + ", ".join(f"{each.cell.name} {each.seconds:.1f} s" for each in slowest),
        *(f"  {violation}" for violation in violations),
    ]
    return "\n".join(lines)
