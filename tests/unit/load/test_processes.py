"""CPU and memory of processes."""

from __future__ import annotations

import os

from tests.load import processes


def test_cpu_and_memory_of_this_process_are_read() -> None:
    """The kernel's figures are in seconds and bytes."""
    pids = {"me": os.getpid()}

    assert 0 < processes.cpu_of_each(pids)["me"] <= processes.own_cpu_seconds() + 0.1
    assert 5_000_000 < processes.resident_of_each(pids)["me"] < 5_000_000_000
    assert processes.load_average() >= 0
