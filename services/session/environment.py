"""What every session, agent and turn works with, as one value.

Does not know how any of it is made.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.chassis.metrics import Metrics
from services.chassis.tasks import Tasks
from services.session.clock import DatabaseClock
from services.session.executors.executor import Executors
from services.session.limits import Limits
from services.session.store import Store


class Measures:
    """What the service counts."""

    def __init__(self, *, metrics: Metrics) -> None:
        self.sessions = metrics.gauge("moorline_sessions", "Users whose session is in memory.")
        self.turns = metrics.counter(
            "moorline_turns_total", "Turns that ended, by outcome.", ("outcome",)
        )
        self.queued = metrics.gauge("moorline_turns_queued", "Turns that wait for others.")
        self.requests = metrics.gauge(
            "moorline_permission_requests_pending", "Permission requests nobody has answered."
        )

    def share(self) -> Share:
        """Return one agent's share in the gauges, nothing so far."""
        return Share(self)


class Share:
    """What one agent adds to the gauges."""

    __slots__ = ("_measures", "_queued", "_requests")

    def __init__(self, measures: Measures) -> None:
        self._measures = measures
        self._queued = 0
        self._requests = 0

    def set(self, *, queued: int, requests: int) -> None:
        """Replace the share."""
        if queued != self._queued:
            self._measures.queued.inc(queued - self._queued)
            self._queued = queued
        if requests != self._requests:
            self._measures.requests.inc(requests - self._requests)
            self._requests = requests


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The collaborators of the logic.

    Attributes:
        tasks: Owns every background task of the logic.
        clock: The database's time.
    """

    store: Store
    executors: Executors
    tasks: Tasks
    clock: DatabaseClock
    limits: Limits
    measures: Measures
