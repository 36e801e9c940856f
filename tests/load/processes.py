"""CPU time and memory of processes, read from `/proc`.

Does not know which processes they are.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """CPU time a process has used, user and system, all threads; in steps of 10 ms."""
    # The name in parentheses may hold spaces, so fields are counted behind it.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in RAM now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES


def cpu_of_each(pids: Mapping[str, int]) -> dict[str, float]:
    """CPU time of each named process, in seconds."""
    return {name: cpu_seconds(pid) for name, pid in pids.items()}


def resident_of_each(pids: Mapping[str, int]) -> dict[str, int]:
    """Memory of each named process, in bytes."""
    return {name: resident_bytes(pid) for name, pid in pids.items()}


def own_cpu_seconds() -> float:
    """CPU time this process has used, user and system."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def load_average() -> float:
    """Processes that wanted a core, averaged over the last minute."""
    return os.getloadavg()[0]
