"""Starts the session service: the one place that knows all its parts."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import grpc

from moorline.diagnosis.v1 import diagnosis_pb2_grpc
from moorline.session.v1 import (
    agents_pb2_grpc,
    events_pb2_grpc,
    feed_pb2_grpc,
    keys_pb2_grpc,
    sessions_pb2_grpc,
    turns_pb2_grpc,
    usage_pb2_grpc,
)
from services.chassis import logs, server
from services.chassis.diagnosis_api import DiagnosisApi
from services.chassis.discovery import Discovery
from services.chassis.failures import Failure
from services.chassis.identity import Checker, Signer
from services.chassis.metrics import Metrics
from services.chassis.settings import read
from services.chassis.tasks import Tasks
from services.session import feed_api
from services.session.agents_api import AgentApi
from services.session.clock import DatabaseClock, stopwatch
from services.session.environment import Environment, Measures
from services.session.events_api import EventApi
from services.session.executors.links import ExecutorLinks
from services.session.keys import Keys
from services.session.keys_api import KeyApi
from services.session.ownership.lease import LeaseMeasures, Terms
from services.session.ownership.leases import Leases
from services.session.ownership.ownership import Ownership, SoleOwnership
from services.session.ownership.sweeper import Sweeper
from services.session.revocations import Revocations
from services.session.sessions import Sessions
from services.session.sessions_api import SessionApi
from services.session.settings import Settings
from services.session.stores.choice import open_store
from services.session.surroundings import Surroundings
from services.session.tickets import Tickets
from services.session.turns_api import TurnApi
from services.session.usage_api import UsageApi
from services.session.watches import Watches

log = logging.getLogger(__name__)

SERVICE = "session"

_RETRY_SECONDS = 1.0


async def main(settings: Settings, *, on_listening: Callable[[int], None] | None) -> None:
    """Serve until told to stop.

    Args:
        settings: What was configured.
        on_listening: Called with the port when calls are accepted.
    """
    async with AsyncExitStack() as stack:
        metrics = Metrics(service=SERVICE)
        await stack.enter_async_context(metrics.serve(settings.metrics_listen))
        store = await stack.enter_async_context(open_store(settings, metrics))
        clock = DatabaseClock(monotonic=stopwatch)
        discovery = await stack.enter_async_context(Discovery(target=settings.executor))
        executors = await stack.enter_async_context(
            ExecutorLinks(
                discovery=discovery,
                signer=Signer(key=settings.identity_key),
                metrics=metrics,
                clock=clock,
                monotonic=stopwatch,
                unreachable=settings.executor_unreachable,
            )
        )
        tasks = await stack.enter_async_context(Tasks())
        limits = settings.limits()
        environment = Environment(
            store=store,
            executors=executors,
            tasks=tasks,
            clock=clock,
            limits=limits,
            measures=Measures(metrics=metrics),
        )
        ownership = _ownership(settings, environment, LeaseMeasures(metrics=metrics))
        sessions = Sessions(environment=environment, ownership=ownership)
        sweeper = Sweeper(
            environment=environment,
            ownership=ownership,
            sessions=sessions,
            period=settings.sweep_seconds,
        )
        feeds = feed_api.open_feeds(clock)
        watches = Watches()
        revocations = Revocations(store=store)
        surroundings = Surroundings(
            store=store, store_words=settings.store_words, sessions=sessions, ownership=ownership
        )

        def register(to: grpc.aio.Server) -> None:
            agents_pb2_grpc.add_AgentServiceServicer_to_server(
                AgentApi(sessions=sessions, watches=watches, limits=limits), to
            )
            turns_pb2_grpc.add_TurnServiceServicer_to_server(
                TurnApi(sessions=sessions, limits=limits), to
            )
            events_pb2_grpc.add_EventServiceServicer_to_server(
                EventApi(sessions=sessions, watches=watches), to
            )
            feed_pb2_grpc.add_SessionFeedServiceServicer_to_server(
                feed_api.FeedApi(sessions=sessions, feeds=feeds), to
            )
            keys_pb2_grpc.add_KeyServiceServicer_to_server(
                KeyApi(
                    keys=Keys(store=store, revocations=revocations, limit=limits.keys),
                    revocations=revocations,
                    tickets=Tickets(store=store),
                    limits=limits,
                ),
                to,
            )
            usage_pb2_grpc.add_UsageServiceServicer_to_server(
                UsageApi(sessions=sessions, clock=clock, limits=limits), to
            )
            sessions_pb2_grpc.add_SessionServiceServicer_to_server(
                SessionApi(sessions=sessions), to
            )
            diagnosis_pb2_grpc.add_DiagnosisServiceServicer_to_server(
                DiagnosisApi(look=surroundings.look), to
            )

        async def drain() -> None:
            # Users first: who is told to go elsewhere must be served there.
            await sessions.drain()
            watches.drain()
            await feeds.drain()

        await _repeat(sessions.start)
        if not ownership.shared:
            await _repeat(sweeper.start)

        def listening(port: int) -> None:
            if ownership.shared:
                # Not before: an owner that has our address is taken to be gone.
                tasks.spawn(sweeper.start(), name="sweeper-start")
            if on_listening is not None:
                on_listening(port)

        await server.serve(
            settings=settings,
            service=SERVICE,
            register=register,
            checker=Checker(key=settings.identity_key),
            metrics=metrics,
            draining=drain,
            on_listening=listening,
        )


def _ownership(settings: Settings, environment: Environment, measures: LeaseMeasures) -> Ownership:
    if settings.database is None:
        return SoleOwnership()
    terms = Terms(
        store=environment.store,
        tasks=environment.tasks,
        clock=environment.clock,
        seconds=settings.lease_seconds.total_seconds(),
        monotonic=stopwatch,
        measures=measures,
    )
    return Leases(terms=terms, address=settings.reached_at)


async def _repeat(step: Callable[[], Awaitable[None]]) -> None:
    """Take a step of the start, however long the store is away."""
    while True:
        try:
            await step()
        except Failure as failure:
            log.warning("the store is away", extra={"reason": failure.message})
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            return


if __name__ == "__main__":
    chosen = read(Settings, argv=sys.argv[1:], environ=os.environ)
    logs.configure(service=SERVICE, format=chosen.log_format, level=chosen.log_level)
    try:
        server.run(lambda: main(chosen, on_listening=None))
    except Failure as failure:
        sys.exit(failure.message)
