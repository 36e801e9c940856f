"""One run: a cluster under load and faults, then peace, then judgement."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import statistics
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.nemesis.checker import check
from tests.nemesis.clients import Device, Person
from tests.nemesis.cluster import Cluster, Shape
from tests.nemesis.effects import Effects
from tests.nemesis.evidence import AgentEvidence, Evidence, Violation, kind_of
from tests.nemesis.faults import Faults
from tests.nemesis.history import History, Kind
from tests.nemesis.packets import Packets
from tests.nemesis.readers import Reader
from tests.nemesis.reading import alarms, emulator_documents, read_agent
from tests.nemesis.schedule import Schedule

SETTLE_SECONDS = 30.0
"""After the last fault every accepted turn must have ended within this time."""
_CREATE_SECONDS = 60.0
_ANSWER_SECONDS = 11.0
"""An answer that is not there by then is not waited for by any client."""
_CATCH_UP_SECONDS = 15.0
_LATE_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run does.

    Attributes:
        seconds: How long faults are made.
        seed: Decides everything that is drawn.
        shape: What the cluster is like.
        users: How many people there are, with two devices each.
        agents: How many agents each has.
        weights: How often each kind of fault is drawn; None for all kinds.
        pause: Seconds between the beginnings of faults, on average.
        outages: How many things may be away at the same time.
        script: Makes the faults instead of a schedule when it is given.
        settle: Seconds in which everything must have ended after the last fault.
        listing: Seconds in which a page of an agent's events or turns must then be
            listed; an emulator with many documents is slow.
    """

    seconds: float
    seed: int
    shape: Shape = field(default_factory=Shape)
    users: int = 6
    agents: int = 4
    weights: Mapping[str, float] | None = None
    pause: float = 1.0
    outages: int = 1
    script: Callable[[Run], Awaitable[None]] | None = None
    settle: float = SETTLE_SECONDS
    listing: float = 45.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of a run.

    Attributes:
        plan: What was done.
        evidence: What was found.
        violations: What was wrong with it.
    """

    plan: Plan
    evidence: Evidence
    violations: Sequence[Violation]

    @property
    def faults(self) -> Counter[str]:
        """How many faults of each kind there were."""
        return Counter(e.detail["fault"] for e in self.evidence.history.of(Kind.FAULT))

    @property
    def turns(self) -> int:
        """How many turns the logs have."""
        return self._items("userMessage")

    @property
    def resets(self) -> int:
        """How often a client was told to forget everything."""
        return sum(1 for _ in self.evidence.history.of(Kind.RESET))

    def report(self) -> str:
        """Tell everything in a few lines."""
        seconds = sorted(self._acknowledgements())
        agents = self.evidence.agents.values()
        took = sum(_takeovers(agent) for agent in agents)
        states = Counter(
            event["item"]["turnOutcome"].get("state", "").removeprefix("STATE_").lower()
            for agent in agents
            for event in agent.events
            if kind_of(event) == "turnOutcome"
        )
        lines = [
            f"seed {self.plan.seed}, {self.plan.seconds:g} s, {self.plan.shape.replicas} replicas",
            f"faults {sum(self.faults.values())}: {_counted(self.faults)}",
            f"turns {self.turns}: {_counted(states)}",
            f"acknowledged {len(seconds)}: {_percentiles(seconds)}",
            f"files written by tools {sum(self.evidence.effects.values())}",
            f"takeovers {took}, extra attempts {self._items('turnAttempt')}, resets {self.resets}",
            f"violations {len(self.violations)}",
            *(f"  {violation}" for violation in self.violations[:40]),
        ]
        return "\n".join(lines)

    def _items(self, kind: str) -> int:
        agents = self.evidence.agents.values()
        return sum(kind_of(event) == kind for agent in agents for event in agent.events)

    def _acknowledgements(self) -> list[float]:
        """Seconds from the first sending of each turn to its acknowledgement."""
        began: dict[str, float] = {}
        taken: dict[str, float] = {}
        for call, answer in self.evidence.calls("createTurn"):
            turn = call.detail["request"]["turnId"]
            began.setdefault(turn, call.time)
            if answer is not None and not answer.detail["reason"]:
                taken.setdefault(turn, answer.time - began[turn])
        return list(taken.values())


class Run:
    """A run in progress; see `run`.

    Attributes:
        plan: What it does.
        cluster: What is broken.
        faults: What breaks it.
        history: What happens.
        people: The users.
        readers: Those who dial session pods themselves.
    """

    def __init__(self, plan: Plan, cluster: Cluster, packets: Packets) -> None:
        self.plan = plan
        self.cluster = cluster
        self.history = History()
        self.faults = Faults(
            cluster=cluster,
            history=self.history,
            packets=packets,
            chance=self._chance("faults"),
        )
        self.people = [self._person(number) for number in range(plan.users)]
        agents = {agent for person in self.people for agent in person.accepted}
        for person in self.people:
            person.strangers = sorted(agents - set(person.accepted))
        self.readers = [self._reader(person) for person in self.people[:2]]
        self.partitions = packets.allowed
        self.emptied = False
        """Set by a script that empties the database."""
        self.gone: set[str] = set()
        """Pods that a script has killed for good."""
        self._effects = Effects(cluster.workspaces)

    async def evidence(self) -> Evidence:
        """Do everything, and return what was found."""
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(self._effects)
            await stack.enter_async_context(self._running(self._late()))
            for person in self.people:
                for device in person.devices:
                    await stack.enter_async_context(self._running(device.run()))
            async with asyncio.timeout(_CREATE_SECONDS):
                await asyncio.gather(*(person.create_agents() for person in self.people))
            for reader in self.readers:
                await stack.enter_async_context(self._running(reader.run()))
            await self._work()
            agents = await self._agents()
            await self._caught_up(agents)
        return Evidence(
            history=self.history,
            users={client.name: client.user for client in self._clients()},
            canaries={person.user: person.word for person in self.people},
            agents=agents,
            effects=self._effects.counts,
            alarms=alarms(list(self.cluster.pods.values())),
            emptied=self.emptied,
        )

    async def _work(self) -> None:
        """Work under faults, then in peace until all is done or the time is over."""
        async with asyncio.TaskGroup() as group:
            work = [
                group.create_task(person.work(agent), name=f"work {agent}")
                for person in self.people
                for agent in person.accepted
            ]
            await self._break()
            self.history.add(Kind.NOTE, text="peace")
            for person in self.people:
                person.stopped = True
            for pod in self.cluster.pods.values():
                if pod.name not in self.gone:
                    pod.start()
            try:
                async with asyncio.timeout(self.plan.settle):
                    await asyncio.wait(work)
                    await asyncio.gather(*(person.finished() for person in self.people))
            except TimeoutError:
                self.history.add(Kind.NOTE, text="not settled in time")
                for task in work:
                    task.cancel()
                # What is accepted after the evidence was read would seem to be lost.
                await asyncio.sleep(_ANSWER_SECONDS)

    async def _break(self) -> None:
        if self.plan.script is not None:
            await self.plan.script(self)
            return
        schedule = Schedule(
            cluster=self.cluster,
            faults=self.faults,
            chance=self._chance("schedule"),
            partitions=self.partitions,
            weights=self.plan.weights,
            pause=self.plan.pause,
            outages=self.plan.outages,
        )
        await schedule.run(self.plan.seconds)

    async def _agents(self) -> dict[str, AgentEvidence]:
        emulator = self.cluster.emulator
        documents = emulator_documents(emulator) if emulator is not None else None
        agents: dict[str, AgentEvidence] = {}

        async def read(person: Person) -> None:
            for agent in person.accepted:
                agents[agent] = await read_agent(
                    person.devices[0], agent, documents, seconds=self.plan.listing
                )

        await asyncio.gather(*map(read, self.people))
        return agents

    async def _caught_up(self, agents: Mapping[str, AgentEvidence]) -> None:
        """Let everybody who follows see the rest; the checker tells who did not."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CATCH_UP_SECONDS):
                for client in self._clients():
                    for agent, sequence in client.positions():
                        length = len(agents[agent].events) if agent in agents else 0
                        while sequence() < length:  # noqa: ASYNC110 - several
                            await asyncio.sleep(0.05)

    async def _late(self) -> None:
        """Note when this process itself did not get to run."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await asyncio.sleep(0.1)
            late = loop.time() - began - 0.1
            if late > _LATE_SECONDS:
                self.history.add(Kind.NOTE, text=f"this process was {late:.1f} s late")

    @contextlib.asynccontextmanager
    async def _running(self, coroutine: Awaitable[None]) -> AsyncIterator[None]:
        task = asyncio.ensure_future(coroutine)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if not task.cancelled() and task.exception() is not None:
                raise RuntimeError("a client of the nemesis failed") from task.exception()

    def _clients(self) -> list[Device | Reader]:
        devices = [device for person in self.people for device in person.devices]
        return [*devices, *self.readers]

    def _chance(self, name: str) -> random.Random:
        return random.Random(f"{self.plan.seed} {name}")

    def _person(self, number: int) -> Person:
        chance = self._chance(f"person {number}")
        word = f"canary{chance.getrandbits(40):010x}"
        devices = [
            Device(
                name=f"{word}-{device}",
                user=word,
                token=lambda: self.cluster.token(word),
                gateways=self.cluster.gateways,
                history=self.history,
                chance=self._chance(f"device {number} {device}"),
            )
            for device in (1, 2)
        ]
        person = Person(devices=devices, word=word, chance=chance)
        person.owns([f"users/{word}/agents/a{agent}" for agent in range(self.plan.agents)])
        return person

    def _reader(self, person: Person) -> Reader:
        return Reader(
            name=f"{person.user}-reader",
            user=person.user,
            agents=list(person.accepted),
            pods=[pod.address for pod in self.cluster.of("session")],
            key=self.cluster.identity_key,
            history=self.history,
            chance=self._chance(f"reader {person.user}"),
        )


async def run(plan: Plan, *, folder: Path, keep: bool = False) -> Result:
    """Make a run, judge it, and leave the record in the folder when it failed.

    Args:
        plan: What to do.
        folder: For data, logs and the record.
        keep: Whether the record is written in any case.
    """
    with Packets() as packets:
        async with Cluster(plan.shape, folder=folder) as cluster:
            evidence = await Run(plan, cluster, packets).evidence()
    result = Result(plan=plan, evidence=evidence, violations=check(evidence))
    if keep or result.violations:
        evidence.history.write(folder / "history.jsonl")
        logs = {name: list(agent.events) for name, agent in evidence.agents.items()}
        (folder / "logs.json").write_text(json.dumps(logs, ensure_ascii=False, indent=1))
        (folder / "report.txt").write_text(result.report() + "\n")
    return result


def _takeovers(agent: AgentEvidence) -> int:
    epochs = [fields.get("epoch", 0) for _, fields in agent.segments]
    return sum(after != before for before, after in itertools.pairwise(epochs))


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())


def _percentiles(seconds: Sequence[float]) -> str:
    if len(seconds) < 2:
        return "too few to tell"
    hundredths = statistics.quantiles(seconds, n=100)
    return f"p50 {hundredths[49]:.3f} s, p99 {hundredths[98]:.2f} s, max {seconds[-1]:.2f} s"
