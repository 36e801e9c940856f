"""What happens around every HTTP request: errors, headers, metrics, the access log.

Does not know what any route does.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from prometheus_client import Histogram

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.gateway.http_errors import Refusal, to_response
from services.gateway.listener import SERVER, HttpConnection

log = logging.getLogger(__name__)

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types lit-html dompurify",
        "report-uri /v1/csp-report",
    )
)
"""What the page may load and do; only what it needs."""
_POLICY = "Content-Security-Policy"
HEADERS = {
    _POLICY: CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Server": SERVER,
}
"""Headers of every answer; one that is no page's may have another policy."""

_UPGRADED = 101
_ROUTE = web.RequestKey("route", str)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make(
    routes: Iterable[web.RouteDef], *, duration: Histogram, behind_tls: bool, body_bytes: int
) -> web.Application:
    """Build the application.

    Args:
        routes: Its routes.
        duration: `http_server_request_duration_seconds`.
        behind_tls: True when clients use HTTPS; they are told to stay with it.
        body_bytes: Largest body of a request.
    """
    headers = dict(HEADERS)
    if behind_tls:
        headers["Strict-Transport-Security"] = "max-age=31536000"

    @web.middleware
    async def around(request: web.Request, handler: _Handler) -> web.StreamResponse:
        connection = request.protocol
        if isinstance(connection, HttpConnection):
            connection.request_began()
        route = request[_ROUTE] = _route(request)
        start, status = time.perf_counter(), 500
        try:
            response = await _answer(request, handler)
            status = response.status
            return response
        finally:
            if isinstance(connection, HttpConnection):
                connection.request_ended(request.content_length or 0)
            if status != _UPGRADED:
                labels = (_method(request), route, str(status))
                duration.labels(*labels).observe(time.perf_counter() - start)

    async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
        # Here and not in a middleware, which does not see every answer.
        if response.status != _UPGRADED:
            policy = response.headers.get(_POLICY, CONTENT_SECURITY_POLICY)
            response.headers.update(headers)
            response.headers[_POLICY] = policy

    application = web.Application(middlewares=[around], client_max_size=body_bytes)
    application.on_response_prepare.append(add_headers)
    application.add_routes(routes)
    return application


async def _answer(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refusal as refusal:
        return to_response(refusal)
    except Failure as failure:
        return to_response(Refusal(failure))
    except web.HTTPException as answer:
        # aiohttp's own: no such route, wrong method, body too large.
        unknown = Failure(
            errors_pb2.ERROR_REASON_METHOD_UNKNOWN,
            f"{answer.reason}. Compare the request with the documentation.",
        )
        allow = answer.headers.get("Allow")
        return to_response(
            Refusal(unknown, status=answer.status, headers={"Allow": allow} if allow else None)
        )


def _route(request: web.Request) -> str:
    """Return the route of a request, from a closed set."""
    resource = request.match_info.route.resource
    return "unknown" if resource is None else resource.canonical


def _method(request: web.BaseRequest) -> str:
    return request.method if request.method in _METHODS else "other"


class AccessLog(AbstractAccessLogger):
    """Logs one line for each answer: never the query, which may hold a token."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Called by aiohttp."""
        if response.status == _UPGRADED:
            # Its connection has a line of its own, with more in it.
            return
        # What is not HTTP never had a route.
        path = request.get(_ROUTE, "unknown")
        level = logging.DEBUG if path in ("/healthz", "/readyz") else logging.INFO
        log.log(
            level,
            "request",
            extra={
                "method": _method(request),
                "route": path,
                "status": response.status,
                "duration_ms": round(time * 1000, 1),
            },
        )
