"""The Firestore emulator of a run, played by a server of the tests' own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.local.emulator import Emulator, SaveError, find
from services.local.errors import StartError
from services.local.folder import DataFolder
from services.local.ports import LOOPBACK, free_port

SAVED = "data/data.overall_export_metadata"


class Machine:
    """Programs that are installed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.environ = {"PATH": str(folder / "bin"), "HOME": "/home", "SECRET": "x"}
        (folder / "bin").mkdir()

    def has(self, name: str) -> None:
        """Install a program where others are, linked from the path."""
        program = self._folder / "sdk" / "bin" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.touch(mode=0o755)
        (self._folder / "bin" / name).symlink_to(program)

    def has_archive(self) -> Path:
        """Install the emulator as a component of gcloud."""
        folder = self._folder / "sdk" / "platform" / "cloud-firestore-emulator"
        folder.mkdir(parents=True)
        archive = folder / "cloud-firestore-emulator.jar"
        archive.touch()
        return archive


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with nothing."""
    return Machine(tmp_path)


@pytest.fixture
def complete(machine: Machine) -> Machine:
    """A machine with everything."""
    machine.has("gcloud")
    machine.has("java")
    machine.has_archive()
    return machine


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[DataFolder]:
    """A data folder in use."""
    with DataFolder(tmp_path / "data") as folder:
        yield folder


def emulator(folder: DataFolder, machine: Machine) -> Emulator:
    """An emulator of a run, not started."""
    return Emulator(folder=folder, port=free_port(), project="moorline", environ=machine.environ)


@asynccontextmanager
async def exporting(
    port: int, status: str = "200 OK", *, writes: bool = True
) -> AsyncIterator[None]:
    """Listen like an emulator that writes down what it is asked to."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"POST /emulator/v1/projects/moorline:export ")
        length = int(head.lower().partition(b"content-length:")[2].split()[0])
        request = json.loads(await reader.readexactly(length))
        assert "projects/moorline/databases/(default)" == request["database"]
        if writes:
            written = Path(request["export_directory"]) / request["export_name"]
            written.mkdir()
            (written / f"{request['export_name']}.overall_export_metadata").write_text("new")
        writer.write(f"HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\n{{}}".encode())
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, LOOPBACK, port):
        yield


def test_it_is_found_beside_gcloud(machine: Machine) -> None:
    """A link on the path leads to the folder gcloud keeps its components in."""
    machine.has("gcloud")
    machine.has("java")
    archive = machine.has_archive()

    java, found = find(machine.environ)

    assert archive.samefile(found)
    assert java.endswith("/java")


def test_what_is_missing_is_told(machine: Machine) -> None:
    """Gcloud without the component is not enough, and Java is asked for by name."""
    with pytest.raises(StartError, match="gcloud components install"):
        find(machine.environ)
    machine.has("gcloud")
    with pytest.raises(StartError, match="gcloud components install"):
        find(machine.environ)
    machine.has_archive()
    with pytest.raises(StartError, match="Java"):
        find(machine.environ)


def test_it_sees_nothing_of_the_environment(folder: DataFolder, complete: Machine) -> None:
    """It needs its Java, and no secret of the shell that runs it."""
    assert {"PATH", "HOME"} == set(emulator(folder, complete).program.environment)


async def test_what_was_saved_is_there_at_the_next_start(
    folder: DataFolder, complete: Machine
) -> None:
    """The first start has nothing to read, the next one is told where it is."""
    first = emulator(folder, complete)
    async with exporting(first.port):
        await first.save()
    saved = folder.path / "firestore" / SAVED

    assert not any("import" in word for word in first.program.command)
    assert f"--import-data={saved}" in emulator(folder, complete).program.command
    assert saved.exists()


async def test_warming_up_waits_for_it_and_leaves_nothing(
    folder: DataFolder, complete: Machine
) -> None:
    """It is not there yet at first, and what was saved by an earlier run stays as it is."""
    one = emulator(folder, complete)
    warming = asyncio.create_task(one.warm_up())
    await asyncio.sleep(0.15)
    async with asyncio.timeout(5), exporting(one.port):
        await warming

    assert not list(folder.path.glob("firestore*"))


async def test_a_later_save_replaces_the_one_before(folder: DataFolder, complete: Machine) -> None:
    """Nothing else is left of either."""
    one = emulator(folder, complete)
    async with exporting(one.port):
        await one.save()
        (folder.path / "firestore" / SAVED).write_text("old")
        await one.save()

    assert "new" == (folder.path / "firestore" / SAVED).read_text()
    assert ["firestore"] == [path.name for path in folder.path.glob("firestore*")]


@pytest.mark.parametrize(("status", "writes"), [("500 Oh", True), ("200 OK", False)])
async def test_a_save_that_fails_leaves_the_one_before(
    folder: DataFolder, complete: Machine, status: str, writes: bool
) -> None:
    """Also when the emulator says that it has written, and has not."""
    one = emulator(folder, complete)
    async with exporting(one.port):
        await one.save()
    (folder.path / "firestore" / SAVED).write_text("old")
    async with exporting(one.port, status, writes=writes):
        with pytest.raises(SaveError):
            await one.save()

    assert "old" == (folder.path / "firestore" / SAVED).read_text()


async def test_an_emulator_that_is_gone_cannot_be_saved(
    folder: DataFolder, complete: Machine
) -> None:
    """The reason is told, and what was saved before is not touched."""
    with pytest.raises(SaveError, match="refused"):
        await emulator(folder, complete).save()
