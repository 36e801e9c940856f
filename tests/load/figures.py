"""The figures of a run, what they are measured against, and how they are shown.

Does not know how they were measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

_T = TypeVar("_T")

WRITE_PRICE = 0.09 / 100_000
READ_PRICE = 0.03 / 100_000
DELETE_PRICE = 0.01 / 100_000
"""Dollars that Firestore's list asks for one document in a cheap region; nobody here has
paid a bill, so look them up before you reckon with them."""


def percentile(ordered: Sequence[float], share: float) -> float:
    """Smallest value that at least `share` of the values do not exceed; 0 for no values.

    Args:
        ordered: The values, ascending.
        share: 0 to 1.
    """
    if not ordered:
        return 0.0
    # Rounded first: 0.99 * 100 is a little above 99.
    rank = -(-round(share * len(ordered), 9) // 1)
    return ordered[min(len(ordered), max(1, int(rank))) - 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """How long something took, in milliseconds."""

    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of_microseconds(cls, samples: Iterable[float]) -> Latency:
        """Sum up samples in microseconds."""
        ordered = sorted(samples)
        return cls(
            count=len(ordered),
            p50_ms=round(percentile(ordered, 0.5) / 1e3, 3),
            p99_ms=round(percentile(ordered, 0.99) / 1e3, 3),
            max_ms=round(ordered[-1] / 1e3, 3) if ordered else 0.0,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """What streaming turns cost and how late their fragments came.

    Attributes:
        turns: Turns streaming at once, each of its own user on its own connection.
        offered: Fragments a second the turns produce together; 0 for as fast as it goes.
        seconds: Length of the window that was measured.
        fragments: Fragments delivered in the window.
        frames: Frames that carried them.
        rate: Fragments delivered a second.
        latency: From the making of a fragment to its arrival at the client.
        cpu_us: Microseconds of CPU a fragment, by process.
        client_cores: Cores the load generator used.
        missing: Fragments that never came, less those that came twice.
        outlasted: True when every turn streamed during the whole window.
        load: Load average of the machine at the end of the window.
    """

    turns: int
    offered: float
    seconds: float
    fragments: int
    frames: int
    rate: float
    latency: Latency
    cpu_us: Mapping[str, float]
    client_cores: float
    missing: int
    outlasted: bool
    load: float

    @property
    def cpu_us_sum(self) -> float:
        """Microseconds of CPU a fragment over all processes of the system."""
        return sum(self.cpu_us.values())

    @property
    def held(self) -> float:
        """Share of the offered rate that was delivered; 1 when there was none to hold."""
        return self.rate / self.offered if self.offered else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The same measure of the three services and of the monolith beside them."""

    moorline: Stream
    monolith: Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Memory of the three services with idle connected users.

    Attributes:
        users: Users connected, each with one agent that is watched.
        resident: Bytes in RAM, by process.
    """

    users: int
    resident: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """Short turns one after another on one connection.

    Attributes:
        streaming: Other turns streaming 40 fragments a second meanwhile.
        acknowledged: From sending `createTurn` to its response.
        first_fragment: From sending `createTurn` to the first fragment.
    """

    streaming: int
    acknowledged: Latency
    first_fragment: Latency


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """An agent's history, sent from its first event to the checkpoint."""

    events: int
    bytes: int
    duration: Latency

    @property
    def events_per_second(self) -> float:
        """Events a second at the median duration."""
        return self.events / self.duration.p50_ms * 1e3 if self.duration.p50_ms else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Operations:
    """What turns ask of the database, each.

    Everything counts that all session services did meanwhile: renewals of leases and
    looks for turns that were left, too.

    Attributes:
        turns: Turns that were run.
        seconds: How long each took.
        writes: Documents written.
        reads: Documents read.
        deletes: Documents deleted.
    """

    turns: int
    seconds: float
    writes: float
    reads: float
    deletes: float

    @property
    def price(self) -> float:
        """Dollars that 1,000 such turns cost."""
        cost = self.writes * WRITE_PRICE + self.reads * READ_PRICE + self.deletes * DELETE_PRICE
        return cost * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Takeover:
    """How long streams stood still when the session service was ended that served them.

    Attributes:
        signal: What ended it.
        streams: Streams that were measured.
        median_seconds: From the signal to the first fragment after the silence.
        most_seconds: The same for the stream that waited longest.
    """

    signal: str
    streams: int
    median_seconds: float
    most_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """How clients came back whose gateway was killed, all at once.

    Attributes:
        clients: How many.
        restarted: True when they came back to that gateway, started again; False when
            to another one.
        median_seconds: From the kill until a client follows its agent again.
        most_seconds: The same for the last of them.
        refused: Times that one of them was turned away.
    """

    clients: int
    restarted: bool
    median_seconds: float
    most_seconds: float
    refused: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """Two of each service on a database that they share: the Firestore emulator.

    Attributes:
        turns: Short turns one after another.
        durable: From the completion of an item in the executor to its event at the
            client, which is told when it is durable.
        takeovers: One for each signal.
        resumes: One for each way back.
        short: Operations of a short turn.
        streamed: Operations of a turn that streams and calls ten tools.
    """

    turns: Turns
    durable: Latency
    takeovers: Sequence[Takeover]
    resumes: Sequence[Resume]
    short: Operations
    streamed: Operations


