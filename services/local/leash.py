"""Becomes a program that the kernel ends together with its parent.

Run by path as `python leash.py PARENT PROGRAM ARGUMENT...`, so it stands on the
standard library alone. A program of its own because the request has to be made
in the child, and code between fork and exec is not safe beside threads.

Only Linux can do this. Elsewhere a supervisor that is killed outright leaves its
services running; every other end stops them.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""From Linux's `prctl.h`."""


def main() -> None:
    """Ask for the signal, then replace this program by the one named.

    Raises:
        SystemExit: The parent died before the request was made.
    """
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
    os.execv(program[0], program)  # noqa: S606 - the very purpose of this program


if __name__ == "__main__":
    main()
