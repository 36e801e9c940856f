"""Turns that the simulated agent plays, drawn at random: what real ones do, in short.

Every prompt holds the user's canary word. Does not know how turns are sent.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prompt:
    """One turn to be sent.

    Attributes:
        turn: Its id.
        text: The script.
        cancel_after: Seconds until it shall be cancelled; None for never.
    """

    turn: str
    text: str
    cancel_after: float | None = None


Make = Callable[[random.Random, str, str], list[str]]


def _say(chance: random.Random, turn: str, word: str) -> list[str]:
    return [f"say {word} says {turn}"]


def _echo(chance: random.Random, turn: str, word: str) -> list[str]:
    return []


def _stream(chance: random.Random, turn: str, word: str) -> list[str]:
    return [f"stream {chance.randint(5, 20)} {chance.choice((10, 30, 60))}"]


def _think(chance: random.Random, turn: str, word: str) -> list[str]:
    return [f"think {word} thinks of {turn}", f"say {word} knows", "stream 5 20"]


def _write(chance: random.Random, turn: str, word: str) -> list[str]:
    steps = []
    for number in range(chance.randint(1, 3)):
        steps += [f"write {turn}.{number} {word} {number}", "stream 4 40"]
    return steps


def _ask(chance: random.Random, turn: str, word: str) -> list[str]:
    return [f"say {word} asks", f"ask Bash {word}", f"write {turn}.0 {word}", "say done"]


def _retract(chance: random.Random, turn: str, word: str) -> list[str]:
    return [f"retract {word} takes back", f"say {word} says it well"]


def _slow(chance: random.Random, turn: str, word: str) -> list[str]:
    return [f"stream 8 {chance.choice((100, 200))}", f"say {word} was slow", "sleep 300"]


_KINDS: dict[Make, int] = {
    _say: 4,
    _echo: 3,
    _stream: 5,
    _think: 3,
    _write: 4,
    _ask: 2,
    _retract: 1,
    _slow: 3,
}


def draw(chance: random.Random, *, turn: str, word: str) -> Prompt:
    """Draw a turn.

    Args:
        chance: Decides.
        turn: Its id.
        word: The user's canary word.
    """
    make = chance.choices(list(_KINDS), list(_KINDS.values()))[0]
    lines = [f"{word} {turn}", *(f"/sim {step}" for step in make(chance, turn, word))]
    cancel = chance.uniform(0, 0.8) if chance.random() < 0.12 else None
    return Prompt(turn, "\n".join(lines), cancel)
