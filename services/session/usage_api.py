"""The door of `UsageService`: checks requests and owners, then asks the session."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeAlias

import grpc

from moorline.session.v1 import usage_pb2, usage_pb2_grpc
from services.chassis.identity import caller
from services.session.account import UsageSum, month_of
from services.session.clock import DatabaseClock
from services.session.limits import Limits
from services.session.names import parse_usage, require_owner
from services.session.session import Session
from services.session.sessions import Sessions

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

_CURRENT = "current"


class UsageApi(usage_pb2_grpc.UsageServiceServicer):
    """Tells what a user's agents consume."""

    def __init__(self, *, sessions: Sessions, clock: DatabaseClock, limits: Limits) -> None:
        self._sessions = sessions
        self._clock = clock
        self._limits = limits

    async def GetUsage(
        self, request: usage_pb2.GetUsageRequest, context: Context
    ) -> usage_pb2.GetUsageResponse:
        """Return a month's usage; see `usage.proto`."""
        name = parse_usage("name", request.name)
        require_owner(name, caller())
        if name.month == _CURRENT:
            name = replace(name, month=month_of(self._clock.now()))

        async def read(session: Session) -> UsageSum:
            return await session.usage(name.month)

        total = await self._sessions.with_session(name.user, read)
        return usage_pb2.GetUsageResponse(
            usage=usage_pb2.MonthlyUsage(
                name=str(name),
                total=total.message(),
                budget_usd_micros=self._limits.month_budget,
            )
        )
