"""Tests of addresses as people write them."""

from __future__ import annotations

import pytest

import moorline
from moorline.address import socket_url


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("http://h:1", "ws://h:1/v1/ws"),
        ("https://h/", "wss://h/v1/ws"),
        ("wss://h/moorline/v1/ws", "wss://h/moorline/v1/ws"),
        ("https://h/moorline?token=x", "wss://h/moorline/v1/ws"),
    ],
)
def test_an_address_is_what_a_person_writes(given: str, address: str) -> None:
    """The socket's address follows from the server's; no token stays in it."""
    assert address == socket_url(given)


@pytest.mark.parametrize("given", ["", "h:1", "ftp://h", "http://"])
def test_a_bad_address_is_refused(given: str) -> None:
    """What is no address is told as such."""
    with pytest.raises(moorline.InvalidRequestError, match="is not an address"):
        socket_url(given)
