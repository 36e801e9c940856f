"""Tests of `services.gateway.web` and `application`, over HTTP."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from services.gateway import web
from services.gateway.application import CONTENT_SECURITY_POLICY
from services.gateway.settings import Authentication
from tests.unit.gateway.running import BEARER, TOKEN, Gateway, gateway
from tests.unit.gateway.session_api import SECRET

JSON = {"Content-Type": "application/json"}


async def get(g: Gateway, path: str, **headers: str) -> tuple[int, Any, Any]:
    """Status, body and headers of a GET that follows no redirect."""
    url = URL(g.url + path, encoded=True)
    async with g.client.get(url, headers=headers, allow_redirects=False) as response:
        body = await (response.json() if "json" in response.content_type else response.text())
        return response.status, body, response.headers


async def post(g: Gateway, path: str, body: Any = b"", **headers: str) -> tuple[int, Any, Any]:
    """Status, body and headers of a POST."""
    async with g.client.post(g.url + path, data=body, headers=headers) as response:
        content = await (response.json() if "json" in response.content_type else response.text())
        return response.status, content, response.headers


async def log_in(g: Gateway) -> str:
    """Log in with the printed link; the cookie."""
    _, _, headers = await get(g, f"/?token={TOKEN}")
    return str(headers["Set-Cookie"].split(";")[0])


@pytest.fixture
def static(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of files in the place of the page's."""
    (tmp_path / "index.html").write_text("<!doctype html><title>page</title>")
    (tmp_path / "app.js").write_text("export {};")
    (tmp_path / ".secret.js").write_text("x")
    (tmp_path / "notes.py").write_text("x")
    (tmp_path.parent / "outside.js").write_text("x")
    monkeypatch.setattr("services.gateway.serving.STATIC", tmp_path)
    return tmp_path


class TestPage:
    """`/` and its files."""

    async def test_it_is_for_everybody(self, static: Path) -> None:
        """It asks for the login itself."""
        async with gateway() as g:
            status, body, headers = await get(g, "/")

            assert (200, "<!doctype html><title>page</title>") == (status, body)
            assert "text/html" == headers["Content-Type"]

    async def test_files_are_asked_about_each_time(self, static: Path) -> None:
        """And sent again only when they have changed."""
        async with gateway() as g:
            status, body, headers = await get(g, "/static/app.js")
            assert (200, "export {};", "text/javascript", "no-cache") == (
                status,
                body,
                headers["Content-Type"],
                headers["Cache-Control"],
            )
            status, _, _ = await get(g, "/static/app.js", **{"If-None-Match": headers["ETag"]})

            assert 304 == status

    @pytest.mark.parametrize(
        "path",
        [
            "/static/missing.js",
            "/static/.secret.js",
            "/static/notes.py",
            "/static/%2e%2e/outside.js",
            "/static/..%2foutside.js",
            "/static//etc/passwd",
            "/static/%00.js",
            "/static/",
            "/static/.",
            "/nothing",
            "/metrics",
        ],
    )
    async def test_nothing_else_is_served(self, static: Path, path: str) -> None:
        """Whatever the address is made to look like."""
        async with gateway() as g:
            status, body, _ = await get(g, path)

            assert 404 == status
            assert body["error"]["message"]

    async def test_a_page_without_its_files_says_what_to_do(self, static: Path) -> None:
        """As when the third-party modules were not fetched."""
        (static / "index.html").unlink()
        async with gateway() as g:
            status, body, _ = await get(g, "/")

            assert 404 == status
            assert "make setup" in body["error"]["message"]

    async def test_every_answer_has_the_headers(self, static: Path) -> None:
        """Errors too."""
        async with gateway() as g:
            for path in ("/", "/static/app.js", "/nothing", "/v1/me", "/healthz"):
                _, _, headers = await get(g, path)
                assert CONTENT_SECURITY_POLICY == headers["Content-Security-Policy"]
                assert ("nosniff", "no-referrer", "same-origin", "moorline") == (
                    headers["X-Content-Type-Options"],
                    headers["Referrer-Policy"],
                    headers["Cross-Origin-Opener-Policy"],
                    headers["Server"],
                )
                assert "Strict-Transport-Security" not in headers

    async def test_a_wrong_method_is_told_the_right_one(self) -> None:
        """In the form of every other error."""
        async with gateway() as g:
            status, body, headers = await post(g, "/v1/me")

            assert (405, "GET,HEAD") == (status, headers["Allow"])
            assert "ERROR_REASON_METHOD_UNKNOWN" == body["error"]["reason"]


