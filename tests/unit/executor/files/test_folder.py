"""Tests of `services.executor.files.folder`: no link is followed, no matter when it is made."""

from __future__ import annotations

import errno
import os
import socket
import threading
from pathlib import Path

import pytest

from services.chassis.failures import Failure
from services.executor.files import folder
from services.executor.files.reading import read
from tests.unit.executor.files.places import descriptors, fill, reason
from tests.unit.executor.files.swaps import SWAPS, exchange, rounds, swapping


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace's files, with something outside."""
    outside = tmp_path / "outside"
    fill(outside, "secret", "sub/secret")
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def names(descriptor: int) -> list[str]:
    """Return what is in an open folder."""
    return os.listdir(descriptor)


def test_a_folder_is_reached_by_its_names(root: Path) -> None:
    """And made where it is wanted."""
    fill(root, "a/b/file")
    with folder.opened(root, ("a", "b")) as here:
        assert ["file"] == names(here)
    with folder.made(root, ("a", "new", "deep")) as here:
        assert [] == names(here)

    assert 0o755 == (root / "a" / "new").stat().st_mode & 0o777


@pytest.mark.parametrize("parts", [("link",), ("link", "sub"), ("a", "up", "a")])
def test_links_are_not_followed(root: Path, parts: tuple[str, ...]) -> None:
    """Neither last nor on the way, wherever they lead."""
    fill(root, "a/file")
    (root / "link").symlink_to(root.parent / "outside")
    (root / "a" / "up").symlink_to("..")
    for reach in (folder.opened, folder.made):
        with pytest.raises(Failure) as caught, reach(root, parts):
            pass

        assert "FILE_UNSUITABLE" == reason(caught)


def test_a_link_to_nowhere_makes_nothing(root: Path) -> None:
    """Not even where it points."""
    (root / "link").symlink_to(root.parent / "made")
    with pytest.raises(Failure) as caught, folder.made(root, ("link", "x")):
        pass

    assert "FILE_UNSUITABLE" == reason(caught)
    assert not (root.parent / "made").exists()


def test_what_is_missing_is_not_found(root: Path) -> None:
    """The workspace itself, too; and a file is no folder."""
    fill(root, "file")
    with pytest.raises(Failure) as missing, folder.opened(root, ("nothing",)):
        pass
    with pytest.raises(Failure) as nowhere, folder.opened(root / "nowhere", ()):
        pass
    with pytest.raises(Failure) as file, folder.opened(root, ("file",)):
        pass

    assert ["RESOURCE_NOT_FOUND", "RESOURCE_NOT_FOUND", "FILE_UNSUITABLE"] == [
        reason(one) for one in (missing, nowhere, file)
    ]


def test_only_files_are_opened(root: Path) -> None:
    """A pipe would make us wait, a device might do anything."""
    os.mkfifo(root / "pipe")
    fill(root, "folder/")
    (root / "link").symlink_to("/etc/passwd")
    listener = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(root)
    try:
        listener.bind("socket")
    finally:
        os.chdir(here)
        listener.close()
    for name in ("pipe", "folder", "link", "socket"):
        with pytest.raises(Failure) as caught:
            read(root, (name,), offset=0, length=1)

        assert "FILE_UNSUITABLE" == reason(caught)
        assert name == caught.value.metadata["path"]


def test_a_pipe_that_takes_the_place_of_a_file_makes_nobody_wait(root: Path) -> None:
    """Whoever looked before it was exchanged looks again."""
    fill(root, "thing")
    os.mkfifo(root / "other")

    def swap() -> None:
        exchange(root / "thing", root / "other")

    expected = {b"thing\n", b"FILE_UNSUITABLE"}
    seen: set[bytes] = set()
    with swapping(swap):
        for _ in rounds(lambda: expected <= seen):
            try:
                seen.add(read(root, ("thing",), offset=0, length=10)[1])
            except Failure as failure:
                seen.add(failure.reason_name.encode())

    assert expected == seen


def test_a_link_that_takes_the_place_of_a_folder_leads_nowhere(root: Path) -> None:
    """However often it does while the way is walked."""
    fill(root, "a/sub/secret")
    (root / "a" / "sub" / "secret").write_text("mine")
    (root / "link").symlink_to(root.parent / "outside")
    open_before = descriptors(root.parent)

    def swap() -> None:
        exchange(root / "a", root / "link")

    expected = {b"mine", b"FILE_UNSUITABLE"}
    seen: set[bytes] = set()
    with swapping(swap):
        for _ in rounds(lambda: expected <= seen):
            try:
                seen.add(read(root, ("a", "sub", "secret"), offset=0, length=10)[1])
            except Failure as failure:
                seen.add(failure.reason_name.encode())

    assert expected == seen
    assert open_before == descriptors(root.parent)


def test_folders_are_made_within_while_a_link_takes_their_place(root: Path) -> None:
    """Nothing appears where the link points."""
    fill(root, "a/")
    (root / "link").symlink_to(root.parent / "outside")

    def swap() -> None:
        exchange(root / "a", root / "link")

    expected = {"", "FILE_UNSUITABLE"}
    told: set[str] = set()
    with swapping(swap):
        for number in rounds(lambda: expected <= told, least=SWAPS // 3):
            try:
                with folder.made(root, ("a", f"n{number}")):
                    told.add("")
            except Failure as failure:
                told.add(failure.reason_name)

    assert expected == told
    assert {"secret", "sub"} == {path.name for path in (root.parent / "outside").iterdir()}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.ENOSPC, "QUOTA_EXCEEDED"),
        (errno.EDQUOT, "QUOTA_EXCEEDED"),
        (errno.EACCES, "FILE_UNSUITABLE"),
        (errno.ENAMETOOLONG, "FILE_UNSUITABLE"),
        (errno.EIO, "SERVICE_UNAVAILABLE"),
        (errno.ENOENT, "RESOURCE_NOT_FOUND"),
    ],
)
def test_what_the_system_says_becomes_a_failure(code: int, expected: str) -> None:
    """One that tells whether to try again, and what to change."""
    with pytest.raises(Failure) as caught, folder.translated(("a", "b")):
        raise OSError(code, os.strerror(code))

    assert expected == reason(caught)


def test_what_is_made_belongs_to_the_workspaces_owner(root: Path) -> None:
    """The agent, who has to be able to change it."""
    if os.geteuid() != 0:
        pytest.skip("needs to be root")
    os.chown(root, 10001, 10002)
    with folder.made(root, ("new",)):
        pass
    found = (root / "new").stat()

    assert (10001, 10002) == (found.st_uid, found.st_gid)


def test_a_folder_that_somebody_else_makes_at_the_same_time_is_fine(root: Path) -> None:
    """Both get it."""
    failures: list[Exception] = []

    def make() -> None:
        try:
            for number in range(300):
                with folder.made(root, (f"n{number}", "deep")):
                    pass
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [] == failures
    assert 300 == len(list(root.iterdir()))
