"""The stand-in in a process of its own, for what does not share its event loop."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.rooms.tracked import ROOT


@contextmanager
def standing_in(key: str) -> Iterator[str]:
    """A stand-in answers while inside; yields its address.

    Args:
        key: The only credential it takes.
    """
    command = [sys.executable, "-m", "tests.standin", "--port=0", f"--key={key}"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[-1].rstrip(".")
        finally:
            process.kill()
