"""Exchanges files and links under somebody's hands."""

from __future__ import annotations

import ctypes
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

SWAPS = 3000
"""How often at least."""
_HERE, _EXCHANGE = -100, 2


@contextmanager
def swapping(swap: Callable[[], None]) -> Iterator[None]:
    """Exchange something for something else thousands of times while inside, and at least so."""
    over = threading.Event()
    done: list[None] = []

    def run() -> None:
        while len(done) < SWAPS or not over.is_set():
            swap()
            done.append(None)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def rounds(seen: Callable[[], object], *, least: int = SWAPS) -> Iterator[int]:
    """Count so far at least, and on until the exchange was seen to matter.

    Args:
        seen: Tells whether it was; how long that takes is up to the machine.
        least: How far.
    """
    for number in itertools.count():
        if number >= least and seen():
            return
        yield number


def exchange(one: Path, other: Path) -> None:
    """Give each of two things the other's name, at once."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_HERE, bytes(one), _HERE, bytes(other), _EXCHANGE):
        raise OSError(ctypes.get_errno(), "exchange")
