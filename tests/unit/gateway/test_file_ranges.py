"""Tests of parts of files, and of questions about them, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.gateway.transferring import FILES, PART, Setting, transferring


@pytest.fixture
async def s() -> AsyncIterator[Setting]:
    """A gateway and an executor."""
    async with transferring() as setting:
        yield setting


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        (f"bytes={PART + 5}-", PART + 5, 2 * PART - 1),
        ("bytes=-7", 2 * PART - 7, 2 * PART - 1),
        (f"bytes=9-{9 * PART}", 9, 2 * PART - 1),
    ],
)
async def test_a_download_goes_on_where_it_broke(
    s: Setting, asked: str, first: int, last: int
) -> None:
    """With just the bytes asked for, of the same file."""
    s.executor.files["a"] = content = bytes(range(256)) * (PART // 128)
    status, body, headers = await s.ask("GET", FILES + "a", Range=asked, If_Range='"e1"')

    assert (206, content[first : last + 1]) == (status, body)
    assert f"bytes {first}-{last}/{len(content)}" == headers["Content-Range"]


@pytest.mark.parametrize(
    ("asked", "etag"),
    [("bytes=1-", '"e0"'), ("bytes=0-1,3-4", '"e1"'), ("bytes=-", '"e1"'), ("x", '"e1"')],
)
async def test_a_range_that_means_nothing_is_not_heeded(s: Setting, asked: str, etag: str) -> None:
    """Nor is one of another state of the file; the whole of it is never wrong."""
    s.executor.files["a"] = b"whole"
    status, body, _ = await s.ask("GET", FILES + "a", Range=asked, If_Range=etag)

    assert (200, b"whole") == (status, body)


async def test_a_range_beyond_the_end_is_refused(s: Setting) -> None:
    """With how many bytes there are."""
    s.executor.files["a"] = b"12345"
    status, _, headers = await s.ask("GET", FILES + "a", Range="bytes=5-")

    assert (416, "bytes */5") == (status, headers["Content-Range"])


async def test_a_file_can_be_asked_about(s: Setting) -> None:
    """`HEAD` tells its size and state, and sends and reads nothing of it."""
    s.executor.files["a"] = b"x" * (2 * PART)
    status, body, headers = await s.ask("HEAD", FILES + "a")
    missing, _, _ = await s.ask("HEAD", FILES + "missing")

    assert (200, b"", 404) == (status, body, missing)
    assert (str(2 * PART), '"e1"') == (headers["Content-Length"], headers["ETag"])
    assert [1, 1] == [request.length for _, request, _ in s.executor.asked]
