"""Tests of `services.executor.files.listing` and `reading`."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
from google.protobuf import json_format

from moorline.executor.v1 import workspaces_pb2
from services.chassis.failures import Failure
from services.executor.files import listing
from services.executor.files.reading import read
from tests.unit.executor.files.places import fill, reason

File = workspaces_pb2.File


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace's files."""
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def test_folders_come_first_and_each_is_told_what_it_is(root: Path) -> None:
    """Links with where they point, which nobody looks at."""
    fill(root, "b.txt", "a.sh", "z/inside", "y/")
    (root / "a.sh").chmod(0o755)
    (root / "link").symlink_to("/etc/passwd")
    os.mkfifo(root / "pipe")
    files, token = listing.page(root, (), size=10, token="")

    assert "" == token
    assert [
        ("y", File.KIND_FOLDER, 0, "", False),
        ("z", File.KIND_FOLDER, 0, "", False),
        ("a.sh", File.KIND_FILE, 5, "", True),
        ("b.txt", File.KIND_FILE, 6, "", False),
        ("link", File.KIND_LINK, 0, "/etc/passwd", False),
        ("pipe", File.KIND_OTHER, 0, "", False),
    ] == [(one.path, one.kind, one.size, one.target, one.executable) for one in files]
    assert [True] * 2 == [bool(one.etag) for one in files if one.kind == File.KIND_FILE]


def test_paths_are_those_of_the_workspace(root: Path) -> None:
    """So that they can be asked for as they are."""
    fill(root, "a/b/c")
    files, _ = listing.page(root, ("a", "b"), size=10, token="")

    assert ["a/b/c"] == [one.path for one in files]


def test_pages_go_on_where_the_last_one_ended(root: Path) -> None:
    """Whatever the names are, and what is deleted between them."""
    names = ["가", "b", "c\n", os.fsdecode(b"d\xff"), "e"]
    fill(root, *names, "z/", "y/")
    seen, token = [], ""
    while True:
        files, token = listing.page(root, (), size=2, token=token)
        seen += [one.path for one in files]
        if not token:
            break
        (root / seen[-1]).rmdir() if seen[-1] in "yz" else None

    assert ["y", "z", "b", "c\n", "d\\xff", "e", "가"] == seen


def test_pages_are_bounded_in_bytes_too(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names can be long, and there can be many."""
    monkeypatch.setattr(listing, "PAGE_BYTES", 100)
    fill(root, *(f"{number}{'x' * 80}" for number in range(5)))
    seen, token, pages = [], "", 0
    while not pages or token:
        files, token = listing.page(root, (), size=10, token=token)
        seen += [one.path[0] for one in files]
        pages += 1

    assert (["0", "1", "2", "3", "4"], 5) == (seen, pages)


@pytest.mark.parametrize(
    "token", ["x", "eA==", "Zg==", "====", "한", base64.b64encode(b"x/..").decode()]
)
def test_tokens_of_nobodys_are_refused(root: Path, token: str) -> None:
    """They come from the page before, and from nowhere else."""
    with pytest.raises(Failure) as caught:
        listing.page(root, (), size=1, token=token)

    assert "FIELD_INVALID" == reason(caught)
    assert "page_token" == caught.value.metadata["field"]


def test_a_token_leads_nowhere_else(root: Path) -> None:
    """It is a name to go on after, which need not be there."""
    fill(root, "x")
    token = base64.b64encode(b"f../../etc/passwd", altchars=b"-_").decode()

    assert ["x"] == [one.path for one in listing.page(root, (), size=5, token=token)[0]]


def test_folders_of_too_many_entries_are_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each page would look at all of them."""
    monkeypatch.setattr(listing, "FOLDER_LIMIT", 3)
    fill(root, "a", "b", "c")
    listing.page(root, (), size=1, token="")
    fill(root, "d")
    with pytest.raises(Failure) as caught:
        listing.page(root, (), size=1, token="")

    assert "FILE_UNSUITABLE" == reason(caught)


def test_an_entry_that_goes_away_is_left_out(root: Path) -> None:
    """Between its name and its facts; likewise where a link points that is none any more."""
    with os.scandir(root):
        here = os.open(root, os.O_RDONLY)
    try:
        fill(root, "file")
        found = (root / "file").lstat()
        (root / "link").symlink_to("x")
        link = (root / "link").lstat()
        (root / "link").unlink()
        assert listing._described(here, (), (True, "gone")) is None
        assert "" == listing.target_of(here, "file", found)
        assert "" == listing.target_of(here, "link", link)
    finally:
        os.close(here)


@pytest.mark.parametrize("seconds", [-(10**11), 0, 10**11])
def test_times_of_all_kinds_can_be_told(root: Path, seconds: int) -> None:
    """Anybody can set any."""
    fill(root, "file")
    os.utime(root / "file", (seconds, seconds))
    file, _ = read(root, ("file",), offset=0, length=1)

    assert json_format.MessageToJson(file)


def test_etags_change_with_the_content(root: Path) -> None:
    """Also when neither size nor time of the change do."""
    fill(root, "file")
    before = (root / "file").stat()
    first, _ = read(root, ("file",), offset=0, length=1)
    again, _ = read(root, ("file",), offset=0, length=1)
    (root / "file").write_text("FILE\n")
    os.utime(root / "file", ns=(before.st_atime_ns, before.st_mtime_ns))
    second, _ = read(root, ("file",), offset=0, length=1)

    assert first.etag == again.etag
    assert first.size == second.size
    assert first.etag != second.etag


@pytest.mark.parametrize(
    ("offset", "length", "content"),
    [(0, 100, b"0123456789"), (3, 4, b"3456"), (8, 4, b"89"), (10, 4, b""), (10**15, 4, b"")],
)
def test_parts_are_short_only_at_the_end(
    root: Path, offset: int, length: int, content: bytes
) -> None:
    """Of a file of ten bytes."""
    (root / "file").write_bytes(b"0123456789")
    file, part = read(root, ("file",), offset=offset, length=length)

    assert (10, content) == (file.size, part)
