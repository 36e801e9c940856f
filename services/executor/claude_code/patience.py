"""How long a Claude Code process may take for what it owes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a process may take for what it owes.

    Attributes:
        opening: To answer `initialize`.
        speaking: To finish what it says by itself while a prompt waits.
        closing: To exit when its input ends.
        dying: To be gone after a kill.
    """

    opening: timedelta
    speaking: timedelta
    closing: timedelta
    dying: timedelta


PATIENCE = Patience(
    # Unloaded the CLI answers within 0.4 s; a cold machine may need ten times that.
    opening=timedelta(seconds=30),
    # A report takes seconds; somebody waits for an answer of their own.
    speaking=timedelta(seconds=30),
    # An idle CLI exits within 0.2 s.
    closing=timedelta(seconds=3),
    dying=timedelta(seconds=5),
)
"""What the CLI was observed to need, and more."""
