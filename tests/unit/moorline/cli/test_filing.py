"""Tests of `moorline files`."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moorline.cli.invocation import Surroundings
from moorline.cli.main import run
from tests.unit.moorline.cli.conftest import Moorline
from tests.unit.moorline.scripted import Gateway
from tests.unit.moorline.scripted_files import Files, served
from tests.unit.moorline.scripted_platform import error


@pytest.fixture
def files(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    """The files of agent `one`."""
    with served(Files()) as files:
        files.join(gateway.platform)
        # The scripted gateway speaks nothing but WebSocket.
        monkeypatch.setattr(
            "moorline.async_files.server_url", lambda _: f"http://127.0.0.1:{files.port}"
        )
        yield files


async def test_files_are_listed(files: Files, moorline: Moorline) -> None:
    """What a terminal would act on is not shown; programs get it as it is."""
    files.files = {"a\x1b[31m.txt": b"12"}
    shown = await moorline("files", "ls", "one")
    told = (await moorline("files", "ls", "one", "-o", "json")).lines[0]

    assert "\x1b" not in shown.out
    assert ["src/", "link␤", "a[31m.txt"] == [
        line.split()[0] for line in shown.out.splitlines()[1:]
    ]
    assert "link␤ → /etc/passwd" in shown.out
    assert ["folder", "link", "file"] == [row["kind"] for row in told]
    assert ("a\x1b[31m.txt", 2, "e1") == (told[2]["path"], told[2]["size"], told[2]["etag"])


async def test_files_are_shown(files: Files, moorline: Moorline) -> None:
    """As text here, and in JSON whatever they are."""
    files.files = {"text": "한\x1b[2J\n".encode(), "binary": b"\xff"}
    shown = await moorline("files", "cat", "one", "text")
    text = await moorline("files", "cat", "one", "text", "-o", "json")
    binary = await moorline("files", "cat", "one", "binary", "-o", "json")

    assert "한[2J\n" == shown.out
    assert {"file": "text", "text": "한\x1b[2J\n"} == text.lines[0]
    assert {"file": "binary", "base64": "/w=="} == binary.lines[0]


async def test_bytes_go_out_as_they_are_when_no_person_looks(
    files: Files, environ: dict[str, str]
) -> None:
    """Into another program, or a file."""
    files.files = {"binary": b"\xff\x00\x1b"}
    raw = io.BytesIO()
    surroundings = Surroundings(
        stdin=io.StringIO(), stdout=io.TextIOWrapper(raw), stderr=io.StringIO(), environ=environ
    )
    arguments = ["files", "cat", "one", "binary"]

    assert 0 == await asyncio.to_thread(run, arguments, surroundings)
    assert b"\xff\x00\x1b" == raw.getvalue()


async def test_files_are_sent_and_saved(files: Files, moorline: Moorline, tmp_path: Path) -> None:
    """Whoever has not said where to finds them under the same name."""
    local = tmp_path / "local.txt"
    local.write_text("hello")
    put = await moorline("files", "put", "one", str(local))
    told = await moorline("files", "put", "one", str(local), "a/b", "--new", "-o", "json")
    got = await moorline("files", "get", "one", "a/b", str(tmp_path))
    saved = await moorline("files", "get", "one", "a/b", str(tmp_path / "c"), "-o", "json")
    packed = await moorline("files", "archive", "one", "a", "--to", str(tmp_path / "a.zip"))

    assert [0] * 5 == [one.code for one in (put, told, got, saved, packed)]
    assert "local.txt is there now (5 bytes)." in put.err
    assert ("a/b", "*") == (told.lines[0]["path"], files.requests[1][2]["If-None-Match"])
    assert "hello" == (tmp_path / "b").read_text() == (tmp_path / "c").read_text()
    assert {"saved": str(tmp_path / "c")} == saved.lines[0]
    assert b"PKa" == (tmp_path / "a.zip").read_bytes()


async def test_what_is_there_is_not_replaced_by_what_is_new(
    files: Files, moorline: Moorline, tmp_path: Path
) -> None:
    """And the person learns how it could be."""
    local = tmp_path / "local.txt"
    local.write_text("hello")
    files.refusal = (412, json.dumps({"error": error("RESOURCE_EXISTS")}).encode(), {})
    there = await moorline("files", "put", "one", str(local), "--new")
    files.refusal = (412, json.dumps({"error": error("ETAG_MISMATCH")}).encode(), {})
    other = await moorline("files", "put", "one", str(local))

    assert (1, True) == (there.code, "local.txt is there already" in there.err)
    assert (1, True) == (other.code, "changed meanwhile" in other.err)


async def test_trouble_with_local_files_is_told(
    files: Files, moorline: Moorline, tmp_path: Path
) -> None:
    """With the file, and the reason."""
    files.files = {"a": b""}
    put = await moorline("files", "put", "one", str(tmp_path / "none"))
    get = await moorline("files", "get", "one", "a", str(tmp_path / "no" / "folder"))

    assert (2, True) == (put.code, f"{tmp_path}/none: No such file" in put.err)
    assert (1, True) == (get.code, "No such file" in get.err)


async def test_files_are_deleted(files: Files, moorline: Moorline) -> None:
    """Several at once; what is missing ends it."""
    files.files = {"a": b"", "b": b"", "c": b""}
    done = await moorline("files", "rm", "one", "a", "b")
    missing = await moorline("files", "rm", "one", "x", "c")

    assert (0, {"c"}) == (done.code, set(files.files))
    assert "a is deleted." in done.err
    assert 2 == missing.code


async def test_changes_are_shown_as_a_patch(files: Files, moorline: Moorline) -> None:
    """With remarks for what has no text."""
    diff = "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-\x1b1\n+2\n"
    changes: list[dict[str, Any]] = [
        {"path": "x", "kind": "KIND_CHANGED", "diff": diff, "addedLines": 1},
        {"path": "new\n", "kind": "KIND_ADDED", "binary": True},
        {"path": "odd", "kind": "KIND_MOVED"},
    ]
    files.changes = {"changes": changes, "omittedFiles": 7}
    shown = await moorline("files", "diff", "one")
    told = await moorline("files", "diff", "one", "-o", "json")
    lines = await moorline("files", "diff", "one", "-o", "jsonl")

    assert shown.out.startswith(diff)
    assert "# new␤: new, no text to show\n" in shown.out
    assert "7 more" in shown.err
    assert 7 == told.lines[0]["omitted_files"]
    assert ["changed", "added", "unknown"] == [one["kind"] for one in told.lines[0]["changes"]]
    assert ["x", "new\n", "odd"] == [one["path"] for one in lines.lines]


async def test_agents_may_be_named_in_full(
    gateway: Gateway, files: Files, moorline: Moorline
) -> None:
    """By an administrator, for example."""
    await moorline("files", "ls", "users/bob/agents/x")
    await moorline("files", "ls", "one", "src")

    assert [("users/bob/agents/x", ""), ("users/ada/agents/one", "src")] == [
        (request["parent"], request["path"])
        for name, request in gateway.platform.calls
        if name == "listFiles" and not request["pageToken"]
    ]
