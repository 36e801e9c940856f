"""What executions are given: limits, and what they work with. Does not know what they do."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from moorline.transcript.v1 import transcript_pb2
from services.chassis.tasks import Tasks
from services.executor.agents import Agents
from services.executor.notes import Notes
from services.executor.place import Place
from services.executor.queue import FairQueue


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an execution may take.

    Attributes:
        timeout: Time allowed at most.
        stall: Silence allowed while the agent owes a word.
        grace: Time to stop by itself before it is killed.
    """

    timeout: timedelta
    stall: timedelta
    grace: timedelta


class Snapshots(Protocol):
    """Remembers what workspaces held, to tell what became of it."""

    async def take(self, place: Place) -> None:
        """Remember what a workspace holds."""
        ...

    async def changes(self, place: Place) -> transcript_pb2.FileChanges:
        """Return what changed since then."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Provisions:
    """What executions work with.

    Attributes:
        agents: Where their processes come from.
        snapshots: Tell what they did to the files.
        queue: Where they wait for a slot.
        limited: Names of the backends whose executions need a slot.
        notes: Where an executor that comes after this one reads of them.
        tasks: Owner of the tasks that stop them.
    """

    agents: Agents
    snapshots: Snapshots
    queue: FairQueue
    limited: Collection[str]
    notes: Notes
    tasks: Tasks
