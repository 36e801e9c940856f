"""An agent's files through the three real services: client, command and HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

import moorline
from tests.system.conftest import key_for
from tests.system.stack import ROOT, Stack
from tests.system.wire import Transcript, Wire, follow


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[moorline.AsyncClient]:
    """A connected client of the development user."""
    async with moorline.AsyncClient(stack.url, stack.token, environ={}) as client:
        yield client


async def work(agent: moorline.AsyncAgent, prompt: str) -> list[moorline.AsyncEvent]:
    """Run a turn; its events."""
    async with agent.run(prompt) as stream:
        return [event async for event in stream]


async def new_agent(client: moorline.AsyncClient) -> moorline.AsyncAgent:
    """An agent that asks nobody."""
    return await client.agents.create(permission_mode="accept-all")


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def folder_of(stack: Stack) -> Path:
    """Where the files of the newest workspace are on the disk."""
    found = [path for path in (stack.data / "workspaces").iterdir() if (path / "files").is_dir()]
    return max(found, key=lambda path: path.stat().st_ctime_ns) / "files"


async def test_what_an_agent_writes_is_seen_and_compared(client: moorline.AsyncClient) -> None:
    """While the turn is remembered, in the history, and by whoever asks afterwards."""
    agent = await new_agent(client)
    assert () == await agent.files.list()
    await work(agent, "/sim write src/a.txt one\n/sim write b.txt two")
    events = await work(agent, "/sim write src/a.txt changed\n/sim write new.txt three")
    told = [event for event in events if isinstance(event, moorline.FilesChanged)]
    listed = await agent.files.list()
    found = await agent.files.diff()

    assert ["src", "b.txt", "new.txt"] == [file.path for file in listed]
    assert b"changed" == await agent.files.read("src/a.txt")
    assert [
        ("new.txt", moorline.ChangeKind.ADDED, 1, 0),
        ("src/a.txt", moorline.ChangeKind.CHANGED, 1, 1),
    ] == [(one.path, one.kind, one.added_lines, one.removed_lines) for one in found.changes]
    assert [found.changes] == [event.changes for event in told]
    assert isinstance(events[-2], moorline.FilesChanged)


async def test_a_turn_that_changes_nothing_tells_of_nothing(client: moorline.AsyncClient) -> None:
    """Nor does one that only writes what was there."""
    agent = await new_agent(client)
    for prompt in ("/sim say hello", "/sim write a.txt x", "/sim write a.txt x"):
        events = await work(agent, prompt)
    assert [] == [event for event in events if isinstance(event, moorline.FilesChanged)]


async def test_files_go_in_and_come_out(client: moorline.AsyncClient, tmp_path: Path) -> None:
    """Large ones too, as they are, and before the agent has ever run."""
    agent = await new_agent(client)
    large = os.urandom(3_000_000)
    (tmp_path / "large.bin").write_bytes(large)
    sent = await agent.files.upload(tmp_path / "large.bin", "in/large.bin")
    small = await agent.files.write("run.sh", "#!/bin/sh\n", executable=True)
    await work(agent, "/sim write out.txt done")
    saved = await agent.files.download("in/large.bin", tmp_path / "back.bin")
    packed = await agent.files.archive(tmp_path)

    assert (len(large), True) == (sent.size, small.executable)
    assert large == saved.read_bytes() == await agent.files.read("in/large.bin")
    with zipfile.ZipFile(packed) as archive:
        assert {"in/", "in/large.bin", "run.sh", "out.txt"} == set(archive.namelist())
        assert large == archive.read("in/large.bin")
    await agent.files.delete("in")
    with pytest.raises(moorline.NotFoundError):
        await agent.files.read("in/large.bin")
    with pytest.raises(moorline.ConflictError):
        await agent.files.write("run.sh", "x", create_only=True)
    with pytest.raises(moorline.ConflictError):
        await agent.files.write("run.sh", "x", etag="other")
    await agent.files.write("run.sh", "x", etag=small.etag)


@pytest.mark.timeout(60)
async def test_large_files_do_not_wait_in_memory(
    stack: Stack, client: moorline.AsyncClient, tmp_path: Path
) -> None:
    """Neither on their way in nor out."""
    agent = await new_agent(client)
    with (tmp_path / "large").open("wb") as file:
        file.truncate(64 << 20)
    await agent.files.write("warm/up", b"x" * 1_000_000)
    before = {name: stack.resident_bytes(name) for name in ("gateway", "executor")}
    await agent.files.upload(tmp_path / "large")
    await agent.files.download("large", tmp_path / "back")
    await agent.files.archive(tmp_path / "a.zip")

    assert 64 << 20 == (tmp_path / "back").stat().st_size
    for name, size in before.items():
        assert size + (40 << 20) > stack.resident_bytes(name)
        assert (256 << 20) > stack.resident_bytes(name)


async def test_hostile_links_lead_nowhere(
    stack: Stack, client: moorline.AsyncClient, tmp_path: Path
) -> None:
    """Whatever an agent puts into its folder: listed, and neither read, written nor packed."""
    secret = tmp_path / "secret"
    secret.write_text("the host's")
    agent = await new_agent(client)
    await work(agent, "/sim write a.txt x")
    files = folder_of(stack)
    (files / "file").symlink_to(secret)
    (files / "folder").symlink_to(tmp_path)
    (files / "host").symlink_to("/")
    os.mkfifo(files / "pipe")
    kinds = {file.path: file.kind for file in await agent.files.list()}

    assert {moorline.FileKind.LINK} == {kinds[name] for name in ("file", "folder", "host")}
    assert moorline.FileKind.OTHER == kinds["pipe"]
    for path in ("file", "folder/secret", "host/etc/passwd", "pipe"):
        with pytest.raises(moorline.ConflictError):
            await agent.files.read(path)
        with pytest.raises(moorline.ConflictError):
            await agent.files.download(path, tmp_path / "saved")
    for path in ("file", "folder/secret", "folder/new"):
        with pytest.raises(moorline.ConflictError):
            await agent.files.write(path, "mine")
        with pytest.raises((moorline.ConflictError, moorline.NotFoundError)):
            await agent.files.delete(f"{path}/x")
    for path in ("../../secret", "/etc/passwd", "a//b", "."):
        with pytest.raises(moorline.InvalidRequestError):
            await agent.files.read(path)
    with zipfile.ZipFile(await agent.files.archive(tmp_path / "a.zip")) as archive:
        assert ["a.txt"] == archive.namelist()
    changed = await agent.files.diff()
    assert "the host's" not in str(changed)
    await agent.files.delete("folder")

    assert "the host's" == secret.read_text()
    assert ["a.zip", "secret"] == names(tmp_path)


async def test_a_deleted_agent_has_no_files(stack: Stack, client: moorline.AsyncClient) -> None:
    """Neither for its user, nor on the disk."""
    agent = await new_agent(client)
    await work(agent, "/sim write a.txt x")
    files = folder_of(stack)
    await agent.delete()
    for act in (agent.files.list(), agent.files.read("a.txt"), agent.files.write("b.txt", "x")):
        with pytest.raises(moorline.NotFoundError):
            await act
    async with asyncio.timeout(10):
        while files.parent.exists():  # noqa: ASYNC110 - another process's work
            await asyncio.sleep(0.02)


async def test_files_of_others_are_not_found_over_http(stack: Stack, wire: Wire) -> None:
    """Byte for byte like those of agents that do not exist."""
    agent = await wire.agent(permissionMode="PERMISSION_MODE_ACCEPT_ALL")
    turn = await wire.prompt(agent, "/sim write a.txt x")
    await follow(wire, agent, Transcript(), turn)
    name = agent.rpartition("/")[2]
    key = await key_for(wire, "eve")
    answers = []
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as http:
        for method, path in [
            ("GET", "files/a.txt"),
            ("GET", "files/missing"),
            ("PUT", "files/a.txt"),
            ("GET", "archive"),
        ]:
            for one in (name, "nothere"):
                url = f"{stack.url}/v1/agents/{one}/{path}"
                async with http.request(method, url, data=b"mine") as response:
                    answers.append((response.status, await response.read()))
        async with http.get(
            f"{stack.url}/v1/agents/{name}/files/a.txt",
            headers={"Authorization": f"Bearer {stack.token}"},
        ) as response:
            own = await response.read()

    assert {404} == {status for status, _ in answers}
    assert 1 == len(set(answers))
    assert b"x" == own


@pytest.mark.timeout(60)
async def test_the_command_does_the_same(stack: Stack, tmp_path: Path) -> None:
    """In words for people, and in JSON for programs."""

    async def command(*arguments: str) -> tuple[int, bytes, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "moorline.cli.main", *arguments),
            cwd=ROOT,
            env={
                "MOORLINE_URL": stack.url,
                "MOORLINE_TOKEN": stack.token,
                "MOORLINE_LANG": "en",
                "XDG_CONFIG_HOME": str(tmp_path / "config"),
                "XDG_STATE_HOME": str(tmp_path / "state"),
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(30):
            out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out, err.decode()

    (tmp_path / "local.bin").write_bytes(b"\x00\xff binary")
    _, created, _ = await command("new", "--permission-mode", "accept-all")
    agent = created.decode().strip()
    put = await command("files", "put", agent, str(tmp_path / "local.bin"), "in/data.bin")
    shown = await command("files", "cat", agent, "in/data.bin")
    await command("-p", "/sim write a.txt hello", "--agent", agent)
    diff = await command("files", "diff", agent)
    listed = await command("-o", "json", "files", "ls", agent)
    got = await command("files", "get", agent, "a.txt", str(tmp_path))
    packed = await command("files", "archive", agent, "in", "--to", str(tmp_path / "in.zip"))
    gone = await command("files", "rm", agent, "in")
    missing = await command("files", "cat", agent, "in/data.bin")

    assert [0] * 7 == [one[0] for one in (put, shown, diff, listed, got, packed, gone)]
    assert b"\x00\xff binary" == shown[1]
    assert b"+hello\n" in diff[1]
    assert ["in", "a.txt"] == [row["path"] for row in json.loads(listed[1])]
    assert "hello" == (tmp_path / "a.txt").read_text()
    with zipfile.ZipFile(tmp_path / "in.zip") as archive:
        assert ["data.bin"] == archive.namelist()
    assert 2 == missing[0]
