"""What one agent has on this machine. Does not know who makes it, nor what is in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What one agent has on this machine.

    Attributes:
        workspace: Id of the workspace.
        files: The agent's files, which its user sees.
        state: What its program keeps: settings and transcripts. Its user does not see it.
        run: Sockets, as long as something runs.
        notes: What the executor keeps about it. The agent does not see it.
    """

    workspace: str
    files: Path
    state: Path
    run: Path
    notes: Path
