"""Tests of `services.gateway.file_routes`, over HTTP."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from services.gateway import file_routes
from services.gateway.application import CONTENT_SECURITY_POLICY
from services.gateway.settings import Authentication
from tests.unit.gateway.executor_api import WORKSPACE, fake_executor
from tests.unit.gateway.fake_pods import failure
from tests.unit.gateway.fakes import until
from tests.unit.gateway.running import BEARER, TOKEN, gateway
from tests.unit.gateway.session_api import SECRET
from tests.unit.gateway.transferring import (
    AGENT,
    ARCHIVE,
    FILES,
    PART,
    Setting,
    transferring,
)


@pytest.fixture
async def s() -> AsyncIterator[Setting]:
    """A gateway and an executor."""
    async with transferring() as setting:
        yield setting


class TestDownload:
    """`GET /v1/agents/{agent}/files/{path}`."""

    @pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 3 * PART])
    async def test_files_of_all_sizes_come_whole(self, s: Setting, size: int) -> None:
        """Part by part."""
        s.executor.files["a/b.bin"] = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        status, body, headers = await s.ask("GET", FILES + "a/b.bin")

        assert (200, s.executor.files["a/b.bin"]) == (status, body)
        assert (str(size), '"e1"') == (headers["Content-Length"], headers["ETag"])
        assert max(1, -(-size // PART)) == len(s.executor.asked)

    async def test_no_file_is_shown_as_a_page_of_ours(self, s: Setting) -> None:
        """Whatever it says it is: a browser saves it, and lets it do nothing."""
        s.executor.files["evil.html"] = b"<script>alert(1)</script>"
        _, _, headers = await s.ask("GET", FILES + "evil.html")

        assert "application/octet-stream" == headers["Content-Type"]
        assert headers["Content-Disposition"].startswith("attachment;")
        assert "nosniff" == headers["X-Content-Type-Options"]
        assert headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
        assert "private, no-store" == headers["Cache-Control"]
        _, _, others = await s.ask("GET", FILES + "missing")
        assert CONTENT_SECURITY_POLICY == others["Content-Security-Policy"]

    @pytest.mark.parametrize(
        ("path", "name", "header"),
        [
            ("a/b.txt", "a/b.txt", "attachment; filename=\"b.txt\"; filename*=UTF-8''b.txt"),
            ("%ED%95%9C", "한", "attachment; filename=\"_\"; filename*=UTF-8''%ED%95%9C"),
            ("a%22b%0d%0aX%3A1", 'a"b\r\nX:1', None),
            ("a%2Fb", "a/b", None),
            ("100%25", "100%", None),
        ],
    )
    async def test_names_are_those_of_the_workspace(
        self, s: Setting, path: str, name: str, header: str | None
    ) -> None:
        """In the address, and in the header that names the file for a browser."""
        s.executor.files[name] = b"1"
        status, body, headers = await s.ask("GET", FILES + path)

        assert (200, b"1") == (status, body)
        assert header in (None, headers["Content-Disposition"])
        assert "X" not in headers

    async def test_a_file_that_changes_meanwhile_is_cut(self, s: Setting) -> None:
        """Two halves of two files would look whole."""
        s.executor.files["a"] = b"1" * (2 * PART)
        real = s.executor.note

        def note(method: str, request: Any) -> None:
            real(method, request)
            s.executor.etags["a"] = "e2" if request.offset else "e1"

        s.executor.note = note  # type: ignore[method-assign]
        with pytest.raises(aiohttp.ClientError):
            await s.ask("GET", FILES + "a")

    async def test_nobodys_files_are_not_found(self, s: Setting) -> None:
        """Nor is what is no file; all in the same words."""
        s.executor.files["x"] = b"1"
        s.gateway.session.places["users/bob/agents/b"] = (WORKSPACE, s.executor.target)
        answers = [
            await s.ask("GET", path)
            for path in (FILES + "missing", "/v1/agents/b/files/x", "/v1/agents/none/files/x")
        ]

        assert {404} == {status for status, _, _ in answers}
        assert 1 == len({str(body) for _, body, _ in answers})

    async def test_who_asks_is_who_is_answered(self, s: Setting) -> None:
        """By whatever proof; without one nobody is."""
        s.executor.files["x"] = b"1"
        s.gateway.session.places["users/ada/agents/a"] = (WORKSPACE, s.executor.target)
        key, _, _ = await s.ask("GET", FILES + "x", Authorization=f"Bearer {SECRET}")
        nobody, _, _ = await s.ask("GET", FILES + "x", Authorization="")
        cookie, _, _ = await s.ask("GET", FILES + "x", Authorization="", Cookie=await s.cookie())

        assert (200, 401, 200) == (key, nobody, cookie)
        assert ["users/ada", "users/dev"] == [who.user for _, _, who in s.executor.asked]

    async def test_an_executor_that_is_away_is_unavailable(self, s: Setting) -> None:
        """For the moment."""
        s.gateway.session.places[AGENT] = (WORKSPACE, "127.0.0.1:1")
        status, body, headers = await s.ask("GET", FILES + "x")

        assert (503, "executor") == (status, body["error"]["metadata"]["service"])
        assert headers["Retry-After"]

    async def test_only_so_many_at_once(self, s: Setting) -> None:
        """Of one user; those that end make room."""
        s.executor.files["x"] = b"1" * (PART * 40)
        url = s.gateway.url + FILES + "x"
        held = [await s.gateway.client.get(url, headers=BEARER) for _ in range(6)]
        status, body, _ = await s.ask("GET", FILES + "x")
        for response in held:
            response.close()
        for _ in range(100):
            again, _, _ = await s.ask("GET", FILES + "x")
            if again == 200:
                break
            await asyncio.sleep(0.02)

        assert (429, "transfers") == (status, body["error"]["metadata"]["limitName"])
        assert 200 == again

    async def test_a_client_that_does_not_read_is_left(
        self, s: Setting, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """After a while."""
        caplog.set_level(logging.INFO)
        monkeypatch.setattr(file_routes, "PART_SECONDS", 0.1)
        s.executor.files["x"] = b"1" * (PART * 40)
        reader, writer = await asyncio.open_connection("127.0.0.1", s.gateway.port, limit=1024)
        writer.write(
            f"GET {FILES}x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
        )
        await reader.readline()
        await until(lambda: "request" in caplog.messages)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(PART * 40)
        writer.close()

    async def test_only_known_methods(self, s: Setting) -> None:
        """The answer says which."""
        status, _, headers = await s.ask("DELETE", FILES + "x")

        assert (405, {"GET", "HEAD", "PUT"}) == (status, set(headers["Allow"].split(",")))


class TestUpload:
    """`PUT /v1/agents/{agent}/files/{path}`."""

    @pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 3 * PART + 7])
    async def test_files_of_all_sizes_arrive_whole(self, s: Setting, size: int) -> None:
        """Part by part, the last one known to be the last."""
        content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        status, body, _ = await s.ask("PUT", FILES + "a/b.bin", content)
        asked = [request for _, request, _ in s.executor.asked]

        assert (200, "a/b.bin", content) == (status, body["path"], s.executor.files["a/b.bin"])
        assert max(1, -(-size // PART)) == len(asked)
        assert [True] * (len(asked) - 1) + [False] == [one.more for one in asked]
        assert all(PART >= len(one.content) for one in asked)
        assert (1 < len(asked)) == bool(asked[0].upload_id)
        assert 1 == len({one.upload_id for one in asked})

    async def test_terms_are_passed_on(self, s: Setting) -> None:
        """As HTTP has them."""
        await s.ask("PUT", FILES + "a?executable=true", b"1", If_Match='"e1"')
        await s.ask("PUT", FILES + "a", b"1", If_None_Match="*")
        first, second = (request for _, request, _ in s.executor.asked)

        assert ("e1", False, True) == (first.etag, first.create_only, first.executable)
        assert ("", True, False) == (second.etag, second.create_only, second.executable)

    @pytest.mark.parametrize("header", ['""', "e1", '"a", "b"', "*", 'W/"e1"'])
    async def test_etags_that_are_none_are_refused(self, s: Setting, header: str) -> None:
        """Whoever sends one means something by it."""
        status, body, _ = await s.ask("PUT", FILES + "a", b"1", If_Match=header)

        assert (400, "If-Match") == (status, body["error"]["metadata"]["field"])

    @pytest.mark.parametrize(
        ("reason", "status"),
        [
            ("ETAG_MISMATCH", 412),
            ("RESOURCE_EXISTS", 412),
            ("QUOTA_EXCEEDED", 413),
            ("FILE_UNSUITABLE", 409),
            ("FIELD_INVALID", 400),
        ],
    )
    async def test_refusals_have_the_status_that_goes_with_them(
        self, s: Setting, reason: str, status: int
    ) -> None:
        """With what the executor said."""
        s.executor.refusals["WriteFile"] = failure(reason)
        answer, body, _ = await s.ask("PUT", FILES + "a", b"1" * (3 * PART))

        assert (status, f"ERROR_REASON_{reason}") == (answer, body["error"]["reason"])
        assert {} == s.executor.files

    async def test_a_page_of_another_site_cannot(self, s: Setting) -> None:
        """A cookie counts with the origin of our own page only."""
        cookie = await s.cookie()
        own = f"http://127.0.0.1:{s.gateway.port}"
        proofs = [
            {"Authorization": "", "Cookie": cookie},
            {"Authorization": "", "Cookie": cookie, "Origin": "https://evil.example"},
            {"Authorization": "", "Cookie": cookie, "Origin": own},
        ]
        answers = [(await s.ask("PUT", FILES + "a", b"1", **proof))[0] for proof in proofs]

        assert [403, 403, 200] == answers

    async def test_a_body_that_does_not_come_is_not_waited_for(
        self, s: Setting, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nor is one that ends in the middle taken for a file."""
        monkeypatch.setattr(file_routes, "PART_SECONDS", 0.1)
        head = (
            f"PUT {FILES}x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
            "Content-Length: 100\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", s.gateway.port)
        writer.write(f"{head}some".encode())
        assert b"408" in await reader.readline()
        writer.close()
        monkeypatch.setattr(file_routes, "PART_SECONDS", 5)
        reader, writer = await asyncio.open_connection("127.0.0.1", s.gateway.port)
        writer.write(f"{head}some".encode())
        writer.write_eof()
        await reader.read()
        writer.close()

        assert {} == s.executor.files

    async def test_bodies_may_be_larger_than_those_of_other_routes(self, s: Setting) -> None:
        """And nothing of them waits in memory."""
        status, _, _ = await s.ask("PUT", FILES + "a", io.BytesIO(b"x" * 2_000_000))

        assert 200 == status

    async def test_foreign_agents_are_not_found(self, s: Setting) -> None:
        """Before anything of the body is looked at."""
        s.gateway.session.places["users/bob/agents/b"] = (WORKSPACE, s.executor.target)
        foreign = await s.ask("PUT", "/v1/agents/b/files/x", b"1")
        missing = await s.ask("PUT", "/v1/agents/none/files/x", b"1")

        assert (404, foreign[1]) == (foreign[0], missing[1])
        assert [] == s.executor.asked


