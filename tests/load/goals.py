"""The goals of the product, and what a run says about each.

Does not know how figures are measured or shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.load.figures import Figures, Pair

SATURATED_PER_SECOND = 50_000
"""Fragments a second that three processes carry when pushed."""

PACED_P99_MS = 20.0
"""Delay of a fragment with 600 turns streaming."""

PACED_CPU_US = 50.0
"""CPU a fragment over the three processes with 600 turns streaming."""

FEW_P99_MS = 5.0
"""Delay of a fragment with 100 turns streaming."""

HELD = 0.9
"""Share of the offered rate that still counts as held."""

GATEWAY_USER_BYTES = 30_000
"""Memory of an idle connected user in the gateway."""

SESSION_USER_BYTES = 60_000
"""Memory of an idle connected user in the session service."""

ACKNOWLEDGED_P50_MS = 5.0
"""From sending a turn to its being recorded for good."""

FIRST_FRAGMENT_P50_MS = 10.0
"""From sending a turn to the first fragment of its answer."""

TAKEOVER_SECONDS = {"SIGKILL": 20.0, "SIGTERM": 2.0}
"""From the end of the session service that serves a stream, by signal, until it goes on."""

RESUME_SECONDS = 10.0
"""From the end of a gateway until the last of its clients is live again."""

STREAMED_WRITES = 40
"""Documents written for a turn that streams for a minute and calls ten tools."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One goal and what came of it.

    Attributes:
        name: The goal's stable name.
        goal: The goal in words.
        figure: The measured figure, with its unit.
        met: Whether the figure reaches the goal.
        monolith: The monolith's figure of the same run; empty when it has none.
        ratio: Our figure divided by the monolith's; None when it has none.
    """

    name: str
    goal: str
    figure: str
    met: bool
    monolith: str = ""
    ratio: float | None = None


def judge(figures: Figures) -> tuple[Verdict, ...]:
    """Hold figures against the goals; a goal whose measure did not run is left out."""
    return (
        *_saturated(figures),
        *_paced(figures),
        *_memory(figures),
        *_turns(figures),
        *_shared(figures),
    )


def _saturated(figures: Figures) -> Iterator[Verdict]:
    if (pair := figures.saturated) is None:
        return
    ours, theirs = pair.moorline, pair.monolith
    ratio = ours.rate / theirs.rate if theirs.rate else None
    yield Verdict(
        name="saturated",
        goal=f"saturated: at least {SATURATED_PER_SECOND:,} fragments/s",
        figure=f"{ours.rate:,.0f}/s",
        met=ours.rate >= SATURATED_PER_SECOND,
        monolith=f"{theirs.rate:,.0f}/s",
        ratio=ratio,
    )
    yield Verdict(
        name="saturated_more",
        goal="saturated: more than the monolith",
        figure=f"{ours.rate:,.0f}/s",
        met=ours.rate > theirs.rate,
        monolith=f"{theirs.rate:,.0f}/s",
        ratio=ratio,
    )


def _paced(figures: Figures) -> Iterator[Verdict]:
    by_turns = {pair.moorline.turns: pair for pair in figures.paced}
    if pair := by_turns.get(100):
        yield _p99(pair, FEW_P99_MS)
    if pair := by_turns.get(600):
        yield _held(pair)
        yield _p99(pair, PACED_P99_MS)
        ours, theirs = pair.moorline.cpu_us_sum, pair.monolith.cpu_us_sum
        yield Verdict(
            name="cpu_600",
            goal=f"600 turns × 40/s: at most {PACED_CPU_US:.0f} µs of CPU a fragment",
            figure=f"{ours:.1f} µs",
            met=ours <= PACED_CPU_US,
            monolith=f"{theirs:.1f} µs",
            ratio=ours / theirs if theirs else None,
        )
    if pair := by_turns.get(1000):
        yield _held(pair)
    if figures.paced:
        missing = sum(pair.moorline.missing for pair in figures.paced)
        yield Verdict(
            name="nothing_lost",
            goal="fragments lost or doubled: none",
            figure=f"{missing:,}",
            met=missing == 0,
        )
    if 25 in by_turns and 600 in by_turns:
        few, many = (by_turns[turns].moorline.cpu_us_sum for turns in (25, 600))
        yield Verdict(
            name="cpu_falls",
            goal="CPU a fragment falls from 25 to 600 turns",
            figure=f"{few:.0f} → {many:.0f} µs",
            met=many < few,
        )


def _p99(pair: Pair, limit: float) -> Verdict:
    ours, theirs = pair.moorline.latency.p99_ms, pair.monolith.latency.p99_ms
    return Verdict(
        name=f"p99_{pair.moorline.turns}",
        goal=f"{pair.moorline.turns} turns × 40/s: p99 of the delay at most {limit:.0f} ms",
        figure=f"{ours:.1f} ms",
        met=ours <= limit,
        monolith=f"{theirs:.1f} ms",
        ratio=ours / theirs if theirs else None,
    )


def _held(pair: Pair) -> Verdict:
    ours, theirs = pair.moorline, pair.monolith
    return Verdict(
        name=f"held_{ours.turns}",
        goal=f"{ours.turns} turns × 40/s: rate held within a tenth",
        figure=f"{ours.rate:,.0f}/s ({ours.held:.0%})",
        met=ours.held >= HELD,
        monolith=f"{theirs.rate:,.0f}/s",
        ratio=ours.rate / theirs.rate if theirs.rate else None,
    )


def user_bytes(figures: Figures, process: str) -> float | None:
    """Memory each idle connected user adds to a process; None when not measured."""
    if len(figures.memory) < 2:
        return None
    first, last = figures.memory[0], figures.memory[-1]
    return (last.resident[process] - first.resident[process]) / (last.users - first.users)


def _memory(figures: Figures) -> Iterator[Verdict]:
    for process, limit in (("gateway", GATEWAY_USER_BYTES), ("session", SESSION_USER_BYTES)):
        if (figure := user_bytes(figures, process)) is not None:
            yield Verdict(
                name=f"user_{process}",
                goal=f"idle connected user: at most {limit / 1e3:.0f} KB in the {process}",
                figure=f"{figure / 1e3:.1f} KB",
                met=figure <= limit,
            )


def _turns(figures: Figures) -> Iterator[Verdict]:
    for turns in figures.turns:
        if turns.streaming:
            continue
        yield Verdict(
            name="acknowledged",
            goal=f"turn acknowledged: p50 at most {ACKNOWLEDGED_P50_MS:.0f} ms",
            figure=f"{turns.acknowledged.p50_ms:.1f} ms",
            met=turns.acknowledged.p50_ms <= ACKNOWLEDGED_P50_MS,
        )
        yield Verdict(
            name="first_fragment",
            goal=f"first fragment: p50 at most {FIRST_FRAGMENT_P50_MS:.0f} ms",
            figure=f"{turns.first_fragment.p50_ms:.1f} ms",
            met=turns.first_fragment.p50_ms <= FIRST_FRAGMENT_P50_MS,
        )


def _shared(figures: Figures) -> Iterator[Verdict]:
    if (shared := figures.shared) is None:
        return
    for takeover in shared.takeovers:
        limit = TAKEOVER_SECONDS[takeover.signal]
        yield Verdict(
            name=f"takeover_{takeover.signal.lower()}",
            goal=f"session service ended by {takeover.signal}: streams go on within {limit:.0f} s",
            figure=f"{takeover.most_seconds:.1f} s (p50 {takeover.median_seconds:.1f} s)",
            met=takeover.most_seconds <= limit,
        )
    for resume in shared.resumes:
        way = "the same, started again" if resume.restarted else "another"
        yield Verdict(
            name="resume_restarted" if resume.restarted else "resume_other",
            goal=(
                f"all of {resume.clients:,} clients of a killed gateway back to {way}: within"
                f" {RESUME_SECONDS:.0f} s"
            ),
            figure=f"{resume.most_seconds:.1f} s (p50 {resume.median_seconds:.1f} s)",
            met=resume.most_seconds <= RESUME_SECONDS,
        )
    refused = sum(resume.refused for resume in shared.resumes)
    yield Verdict(
        name="resume_refused",
        goal="of these turned away: none",
        figure=f"{refused:,}",
        met=refused == 0,
    )
    yield Verdict(
        name="streamed_writes",
        goal=f"a minute of streaming with ten tool calls: at most {STREAMED_WRITES} writes",
        figure=f"{shared.streamed.writes:.0f}",
        met=shared.streamed.writes <= STREAMED_WRITES,
    )
