"""Finds out who makes an HTTP request, and whether its page may.

Does not know what the request is for.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

from aiohttp import web
from prometheus_client import Counter

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.gateway.auth.cookies import CookieVerifier
from services.gateway.auth.tickets import Tickets
from services.gateway.auth.verifier import Principal, UntimelyFailure, Verifier, token_invalid
from services.gateway.settings import is_loopback

_PORT = re.compile(r":([0-9]{1,5})$")
TICKET_PREFIX = "ticket."
"""Begins the subprotocol that carries a ticket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Who a client has proven to be, and how to find out whether it still holds.

    Attributes:
        principal: Who.
        recheck: Verifies it again; None for what cannot be revoked.
    """

    principal: Principal
    recheck: Callable[[], Awaitable[Principal]] | None


class Origins:
    """The origins whose pages may talk to this server.

    Args:
        allowed: As browsers send them.
    """

    def __init__(self, *, allowed: tuple[str, ...]) -> None:
        self._allowed = frozenset(origin.rstrip("/").lower() for origin in allowed)

    def check(self, request: web.Request) -> bool:
        """Check the origin of a request.

        On a loopback address a page of the very same host and port may, without
        being listed: no other site can have that origin, whatever its name resolves to.

        Returns:
            False when the request names no origin.

        Raises:
            Failure: FORBIDDEN for a foreign one.
        """
        origin = request.headers.get("Origin")
        if origin is None:
            return False
        if origin.lower() in self._allowed or self._is_own(origin, request.host):
            return True
        # Headers are bytes, and may be no text at all.
        shown = origin[:200].encode("ascii", errors="replace").decode()
        raise Failure(
            errors_pb2.ERROR_REASON_FORBIDDEN,
            f"Pages of {shown} may not connect here. If they should, add that origin to "
            "MOORLINE_ALLOWED_ORIGINS.",
            rule="origin",
        )

    @staticmethod
    def _is_own(origin: str, host: str) -> bool:
        try:
            parts = urlsplit(origin)
            return (
                parts.scheme in ("http", "https")
                and parts.netloc.lower() == host.lower()
                and is_loopback(parts.hostname or "")
            )
        except ValueError:
            return False


class Credentials:
    """Reads the proof that comes with a request: a header, a cookie or a ticket.

    Args:
        tokens: Checks bearer tokens.
        cookies: Checks cookies.
        tickets: Checks tickets.
        origins: A cookie counts only with an allowed origin.
        behind_tls: True when clients use HTTPS.
        timed: Tells whether the platform's time is known. Until then nobody is sent away
            for good because of the time.
        attempts: `moorline_auth_attempts_total`.
    """

    def __init__(
        self,
        *,
        tokens: Verifier,
        cookies: CookieVerifier,
        tickets: Tickets,
        origins: Origins,
        behind_tls: bool,
        timed: Callable[[], bool],
        attempts: Counter,
    ) -> None:
        self._tokens = tokens
        self._cookies = cookies
        self._tickets = tickets
        self._origins = origins
        self._behind_tls = behind_tls
        self._timed = timed
        self._attempts = attempts

    async def check(
        self, request: web.Request, *, changes: bool = True, tickets: bool = False
    ) -> Proof:
        """Find out who makes a request.

        The first of these that is there and counts decides: header `Authorization`,
        ticket among the subprotocols, cookie.

        Args:
            request: The request.
            changes: True when it does more than read, so that a cookie without an
                allowed origin is not enough.
            tickets: True when a ticket counts: for what it opens, and never for
                another ticket.

        Raises:
            Failure: TOKEN_INVALID; FORBIDDEN for a foreign origin, or a cookie
                without one; SERVICE_UNAVAILABLE.
        """
        known_origin = self._origins.check(request)
        header = request.headers.get("Authorization")
        if header is not None:
            scheme, _, token = header.partition(" ")
            if scheme.lower() != "bearer":
                raise self._missing()
            return await self.prove(token.strip(), method="bearer")
        ticket = self._ticket(request) if tickets else None
        if ticket is not None:
            return await self._prove(ticket, self._tickets, method="ticket")
        cookie = request.cookies.get(self.cookie_name(request))
        if cookie is None:
            raise self._missing()
        if changes and not known_origin:
            raise Failure(
                errors_pb2.ERROR_REASON_FORBIDDEN,
                "A cookie counts only together with the header `Origin`. Programs send "
                "`Authorization: Bearer` instead.",
                rule="origin",
            )
        return await self._prove(cookie, self._cookies, method="cookie")

    async def logged_in(self, request: web.Request) -> str:
        """Return the user whom a good cookie names, or nothing without one.

        Raises:
            Failure: SERVICE_UNAVAILABLE.
        """
        cookie = request.cookies.get(self.cookie_name(request))
        if cookie is None:
            return ""
        try:
            proof = await self._prove(cookie, self._cookies, method="cookie")
        except Failure as failure:
            if failure.reason != errors_pb2.ERROR_REASON_TOKEN_INVALID:
                raise
            return ""
        return proof.principal.user

    async def prove(self, token: str, *, method: str) -> Proof:
        """Find out whom a token names.

        Args:
            token: The token.
            method: How it came: `bearer`, `login` or `link`.

        Raises:
            Failure: TOKEN_INVALID, SERVICE_UNAVAILABLE.
        """
        return await self._prove(token, self._tokens, method=method)

    def cookie_name(self, request: web.Request) -> str:
        """Name of the login cookie.

        Browsers share cookies between the ports of a host; several servers on one
        machine must not log each other out.
        """
        if self._behind_tls:
            return "__Host-moorline"
        port = _PORT.search(request.host)
        return f"moorline-{port[1] if port else 80}"

    async def _prove(self, token: str, verifier: Verifier, *, method: str) -> Proof:
        result = "unavailable"
        try:
            principal = await verifier.verify(token)
            result = "ok"
        except Failure as failure:
            if failure.reason != errors_pb2.ERROR_REASON_TOKEN_INVALID:
                raise
            if isinstance(failure, UntimelyFailure) and not self._timed():
                raise _untimed() from None
            result = "invalid"
            raise
        finally:
            self._attempts.labels(method, result).inc()
        if not principal.key:
            return Proof(principal=principal, recheck=None)
        if verifier is self._tickets:
            # It is used up; the key that paid for it is what can be revoked.
            return Proof(principal=principal, recheck=lambda: self._tickets.verify_again(principal))
        return Proof(principal=principal, recheck=lambda: verifier.verify(token))

    def _missing(self) -> Failure:
        self._attempts.labels("none", "invalid").inc()
        return token_invalid(
            "Say who you are: programs send `Authorization: Bearer TOKEN`, people log in at `/`."
        )

    @staticmethod
    def _ticket(request: web.Request) -> str | None:
        for name in offered_subprotocols(request):
            if name.startswith(TICKET_PREFIX):
                return name.removeprefix(TICKET_PREFIX)
        return None


def _untimed() -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
        "This server has just started and does not know the time yet. Try again after a second.",
        retry_delay=timedelta(seconds=1),
        service="session",
    )


def offered_subprotocols(request: web.Request) -> list[str]:
    """Return the subprotocols a client offers."""
    return [
        name.strip()
        for header in request.headers.getall("Sec-WebSocket-Protocol", [])
        for name in header.split(",")
        if name.strip()
    ]
