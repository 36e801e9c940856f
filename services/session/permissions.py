"""The permission requests of one running turn, and what was decided about them.

Does not know the store, nor how an answer reaches the agent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from moorline.errors.v1 import errors_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure

_DECIDER = "DECIDER_"


@dataclass(slots=True)
class Request:
    """One request.

    Attributes:
        decision: The first answer; None while it is open.
        recorded: Done when the first answer is durable.
    """

    item: transcript_pb2.PermissionRequest
    decision: transcript_pb2.PermissionDecision | None = None
    recorded: asyncio.Future[None] | None = None


class Permissions:
    """The requests of one turn's current attempt, by id."""

    __slots__ = ("_requests",)

    def __init__(self) -> None:
        self._requests: dict[str, Request] = {}

    def add(self, item: transcript_pb2.PermissionRequest) -> Request:
        """Take in a request that the agent has made."""
        request = self._requests[item.permission_id] = Request(item)
        return request

    def get(self, permission_id: str) -> Request | None:
        """Return a request, or None."""
        return self._requests.get(permission_id)

    def open(self) -> Iterator[Request]:
        """Return the requests nobody has answered yet."""
        return (request for request in self._requests.values() if request.decision is None)

    def decided(self) -> Iterator[transcript_pb2.PermissionDecision]:
        """Return the answers given so far."""
        return (request.decision for request in self._requests.values() if request.decision)

    def recorded(self) -> Iterator[transcript_pb2.PermissionDecision]:
        """Return the answers that are durable, which the agent may be told."""
        return (
            request.decision
            for request in self._requests.values()
            if request.decision and (request.recorded is None or request.recorded.done())
        )

    def close(self) -> list[transcript_pb2.Item]:
        """Refuse every open request because the turn ends; return the decisions as items."""
        items = []
        for request in self.open():
            request.decision = transcript_pb2.PermissionDecision(
                permission_id=request.item.permission_id,
                allowed=False,
                decider=transcript_pb2.PermissionDecision.DECIDER_TURN_END,
            )
            items.append(transcript_pb2.Item(permission_decision=request.decision))
        return items

    def clear(self) -> None:
        """Forget every request: a new attempt begins."""
        self._requests.clear()

    def summary(self) -> dict[str, dict[str, Any]]:
        """Return what was decided, for the turn's document."""
        return {decision.permission_id: summarize(decision) for decision in self.decided()}


def summarize(decision: transcript_pb2.PermissionDecision) -> dict[str, Any]:
    """Return a decision as a turn's document keeps it."""
    name = transcript_pb2.PermissionDecision.Decider.Name(decision.decider)
    return {"allowed": decision.allowed, "decider": name.removeprefix(_DECIDER)}


def require_same(decided: dict[str, Any], allowed: bool) -> None:
    """Check that an answer repeats the first one, which a user gave.

    Raises:
        Failure: PERMISSION_RESOLVED with the first answer.
    """
    if decided["decider"] == "USER" and decided["allowed"] == allowed:
        return
    answer = "allowed" if decided["allowed"] else "refused"
    raise Failure(
        errors_pb2.ERROR_REASON_PERMISSION_RESOLVED,
        "The request was answered before, and differently.",
        decision=answer,
        decider=decided["decider"],
    )
