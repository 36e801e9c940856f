"""Tests of `services.executor.workspaces_api`, with the real server."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest

from moorline.executor.v1 import workspaces_pb2 as pb
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.executor.files import snapshots
from services.executor.workspaces_api import PART_BYTES
from tests.unit.executor.server import WORKSPACE, Server, reason

SERVICE = "/moorline.executor.v1.WorkspaceService/"


async def call(server: Server, method: str, **request: Any) -> Any:
    """Make a call about the workspace."""
    kind = getattr(pb, f"{method}Request")
    values = request if "name" in request else {"parent": WORKSPACE} | request
    return await server.call(SERVICE + method, kind(**values), getattr(pb, f"{method}Response"))


async def field(server: Server, method: str, **request: Any) -> str:
    """Make a call that is refused; the field that is wrong."""
    with pytest.raises(Failure) as caught:
        await call(server, method, **request)
    assert "FIELD_INVALID" == reason(caught)
    return str(caught.value.metadata["field"])


async def archive(server: Server, path: str = "") -> zipfile.ZipFile:
    """Pack a folder."""
    request = pb.ArchiveFilesRequest(parent=WORKSPACE, path=path)
    parts = server.stream(SERVICE + "ArchiveFiles", request, pb.ArchiveFilesResponse)
    return zipfile.ZipFile(io.BytesIO(b"".join([part.content async for part in parts])))


async def test_files_go_in_and_come_out(server: Server) -> None:
    """Written, read, listed, packed and deleted."""
    written = await call(server, "WriteFile", path="a/b.txt", content=b"content", executable=True)
    read = await call(server, "ReadFile", path="a/b.txt", offset=3, length=2)
    whole = await call(server, "ReadFile", path="a/b.txt")
    folder = await call(server, "ListFiles")
    listed = await call(server, "ListFiles", path="a", page_size=5000)
    packed = await archive(server)
    one = await archive(server, "a")
    await call(server, "DeleteFile", path="a")
    empty = await call(server, "ListFiles")

    assert written.file == read.file == whole.file == listed.files[0]
    assert (b"te", b"content") == (read.content, whole.content)
    assert written.file.executable
    assert [("a", pb.File.KIND_FOLDER)] == [(one.path, one.kind) for one in folder.files]
    assert ["a/", "a/b.txt"] == packed.namelist()
    assert ["b.txt"] == one.namelist()
    assert 0 == len(empty.files)


async def test_lists_have_pages(server: Server) -> None:
    """Of the size wanted."""
    for name in "abc":
        await call(server, "WriteFile", path=name)
    first = await call(server, "ListFiles", page_size=2)
    second = await call(server, "ListFiles", page_size=2, page_token=first.next_page_token)

    assert [["a", "b"], ["c"]] == [[one.path for one in page.files] for page in (first, second)]
    assert "" == second.next_page_token


async def test_files_come_in_parts(server: Server) -> None:
    """And are read in parts."""
    content = bytes(range(256)) * 1024 * 2
    parts = {"path": "large", "upload_id": "upload-1"}
    first = await call(server, "WriteFile", content=content[:PART_BYTES], more=True, **parts)
    second = await call(
        server, "WriteFile", content=content[PART_BYTES:], offset=PART_BYTES, **parts
    )
    read = [
        (await call(server, "ReadFile", path="large", offset=offset, length=10**9)).content
        for offset in range(0, len(content) + 1, PART_BYTES)
    ]

    assert (False, len(content)) == (first.HasField("file"), second.file.size)
    assert content == b"".join(read)


async def test_what_turns_did_is_told(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whoever asks, and right before the outcome."""
    monkeypatch.setattr(snapshots, "TAKE_SECONDS", 60.0)
    monkeypatch.setattr(snapshots, "COMPARE_SECONDS", 60.0)
    nothing = await call(server, "DiffFiles")
    await server.create("/sim write a.txt one")
    items = await server.items()
    changes = (await call(server, "DiffFiles")).changes

    assert not nothing.changes.changes
    assert ["a.txt"] == [one.path for one in changes.changes]
    assert transcript_pb2.FileChange.KIND_ADDED == changes.changes[0].kind
    assert changes == items[-2].file_changes


