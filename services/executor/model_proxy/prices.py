"""What models cost. Does not know who pays.

The table is what version 2.1.330 of the CLI reports as cost when it is told known usage; a test
compares the two. A model that is not listed costs as much as the dearest that is. All amounts are
integers, so that sums are exact: prices in micro-dollars for a million tokens, which makes cost a
whole number of pico-dollars.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

PICOS = 1_000_000
"""Pico-dollars in a micro-dollar."""
_MICROS = 1_000_000
"""Micro-dollars in a dollar."""
_SEARCH = 10_000 * PICOS
"""One search of the web by the provider."""
_FACTORS = {"us": (11, 10)}
"""What it costs more when a region is asked for: numerator and denominator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one request consumed, as far as the provider has told.

    Attributes:
        model: The model that answers.
        read: Input tokens without the cached ones.
        written: Output tokens.
        cache_read: Input tokens from the cache.
        cache_written: Input tokens into the cache, of both kinds.
        cache_written_hour: Those of them that stay for an hour.
        searches: Searches of the web.
        fast: Whether the answer comes at the fast rate.
        region: Where it is made, when that was asked for.
    """

    model: str = ""
    read: int = 0
    written: int = 0
    cache_read: int = 0
    cache_written: int = 0
    cache_written_hour: int = 0
    searches: int = 0
    fast: bool = False
    region: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What one model costs, in micro-dollars for a million tokens.

    Attributes:
        read: Input tokens.
        written: Output tokens.
        cache_written: Input tokens into the cache, for five minutes.
        cache_written_hour: The same for an hour.
        cache_read: Input tokens from the cache.
        fast: By how much the fast rate is dearer.
        long_above: Input tokens of a request beyond which everything is dearer; 0 for none.
        long: By how much.
    """

    read: int
    written: int
    cache_written: int
    cache_written_hour: int
    cache_read: int
    fast: int = 1
    long_above: int = 0
    long: int = 1

    def cost(self, told: Told) -> int:
        """Return what a request costs, in pico-dollars."""
        cost = (
            told.read * self.read
            + told.written * self.written
            + (told.cache_written - told.cache_written_hour) * self.cache_written
            + told.cache_written_hour * self.cache_written_hour
            + told.cache_read * self.cache_read
        )
        if self.long_above and told.read + told.cache_read + told.cache_written > self.long_above:
            cost *= self.long
        if told.fast:
            cost *= self.fast
        numerator, denominator = _FACTORS.get(told.region, (1, 1))
        return cost * numerator // denominator + told.searches * _SEARCH


class PricesError(Exception):
    """A file of prices that cannot be used; the message says why."""


def _usual(dollars: float, **other: int) -> Price:
    """Return the price of a model whose prices stand in the usual relation to its input's."""
    read = round(dollars * _MICROS)
    return Price(
        read=read,
        written=read * 5,
        cache_written=read * 5 // 4,
        cache_written_hour=read * 2,
        **({"cache_read": read // 10} | other),
    )


COMPARED: Mapping[str, Price] = {
    "claude-opus-5-5": _usual(4, cache_read=200_000, fast=2),
    "claude-opus-5": _usual(5, fast=2),
    "claude-opus-4-8": _usual(5, fast=2),
    "claude-opus-4-7": _usual(5, fast=6),
    "claude-opus-4-6": _usual(5, fast=6),
    "claude-opus-4-5": _usual(5),
    "claude-sonnet-5-5": _usual(2, cache_read=100_000),
    "claude-sonnet-5": _usual(2),
    "claude-sonnet-4": _usual(3),
    "claude-3-7-sonnet": _usual(3),
    "claude-3-5-sonnet": _usual(3),
    "claude-haiku-5-5": _usual(0.1, long_above=100_000, long=5),
    "claude-haiku-4-5": _usual(1),
    "claude-3-5-haiku": _usual(0.8),
}
"""By a part of the model's name; the longest one that fits counts."""

DEFAULT: Mapping[str, Price] = {
    **COMPARED,
    # The CLI asks others in their place; an agent's own programs may ask them all the same.
    "claude-opus-4-1": _usual(15),
    "claude-opus-4-0": _usual(15),
    "claude-opus-4-2025": _usual(15),
    "claude-3-opus": _usual(15),
}
"""With models that the CLI does not ask any more, at their published prices."""


class Prices:
    """Prices by model.

    Args:
        table: By a part of the model's name.
    """

    def __init__(self, table: Mapping[str, Price]) -> None:
        self._table = table
        # A budget must not be passed because nobody knows a price.
        self._dearest = max(table.values(), key=lambda price: (price.written, price.read))
        self._found: dict[str, Price] = {}

    def of(self, model: str) -> Price:
        """Return the price of a model, and that of the dearest one for one that is not listed."""
        if model not in self._found:
            fitting = [name for name in self._table if name in model.lower()]
            price = self._table[max(fitting, key=len)] if fitting else self._dearest
            if len(self._found) > 1000:
                # Names are the agents' choice.
                self._found.clear()
            self._found[model] = price
        return self._found[model]


def load(file: str) -> Prices:
    """Return the built-in prices, with those of a file in their place.

    Args:
        file: JSON: an object by (part of the) model's name, with objects of `input`, `output` and
            optionally `cache_write`, `cache_write_hour`, `cache_read` in dollars for a million
            tokens. Empty for none.

    Raises:
        PricesError: It cannot be used.
    """
    if not file:
        return Prices(DEFAULT)
    try:
        listed = orjson.loads(Path(file).read_bytes())
        own = {name.lower(): _price(**prices) for name, prices in listed.items()}
    except (AttributeError, OSError, TypeError, ValueError) as error:
        raise PricesError(f"MOORLINE_MODEL_PRICES: {file} cannot be used: {error}") from error
    return Prices({**DEFAULT, **own})


def _price(**dollars: Any) -> Price:
    """Read one model's prices.

    Raises:
        TypeError: A name is missing or unknown, or a value is no number.
        ValueError: A price is less than nothing.
    """
    names = ("input", "output", "cache_write", "cache_write_hour", "cache_read")
    if unknown := set(dollars) - set(names):
        raise TypeError(f"unknown price {min(unknown)}")
    if missing := {"input", "output"} - set(dollars):
        raise TypeError(f"missing price {min(missing)}")
    if min(dollars.values()) < 0:
        raise ValueError("a price is less than nothing")
    usual = _usual(dollars["input"])
    given = {name: round(dollars[name] * _MICROS) for name in names if name in dollars}
    return Price(
        read=usual.read,
        written=given["output"],
        cache_written=given.get("cache_write", usual.cache_written),
        cache_written_hour=given.get("cache_write_hour", usual.cache_written_hour),
        cache_read=given.get("cache_read", usual.cache_read),
    )
