"""Tests of `services.executor.files.comparing`, as `snapshots` calls it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.executor.files import comparing, looking, snapshots
from services.executor.files.disk import Disk
from tests.unit.executor.files.places import fill, make_place
from tests.unit.executor.files.turns import ADDED, CHANGED, REMOVED, Turns


@pytest.fixture
async def s(tmp_path: Path) -> AsyncIterator[Turns]:
    """One workspace."""
    async with Disk() as disk:
        yield Turns(await make_place(tmp_path), disk)


async def test_files_that_only_look_otherwise_have_not_changed(s: Turns) -> None:
    """Touched, written with the same content, made executable, or put back."""
    fill(s.root, "touched", "written", "mode", "moved")
    (s.root / "binary").write_bytes(b"\0\1")
    await s.take()
    os.utime(s.root / "touched", (1, 1))
    fill(s.root, "written")
    (s.root / "mode").chmod(0o755)
    (s.root / "moved").rename(s.root / "x")
    (s.root / "x").rename(s.root / "moved")
    os.utime(s.root / "binary", (1, 1))

    assert {} == await s.told()


async def test_what_is_no_text_has_no_diff(s: Turns) -> None:
    """And is told to be none, before or after."""
    (s.root / "was").write_bytes(b"\0")
    (s.root / "gone").write_bytes(b"\xff\xfe")
    fill(s.root, "will")
    await s.take()
    fill(s.root, "was")
    (s.root / "will").write_bytes(b"\xff")
    (s.root / "new").write_bytes(b"\0")
    (s.root / "gone").unlink()
    found = await s.found()

    assert ["gone", "new", "was", "will"] == [one.path for one in found.changes]
    assert all(one.binary and not one.diff and not one.omitted for one in found.changes)


async def test_links_are_told_and_not_followed(s: Turns) -> None:
    """One that points elsewhere has changed; one in the place of a file as well."""
    outside = s.root.parents[2] / "outside"
    outside.write_text("secret\n")
    fill(s.root, "file")
    (s.root / "link").symlink_to("a")
    (s.root / "kept").symlink_to("a")
    (s.root / "gone").symlink_to("a")
    await s.take()
    (s.root / "link").unlink()
    (s.root / "link").symlink_to("b")
    (s.root / "gone").unlink()
    (s.root / "file").unlink()
    (s.root / "file").symlink_to(outside)
    os.mkfifo(s.root / "pipe")
    found = await s.found()

    assert {"link": CHANGED, "file": CHANGED, "gone": REMOVED, "pipe": ADDED} == {
        one.path: one.kind for one in found.changes
    }
    assert "secret" not in str(found)
    assert not any(one.diff or one.omitted for one in found.changes)


async def test_large_files_are_told_without_a_diff(
    s: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changed when their size or time is another; not by their permissions."""
    monkeypatch.setattr(looking, "TEXT_BYTES", 10)
    for name in ("same", "mode", "grown", "gone", "shrunk"):
        (s.root / name).write_text("0123456789ab\n")
    await s.take()
    (s.root / "mode").chmod(0o600)
    (s.root / "grown").write_text("0123456789abcd\n")
    (s.root / "gone").unlink()
    (s.root / "shrunk").write_text("0\n")
    (s.root / "new").write_text("0123456789ab\n")
    found = await s.found()

    assert {"grown": CHANGED, "gone": REMOVED, "new": ADDED, "shrunk": CHANGED} == {
        one.path: one.kind for one in found.changes
    }
    assert all(one.omitted and not one.diff for one in found.changes)


async def test_names_of_all_kinds_are_shown(s: Turns) -> None:
    """On one line of the diff each."""
    await s.take()
    for name in ("a\n+++ b_forged", os.fsdecode(b"b\xff"), 'c"\\', "한글"):
        (s.root / name).write_text("x\n")
    found = await s.found()

    assert ["a\n+++ b_forged", "b\\xff", 'c"\\', "한글"] == [one.path for one in found.changes]
    assert [r'+++ "b/a\n+++ b_forged"', r'+++ "b/b\\xff"', r'+++ "b/c\"\\"', "+++ b/한글"] == [
        one.diff.split("\n")[1] for one in found.changes
    ]


async def test_many_changes_are_counted(s: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that only look otherwise are not."""
    monkeypatch.setattr(comparing, "CHANGES", 3)
    fill(s.root, *(f"f{number}" for number in range(10)))
    await s.take()
    for number in range(10):
        (s.root / f"f{number}").write_text("x" if number % 2 else f"f{number}\n")
    fill(s.root, "z")
    (s.root / "f0").unlink()
    found = await s.found()

    assert ["f0", "f1", "f3"] == [one.path for one in found.changes]
    assert 4 == found.omitted_files


async def test_long_paths_are_bounded_too(s: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    """An item has its limits."""
    monkeypatch.setattr(comparing, "PATHS_BYTES", 100)
    await s.take()
    fill(s.root, *(f"{number}{'x' * 60}" for number in range(5)))
    found = await s.found()

    assert (2, 3) == (len(found.changes), found.omitted_files)


async def test_texts_that_grow_when_they_are_kept_count_for_more(s: Turns) -> None:
    """In JSON a control character takes six bytes."""
    await s.take()
    (s.root / "plain").write_text("x" * 50_000)
    (s.root / "control").write_text("\x01" * 50_000)
    found = {one.path: one for one in (await s.found()).changes}

    assert (True, False) == (found["control"].omitted, found["plain"].omitted)


async def test_diffs_have_room_for_the_shortest(s: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are told to be left out, with their lines counted."""
    monkeypatch.setattr(comparing, "DIFF_BYTES", 200)
    await s.take()
    fill(s.root, "short", "brief")
    (s.root / "long").write_text("line\n" * 100)
    found = {one.path: one for one in (await s.found()).changes}

    assert (True, "", 100) == (found["long"].omitted, found["long"].diff, found["long"].added_lines)
    assert found["short"].diff
    assert found["brief"].diff
    assert 200 >= sum(len(one.diff) for one in found.values())


async def test_comparing_has_an_end(s: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then all that is known is that they changed."""
    await s.take()
    fill(s.root, "a", "b")
    monkeypatch.setattr(snapshots, "COMPARE_SECONDS", 0)
    found = await s.found()

    assert [("a", True), ("b", True)] == [(one.path, one.omitted) for one in found.changes]
