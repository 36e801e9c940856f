"""How long a stop takes when programs take all the time they get."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path

import pytest

from services.local.folder import DataFolder
from services.local.run import GRACE, GRACE_BEFORE_SAVING
from tests.unit.local.test_programs import described
from tests.unit.local.test_supervisor import STUBBORN, Runs, alive, program

STOP = timedelta(seconds=3)
"""Within so long of Ctrl-C everything is down."""


def wait_until_logged(log: Path, word: str) -> None:
    """Wait for another process's words while the loop's time stands still."""
    deadline = time.monotonic() + 15
    while word not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("grace", [GRACE, GRACE_BEFORE_SAVING, timedelta(0)])
async def test_leaving_takes_as_long_as_the_grace_and_no_longer(
    tmp_path: Path, grace: timedelta
) -> None:
    """With programs of which none ends when it is asked to."""
    loop = asyncio.get_running_loop()
    several = [program(tmp_path, STUBBORN, name) for name in ("one", "two")]

    async with Runs().of(*several, grace=grace) as supervisor:
        for each in several:
            wait_until_logged(each.log, "up")
        begin = loop.time()
        pids = supervisor.pids.values()

    assert grace.total_seconds() == pytest.approx(loop.time() - begin)
    assert not any(map(alive, pids))


def test_a_stop_leaves_the_services_time_to_end_by_themselves(tmp_path: Path) -> None:
    """They finish what they do within the grace, and the grace is over within 3 s."""
    with DataFolder(tmp_path) as folder:
        drains = [
            timedelta(seconds=float(each.environment["MOORLINE_DRAIN_SECONDS"]))
            for each in described(folder).values()
        ]

    assert max(drains) < GRACE_BEFORE_SAVING < GRACE < STOP
