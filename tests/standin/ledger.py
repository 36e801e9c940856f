"""What was asked of the stand-in, and what it charges for. Does not know how it answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from services.executor.model_proxy.prices import DEFAULT, PICOS, Prices, Told


@dataclass(slots=True, kw_only=True)
class Entry:
    """One request.

    Attributes:
        session: The conversation, as the program names it.
        model: Which model was asked for.
        credential: What the request was authenticated with.
        body: The request.
        status: HTTP status of the answer; 0 while there is none, and when the line was cut.
        input_tokens: Tokens read, of those that were told: what is cut off is charged as far as
            it was told.
        output_tokens: Tokens written.
        cache_read_tokens: Tokens found in the cache.
        cache_write_tokens: Tokens written to the cache.
        active: Whether it is being answered.
        aborted: Whether whoever asked has hung up.
    """

    session: str
    model: str
    credential: str
    body: dict[str, Any] = field(repr=False)
    status: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    active: bool = True
    aborted: bool = False

    def tell(self, usage: dict[str, int]) -> None:
        """Record usage that is told to whoever asks."""
        self.input_tokens = usage["input_tokens"]
        self.output_tokens = usage["output_tokens"]
        self.cache_read_tokens = usage["cache_read_input_tokens"]
        self.cache_write_tokens = usage["cache_creation_input_tokens"]


class Ledger:
    """All requests, oldest first."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.strays: list[str] = []
        """Method and path of requests that are none to the Messages API."""

    @property
    def active(self) -> int:
        """Requests that are being answered."""
        return sum(entry.active for entry in self.entries)

    @property
    def aborted(self) -> int:
        """Requests whose answer nobody wanted to the end."""
        return sum(entry.aborted for entry in self.entries)

    def of(self, session: str) -> list[Entry]:
        """Return the requests of one conversation."""
        return [entry for entry in self.entries if entry.session == session]


def tokens(entries: Iterable[Entry]) -> tuple[int, int, int, int]:
    """Return tokens read, written, found in the cache and written to it."""
    read = written = found = kept = 0
    for entry in entries:
        read += entry.input_tokens
        written += entry.output_tokens
        found += entry.cache_read_tokens
        kept += entry.cache_write_tokens
    return read, written, found, kept


def cost(entries: Iterable[Entry]) -> int:
    """Return what is charged, in whole micro-dollars, at the prices that are built in."""
    prices = Prices(DEFAULT)
    picos = sum(
        prices.of(entry.model).cost(
            Told(
                read=entry.input_tokens,
                written=entry.output_tokens,
                cache_read=entry.cache_read_tokens,
                cache_written=entry.cache_write_tokens,
            )
        )
        for entry in entries
    )
    return picos // PICOS
