"""The permission requests of one running turn, and the answers to them.

An answer is an event of the log, so that it survives whoever gave it; the first
one counts. Does not know how an answer reaches the agent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any, TypeAlias

from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import not_found
from services.session.answers import check_answer, require_same, summarize
from services.session.clock import DatabaseClock
from services.session.log import Log, succeeded

Decision = transcript_pb2.PermissionDecision

Changes: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Fields of documents by path."""


@dataclass(slots=True)
class _Request:
    item: transcript_pb2.PermissionRequest
    decision: transcript_pb2.PermissionDecision | None = None
    # None while open, and for an answer that was durable before this process.
    recorded: asyncio.Future[None] | None = None
    timer: asyncio.TimerHandle | None = None


class Permissions:
    """The requests of one turn's current attempt, by id.

    Args:
        log: Where answers are recorded.
        turn_id: The turn.
        clock: Decides when a request has waited too long.
        changed: Called when the number of open requests may have changed.
        allow: Called with a request and a user's first answer, which fits it; carries
            out what it changes about the agent, and returns what is to be stored of it
            together with the answer. May raise a Failure, which refuses the answer.
        decided: Called with each answer, once it is durable.
    """

    __slots__ = ("_allow", "_changed", "_clock", "_decided", "_log", "_requests", "_turn_id")

    def __init__(
        self,
        *,
        log: Log,
        turn_id: str,
        clock: DatabaseClock,
        changed: Callable[[], None],
        allow: Callable[
            [transcript_pb2.PermissionRequest, transcript_pb2.PermissionDecision], Changes
        ],
        decided: Callable[[transcript_pb2.PermissionDecision], None],
    ) -> None:
        self._log = log
        self._turn_id = turn_id
        self._clock = clock
        self._changed = changed
        self._allow = allow
        self._decided = decided
        self._requests: dict[str, _Request] = {}

    @property
    def open(self) -> int:
        """How many requests wait for an answer."""
        return sum(1 for _ in self._waiting())

    def add(self, item: transcript_pb2.PermissionRequest) -> None:
        """Take in a request that is in the log."""
        self._requests[item.permission_id] = _Request(item)
        self._changed()

    def recall(self, decision: transcript_pb2.PermissionDecision) -> None:
        """Take in an answer that an earlier process has logged."""
        request = self._requests.get(decision.permission_id)
        if request is not None:
            request.decision = decision

    def expire(self) -> None:
        """See that requests with a time limit are refused when it is over."""
        loop = asyncio.get_running_loop()
        for request in self._waiting():
            if request.timer is None and request.item.HasField("expire_time"):
                left = request.item.expire_time.ToDatetime(UTC) - self._clock.now()
                request.timer = loop.call_later(
                    max(0.0, left.total_seconds()), self._time_out, request
                )

    async def answer(self, answer: transcript_pb2.PermissionDecision) -> None:
        """Record a user's answer, if it is the first.

        Raises:
            Failure: RESOURCE_NOT_FOUND, PERMISSION_RESOLVED, FIELD_INVALID,
                QUOTA_EXCEEDED, STORE_UNAVAILABLE, FENCED.
        """
        request = self._requests.get(answer.permission_id)
        if request is None:
            raise not_found()
        first = request.decision
        if first is None:
            decision = Decision(
                permission_id=answer.permission_id,
                allowed=answer.allowed,
                reason=answer.reason,
                decider=Decision.DECIDER_USER,
                suggestion_id=answer.suggestion_id,
                answers=answer.answers,
            )
            check_answer(request.item, decision)
            self._decide(request, decision, self._allow(request.item, decision))
        if request.recorded is not None:
            await self._log.durable(request.recorded)
        if first is not None:
            require_same(summarize(first), answer)

    def recorded(self) -> Iterator[transcript_pb2.PermissionDecision]:
        """Return the answers that are durable, which the agent may be told."""
        return (
            request.decision
            for request in self._requests.values()
            if request.decision and (request.recorded is None or succeeded(request.recorded))
        )

    def never_allowed(self) -> set[str]:
        """Return the tool calls that were asked about and cannot have run."""
        asked = {request.item.tool_call_id for request in self._requests.values()}
        allowed = {
            request.item.tool_call_id
            for request in self._requests.values()
            if request.decision is not None and request.decision.allowed
        }
        return asked - allowed

    def close(self) -> list[transcript_pb2.Item]:
        """Refuse every open request because the turn ends; return the answers as items."""
        items = []
        for request in list(self._waiting()):
            request.decision = Decision(
                permission_id=request.item.permission_id,
                allowed=False,
                decider=Decision.DECIDER_TURN_END,
            )
            items.append(transcript_pb2.Item(permission_decision=request.decision))
        self.stop()
        return items

    def stop(self) -> None:
        """Refuse nothing any more because of its time limit."""
        for request in self._requests.values():
            if request.timer is not None:
                request.timer.cancel()

    def clear(self) -> None:
        """Forget every request: a new attempt begins."""
        self.stop()
        self._requests.clear()

    def summary(self) -> dict[str, dict[str, Any]]:
        """Return what was decided, for the turn's document."""
        return {
            permission_id: summarize(request.decision)
            for permission_id, request in self._requests.items()
            if request.decision is not None
        }

    def _waiting(self) -> Iterator[_Request]:
        return (request for request in self._requests.values() if request.decision is None)

    def _time_out(self, request: _Request) -> None:
        if request.decision is None:
            decision = Decision(
                permission_id=request.item.permission_id,
                allowed=False,
                reason="Nobody answered in time.",
                decider=Decision.DECIDER_TIMEOUT,
            )
            self._decide(request, decision)

    def _decide(
        self,
        request: _Request,
        decision: transcript_pb2.PermissionDecision,
        changes: Changes | None = None,
    ) -> None:
        def durable(done: asyncio.Future[None]) -> None:
            if succeeded(done):
                self._decided(decision)

        request.decision = decision
        item = transcript_pb2.Item(permission_decision=decision)
        request.recorded = self._log.append(self._turn_id, [item], documents=changes)
        request.recorded.add_done_callback(durable)
        self._changed()
