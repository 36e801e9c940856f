"""Tests of `services.executor.files.archive`, as `workspace_files` serves it."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import zipfile
from pathlib import Path

import pytest

from services.chassis.failures import Failure
from services.chassis.tasks import Tasks
from services.executor.files import archive, scanning, workspace_files
from services.executor.files.archive import Archive
from services.executor.files.disk import Disk
from services.executor.files.paths import Parts
from tests.unit.executor.files.places import WORKSPACE, descriptors, fill, reason
from tests.unit.executor.files.setting import Setting


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace's files."""
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def packed(root: Path, start: Parts = ()) -> zipfile.ZipFile:
    """Pack a folder."""
    return zipfile.ZipFile(io.BytesIO(b"".join(parts(root, start))))


def parts(root: Path, start: Parts = (), *, max_bytes: int = 1 << 40) -> list[bytes]:
    """Pack a folder; the parts."""
    one = Archive(root, start, max_bytes=max_bytes)
    one.open()
    found = []
    while (part := one.take()) is not None:
        found.append(part)
    one.close()
    return found


def test_files_and_folders_come_out_as_they_went_in(root: Path, tmp_path: Path) -> None:
    """With what may be executed, and with the times."""
    fill(root, "a.txt", "b/run.sh", "b/empty/", "한글")
    (root / "b" / "run.sh").chmod(0o4711)
    os.utime(root / "a.txt", (1_700_000_000, 1_700_000_000))
    zipped = packed(root)
    (tmp_path / "out.zip").write_bytes(b"".join(parts(root)))

    assert zipped.testzip() is None
    assert {
        "a.txt": (stat.S_IFREG | 0o644, b"a.txt\n"),
        "b/": (stat.S_IFDIR | 0o755, b""),
        "b/empty/": (stat.S_IFDIR | 0o755, b""),
        "b/run.sh": (stat.S_IFREG | 0o755, b"b/run.sh\n"),
        "한글": (stat.S_IFREG | 0o644, "한글\n".encode()),
    } == {
        info.filename: (info.external_attr >> 16, zipped.read(info)) for info in zipped.infolist()
    }
    assert (2023, 11, 14, 22, 13, 20) == zipped.getinfo("a.txt").date_time
    done = subprocess.run(
        ["python3", "-m", "zipfile", "-t", str(tmp_path / "out.zip")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Done testing" in done.stdout


def test_one_folder_is_packed_by_itself(root: Path) -> None:
    """Its own name is that of the archive."""
    fill(root, "a/b/c", "other")

    assert ["c"] == packed(root, ("a", "b")).namelist()


def test_links_and_pipes_are_left_out(root: Path) -> None:
    """What they point to is nobody's business."""
    fill(root, "a")
    (root / "link").symlink_to("/etc/passwd")
    (root / "folder").symlink_to("/etc")
    os.mkfifo(root / "pipe")

    assert ["a"] == packed(root).namelist()


def test_names_lead_nowhere(root: Path) -> None:
    """On any system."""
    fill(root, "..\\evil", "C:", "a\nb")

    assert {"..%5Cevil", "C%3A", "a%0Ab"} == set(packed(root).namelist())


def test_nothing_is_packed_as_an_empty_archive(root: Path) -> None:
    """Which is one."""
    assert [] == packed(root).namelist()


def test_memory_is_bounded_however_large_a_file_is(root: Path) -> None:
    """It comes in parts; what is all zeros makes nobody wait for the next."""
    (root / "random").write_bytes(os.urandom(1 << 20))
    with (root / "zeros").open("wb") as file:
        file.truncate(64 << 20)
    found = parts(root)

    assert 2 * archive.PART_BYTES >= max(map(len, found))
    assert (64 << 20) // archive._STEP_BYTES <= len(found)
    whole = zipfile.ZipFile(io.BytesIO(b"".join(found)))
    assert [1 << 20, 64 << 20] == [info.file_size for info in whole.infolist()]


def test_very_large_files_have_large_sizes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a form of their own."""
    monkeypatch.setattr(archive, "_LARGE", 3)
    fill(root, "a")

    assert [b"a\n"] == [packed(root).read("a")] or packed(root).read("a") == b"a\n"


def test_times_that_cannot_be_told_are_the_nearest_that_can(root: Path) -> None:
    """An archive knows those of 1980 to 2107."""
    fill(root, "old", "new")
    os.utime(root / "old", (-(10**9), -(10**9)))
    os.utime(root / "new", (10**10, 10**10))
    years = {info.filename: info.date_time[0] for info in packed(root).infolist()}

    assert {"old": 1980, "new": 2107} == years


def test_what_changes_meanwhile_is_packed_as_it_was_found(root: Path) -> None:
    """One that is gone is left out; one that grew, or shrank, is still an archive."""
    fill(root, "gone", "grown", "shrunk", "exchanged")
    one = Archive(root, (), max_bytes=100)
    one.open()
    (root / "gone").unlink()
    (root / "exchanged").unlink()
    (root / "exchanged").symlink_to("/etc/passwd")
    (root / "shrunk").write_text("")
    found = []
    while (part := one.take()) is not None:
        found.append(part)
    whole = zipfile.ZipFile(io.BytesIO(b"".join(found)))

    assert {"grown": b"grown\n", "shrunk": b""} == {
        name: whole.read(name) for name in whole.namelist()
    }


def test_what_is_put_in_its_place_is_packed_as_far_as_was_allowed(root: Path) -> None:
    """An endless one would never end."""
    fill(root, "a.txt")
    one = Archive(root, (), max_bytes=100)
    one.open()
    with (root / "a.txt").open("r+b") as file:
        file.truncate(1 << 40)
    found = []
    while (part := one.take()) is not None:
        found.append(part)
    one.close()
    zipped = zipfile.ZipFile(io.BytesIO(b"".join(found)))

    assert b"a.txt\n" == zipped.read("a.txt")


def test_limits_are_told_before_the_first_part(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of bytes, of files, and of depth."""
    fill(root, "a/b/c")
    with pytest.raises(Failure) as large:
        parts(root, max_bytes=5)
    monkeypatch.setattr(archive, "ENTRIES", 2)
    with pytest.raises(Failure) as many:
        parts(root)
    monkeypatch.setattr(archive, "ENTRIES", 100)
    monkeypatch.setattr(scanning, "DEPTH", 2)
    with pytest.raises(Failure) as deep:
        parts(root)
    with pytest.raises(Failure) as missing:
        parts(root, ("none",))

    assert ["QUOTA_EXCEEDED", "FILE_UNSUITABLE", "FILE_UNSUITABLE", "RESOURCE_NOT_FOUND"] == [
        reason(one) for one in (large, many, deep, missing)
    ]


def test_a_client_that_leaves_ends_it(root: Path) -> None:
    """In the middle of a file, with nothing left open."""
    (root / "random").write_bytes(os.urandom(4 << 20))
    before = descriptors(root)
    one = Archive(root, (), max_bytes=1 << 30)
    one.open()
    assert one.take()
    one.close()

    assert one.take() is None
    assert before == descriptors(root)


async def test_few_are_packed_at_once(tmp_path: Path) -> None:
    """The others may try again; one that is left makes room."""
    async with Disk() as disk, Tasks() as tasks:
        s = Setting(tmp_path, disk, tasks)
        await s.write("file", b"1")
        inside = [s.files.archive(WORKSPACE, ()) for _ in range(workspace_files.ARCHIVES)]
        first = [await one.__aenter__() for one in inside]
        with pytest.raises(Failure) as caught:
            async with s.files.archive(WORKSPACE, ()):
                pass
        assert await anext(first[0])
        for one in inside:
            await one.__aexit__(None, None, None)
        async with s.files.archive(WORKSPACE, ()) as again:
            whole = b"".join([part async for part in again])

    assert "RATE_LIMITED" == reason(caught)
    assert ["file"] == zipfile.ZipFile(io.BytesIO(whole)).namelist()