class TestLogin:
    """Cookies."""

    async def test_the_printed_link_logs_in_and_loses_its_token(self) -> None:
        """Other values of the query stay."""
        async with gateway() as g:
            status, _, headers = await get(g, f"/?lang=ko&token={TOKEN}&x=%26")

            cookie = headers["Set-Cookie"]
            assert (303, "/?lang=ko&x=%26") == (status, headers["Location"])
            assert cookie.startswith(f"moorline-{g.port}=")
            assert "HttpOnly" in cookie
            assert "SameSite=Lax" in cookie
            assert "Secure" not in cookie
            assert TOKEN not in cookie
            assert 43000 < int(cookie.split("Max-Age=")[1].split(";")[0]) <= 43200

    async def test_behind_tls_the_cookie_is_bound_to_the_host(self) -> None:
        """And browsers are told to stay with TLS."""
        async with gateway(behind_tls=True) as g:
            _, _, headers = await get(g, f"/?token={TOKEN}")

            assert headers["Set-Cookie"].startswith("__Host-moorline=")
            assert "Secure" in headers["Set-Cookie"]
            assert "Path=/" in headers["Set-Cookie"]
            assert "max-age" in headers["Strict-Transport-Security"]

    async def test_a_wrong_link_says_what_to_do(self) -> None:
        """In both languages, and sets nothing."""
        async with gateway() as g:
            status, body, headers = await get(g, "/?token=wrong")

            assert 403 == status
            assert "log in" in body
            assert "로그인" in body
            assert "Set-Cookie" not in headers

    async def test_a_link_that_cannot_be_checked_now_is_503(self) -> None:
        """It may be right."""
        async with gateway(session="127.0.0.1:1") as g:
            status, _, _ = await get(g, f"/?token={SECRET}")

            assert 503 == status

    async def test_links_log_in_on_the_own_machine_only(self) -> None:
        """Else a link of somebody else would log people in as him."""
        async with gateway(auth=Authentication.KEYS) as g:
            status, _, headers = await get(g, f"/?lang=ko&token={SECRET}")

            assert (303, "/?lang=ko") == (status, headers["Location"])
            assert "Set-Cookie" not in headers
            assert "VerifyKey" not in dict(g.session.asked)

    @pytest.mark.parametrize(
        ("site", "replaced"),
        [("none", True), ("same-origin", True), ("same-site", False), ("cross-site", False)],
    )
    async def test_a_foreign_link_replaces_no_login(self, site: str, replaced: bool) -> None:
        """That of another user; one that is over or of the same user is none to keep."""
        async with gateway() as g:
            _, _, headers = await post(
                g, "/v1/login", json.dumps({"token": SECRET}), **JSON, Origin=g.url
            )
            ada = headers["Set-Cookie"].split(";")[0]
            link, came = f"/?token={TOKEN}", {"Sec-Fetch-Site": site}
            status, _, headers = await get(g, link, Cookie=ada, **came)
            assert (303, "/", replaced) == (status, headers["Location"], "Set-Cookie" in headers)
            for cookie in ("x=y", f"moorline-{g.port}=x", await log_in(g)):
                _, _, headers = await get(g, link, Cookie=cookie, **came)
                assert "Set-Cookie" in headers

    async def test_the_page_logs_in(self) -> None:
        """With a token in the body."""
        async with gateway() as g:
            status, body, headers = await post(
                g, "/v1/login", json.dumps({"token": TOKEN}), **JSON, Origin=g.url
            )
            assert (200, {"user": "users/dev"}) == (status, body)
            cookie = headers["Set-Cookie"].split(";")[0]
            status, body, _ = await get(g, "/v1/me", Cookie=cookie)

            assert (200, "users/dev") == (status, body["user"])
            assert body["expireTime"].endswith("Z")

    @pytest.mark.parametrize(
        ("body", "headers", "expected"),
        [
            ('{"token":"wrong"}', JSON, 401),
            ('{"token":7}', JSON, 400),
            ("{}", JSON, 400),
            ("[]", JSON, 400),
            ("{", JSON, 400),
            ("", JSON, 400),
            ('{"token":"x"}', {"Content-Type": "text/plain"}, 415),
            ("x" * 20_000, JSON, 413),
            ('{"token":"x"}', JSON | {"Origin": "http://evil.example"}, 403),
        ],
    )
    async def test_what_is_no_login_is_refused(
        self, body: str, headers: dict[str, str], expected: int
    ) -> None:
        """With a status that tells which kind."""
        async with gateway() as g:
            status, content, answer = await post(g, "/v1/login", body, **headers)

            assert expected == status
            assert content["error"]["message"]
            assert "Set-Cookie" not in answer

    async def test_a_body_that_does_not_come_is_given_up(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody can hold a request open for ever."""
        monkeypatch.setattr(web, "BODY_SECONDS", 0.1)
        async with gateway() as g:
            reader, writer = await asyncio.open_connection("127.0.0.1", g.port)
            writer.write(
                b"POST /v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: 10\r\n\r\n{"
            )
            head = await reader.readuntil(b"\r\n")

            assert b"HTTP/1.1 408 Request Timeout\r\n" == head
            writer.close()

    async def test_a_broken_body_is_refused(self, caplog: pytest.LogCaptureFixture) -> None:
        """Also one that only claims to be compressed, or whose client goes away."""
        async with gateway() as g:
            status, _, _ = await post(
                g, "/v1/login", b"x" * 10, **JSON, **{"Content-Encoding": "gzip"}
            )
            assert 400 == status
            head = b"POST /v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            _, writer = await asyncio.open_connection("127.0.0.1", g.port)
            writer.write(head + b"Content-Length: 10\r\n\r\n{")
            await asyncio.sleep(0.05)
            writer.transport.abort()
            await asyncio.sleep(0.05)

        assert [] == [record for record in caplog.records if record.exc_info]

    async def test_logging_out_takes_the_cookie_away(self) -> None:
        """Not on behalf of a foreign page."""
        async with gateway() as g:
            cookie = await log_in(g)
            status, _, _ = await post(g, "/v1/logout", Origin="http://evil.example", Cookie=cookie)
            assert 403 == status
            status, _, headers = await post(g, "/v1/logout", Origin=g.url, Cookie=cookie)

            assert 204 == status
            assert "Max-Age=0" in headers["Set-Cookie"]

    @pytest.mark.parametrize(
        ("headers", "expected"), [({}, 401), (BEARER, 200), ({"Cookie": "x=y"}, 401)]
    )
    async def test_who_am_i(self, headers: dict[str, str], expected: int) -> None:
        """A program gets the same answer as the page."""
        async with gateway() as g:
            status, body, _ = await get(g, "/v1/me", **headers)

            assert expected == status
            assert expected != 200 or {"user": "users/dev"} == body

    async def test_a_ticket_needs_an_origin_with_a_cookie(self) -> None:
        """It is as good as a login."""
        async with gateway() as g:
            cookie = await log_in(g)
            assert 403 == (await post(g, "/v1/tickets", Cookie=cookie))[0]
            status, body, _ = await post(g, "/v1/tickets", Cookie=cookie, Origin=g.url)

            assert 200 == status
            assert {"ticket", "expireTime"} == set(body)

    @pytest.mark.parametrize("ahead", [-3600, 3600])
    async def test_it_ends_by_the_databases_time(self, ahead: int) -> None:
        """So that a gateway whose clock is an hour off makes what the others accept."""
        told = int(time.time()) + ahead
        async with gateway(database_time=told) as g, asyncio.timeout(15):
            life = 0.0
            while not 20 < life < 40:
                _, body, _ = await post(g, "/v1/tickets", **BEARER)
                life = datetime.fromisoformat(body["expireTime"]).timestamp() - told
            async with g.client.ws_connect(
                f"{g.url}/v1/ws", protocols=("moorline.v1", f"ticket.{body['ticket']}")
            ) as socket:
                assert not socket.closed

    @pytest.mark.parametrize("path", ["/v1/tickets", "/v1/me"])
    async def test_a_ticket_is_for_a_websocket_only(self, path: str) -> None:
        """One that could buy the next would never end."""
        async with gateway() as g:
            _, body, _ = await post(g, "/v1/tickets", **BEARER)
            offered = {"Sec-WebSocket-Protocol": f"moorline.v1, ticket.{body['ticket']}"}
            ask = get if path == "/v1/me" else post
            status, _, _ = await ask(g, path, **offered)

            assert 401 == status
            async with g.client.ws_connect(
                f"{g.url}/v1/ws", protocols=("moorline.v1", f"ticket.{body['ticket']}")
            ) as socket:
                assert not socket.closed


async def test_violations_of_the_policy_are_counted_and_not_repeated(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What a browser says is not logged, and not more than a few times that it said so."""
    caplog.set_level(logging.INFO)
    async with gateway() as g:
        for _ in range(12):
            status, _, _ = await post(g, "/v1/csp-report", '{"csp-report":"canary"}')
            assert 204 == status

    lines = [message for message in caplog.messages if "policy" in message]
    assert 10 == len(lines)
    assert "canary" not in caplog.text


async def test_strange_requests_are_no_bugs(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever stands in the address and in the headers that are read."""
    paths = (b"/v1/me", b"/?token=" + TOKEN.encode(), b"/v1/ws", b"/?token=%ff", b"/%", b"*")
    hosts = (b"[", b"a:b:c", b"x:99999", b"", b"\xff", b"a/b", b"x y", b"127.0.0.1:")
    async with gateway() as g:
        for path, host in itertools.product(paths, hosts):
            reader, writer = await asyncio.open_connection("127.0.0.1", g.port)
            writer.write(
                b"GET %b HTTP/1.1\r\nHost: %b\r\nOrigin: http://%b\r\nCookie: moorline-80=\xff\r\n"
                b"Authorization: Bearer \xff.\xff.\xff\r\nConnection: close\r\n\r\n"
                % (path, host, host)
            )
            status = (await reader.readline()).split(b" ")[1]
            assert status in {b"200", b"303", b"400", b"401", b"403", b"404", b"426"}
            writer.close()

    assert [] == [record for record in caplog.records if record.exc_info]
