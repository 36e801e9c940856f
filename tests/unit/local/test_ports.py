"""Choosing ports."""

from __future__ import annotations

import socket

from services.local import ports


def test_a_port_somebody_listens_on_is_not_free() -> None:
    """A listener makes a port taken, and its end frees it."""
    with socket.socket() as listener:
        listener.bind((ports.LOOPBACK, 0))
        listener.listen()
        port = listener.getsockname()[1]

        assert not ports.is_free(port)

    assert ports.is_free(port)


def test_a_free_port_is_none_that_was_promised() -> None:
    """Ports chosen one after another differ although nobody listens yet."""
    all_but_one = set(ports.CHOICE)
    wanted = next(port for port in ports.CHOICE if ports.is_free(port))
    all_but_one.remove(wanted)

    assert wanted == ports.free_port(taken=all_but_one)
