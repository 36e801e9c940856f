"""Tests of `services.executor.claude_code.inside`."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.chassis.failures import Failure
from services.executor.claude_code import inside


def test_file_is_written_whole_and_read(tmp_path: Path) -> None:
    """With the folders it needs, for nobody else; nothing is left beside it."""
    for content in (b"one", b"two"):
        inside.write(tmp_path, ["a", "b", "c.txt"], content)

    assert b"two" == inside.read(tmp_path, ["a", "b", "c.txt"], limit=3)
    assert 0o600 == (tmp_path / "a/b/c.txt").stat().st_mode & 0o777
    assert ["c.txt"] == [path.name for path in (tmp_path / "a/b").iterdir()]


def test_file_that_is_not_there_is_nothing(tmp_path: Path) -> None:
    """Nor is one whose folder is missing."""
    assert None is inside.read(tmp_path, ["a"], limit=1)
    assert None is inside.read(tmp_path, ["a", "b"], limit=1)


def test_longer_file_is_refused(tmp_path: Path) -> None:
    """It is not read into memory."""
    (tmp_path / "a").write_bytes(b"four")
    with pytest.raises(Failure) as caught:
        inside.read(tmp_path, ["a"], limit=3)

    assert "FILE_UNSUITABLE" == caught.value.reason_name


def test_links_are_not_followed(tmp_path: Path) -> None:
    """Neither on the way nor at its end; one in the place of the file is replaced."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (root / "way").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    (root / ".file.part").symlink_to(outside / "secret")
    for parts in (["way", "secret"], ["file"]):
        with pytest.raises(Failure):
            inside.read(root, parts, limit=100)
    with pytest.raises(Failure):
        inside.write(root, ["way", "new"], b"x")
    inside.write(root, ["file"], b"x")

    assert "secret" == (outside / "secret").read_text()
    assert ["secret"] == [path.name for path in outside.iterdir()]
    assert b"x" == (root / "file").read_bytes()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b"])
def test_only_names_lead_inside(tmp_path: Path, name: str) -> None:
    """Wherever they stand."""
    for parts in ([name, "x"], [name]):
        with pytest.raises(Failure):
            inside.read(tmp_path, parts, limit=1)
        with pytest.raises(Failure):
            inside.write(tmp_path, parts, b"")


@pytest.mark.parametrize("length", [1, 1 << 20, 3 << 20])
def test_file_is_read_by_lines(tmp_path: Path, length: int) -> None:
    """However long they are; those that are empty are none."""
    content = [b"a" * length, b"b", b"c" * length]
    (tmp_path / "a").write_bytes(b"\n\n".join(content) + b"\n")

    assert content == list(inside.lines(tmp_path, ["a"], limit=1 << 30))
    assert [] == list(inside.lines(tmp_path, ["none"], limit=1 << 30))


def test_file_that_is_too_much_is_not_read_by_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its size, or by the number of its lines."""
    monkeypatch.setattr(inside, "LINES", 1)
    (tmp_path / "a").write_bytes(b"1\n2\n")
    for limit in (3, 4):
        with pytest.raises(Failure) as caught:
            list(inside.lines(tmp_path, ["a"], limit=limit))

        assert "FILE_UNSUITABLE" == caught.value.reason_name
