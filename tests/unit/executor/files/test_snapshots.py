"""Tests of `services.executor.files.snapshots`, and of what it is made of."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure
from services.executor.files import baseline, comparing, looking, scanning, snapshots
from services.executor.files.disk import Disk
from services.executor.files.looking import Look, Reading
from services.executor.files.scanning import Scan
from services.executor.files.snapshots import Snapshots
from services.executor.workspaces import Place
from tests.unit.executor.files.places import fill, make_place

Change = transcript_pb2.FileChange
ADDED, CHANGED, REMOVED = Change.KIND_ADDED, Change.KIND_CHANGED, Change.KIND_REMOVED


class Setting:
    """One workspace, and the snapshots of it."""

    def __init__(self, place: Place, disk: Disk) -> None:
        self.place = place
        self.root = place.files
        self.disk = disk
        self.snapshots = Snapshots(disk=disk)

    async def take(self) -> None:
        """Begin a turn."""
        await self.snapshots.take(self.place)

    async def found(self) -> transcript_pb2.FileChanges:
        """End it."""
        return await self.snapshots.changes(self.place)

    async def told(self) -> dict[str, tuple[int, int, int]]:
        """What changed: kind, lines added, lines removed, by path."""
        return {
            one.path: (one.kind, one.added_lines, one.removed_lines)
            for one in (await self.found()).changes
        }


@pytest.fixture
async def s(tmp_path: Path) -> AsyncIterator[Setting]:
    """One workspace."""
    async with Disk() as disk:
        yield Setting(await make_place(tmp_path), disk)


async def test_what_a_turn_did_is_told(s: Setting) -> None:
    """Files that are new, other, or gone, with their lines; others are not mentioned."""
    fill(s.root, "same", "changed", "a/removed")
    await s.take()
    fill(s.root, "a/added")
    (s.root / "changed").write_text("changed\nmore\n")
    (s.root / "a" / "removed").unlink()
    found = await s.found()

    assert {
        "a/added": (ADDED, 1, 0),
        "a/removed": (REMOVED, 0, 1),
        "changed": (CHANGED, 1, 0),
    } == {one.path: (one.kind, one.added_lines, one.removed_lines) for one in found.changes}
    assert "--- a/changed\n+++ b/changed\n@@ -1 +1,2 @@\n changed\n+more\n" == found.changes[2].diff
    assert not any(one.binary or one.omitted for one in found.changes)


async def test_each_turn_begins_anew(s: Setting) -> None:
    """What one did is no news in the next; what it kept of files that are gone, is gone."""
    fill(s.root, "a", "b")
    await s.take()
    (s.root / "a").write_text("1\n")
    await s.take()
    assert {} == await s.told()
    (s.root / "a").write_text("1\n2\n")
    (s.root / "b").unlink()

    assert {"a": (CHANGED, 1, 0), "b": (REMOVED, 0, 1)} == await s.told()
    await s.take()
    with baseline.opened(s.place.notes) as kept:
        assert {b"a"} == set(kept.files())
        assert 0 < kept.size() < 20


async def test_an_empty_workspace_needs_no_thread(
    s: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing happens in one, and what is new in it is told."""
    ran = []
    run = s.disk.run

    async def noting(*args: object, **kwargs: object) -> object:
        ran.append(args[1])
        return await run(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(s.disk, "run", noting)
    for _ in range(2):
        await s.take()
        assert {} == await s.told()
    assert [] == ran
    fill(s.root, "a")
    assert {"a": (ADDED, 1, 0)} == await s.told()
    await s.take()
    (s.root / "a").unlink()
    assert {"a": (REMOVED, 0, 1)} == await s.told()
    await s.take()

    assert {} == await s.told()
    assert 5 == len(ran)


async def test_before_the_first_turn_nothing_has_changed(s: Setting) -> None:
    """Whatever clients have put there."""
    fill(s.root, "a")

    assert {} == await s.told()


async def test_files_that_only_look_otherwise_have_not_changed(s: Setting) -> None:
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


async def test_a_change_within_the_same_tick_of_the_clock_is_seen(s: Setting) -> None:
    """A file that was written just before the snapshot may look the same afterwards."""
    for number in range(20):
        (s.root / "a").write_text("one\n")
        await s.take()
        with (s.root / "a").open("r+") as file:
            file.write("two\n")
        assert {"a": (CHANGED, 1, 1)} == await s.told(), number


async def test_what_is_no_text_has_no_diff(s: Setting) -> None:
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


async def test_links_are_told_and_not_followed(s: Setting) -> None:
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
    s: Setting, monkeypatch: pytest.MonkeyPatch
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


async def test_generated_folders_are_one_thing(s: Setting) -> None:
    """There or not; what is in them nobody wants to read."""
    fill(s.root, "a/node_modules/x/index.js", "src/main.py")
    await s.take()
    fill(s.root, "a/node_modules/y/index.js", "src/__pycache__/main.pyc", ".venv/bin/python")
    assert {".venv": ADDED, "src/__pycache__": ADDED} == {
        path: kind for path, (kind, _, _) in (await s.told()).items()
    }
    (s.root / "a" / "node_modules").rename(s.root / "a" / "other")

    assert {"a/node_modules", "a/other/x/index.js", "a/other/y/index.js"} < set(await s.told())


async def test_what_git_runs_is_watched_and_the_rest_of_a_repository_is_not(s: Setting) -> None:
    """Hooks run on the machine of whoever downloads them."""
    fill(s.root, ".git/config", ".git/objects/ab/cd", ".git/HEAD")
    await s.take()
    fill(s.root, ".git/objects/ab/ef", ".git/hooks/pre-commit", "sub/.git/objects/x")
    (s.root / ".git" / "config").write_text("[core]\n\tfsmonitor = evil\n")

    assert {".git/config", ".git/hooks/pre-commit"} == set(await s.told())


async def test_names_of_all_kinds_are_shown(s: Setting) -> None:
    """On one line of the diff each."""
    await s.take()
    for name in ("a\n+++ b_forged", os.fsdecode(b"b\xff"), 'c"\\', "한글"):
        (s.root / name).write_text("x\n")
    found = await s.found()

    assert ["a\n+++ b_forged", "b\\xff", 'c"\\', "한글"] == [one.path for one in found.changes]
    assert [r'+++ "b/a\n+++ b_forged"', r'+++ "b/b\\xff"', r'+++ "b/c\"\\"', "+++ b/한글"] == [
        one.diff.split("\n")[1] for one in found.changes
    ]


async def test_many_changes_are_counted(s: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
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


async def test_long_paths_are_bounded_too(s: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """An item has its limits."""
    monkeypatch.setattr(comparing, "PATHS_BYTES", 100)
    await s.take()
    fill(s.root, *(f"{number}{'x' * 60}" for number in range(5)))
    found = await s.found()

    assert (2, 3) == (len(found.changes), found.omitted_files)


async def test_diffs_have_room_for_the_shortest(
    s: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
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


async def test_reading_has_an_end(s: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not kept in time is told without a diff, and kept by the next turn."""
    fill(s.root, "a", "b", "c")
    monkeypatch.setattr(snapshots, "READ_BYTES", 3)
    await s.take()
    monkeypatch.setattr(snapshots, "READ_BYTES", 100)
    for name in ("a", "b", "c"):
        (s.root / name).write_text("x\n")
    found = {one.path: one for one in (await s.found()).changes}
    assert [False, False, True] == [found[name].omitted for name in ("a", "b", "c")]
    (s.root / "a").write_text("a\n")
    await s.take()
    await s.take()
    (s.root / "c").write_text("y\n")

    assert {"c": (CHANGED, 1, 1)} == await s.told()


async def test_comparing_has_an_end(s: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then all that is known is that they changed."""
    await s.take()
    fill(s.root, "a", "b")
    monkeypatch.setattr(snapshots, "COMPARE_SECONDS", 0)
    found = await s.found()

    assert [("a", True), ("b", True)] == [(one.path, one.omitted) for one in found.changes]


async def test_what_is_kept_has_an_end(s: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file without its text one knows whether it changed."""
    monkeypatch.setattr(snapshots, "KEPT_BYTES", 1)
    fill(s.root, "a", "b")
    await s.take()
    (s.root / "b").write_text("x\n")
    os.utime(s.root / "a", (1, 1))
    found = await s.found()

    assert [("b", CHANGED, True)] == [(one.path, one.kind, one.omitted) for one in found.changes]


async def test_so_many_files_are_watched(s: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those near the top; what is beyond is told neither as new nor as gone."""
    monkeypatch.setattr(snapshots, "FILES", 3)
    fill(s.root, "a", "b", "c/d")
    await s.take()
    fill(s.root, "c/e")
    assert {} == await s.told()
    fill(s.root, "0")
    assert {"0": (ADDED, 1, 0)} == await s.told()
    monkeypatch.setattr(snapshots, "FILES", 10)
    os.utime(s.root / "c" / "d", (1, 1))

    assert {"0", "c/e", "c/d"} == set(await s.told())


async def test_files_beyond_that_are_not_new_when_they_come_into_view(
    s: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are older than the snapshot."""
    fill(s.root, "a", "b", "c")
    monkeypatch.setattr(snapshots, "FILES", 2)
    await s.take()
    (s.root / "a").unlink()
    monkeypatch.setattr(snapshots, "FILES", 10)

    assert {"a": (REMOVED, 0, 1)} == await s.told()


async def test_a_broken_snapshot_is_given_up(s: Setting) -> None:
    """The turn runs just as well, and the next one has a new one."""
    fill(s.root, "a")
    (s.place.notes / "baseline.db").write_text("x" * 5000)
    assert {} == await s.told()
    (s.place.notes / "baseline.db").write_text("x" * 5000)
    await s.take()
    await s.take()
    (s.root / "a").write_text("x\n")

    assert {"a": (CHANGED, 1, 1)} == await s.told()


async def test_a_workspace_that_goes_away_is_no_trouble(s: Setting) -> None:
    """Agents can be deleted at any time."""
    fill(s.root, "a")
    await s.take()
    (s.root / "a").unlink()
    s.root.rmdir()
    await s.take()

    assert {} == await s.told()


async def test_random_changes_are_all_found(s: Setting) -> None:
    """Turn after turn, against a copy of all texts."""
    dice = random.Random(7)
    texts: dict[str, str] = {}
    names = [f"{folder}{name}" for folder in ("", "a/", "a/b/") for name in "uvwxyz"]
    for _ in range(25):
        await s.take()
        before = dict(texts)
        for name in dice.sample(names, dice.randint(0, 8)):
            if name in texts and dice.random() < 0.3:
                del texts[name]
                (s.root / name).unlink()
            else:
                texts[name] = "".join(dice.choice("ab\n") for _ in range(dice.randint(0, 6)))
                (s.root / name).parent.mkdir(parents=True, exist_ok=True)
                (s.root / name).write_text(texts[name])
        expected = {name for name in names if before.get(name) != texts.get(name)}
        assert expected == set(await s.told())


class TestLooking:
    """What a workspace holds."""

    def test_a_look_is_stopped_at_its_limit(self, tmp_path: Path) -> None:
        """And says so."""
        fill(tmp_path, "a", "b", "c/d")

        assert {b"a", b"b"} == set(Look(tmp_path, limit=3, now_ns=0).files)
        assert not Look(tmp_path, limit=3, now_ns=0).whole
        assert Look(tmp_path, limit=4, now_ns=0).whole

    def test_folders_that_cannot_be_looked_into_are_passed_over(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Too deep, or gone since they were seen."""
        fill(tmp_path, "a/b/c", "gone/x")
        scan = Scan(tmp_path, limit=10)
        seen = []
        for entry in scan:
            seen.append("/".join(entry.parts))
            if seen == ["a", "gone"]:
                (tmp_path / "gone" / "x").unlink()
                (tmp_path / "gone").rmdir()
        assert ["a", "gone", "a/b", "a/b/c"] == seen
        monkeypatch.setattr(scanning, "DEPTH", 1)

        assert ["a"] == ["/".join(entry.parts) for entry in Scan(tmp_path, limit=10)]

    def test_a_folder_of_very_many_is_not_read_to_its_end(self, tmp_path: Path) -> None:
        """Only as far as the limit."""
        fill(tmp_path, *(f"f{number}" for number in range(20)))
        scan = Scan(tmp_path, limit=5)

        assert 5 == len(list(scan))
        assert not scan.whole

    def test_where_a_walk_begins_there_has_to_be_something(self, tmp_path: Path) -> None:
        """Unlike further down."""
        with pytest.raises(Failure):
            list(Scan(tmp_path, ("none",), limit=5))

    def test_files_that_have_grown_meanwhile_are_not_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nor those that are gone."""
        fill(tmp_path, "a", "b")
        look = Look(tmp_path, limit=5, now_ns=0)
        monkeypatch.setattr(looking, "TEXT_BYTES", 4)
        (tmp_path / "a").write_text("12345")
        (tmp_path / "b").unlink()
        reading = Reading(tmp_path, max_bytes=100, seconds=10)

        assert [None, None] == [reading.content(look.files[name]) for name in (b"a", b"b")]

    def test_an_entry_without_facts_is_passed_over(self, tmp_path: Path) -> None:
        """It was there when the names were read."""
        fill(tmp_path, "a")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("services.executor.files.folder.look", lambda *_: None)
            assert [] == list(Scan(tmp_path, limit=5))


def test_a_failed_change_of_a_baseline_changes_nothing(tmp_path: Path) -> None:
    """The one before stays."""
    kept = baseline.Kept("s", b"d", binary=False)
    with baseline.opened(tmp_path) as one:
        one.put({b"a": kept})
        one.note(whole=False, taken_ns=5)
    with suppress(sqlite3.Error), baseline.opened(tmp_path) as one:
        one.drop([b"a"])
        raise sqlite3.Error
    with baseline.opened(tmp_path) as one:
        assert ({b"a": kept}, False, 5) == (one.files(), one.whole, one.taken_ns)
        assert one.text(b"d") is None
    baseline.begin_blank(tmp_path)
    assert baseline.is_blank(tmp_path) is False
    baseline.discard(tmp_path)
    assert baseline.is_blank(tmp_path) is None
