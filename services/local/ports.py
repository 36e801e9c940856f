"""Finds TCP ports on the loopback interface. Does not know what they are for."""

from __future__ import annotations

import random
import socket
from collections.abc import Container

LOOPBACK = "127.0.0.1"
LAST = 65_535
"""The highest port there is."""

CHOICE = range(15_000, 32_000)
"""Below every system's ephemeral ports (Linux starts at 32768). A client that keeps
dialling a dead service there would in the end be connected to itself, and the service
could not come back on its port.
"""


def is_free(port: int) -> bool:
    """True when nobody listens on this port of the loopback interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as candidate:
        # As servers do it: a connection that has just ended does not hold the port.
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def free_port(*, taken: Container[int] = ()) -> int:
    """Choose a port that nobody listens on.

    Args:
        taken: Ports that are promised already.
    """
    while True:
        port = random.choice(CHOICE)  # noqa: S311 - no secret
        if port not in taken and is_free(port):
            return port
