"""The measures of a run, one after another, each system in turn.

Does not know the goals, and shows nothing but its progress.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import orjson

from tests.load import accounts, agents, jobs, shared, systems
from tests.load.connection import Account
from tests.load.figures import (
    Figures,
    Latency,
    Machine,
    Memory,
    Pair,
    Replay,
    Stream,
    Turns,
    stream,
)

MEASURES = ("memory", "saturated", "paced", "turns", "replay", "shared", "agents")
"""Everything there is to measure, in the order in which it is."""

SATURATED_TURNS = 20
PACED_TURNS = (1, 10, 25, 100, 300, 600, 1000)
LOADED_TURNS = 100
PAUSE_MS = 25
WARM_USERS = 20
CLIENT_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure and how thoroughly.

    Attributes:
        only: Names of the measures.
        paced: Numbers of turns that stream at 40 fragments a second.
        seconds: Length of each window.
        users: Users connected at each reading of the memory.
        turns: Short turns measured one after another.
        events: Length of the history that is replayed.
        shared: What is measured on a shared database, and how thoroughly.
        agents: How thoroughly agents are measured.
    """

    only: Sequence[str] = MEASURES
    paced: Sequence[int] = PACED_TURNS
    seconds: float = 8.0
    users: Sequence[int] = (1, 10, 100, 1000)
    turns: int = 200
    events: int = 1000
    shared: shared.Plan = shared.WHOLE
    agents: agents.Plan = agents.WHOLE


QUICK = Plan(
    paced=(25, 100),
    seconds=2.0,
    users=(1, 50),
    turns=30,
    shared=shared.QUICK,
    agents=agents.QUICK,
)
"""Whether everything works, in a minute; its figures say little."""


def measure(plan: Plan, machine: Machine, progress: Callable[[str], None]) -> Figures:
    """Run every measure of the plan.

    Args:
        plan: What to measure.
        machine: Where.
        progress: Told what begins.
    """
    figures = Figures(machine=machine)
    if set(plan.only) - {"shared", "agents"}:
        figures = _beside_the_monolith(plan, machine, progress)
    if "shared" in plan.only:
        figures = replace(figures, shared=shared.measure(plan.shared, progress))
    if "agents" in plan.only:
        figures = replace(figures, agents=agents.measure(plan.agents, progress))
    return figures


def _beside_the_monolith(plan: Plan, machine: Machine, progress: Callable[[str], None]) -> Figures:
    with systems.moorline() as ours, systems.monolith() as theirs:
        run = _Run(plan=plan, ours=ours, theirs=theirs, progress=progress)
        # Memory comes first: later, the processes hold what streaming has left behind.
        return Figures(
            machine=machine,
            memory=run.memory() if "memory" in plan.only else (),
            saturated=run.saturated() if "saturated" in plan.only else None,
            paced=run.paced() if "paced" in plan.only else (),
            turns=run.turns() if "turns" in plan.only else (),
            replay=run.replay() if "replay" in plan.only else (),
        )


class _Run:
    def __init__(
        self,
        *,
        plan: Plan,
        ours: systems.System,
        theirs: systems.System,
        progress: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._ours = ours
        self._theirs = theirs
        self._progress = progress
        needed = max(*plan.users, *plan.paced, LOADED_TURNS) + WARM_USERS
        progress(f"making {needed} users")
        self._users = accounts.make(ours, needed)

    def memory(self) -> tuple[Memory, ...]:
        self._progress("memory of idle users")
        job = jobs.IdleJob(
            url=self._ours.url,
            warm=self._users[-WARM_USERS:],
            accounts=self._users,
            steps=self._plan.users,
            pids=self._ours.pids,
        )
        return tuple(Memory(**memory) for memory in _result(job))

    def saturated(self) -> Pair:
        return self._pair(SATURATED_TURNS, 0)

    def paced(self) -> tuple[Pair, ...]:
        return tuple(self._pair(turns, PAUSE_MS) for turns in self._plan.paced)

    def _pair(self, turns: int, pause_ms: int) -> Pair:
        ours = self._stream_job(self._ours, self._users[:turns], pause_ms)
        theirs = self._stream_job(self._theirs, accounts.pretend(turns), pause_ms)
        pace = "at 40 fragments/s each" if pause_ms else "as fast as it goes"
        self._progress(f"{turns} turns {pace}: moorline")
        moorline: Stream = stream(_result(ours))
        self._progress(f"{turns} turns {pace}: monolith")
        return Pair(moorline=moorline, monolith=stream(_result(theirs)))

    def _stream_job(
        self, system: systems.System, users: Sequence[Account], pause_ms: int
    ) -> jobs.StreamJob:
        return jobs.StreamJob(
            url=system.url,
            accounts=users,
            pause_ms=pause_ms,
            seconds=self._plan.seconds,
            pids=system.pids,
        )

    def turns(self) -> tuple[Turns, ...]:
        job = jobs.TurnJob(
            url=self._ours.url, account=self._users[-1], count=self._plan.turns, gap_seconds=0.06
        )
        self._progress("short turns, one after another")
        alone = _turns(_result(job))
        self._progress(f"the same beside {LOADED_TURNS} streaming turns")
        load = self._stream_job(self._ours, self._users[:LOADED_TURNS], PAUSE_MS)
        load = replace(load, seconds=job.gap_seconds * (job.count + 10))
        with _client(load) as lines:
            next(lines)
            beside = _turns(_result(job))
            next(lines)
        return alone, replace(beside, streaming=LOADED_TURNS)

    def replay(self) -> tuple[Replay, ...]:
        self._progress(f"replay of {self._plan.events} events")
        job = jobs.ReplayJob(
            url=self._ours.url, account=self._users[-2], events=self._plan.events, repeats=20
        )
        raw = _result(job)
        return (Replay(**{**raw, "duration": Latency(**raw["duration"])}),)


def _turns(raw: dict[str, Any]) -> Turns:
    return Turns(
        streaming=raw["streaming"],
        acknowledged=Latency(**raw["acknowledged"]),
        first_fragment=Latency(**raw["first_fragment"]),
    )


def _result(job: jobs.Job) -> Any:
    """Run a job in a process of its own and return what it measured."""
    with _client(job) as lines:
        for line in lines:
            if "result" in line:
                return line["result"]
    msg = f"the load generator ended without a result of its {job.kind} job"
    raise RuntimeError(msg)


@contextmanager
def _client(job: jobs.Job) -> Iterator[Iterator[dict[str, Any]]]:
    """Start a job; yields what the load generator says, line by line."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.load.client"],
        cwd=systems.ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(jobs.dump(job))
        process.stdin.close()
        yield map(orjson.loads, process.stdout)
        process.wait(CLIENT_SECONDS)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    # Sockets of a thousand connections close on the other side meanwhile.
    time.sleep(1)
