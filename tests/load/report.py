"""Shows figures as text: a table for the terminal, and the parts of the README's tables.

Does not know how figures are measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.load.figures import (
    Agents,
    Figures,
    Latency,
    Memory,
    Operations,
    Pair,
    Shared,
    Stream,
)
from tests.load.goals import judge, user_bytes


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Draw a Markdown table with a final newline."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Draw a table for a terminal, the first column left, the others right."""
    lines = [header, *rows]
    widths = [max(len(cells[index]) for cells in lines) for index in range(len(header))]
    return "".join(
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()
        + "\n"
        for cells in lines
    )


def ratio(value: float | None) -> str:
    """Write a ratio to the monolith; empty when there is none."""
    return "" if value is None else f"{value:.2f}×"


def growth_rows(pairs: Sequence[Pair]) -> list[list[str]]:
    """One row for each number of streaming users, the monolith's figures beside ours."""
    return [
        [f"{pair.moorline.turns:,}", *_growth(pair.moorline), *_growth(pair.monolith)]
        for pair in pairs
    ]


def _growth(stream: Stream) -> list[str]:
    return [
        f"{stream.rate:,.0f}",
        f"{stream.cpu_us_sum:.0f} µs",
        f"{stream.latency.p50_ms:.1f} / {stream.latency.p99_ms:.1f} ms",
    ]


def terminal(figures: Figures) -> str:
    """Everything a run measured, for a terminal."""
    return "\n".join(_sections(figures))


def _sections(figures: Figures) -> Iterator[str]:
    yield columns(
        ("goal", "figure", "", "monolith", "ratio"),
        [
            [v.goal, v.figure, "met" if v.met else "NOT MET", v.monolith, ratio(v.ratio)]
            for v in judge(figures)
        ],
    )
    for title, pairs in (
        ("saturated", [figures.saturated] if figures.saturated else []),
        ("turns × 40/s", figures.paced),
    ):
        if pairs:
            yield columns((title, *_STREAM_HEADER), [_stream_row(pair) for pair in pairs])
    if figures.memory:
        yield _memory(figures)
    for turns in figures.turns:
        yield (
            f"short turns beside {turns.streaming} streaming: acknowledged p50 "
            f"{turns.acknowledged.p50_ms:.1f} p99 {turns.acknowledged.p99_ms:.1f} ms, first "
            f"fragment p50 {turns.first_fragment.p50_ms:.1f} p99 "
            f"{turns.first_fragment.p99_ms:.1f} ms\n"
        )
    for replay in figures.replay:
        yield (
            f"replay of {replay.events} events, {replay.bytes:,} bytes: p50 "
            f"{replay.duration.p50_ms:.1f} p99 {replay.duration.p99_ms:.1f} ms, "
            f"{replay.events_per_second:,.0f} events/s\n"
        )
    if figures.shared is not None:
        yield columns(("shared database", "p50", "p99"), latency_rows(figures.shared, LATENCIES))
        yield columns(OPERATIONS, operation_rows(figures.shared, TURNS))
    if figures.agents:
        yield columns(AGENTS, agent_rows(figures.agents))
    machine = figures.machine
    yield (
        f"{machine.cores} cores, Python {machine.python}, {machine.time}, revision "
        f"{machine.revision}, load average before {machine.load_before:.2f}\n"
    )


LATENCIES = ("turn acknowledged", "first fragment", "completed item to its event")
OPERATIONS = ("documents a turn", "written", "read", "deleted", "1,000 turns")
TURNS = ("short turn", "streamed turn, ten tool calls")
AGENTS = (
    "agents on",
    "ready",
    "warm turn",
    "program alone",
    "waking up",
    "awake",
    "asleep",
    "in a GiB",
    "words/s",
)

_STREAM_HEADER = (
    "fragments/s",
    "CPU",
    "gateway+session+executor",
    "p50 / p99",
    "monolith",
    "CPU",
    "p50 / p99",
    "a frame",
    "missing",
    "outlasted",
    "client cores",
    "load",
)


def _stream_row(pair: Pair) -> list[str]:
    ours, theirs = pair.moorline, pair.monolith
    our_figures, their_figures = _growth(ours), _growth(theirs)
    return [
        f"{ours.turns:,}",
        *our_figures[:2],
        " + ".join(f"{cpu:.1f}" for cpu in ours.cpu_us.values()),
        our_figures[2],
        *their_figures,
        f"{ours.fragments / max(1, ours.frames):.1f}",
        f"{ours.missing}, {theirs.missing}",
        f"{'yes' if ours.outlasted else 'no'}, {'yes' if theirs.outlasted else 'no'}",
        f"{ours.client_cores:.2f}, {theirs.client_cores:.2f}",
        f"{ours.load:.1f}, {theirs.load:.1f}",
    ]


def memory_rows(readings: Sequence[Memory]) -> list[list[str]]:
    """One row for each number of idle users: memory by process."""
    return [
        [
            f"{memory.users:,}",
            *(f"{resident / 1e6:.1f} MB" for resident in memory.resident.values()),
        ]
        for memory in readings
    ]


def _memory(figures: Figures) -> str:
    names = tuple(figures.memory[0].resident)
    each = [f"{(user_bytes(figures, name) or 0) / 1e3:.1f} KB" for name in names]
    return columns(("idle users", *names), [*memory_rows(figures.memory), ["each", *each]])


def latency_rows(shared: Shared, names: Sequence[str]) -> list[list[str]]:
    """One row for each latency on a shared database.

    Args:
        shared: The figures.
        names: What to call acknowledgement, first fragment and durable event.
    """
    latencies: tuple[Latency, ...] = (
        shared.turns.acknowledged,
        shared.turns.first_fragment,
        shared.durable,
    )
    return [
        [name, f"{latency.p50_ms:.1f} ms", f"{latency.p99_ms:.1f} ms"]
        for name, latency in zip(names, latencies, strict=True)
    ]


def operation_rows(shared: Shared, names: Sequence[str]) -> list[list[str]]:
    """One row for each kind of turn: what it asks of the database, and its price.

    Args:
        shared: The figures.
        names: What to call a short and a streamed turn.
    """
    return [
        [name, *_operations(operations)]
        for name, operations in zip(names, (shared.short, shared.streamed), strict=True)
    ]


def agent_rows(backends: Sequence[Agents]) -> list[list[str]]:
    """One row for each backend: what its agents cost."""
    return [
        [
            agents.backend,
            f"{agents.ready_seconds:.2f} s",
            f"{agents.warm_ms:.0f} ms",
            f"{agents.bare_ms:.0f} ms" if agents.bare_ms else "",
            f"{agents.resume_seconds:.2f} s",
            f"{agents.active_bytes / 2**20:.0f} MiB" if agents.active_bytes else "",
            f"{agents.asleep_bytes / 2**10:.0f} KiB",
            f"{agents.per_gib}" if agents.per_gib else "",
            f"{agents.fragments_per_second:,.0f}",
        ]
        for agents in backends
    ]


def _operations(operations: Operations) -> list[str]:
    counts = (operations.writes, operations.reads, operations.deletes)
    return [*(f"{count:.1f}" for count in counts), f"${operations.price:.4f}"]
