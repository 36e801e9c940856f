"""What a loaded agent needs from whoever has loaded it.

Does not know who that is.
"""

from __future__ import annotations

from typing import Protocol


class Loader(Protocol):
    """Whoever has loaded an agent."""

    def changed(self, agent_id: str) -> None:
        """Hear that the agent's state may look different now."""
        ...

    def fenced(self, agent_id: str) -> None:
        """Hear that another writer was found: the agent must be loaded anew."""
        ...

    def month_left(self) -> int | None:
        """Return what the user's agents may cost this month still, in millionths of a US dollar.

        What running turns have cost so far is deducted. None means no limit.
        """
        ...

    def consumed(self) -> None:
        """Hear that a running turn has cost something."""
        ...

    def holds_back(self) -> bool:
        """Tell whether turns that wait shall be started by the next owner."""
        ...
