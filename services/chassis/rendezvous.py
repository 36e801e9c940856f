"""Which of several addresses serves a key, agreed upon without talking.

Does not know what keys and addresses stand for, or who can be reached.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b


def ranked(key: str, addresses: Iterable[str]) -> list[str]:
    """Order addresses by how much each is meant for a key, the best first.

    The same in every process. One address more or less changes the first choice
    of those keys only whose first choice it is: of `n` addresses, every n-th key.

    Args:
        key: What is looked for.
        addresses: The candidates, in any order; one that is repeated counts once.
    """

    def weight(address: str) -> tuple[bytes, str]:
        return blake2b(f"{key}\0{address}".encode(), digest_size=8).digest(), address

    return sorted(set(addresses), key=weight, reverse=True)