async def test_a_deleted_workspace_takes_nothing_any_more(server: Server) -> None:
    """Whoever was still on the way is told that it is gone."""
    await call(server, "WriteFile", path="a")
    await call(server, "DeleteWorkspace", name=WORKSPACE)
    with pytest.raises(Failure) as caught:
        await call(server, "WriteFile", path="a")

    assert "RESOURCE_NOT_FOUND" == reason(caught)
    assert not (server.root / "abcdefgh").exists()


@pytest.mark.parametrize(
    ("method", "request_", "wrong"),
    [
        ("ListFiles", {"parent": "workspaces/.."}, "parent"),
        ("ListFiles", {"parent": "users/ada/agents/a"}, "parent"),
        ("ListFiles", {"path": "../x"}, "path"),
        ("ListFiles", {"page_size": -1}, "page_size"),
        ("ListFiles", {"page_token": "x"}, "page_token"),
        ("ReadFile", {"path": ""}, "path"),
        ("ReadFile", {"path": "a", "offset": -1}, "offset"),
        ("ReadFile", {"path": "a", "offset": 0.5}, "offset"),
        ("ReadFile", {"path": "a", "offset": 2.0**60}, "offset"),
        ("ReadFile", {"path": "a", "offset": float("nan")}, "offset"),
        ("ReadFile", {"path": "a", "offset": float("inf")}, "offset"),
        ("ReadFile", {"path": "a", "length": -1}, "length"),
        ("WriteFile", {"path": "a/../b"}, "path"),
        ("WriteFile", {"path": "a", "content": b"x" * (PART_BYTES + 1)}, "content"),
        ("WriteFile", {"path": "a", "upload_id": "short"}, "upload_id"),
        ("WriteFile", {"path": "a", "more": True}, "upload_id"),
        ("WriteFile", {"path": "a", "offset": 4}, "upload_id"),
        ("WriteFile", {"path": "a", "upload_id": "upload-1", "offset": 4}, "offset"),
        ("DeleteFile", {"path": ""}, "path"),
        ("DeleteFile", {"path": "."}, "path"),
        ("DiffFiles", {"parent": ""}, "parent"),
        ("DeleteWorkspace", {"name": "workspaces/x"}, "name"),
        ("RestoreTranscript", {"name": "workspaces/x"}, "name"),
    ],
)
async def test_bad_requests_are_refused(
    server: Server, method: str, request_: dict[str, Any], wrong: str
) -> None:
    """The error names the field."""
    assert wrong == await field(server, method, **request_)


async def test_bad_paths_of_archives_are_refused(server: Server) -> None:
    """Before anything is packed."""
    with pytest.raises(Failure) as bad:
        await archive(server, "../x")
    with pytest.raises(Failure) as missing:
        await archive(server, "none")

    assert ["FIELD_INVALID", "RESOURCE_NOT_FOUND"] == [reason(bad), reason(missing)]


async def test_a_workspace_that_never_was_is_an_empty_archive(server: Server) -> None:
    """As it is an empty list."""
    assert [] == (await archive(server)).namelist()


async def test_transcripts_are_restored(server: Server) -> None:
    """Where the agent's program looks for them."""
    await call(
        server,
        "RestoreTranscript",
        name=WORKSPACE,
        conversation="c1",
        entries=['{"uuid":"u1"}', '{"uuid":"u2"}'],
    )
    found = list((server.root / "abcdefgh" / "state").rglob("c1.jsonl"))

    assert found
    assert '{"uuid":"u1"}\n{"uuid":"u2"}\n' == found[0].read_text()