class TestArchive:
    """`GET /v1/agents/{agent}/archive`."""

    async def test_it_comes_part_by_part(self, s: Setting) -> None:
        """Named after the agent, or the folder."""
        s.executor.archive = [b"PK", b"", b"x" * 300_000]
        status, body, headers = await s.ask("GET", ARCHIVE)
        _, _, folder = await s.ask("GET", ARCHIVE + "?path=a/src")

        assert (200, b"PK" + b"x" * 300_000) == (status, body)
        assert "application/zip" == headers["Content-Type"]
        assert 'filename="a.zip"' in headers["Content-Disposition"]
        assert 'filename="src.zip"' in folder["Content-Disposition"]
        assert headers["Content-Security-Policy"].startswith("sandbox")
        assert ["", "a/src"] == [request.path for _, request, _ in s.executor.asked]

    async def test_an_empty_one_is_one(self, s: Setting) -> None:
        """It has no parts."""
        status, body, _ = await s.ask("GET", ARCHIVE)

        assert (200, b"") == (status, body)

    async def test_what_fails_at_first_has_a_status(self, s: Setting) -> None:
        """And what fails later cuts the connection."""
        s.executor.refusals["ArchiveFiles"] = failure("FILE_UNSUITABLE")
        status, body, _ = await s.ask("GET", ARCHIVE)
        s.executor.refusals = {"end": failure("SERVICE_UNAVAILABLE")}
        s.executor.archive = [b"PK"]

        assert (409, "ERROR_REASON_FILE_UNSUITABLE") == (status, body["error"]["reason"])
        with pytest.raises(aiohttp.ClientError):
            await s.ask("GET", ARCHIVE)

    async def test_a_client_that_leaves_ends_it(self, s: Setting) -> None:
        """At the executor too."""
        s.executor.archive = [b"x" * 100_000 for _ in range(1000)]
        response = await s.gateway.client.get(s.gateway.url + ARCHIVE, headers=BEARER)
        await response.content.readexactly(10)
        response.close()
        for _ in range(200):
            if s.executor.closed:
                break
            await asyncio.sleep(0.02)

        assert 1 == s.executor.closed


async def test_keys_alone_are_enough() -> None:
    """Where nobody is a developer."""
    async with (
        fake_executor() as executor,
        gateway(auth=Authentication.KEYS, development_token="") as running,
    ):
        running.session.places["users/ada/agents/a"] = (WORKSPACE, executor.target)
        s = Setting(running, executor)
        status, _, _ = await s.ask("PUT", FILES + "x", b"1", Authorization=f"Bearer {SECRET}")
        refused, _, _ = await s.ask("PUT", FILES + "x", b"1")

        assert (200, 401) == (status, refused)
