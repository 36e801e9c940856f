"""Tests of `services.executor.files.snapshots`."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.executor.files import baseline, snapshots
from services.executor.files.disk import Disk
from tests.unit.executor.files.places import fill, make_place
from tests.unit.executor.files.turns import ADDED, CHANGED, REMOVED, Turns


@pytest.fixture
async def s(tmp_path: Path) -> AsyncIterator[Turns]:
    """One workspace."""
    async with Disk() as disk:
        yield Turns(await make_place(tmp_path), disk)


async def test_what_a_turn_did_is_told(s: Turns) -> None:
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


async def test_each_turn_begins_anew(s: Turns) -> None:
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
    s: Turns, monkeypatch: pytest.MonkeyPatch
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


async def test_before_the_first_turn_nothing_has_changed(s: Turns) -> None:
    """Whatever clients have put there."""
    fill(s.root, "a")

    assert {} == await s.told()


async def test_a_change_within_the_same_tick_of_the_clock_is_seen(s: Turns) -> None:
    """A file that was written just before the snapshot may look the same afterwards."""
    for number in range(20):
        (s.root / "a").write_text("one\n")
        await s.take()
        with (s.root / "a").open("r+") as file:
            file.write("two\n")
        assert {"a": (CHANGED, 1, 1)} == await s.told(), number


async def test_generated_folders_are_one_thing(s: Turns) -> None:
    """There or not; what is in them nobody wants to read."""
    fill(s.root, "a/node_modules/x/index.js", "src/main.py")
    await s.take()
    fill(s.root, "a/node_modules/y/index.js", "src/__pycache__/main.pyc", ".venv/bin/python")
    assert {".venv": ADDED, "src/__pycache__": ADDED} == {
        path: kind for path, (kind, _, _) in (await s.told()).items()
    }
    (s.root / "a" / "node_modules").rename(s.root / "a" / "other")

    assert {"a/node_modules", "a/other/x/index.js", "a/other/y/index.js"} < set(await s.told())


async def test_what_git_runs_is_watched_and_the_rest_of_a_repository_is_not(s: Turns) -> None:
    """Hooks run on the machine of whoever downloads them."""
    fill(s.root, ".git/config", ".git/objects/ab/cd", ".git/HEAD", "module/.git")
    await s.take()
    fill(s.root, ".git/objects/ab/ef", ".git/index", ".git/hooks/pre-commit", "sub/.git/objects/x")
    for name in (".git/HEAD", ".git/config", "module/.git"):
        (s.root / name).write_text("changed")

    assert {".git/config", ".git/hooks/pre-commit", "module/.git", "sub/.git"} == set(
        await s.told()
    )


async def test_reading_has_an_end(s: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
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


async def test_what_is_kept_has_an_end(s: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file without its text one knows whether it changed."""
    monkeypatch.setattr(snapshots, "KEPT_BYTES", 1)
    fill(s.root, "a", "b")
    await s.take()
    (s.root / "b").write_text("x\n")
    os.utime(s.root / "a", (1, 1))
    found = await s.found()

    assert [("b", CHANGED, True)] == [(one.path, one.kind, one.omitted) for one in found.changes]


async def test_so_many_files_are_watched(s: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
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
    s: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are older than the snapshot."""
    fill(s.root, "a", "b", "c")
    monkeypatch.setattr(snapshots, "FILES", 2)
    await s.take()
    (s.root / "a").unlink()
    monkeypatch.setattr(snapshots, "FILES", 10)

    assert {"a": (REMOVED, 0, 1)} == await s.told()


async def test_a_broken_snapshot_is_given_up(s: Turns) -> None:
    """The turn runs just as well, and the next one has a new one."""
    fill(s.root, "a")
    (s.place.notes / "baseline.db").write_text("x" * 5000)
    assert {} == await s.told()
    (s.place.notes / "baseline.db").write_text("x" * 5000)
    await s.take()
    await s.take()
    (s.root / "a").write_text("x\n")

    assert {"a": (CHANGED, 1, 1)} == await s.told()


async def test_a_workspace_that_goes_away_is_no_trouble(s: Turns) -> None:
    """Agents can be deleted at any time."""
    fill(s.root, "a")
    await s.take()
    (s.root / "a").unlink()
    s.root.rmdir()
    await s.take()

    assert {} == await s.told()


async def test_random_changes_are_all_found(s: Turns) -> None:
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
