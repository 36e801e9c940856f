"""The routes of the HTTP server: the page, login, tickets and health.

Does not know the WebSocket behind `Door`.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web
from prometheus_client import Counter

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure, field_invalid, not_found
from services.gateway.auth.cookies import CookieVerifier
from services.gateway.auth.tickets import Tickets
from services.gateway.auth.verifier import Principal, from_epoch
from services.gateway.calls import Service
from services.gateway.credentials import Credentials, Origins
from services.gateway.door import Door
from services.gateway.http_errors import Refusal, json_response
from services.gateway.limits import TokenBucket
from services.gateway.peers import ServicePeers

log = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
"""Where the page's files are."""
BODY_BYTES = 16 * 1024
"""Largest body of any request."""
BODY_SECONDS = 10.0
"""How long a body may take to arrive."""
_FILE = re.compile(r"([A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}/){0,8}[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")
_CONTENT_TYPES = {
    # Written down, because what `mimetypes` says depends on the machine.
    ".css": "text/css",
    ".html": "text/html",
    ".ico": "image/x-icon",
    ".js": "text/javascript",
    ".json": "application/json",
    ".map": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
_WRONG_LINK = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Moorline</title>
<h1>This link does not work</h1>
<p>Its token is wrong, expired or revoked. Use the link that the server printed when it
started last, or <a href="/">log in with another token</a>.</p>
<div lang="ko">
<h1>이 링크로는 들어갈 수 없습니다</h1>
<p>토큰이 틀렸거나, 만료되었거나, 취소되었습니다. 서버가 마지막으로 시작할 때 출력한 링크를
쓰거나, <a href="/">다른 토큰으로 로그인</a>하십시오.</p>
</div>
</html>
"""


class Web:
    """Answers every route.

    Args:
        door: Answers `/v1/ws`.
        credentials: Finds out who makes a request.
        cookies: Makes the login cookie.
        tickets: Makes tickets.
        origins: Which pages may log in.
        peers: Asked whether they are ready.
        static: Folder of the page's files.
        links: True when a link with a token logs in; else it leads to the login page.
        behind_tls: True when clients use HTTPS.
        csp_reports: `moorline_csp_reports_total`.
        clock: Seconds since the epoch.
        timed: Tells whether that is the platform's time yet.
    """

    def __init__(
        self,
        *,
        door: Door,
        credentials: Credentials,
        cookies: CookieVerifier,
        tickets: Tickets,
        origins: Origins,
        peers: ServicePeers,
        static: Path,
        links: bool,
        behind_tls: bool,
        csp_reports: Counter,
        clock: Callable[[], float],
        timed: Callable[[], bool],
    ) -> None:
        self._door = door
        self._credentials = credentials
        self._cookies = cookies
        self._tickets = tickets
        self._origins = origins
        self._peers = peers
        self._static = static.resolve()
        self._links = links
        self._behind_tls = behind_tls
        self._csp_reports = csp_reports
        self._clock = clock
        self._timed = timed
        loop = asyncio.get_running_loop()
        self._csp_log = TokenBucket(rate=0.1, burst=10, now=loop.time())

    def routes(self) -> list[web.RouteDef]:
        """Return every route."""
        return [
            web.get("/", self._page),
            web.get("/static/{path:.+}", self._file),
            web.get("/v1/ws", self._door.enter, allow_head=False),
            web.get("/v1/me", self._me),
            web.post("/v1/login", self._login),
            web.post("/v1/logout", self._logout),
            web.post("/v1/tickets", self._ticket),
            web.post("/v1/csp-report", self._csp_report),
            web.get("/healthz", self._healthz),
            web.get("/readyz", self._readyz),
        ]

    async def _page(self, request: web.Request) -> web.StreamResponse:
        token = request.query.get("token")
        if token is None:
            return self._serve(self._static / "index.html")
        # The token leaves the address bar, the history and the next Referer.
        query = [(name, value) for name, value in request.query.items() if name != "token"]
        response = web.Response(
            status=303, headers={"Location": str(request.rel_url.with_path("/").with_query(query))}
        )
        if not self._links:
            return response
        try:
            proof = await self._credentials.prove(token, method="link")
        except Failure as failure:
            if failure.reason != errors_pb2.ERROR_REASON_TOKEN_INVALID:
                raise
            return web.Response(status=403, text=_WRONG_LINK, content_type="text/html")
        user = proof.principal.user
        # A page of another site must not make somebody go on as somebody else.
        if _is_own(request) or await self._credentials.logged_in(request) in ("", user):
            self._set_cookie(request, response, proof.principal)
        return response

    async def _file(self, request: web.Request) -> web.StreamResponse:
        # Names are told by their form, before the file system sees them.
        if _FILE.fullmatch(request.match_info["path"]) is None:
            raise not_found()
        return self._serve(self._static / request.match_info["path"])

    def _serve(self, path: Path) -> web.StreamResponse:
        content_type = _CONTENT_TYPES.get(path.suffix)
        if content_type is None or not path.is_file():
            raise Refusal(
                Failure(
                    errors_pb2.ERROR_REASON_RESOURCE_NOT_FOUND,
                    "There is no such file. If the page's modules are missing, run `make setup`.",
                )
            )
        # Kept by browsers, and asked about each time: a new release shows at once.
        return web.FileResponse(
            path, headers={"Content-Type": content_type, "Cache-Control": "no-cache"}
        )

    async def _me(self, request: web.Request) -> web.StreamResponse:
        proof = await self._credentials.check(request, changes=False)
        return json_response(_shown(proof.principal))

    async def _login(self, request: web.Request) -> web.StreamResponse:
        self._origins.check(request)
        body = await _json_body(request)
        token = body.get("token")
        if not isinstance(token, str):
            raise field_invalid("token", "be a text")
        proof = await self._credentials.prove(token, method="login")
        response = json_response(_shown(proof.principal))
        self._set_cookie(request, response, proof.principal)
        return response

    async def _logout(self, request: web.Request) -> web.StreamResponse:
        self._origins.check(request)
        response = web.Response(status=204)
        response.del_cookie(self._credentials.cookie_name(request), path="/", **self._attributes())
        return response

    async def _ticket(self, request: web.Request) -> web.StreamResponse:
        proof = await self._credentials.check(request)
        ticket, end = self._tickets.make(proof.principal)
        return json_response({"ticket": ticket, "expireTime": _timestamp(from_epoch(end))})

    async def _csp_report(self, request: web.Request) -> web.StreamResponse:
        await _body(request)
        self._csp_reports.inc()
        if self._csp_log.take(asyncio.get_running_loop().time()):
            # Not what it says: anybody can send anything.
            log.warning("a browser reports a violation of the content security policy")
        return web.Response(status=204)

    async def _healthz(self, _: web.Request) -> web.StreamResponse:
        return json_response({"status": "ok"})

    async def _readyz(self, _: web.Request) -> web.StreamResponse:
        """Ready for clients: without the executor they can still read and queue turns.

        Not before the time is known, or who is in time by it would be refused.
        """
        session, executor = await asyncio.gather(
            self._peers.healthy(Service.SESSION), self._peers.healthy(Service.EXECUTOR)
        )
        timed = self._timed()
        ready = session and timed and not self._door.draining
        content = {
            "status": "ok" if ready else "unavailable",
            "session": session,
            "time": timed,
            "executor": executor,
            "draining": self._door.draining,
        }
        return json_response(content, status=200 if ready else 503)

    def _set_cookie(
        self, request: web.Request, response: web.StreamResponse, principal: Principal
    ) -> None:
        value, end = self._cookies.make(principal)
        response.set_cookie(
            self._credentials.cookie_name(request),
            value,
            path="/",
            max_age=max(0, int(end - self._clock())),
            **self._attributes(),
        )

    def _attributes(self) -> Any:
        # Lax and not Strict, which would lose the login on the way from a chat's link.
        return {"httponly": True, "samesite": "Lax", "secure": self._behind_tls}


def _is_own(request: web.Request) -> bool:
    """True for what the person or a page of this server asked for, as browsers tell it."""
    return request.headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin")


def _shown(principal: Principal) -> dict[str, str]:
    shown = {"user": principal.user}
    if principal.expire_time is not None:
        shown["expireTime"] = _timestamp(principal.expire_time)
    return shown


def _timestamp(instant: datetime) -> str:
    return instant.isoformat(timespec="seconds").replace("+00:00", "Z")


async def _body(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError:
        raise Refusal(field_invalid("body", "arrive in time"), status=408) from None


async def _json_body(request: web.Request) -> dict[str, Any]:
    if request.content_type != "application/json":
        # What a form of a foreign page cannot send.
        raise Refusal(field_invalid("Content-Type", "be application/json"), status=415)
    try:
        value = orjson.loads(await _body(request))
    except orjson.JSONDecodeError:
        raise field_invalid("body", "be JSON") from None
    if not isinstance(value, dict):
        raise field_invalid("body", "be a JSON object")
    return value
