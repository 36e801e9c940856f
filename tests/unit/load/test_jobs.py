"""Jobs of the load generator."""

from __future__ import annotations

import pytest

from tests.load.connection import Account
from tests.load.jobs import IdleJob, Job, ReplayJob, StreamJob, TurnJob, dump, parse

ADA = Account(user="users/ada", token="t")


@pytest.mark.parametrize(
    "job",
    [
        StreamJob(url="ws://x", accounts=(ADA,), pause_ms=25, seconds=1.0, pids={"gateway": 1}),
        TurnJob(url="ws://x", account=ADA, count=3, gap_seconds=0.1),
        ReplayJob(url="ws://x", account=ADA, events=1000, repeats=2),
        IdleJob(url="ws://x", warm=(ADA,), accounts=(ADA,), steps=[1], pids={"gateway": 1}),
    ],
    ids=lambda job: job.kind,
)
def test_a_job_survives_its_way_to_the_process(job: Job) -> None:
    """What one process asks for is what the other does."""
    assert job == parse(dump(job))
