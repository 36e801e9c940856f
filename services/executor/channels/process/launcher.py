"""Becomes an agent's program, after what only a process itself can arrange.

Run as `python launcher.py PARENT PROGRAM ARGUMENT...`; knows nothing of the platform, because
it is started once for every agent, and quickly.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

_SET_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of prctl(2)."""
_FIRST_TO_GO = "500"
"""When memory is short the kernel shall take an agent before its executor."""


def launch(parent: int, program: list[str]) -> None:
    """Become a program that dies with its parent, where the system can arrange that.

    Args:
        parent: Process that started us.
        program: Path and arguments.

    Raises:
        OSError: There is no such program.
    """
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - other systems can do without

        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO)
        # It may have died before we could say that we would follow.
        if os.getppid() != parent:
            return
    os.execv(program[0], program)  # noqa: S606 - this is its purpose


if __name__ == "__main__":
    try:
        launch(int(sys.argv[1]), sys.argv[2:])
    except OSError as error:
        sys.exit(f"The agent's program does not start: {error}")
