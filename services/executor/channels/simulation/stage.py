"""What a simulated process offers to those who perform in it. Does not know how it does that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from services.executor.channels.simulation.frames import Frames
from services.executor.channels.simulation.lines import Lines
from services.executor.channels.simulation.ticker import Ticker

if TYPE_CHECKING:
    from services.executor.channels.simulation.tools import Tool


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """What was decided about a tool call.

    Attributes:
        allowed: Whether it may run.
        tool_input: What it is given.
        refusal: Why it may not; empty when it may.
    """

    allowed: bool
    tool_input: Mapping[str, Any]
    refusal: str = ""


class Stage(Protocol):
    """A simulated process, as a turn sees it."""

    @property
    def frames(self) -> Frames:
        """Builds the lines."""
        ...

    @property
    def lines(self) -> Lines:
        """Where they go."""
        ...

    @property
    def ticker(self) -> Ticker:
        """Wakes what is paced."""
        ...

    @property
    def workspace(self) -> Path:
        """The directory the tools work in."""
        ...

    @property
    def fallback_model(self) -> str:
        """Model that goes on when the first one is overloaded; empty for none."""
        ...

    @property
    def max_steps(self) -> int:
        """Messages with tool calls that a turn may have; 0 for no limit."""
        ...

    async def permit(self, call: str, tool: Tool) -> Permit:
        """Ask whether a tool may run. Waits as long as nobody decides."""
        ...

    def leave(self, call: str, description: str, pause: float) -> str:
        """Let a command go on in the background; the agent tells when it has ended.

        Args:
            call: The tool call that started it.
            description: What it is, and what the agent says when it has ended.
            pause: Seconds it takes.

        Returns:
            Its id.
        """
        ...

    async def recall(self) -> list[str]:
        """Return what the user asked before in this conversation, as far as it was kept."""
        ...

    def hang(self) -> None:
        """Make the process deaf."""
        ...
