"""Figures to test with."""

from __future__ import annotations

from typing import Any

from tests.load.figures import (
    Agents,
    Figures,
    Latency,
    Machine,
    Memory,
    Operations,
    Pair,
    Replay,
    Resume,
    Shared,
    Stream,
    Takeover,
    Turns,
)


def latency(p50_ms: float = 1.0, p99_ms: float = 4.0) -> Latency:
    """A latency."""
    return Latency(count=9, p50_ms=p50_ms, p99_ms=p99_ms, max_ms=p99_ms)


def stream(turns: int, **members: Any) -> Stream:
    """Turns that stream well."""
    values: dict[str, Any] = {
        "turns": turns,
        "offered": turns * 40.0,
        "seconds": 8.0,
        "fragments": turns * 320,
        "frames": turns * 320,
        "rate": turns * 40.0,
        "latency": latency(),
        "cpu_us": {"gateway": 10.0, "session": 20.0, "executor": 10.0},
        "client_cores": 0.2,
        "missing": 0,
        "outlasted": True,
        "load": 1.5,
    }
    return Stream(**(values | members))


def pair(turns: int, **members: Any) -> Pair:
    """The same beside a monolith."""
    theirs = stream(turns, cpu_us={"monolith": 20.0}, latency=latency(0.1, 2.0))
    return Pair(moorline=stream(turns, **members), monolith=theirs)


def takeover(signal: str, seconds: float) -> Takeover:
    """A take-over."""
    return Takeover(signal=signal, streams=15, median_seconds=seconds / 2, most_seconds=seconds)


def resume(seconds: float = 3.0, *, restarted: bool = True, refused: int = 0) -> Resume:
    """A return of clients."""
    return Resume(
        clients=1000,
        restarted=restarted,
        median_seconds=seconds / 2,
        most_seconds=seconds,
        refused=refused,
    )


def operations(writes: float) -> Operations:
    """What a turn asks of the database."""
    return Operations(turns=1, seconds=60.0, writes=writes, reads=20.0, deletes=1.0)


def shared(**members: Any) -> Shared:
    """Good figures on a shared database."""
    values: dict[str, Any] = {
        "turns": Turns(streaming=0, acknowledged=latency(12.5), first_fragment=latency(25.0)),
        "durable": latency(60.5, 90.5),
        "takeovers": (takeover("SIGKILL", 14.0), takeover("SIGTERM", 0.5)),
        "resumes": (resume(), resume(restarted=False)),
        "short": operations(8.0),
        "streamed": operations(30.0),
    }
    return Shared(**(values | members))


def agents(backend: str, **members: Any) -> Agents:
    """What agents cost on a backend."""
    active = members.get("active_bytes", 128 << 20)
    values: dict[str, Any] = {
        "backend": backend,
        "ready_seconds": 0.75,
        "warm_ms": 60.0,
        "bare_ms": 50.0 if active else 0.0,
        "resume_seconds": 0.5,
        "active_bytes": active,
        "asleep_bytes": 4096,
        "per_gib": 8 if active else 0,
        "fragments_per_second": 12_000.0,
    }
    return Agents(**(values | members))


def figures(**members: Any) -> Figures:
    """A run in which every goal is met."""
    few = {"gateway": 100.0, "session": 100.0, "executor": 100.0}
    values: dict[str, Any] = {
        "machine": Machine(
            time="2026-11-26T12:00:00+00:00",
            revision="abc",
            python="3.11.2",
            cores=2,
            load_before=0.1,
            quick=False,
        ),
        "saturated": Pair(
            moorline=stream(20, offered=0.0, rate=80_000.0),
            monolith=stream(20, offered=0.0, rate=40_000.0, cpu_us={"monolith": 15.0}),
        ),
        "paced": (pair(25, cpu_us=few), pair(100), pair(600), pair(1000)),
        "memory": (
            Memory(users=0, resident={"gateway": 10_000_000, "session": 10_000_000, "executor": 1}),
            Memory(
                users=1000, resident={"gateway": 30_000_000, "session": 60_000_000, "executor": 1}
            ),
        ),
        "turns": (
            Turns(streaming=0, acknowledged=latency(), first_fragment=latency(2.0)),
            Turns(streaming=100, acknowledged=latency(9.0), first_fragment=latency(20.0)),
        ),
        "replay": (Replay(events=1000, bytes=100_000, duration=latency(20.0)),),
        "shared": shared(),
        "agents": (agents("simulation", active_bytes=0), agents("docker")),
    }
    return Figures(**(values | members))