@dataclass(frozen=True, slots=True, kw_only=True)
class Agents:
    """What agents cost on one backend, the model provider being a stand-in that answers at once.

    Attributes:
        backend: Its name.
        ready_seconds: What the first turn of an agent takes longer than a later one: to start
            its process, or its container, until it listens.
        warm_ms: A short turn of an agent that is awake, from the call to the outcome.
        bare_ms: The same of the program alone, without us; 0 where there is none.
        resume_seconds: What the first turn takes longer after the agent was put to sleep.
        active_bytes: Memory that an agent which is awake has for itself; 0 where it is ours.
        asleep_bytes: Memory that the executor needs for an agent which is asleep.
        per_gib: Agents that are awake at once in a GiB; 0 where that is not known.
        fragments_per_second: Words of one answer that is written as fast as it goes.
    """

    backend: str
    ready_seconds: float
    warm_ms: float
    bare_ms: float
    resume_seconds: float
    active_bytes: int
    asleep_bytes: int
    per_gib: int
    fragments_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where and when it was measured."""

    time: str
    revision: str
    python: str
    cores: int
    load_before: float
    quick: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Everything one run measured. A measure that did not run is empty or None."""

    machine: Machine
    saturated: Pair | None = None
    paced: Sequence[Pair] = ()
    memory: Sequence[Memory] = ()
    turns: Sequence[Turns] = ()
    replay: Sequence[Replay] = ()
    shared: Shared | None = None
    agents: Sequence[Agents] = ()


def dump(figures: Figures) -> bytes:
    """Encode figures as indented JSON."""
    return orjson.dumps(figures, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def parse(text: bytes) -> Figures:
    """Decode what `dump` wrote."""
    raw = orjson.loads(text)
    return Figures(
        machine=Machine(**raw["machine"]),
        saturated=_pair(raw["saturated"]) if raw["saturated"] else None,
        paced=tuple(_pair(pair) for pair in raw["paced"]),
        memory=tuple(Memory(**memory) for memory in raw["memory"]),
        turns=tuple(_with_latencies(Turns, turns) for turns in raw["turns"]),
        replay=tuple(_with_latencies(Replay, replay) for replay in raw["replay"]),
        # Of a machine without an emulator, or from before there was one.
        shared=_shared(raw["shared"]) if raw.get("shared") else None,
        agents=tuple(Agents(**agents) for agents in raw.get("agents", ())),
    )


def _shared(raw: Mapping[str, Any]) -> Shared:
    return Shared(
        turns=_with_latencies(Turns, raw["turns"]),
        durable=Latency(**raw["durable"]),
        takeovers=tuple(Takeover(**takeover) for takeover in raw["takeovers"]),
        resumes=tuple(Resume(**resume) for resume in raw["resumes"]),
        short=Operations(**raw["short"]),
        streamed=Operations(**raw["streamed"]),
    )


_LATENCIES = ("latency", "acknowledged", "first_fragment", "duration")


def _with_latencies(cls: type[_T], raw: Mapping[str, Any]) -> _T:
    return cls(**{k: Latency(**v) if k in _LATENCIES else v for k, v in raw.items()})


def stream(raw: Mapping[str, Any]) -> Stream:
    """Rebuild a `Stream` from its JSON object."""
    return _with_latencies(Stream, raw)


def _pair(raw: Mapping[str, Any]) -> Pair:
    return Pair(moorline=stream(raw["moorline"]), monolith=stream(raw["monolith"]))
