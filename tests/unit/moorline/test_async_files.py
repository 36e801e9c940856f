"""Tests of `moorline.async_files`, `sync_files`, `files` and `transfers`."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import moorline
from moorline import async_files, transfers
from moorline.address import server_url
from tests.unit.moorline.scripted import Gateway
from tests.unit.moorline.scripted_files import Files, served
from tests.unit.moorline.scripted_platform import TOKEN, error, until


@pytest.fixture
def files(gateway: Gateway) -> Iterator[Files]:
    """The files of agent `one`."""
    with served(Files()) as files:
        files.join(gateway.platform)
        yield files


@pytest.fixture
async def mine(client: moorline.AsyncClient, files: Files) -> moorline.AsyncFiles:
    """The same, of a client."""
    agent = await client.agents.create(agent_id="one")
    client.connection.url = f"ws://127.0.0.1:{files.port}/v1/ws"
    return agent.files


def names(folder: Path) -> list[str]:
    """What is in a local folder."""
    return [path.name for path in folder.iterdir()]


class TestCalls:
    """What goes over the socket."""

    async def test_a_folder_is_listed_page_by_page(
        self, files: Files, mine: moorline.AsyncFiles
    ) -> None:
        """With what each thing is."""
        files.files = {"a/b.txt": b"12", "c": b""}
        folder, link, first, second = await mine.list()

        assert (moorline.FileKind.FOLDER, "src") == (folder.kind, folder.path)
        assert (moorline.FileKind.LINK, "/etc/\x1bpasswd") == (link.kind, link.target)
        assert ("b.txt", 2, "e1", 2026) == (
            first.name,
            first.size,
            first.etag,
            first.update_time.year,
        )
        assert moorline.FileKind.FILE == second.kind
        assert (folder, link, first) == await mine.list(limit=3)

    @pytest.mark.parametrize("size", [0, 1, async_files.PART_BYTES, 2 * async_files.PART_BYTES + 1])
    async def test_files_are_written_and_read_whole(
        self, gateway: Gateway, files: Files, mine: moorline.AsyncFiles, size: int
    ) -> None:
        """In parts, when one frame could not hold them."""
        content = os.urandom(size)
        written = await mine.write("a", content)
        parts = [one for name, one in gateway.platform.calls if name == "writeFile"]

        assert (size, content) == (written.size, files.files["a"])
        assert content == await mine.read("a")
        assert max(1, -(-size // async_files.PART_BYTES)) == len(parts)
        assert (len(parts) > 1) == ("uploadId" in parts[0])

    async def test_text_is_utf_8(self, files: Files, mine: moorline.AsyncFiles) -> None:
        """As nearly all files are."""
        await mine.write("a", "한글", executable=True)

        assert "한글".encode() == files.files["a"]

    async def test_what_is_there_can_be_a_reason_not_to_write(
        self, mine: moorline.AsyncFiles
    ) -> None:
        """With the exception for that."""
        await mine.write("a", "1")
        with pytest.raises(moorline.ConflictError):
            await mine.write("a", "2", create_only=True)

    async def test_a_file_that_changes_while_it_is_read_is_refused(
        self, gateway: Gateway, files: Files, mine: moorline.AsyncFiles
    ) -> None:
        """Two halves of two files are none."""
        files.files["a"] = b"1" * (2 * async_files.PART_BYTES)
        read = files.read_file

        def changing(request: dict[str, object]) -> dict[str, object]:
            files.etags["a"] = f"e{request['offset']}"
            return read(request)

        gateway.platform.do_read_file = changing  # type: ignore[attr-defined]
        with pytest.raises(moorline.ConflictError):
            await mine.read("a")

    async def test_files_are_deleted_once(self, files: Files, mine: moorline.AsyncFiles) -> None:
        """The second time is told."""
        files.files["a"] = b""
        await mine.delete("a")
        with pytest.raises(moorline.NotFoundError):
            await mine.delete("a")

    async def test_changes_are_told(self, files: Files, mine: moorline.AsyncFiles) -> None:
        """With how many more there are."""
        assert moorline.WorkspaceChanges() == await mine.diff()
        files.changes = {
            "changes": [{"path": "a", "kind": "KIND_ADDED", "addedLines": 3, "diff": "+"}],
            "omittedFiles": 2,
        }
        found = await mine.diff()

        assert ("a", moorline.ChangeKind.ADDED, 3) == (
            found.changes[0].path,
            found.changes[0].kind,
            found.changes[0].added_lines,
        )
        assert 2 == found.omitted_files


class TestTransfers:
    """What goes over HTTP."""

    async def test_files_go_there_and_back(
        self, files: Files, mine: moorline.AsyncFiles, tmp_path: Path
    ) -> None:
        """Under the names wanted, with the proof of who asks."""
        local = tmp_path / "100% local?.bin"
        content = os.urandom(1_000_000)
        local.write_bytes(content)
        sent = await mine.upload(local)
        saved = await mine.download(local.name, tmp_path / "back")
        again = await mine.upload(str(local), "a/한글#x", etag="e1", create_only=True)
        method, path, headers = files.requests[-1]

        assert ("100% local?.bin", 1_000_000, "a/한글#x") == (sent.path, sent.size, again.path)
        assert content == saved.read_bytes() == files.files["a/한글#x"]
        assert ("PUT", "/v1/agents/one/files/a/%ED%95%9C%EA%B8%80%23x") == (method, path)
        assert ('"e1"', "*") == (headers["If-Match"], headers["If-None-Match"])
        assert f"Bearer {TOKEN}" == headers["Authorization"]

    async def test_programs_stay_programs(
        self, files: Files, mine: moorline.AsyncFiles, tmp_path: Path
    ) -> None:
        """When they are executable here."""
        local = tmp_path / "run.sh"
        local.write_text("x")
        local.chmod(0o755)
        await mine.upload(local)

        assert files.requests[-1][1].endswith("run.sh?executable=true")

    async def test_archives_are_saved_where_wanted(
        self, mine: moorline.AsyncFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file, a folder, or here."""
        monkeypatch.chdir(tmp_path)
        (tmp_path / "folder").mkdir()
        whole = await mine.archive()
        part = await mine.archive(tmp_path / "folder", "a/src")
        named = await mine.archive("x.zip", "a b")

        assert (Path("one.zip"), tmp_path / "folder" / "src.zip", Path("x.zip")) == (
            whole,
            part,
            named,
        )
        assert [b"PK", b"PKa/src", b"PKa b"] == [one.read_bytes() for one in (whole, part, named)]

    async def test_what_is_refused_leaves_nothing(
        self, files: Files, mine: moorline.AsyncFiles, tmp_path: Path
    ) -> None:
        """And what was there before stays."""
        (tmp_path / "old").write_text("old")
        with pytest.raises(moorline.NotFoundError):
            await mine.download("missing", tmp_path / "old")
        files.refusal = (413, json.dumps({"error": error("QUEUE_FULL")}).encode(), {})
        with pytest.raises(moorline.RateLimitedError):
            await mine.upload(tmp_path / "old")
        files.refusal = (502, b"<html>", {})
        with pytest.raises(moorline.ConnectionLostError):
            await mine.download("x", tmp_path / "old")
        files.refusal = (302, b"", {"Location": "http://127.0.0.1:1/elsewhere"})
        with pytest.raises(moorline.ProtocolError):
            await mine.download("x", tmp_path / "old")

        assert ["old"] == names(tmp_path)
        assert "old" == (tmp_path / "old").read_text()

    async def test_half_a_file_is_none(
        self, files: Files, mine: moorline.AsyncFiles, tmp_path: Path
    ) -> None:
        """Nor is one whose server is gone."""
        files.files["a"] = b"1" * 1_000_000
        files.cut = True
        with pytest.raises(moorline.ConnectionLostError):
            await mine.download("a", tmp_path / "a")
        (tmp_path / "b").write_text("x")
        with pytest.raises(moorline.MoorlineError):
            await mine.upload(tmp_path / "b")
        mine._connection.url = "ws://127.0.0.1:1/v1/ws"
        with pytest.raises(moorline.ConnectionLostError):
            await mine.download("a", tmp_path / "a")

        assert not (tmp_path / "a").exists()

    async def test_a_transfer_that_nobody_waits_for_ends(
        self,
        files: Files,
        mine: moorline.AsyncFiles,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """And leaves nothing."""
        monkeypatch.setattr(transfers, "_PIECE_BYTES", 1)
        files.files["a"] = b"1" * 3_000_000
        task = asyncio.create_task(mine.download("a", tmp_path / "a"))
        await until(lambda: files.requests)
        task.cancel()
        await asyncio.wait([task])
        await until(lambda: not names(tmp_path))

    async def test_local_files_are_the_callers_business(
        self, mine: moorline.AsyncFiles, tmp_path: Path
    ) -> None:
        """With the exceptions that Python has for them."""
        with pytest.raises(FileNotFoundError):
            await mine.upload(tmp_path / "none")
        await mine.write("a", "x")
        with pytest.raises(OSError, match="directory"):
            await mine.download("a", tmp_path / "no" / "such" / "folder")


async def test_the_synchronous_client_has_the_same(
    gateway: Gateway, files: Files, tmp_path: Path
) -> None:
    """Under the same names."""

    def program() -> None:
        with moorline.Client(gateway.url, TOKEN, environ={}) as client:
            mine = client.agents.create(agent_id="one").files
            client._twin.connection.url = f"ws://127.0.0.1:{files.port}/v1/ws"
            assert "a" == mine.write("a", b"1").path
            assert b"1" == mine.read("a")
            assert 3 == len(mine.list())
            assert moorline.WorkspaceChanges() == mine.diff()
            saved = mine.download("a", tmp_path)
            assert "b" == mine.upload(saved, "b").path
            assert (tmp_path / "one.zip") == mine.archive(tmp_path)
            mine.delete("a")

    await asyncio.to_thread(program)

    assert {"b"} == set(files.files)


def test_the_servers_address_is_that_of_its_socket() -> None:
    """With the path that a proxy may have put before it."""
    assert "https://a.example:8443/base" == server_url("wss://a.example:8443/base/v1/ws")
    assert "http://[::1]:80" == server_url("ws://[::1]:80/v1/ws")
