"""Puts the gateway together, serves, and drains.

The one place that knows all its parts. Does not read the environment and knows
no signals.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import secrets
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import TypeVar

import aiohttp
from aiohttp import web

from services.chassis.client import Peer
from services.chassis.discovery import Discovery
from services.chassis.identity import Signer
from services.chassis.metrics import Metrics
from services.chassis.pool import Member, Pool
from services.chassis.tasks import Tasks
from services.gateway import application
from services.gateway.auth.chain import Chain
from services.gateway.auth.cookies import CookieVerifier
from services.gateway.auth.fixed import ADMINISTRATOR, DEVELOPER, FixedVerifier
from services.gateway.auth.jwks import Jwks, from_file, from_url
from services.gateway.auth.keys import KeyVerifier
from services.gateway.auth.seal import Seal
from services.gateway.auth.signed import SignedVerifier
from services.gateway.auth.tickets import Tickets
from services.gateway.auth.verifier import Verifier
from services.gateway.calls import Service
from services.gateway.connections import Connections
from services.gateway.credentials import Credentials, Origins
from services.gateway.delivery import Delivery
from services.gateway.diagnosis import Diagnosis
from services.gateway.door import Door
from services.gateway.file_routes import FileRoutes
from services.gateway.files import Files
from services.gateway.gateway_metrics import GatewayMetrics
from services.gateway.limits import Limits
from services.gateway.listener import listen
from services.gateway.peers import AnyPod, ServicePeers
from services.gateway.platform_clock import PlatformClock
from services.gateway.pods import ExecutorPod, SessionPod
from services.gateway.rebalancing import Rebalancer
from services.gateway.revocation import RevocationPeers, Revocations
from services.gateway.routed_link import RoutedLink
from services.gateway.routing import Router
from services.gateway.settings import Authentication, Settings
from services.gateway.stalls import Stalls
from services.gateway.surroundings import Surroundings
from services.gateway.web import BODY_BYTES, STATIC, Web

SERVICE = "gateway"
"""Name of this service."""

log = logging.getLogger(__name__)

M = TypeVar("M", bound=Member)

_END_SECONDS = 0.5


async def serve(
    settings: Settings, *, stop: asyncio.Event, on_listening: Callable[[int], None]
) -> None:
    """Serve until `stop` is set, then send everybody away and return.

    Args:
        settings: What was configured.
        stop: Ends it.
        on_listening: Called with the port once clients are accepted.

    Raises:
        OSError: The address cannot be listened on.
    """
    metrics = Metrics(service=SERVICE)
    figures = GatewayMetrics(metrics)
    loop = asyncio.get_running_loop()
    signer = Signer(key=settings.identity_key)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(metrics.serve(settings.metrics_listen))
        clock = PlatformClock(monotonic=loop.time, wall=time.time)

        def peer(service: Service, target: str) -> Peer:
            return Peer(service=service.value, target=target, signer=signer, metrics=metrics)

        sessions = await _pool(
            stack,
            settings.session,
            lambda target: SessionPod(peer=peer(Service.SESSION, target), on_time=clock.told),
        )
        executors = await _pool(
            stack,
            settings.executor,
            lambda target: ExecutorPod(peer=peer(Service.EXECUTOR, target)),
        )
        tasks = await stack.enter_async_context(Tasks())
        connections = await stack.enter_async_context(Connections(loop=loop))
        router = Router(pods=sessions, on_severed=connections.send_away)
        tasks.spawn(Rebalancer(pods=sessions, owners=router.owners).run(), name="rebalancer")
        files = Files(router=router, executors=executors, timeout=settings.call_timeout)
        peers = ServicePeers(
            router=router,
            sessions=sessions,
            executors=executors,
            files=files,
            diagnosis=Diagnosis(sessions=sessions, executors=executors),
            timeout=settings.call_timeout,
            clock=loop.time,
        )
        any_pod = AnyPod(router=router)
        keys = KeyVerifier(peer=any_pod, clock=clock, monotonic=loop.time)
        tokens = await _verifier(settings, keys, clock, stack)
        cookies = CookieVerifier(seal=_seal(settings, "cookie", clock), keys=keys)
        tickets = Tickets(
            seal=_seal(settings, "ticket", clock),
            peer=any_pod,
            keys=keys,
            nonce=lambda: secrets.token_urlsafe(16),
        )
        origins = Origins(allowed=settings.allowed_origins)
        credentials = Credentials(
            tokens=tokens,
            cookies=cookies,
            tickets=tickets,
            origins=origins,
            behind_tls=settings.behind_tls,
            timed=lambda: clock.known,
            attempts=figures.auth_attempts,
        )
        stalls = Stalls(loop=loop)

        def revoked(key: str) -> None:
            keys.revoked(key)
            connections.revoked(key)

        revocations = Revocations(peer=any_pod, revoked=revoked, unknown=connections.doubt)
        tasks.spawn(revocations.run(), name="revocations")

        surroundings = Surroundings(
            peers=RevocationPeers(peers=peers, revoked=revoked),
            delivery=Delivery(
                link=RoutedLink(router=router, tasks=tasks),
                stalls=stalls,
                tasks=tasks,
                loop=loop,
                metrics=metrics,
            ),
            stalls=stalls,
            verifier=tokens,
            tasks=tasks,
            limits=_limits(settings),
            clock=loop.time,
            wall_clock=clock,
            closed=figures.closed,
            limited=figures.limited,
            version=_version(),
        )
        door = Door(
            credentials=credentials,
            connections=connections,
            surroundings=surroundings,
            per_user=settings.connections_per_user,
            upgrades_per_second=settings.upgrades_per_second,
            handshakes=figures.handshakes,
            open_connections=figures.open_connections,
        )
        site = Web(
            door=door,
            credentials=credentials,
            cookies=cookies,
            tickets=tickets,
            origins=origins,
            peers=peers,
            static=STATIC,
            links=settings.auth is Authentication.DEVELOPMENT,
            behind_tls=settings.behind_tls,
            csp_reports=figures.csp_reports,
            clock=clock,
            timed=lambda: clock.known,
        )
        file_routes = FileRoutes(credentials=credentials, files=files)
        runner = web.AppRunner(
            application.make(
                [*site.routes(), *file_routes.routes()],
                duration=figures.request_duration,
                behind_tls=settings.behind_tls,
                body_bytes=BODY_BYTES,
            ),
            shutdown_timeout=_END_SECONDS,
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        port = await stack.enter_async_context(
            listen(settings.listen, runner, application.AccessLog)
        )
        on_listening(port)
        # No time limit: this is what the process is for.
        await stop.wait()
        log.info("draining", extra={"connections": len(connections)})
        door.draining = True
        await asyncio.sleep(settings.lame_duck.total_seconds())
        await connections.drain(settings.drain_seconds - timedelta(seconds=_END_SECONDS))
    log.info("stopped")


async def _pool(stack: AsyncExitStack, target: str, open_member: Callable[[str], M]) -> Pool[M]:
    """Open what is kept for each process of a service, until the stack ends."""
    discovery = await stack.enter_async_context(Discovery(target=target))
    return await stack.enter_async_context(Pool(discovery=discovery, open=open_member))


async def _verifier(
    settings: Settings, keys: KeyVerifier, clock: PlatformClock, stack: AsyncExitStack
) -> Verifier:
    verifiers: list[Verifier] = [keys]
    if settings.auth is Authentication.DEVELOPMENT:
        verifiers.append(FixedVerifier(token=settings.development_token, user=DEVELOPER))
    if settings.admin_token:
        verifiers.append(FixedVerifier(token=settings.admin_token, user=ADMINISTRATOR))
    if settings.auth is Authentication.JWT:
        if settings.jwt_jwks_file is not None:
            fetch = from_file(settings.jwt_jwks_file)
        else:
            client = await stack.enter_async_context(aiohttp.ClientSession())
            fetch = from_url(client, settings.jwt_jwks_url)
        verifiers.append(
            SignedVerifier(
                keys=Jwks(fetch=fetch, clock=time.monotonic),
                issuer=settings.jwt_issuer,
                audience=settings.jwt_audience,
                user_claim=settings.jwt_user_claim,
                admins=settings.admins,
                clock=clock,
            )
        )
    return Chain(verifiers=verifiers)


def _seal(settings: Settings, purpose: str, clock: PlatformClock) -> Seal:
    return Seal(key=settings.identity_key, purpose=purpose, clock=clock)


def _limits(settings: Settings) -> Limits:
    return Limits(
        frame_bytes=settings.frame_bytes,
        prompt_characters=settings.prompt_characters,
        calls_in_flight=settings.calls_in_flight,
        watches=settings.watches,
        frames_per_second=settings.frames_per_second,
        frames_burst=settings.frames_burst,
        heartbeat=settings.heartbeat,
    )


def _version() -> str:
    try:
        return importlib.metadata.version("moorline")
    except importlib.metadata.PackageNotFoundError:
        return "development"
