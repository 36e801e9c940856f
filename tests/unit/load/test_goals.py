"""Figures held against the goals."""

from __future__ import annotations

from typing import Any

import pytest

from tests.load.figures import Memory, Pair, Turns
from tests.load.goals import judge, user_bytes
from tests.unit.load.samples import (
    figures,
    latency,
    operations,
    pair,
    resume,
    shared,
    stream,
    takeover,
)

NAMES = [
    "saturated",
    "saturated_more",
    "p99_100",
    "held_600",
    "p99_600",
    "cpu_600",
    "held_1000",
    "nothing_lost",
    "cpu_falls",
    "user_gateway",
    "user_session",
    "acknowledged",
    "first_fragment",
    "takeover_sigkill",
    "takeover_sigterm",
    "resume_restarted",
    "resume_other",
    "resume_refused",
    "streamed_writes",
]


def missed(**members: Any) -> list[str]:
    """Names of the goals that a run misses."""
    return [verdict.name for verdict in judge(figures(**members)) if not verdict.met]


def test_a_good_run_meets_every_goal() -> None:
    """Each goal of the project is judged, and in a fixed order."""
    assert [verdict.name for verdict in judge(figures())] == NAMES
    assert missed() == []


def test_the_monolith_stands_beside_with_the_ratio() -> None:
    """A figure means little on another machine, its ratio to the monolith more."""
    verdict = judge(figures())[0]

    assert (verdict.figure, verdict.monolith, verdict.ratio) == ("80,000/s", "40,000/s", 2.0)


def test_what_was_not_measured_is_not_judged() -> None:
    """A partial run says nothing about the other goals."""
    assert judge(figures(saturated=None, paced=(), memory=(), turns=(), shared=None)) == ()
    assert user_bytes(figures(memory=()), "gateway") is None


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (
            {"saturated": Pair(moorline=stream(20, rate=39.0), monolith=stream(20, rate=40.0))},
            ["saturated", "saturated_more"],
        ),
        ({"paced": (pair(100, latency=latency(1, 5.1)),)}, ["p99_100"]),
        ({"paced": (pair(600, latency=latency(1, 20.1)),)}, ["p99_600"]),
        ({"paced": (pair(600, cpu_us={"session": 51.0}),)}, ["cpu_600"]),
        ({"paced": (pair(600, rate=21_000.0),)}, ["held_600"]),
        ({"paced": (pair(1000, rate=35_000.0),)}, ["held_1000"]),
        ({"paced": (pair(1, missing=1),)}, ["nothing_lost"]),
        ({"paced": (pair(25), pair(600))}, ["cpu_falls"]),
        (
            {
                "memory": (
                    Memory(users=0, resident={"gateway": 0, "session": 0}),
                    Memory(users=10, resident={"gateway": 300_010, "session": 600_010}),
                )
            },
            ["user_gateway", "user_session"],
        ),
        (
            {
                "turns": (
                    Turns(streaming=0, acknowledged=latency(5.1), first_fragment=latency(10.1)),
                )
            },
            ["acknowledged", "first_fragment"],
        ),
        ({"shared": shared(takeovers=(takeover("SIGKILL", 20.1),))}, ["takeover_sigkill"]),
        ({"shared": shared(takeovers=(takeover("SIGTERM", 2.1),))}, ["takeover_sigterm"]),
        ({"shared": shared(resumes=(resume(10.1),))}, ["resume_restarted"]),
        ({"shared": shared(resumes=(resume(10.1, restarted=False),))}, ["resume_other"]),
        ({"shared": shared(resumes=(resume(refused=1),))}, ["resume_refused"]),
        ({"shared": shared(streamed=operations(40.5))}, ["streamed_writes"]),
    ],
)
def test_a_figure_beyond_its_goal_misses_it(members: dict[str, Any], expected: list[str]) -> None:
    """Each goal is missed by its own figure."""
    assert expected == missed(**members)
