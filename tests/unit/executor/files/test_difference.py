"""Tests of `services.executor.files.difference`."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.executor.files import difference
from services.executor.files.difference import between

LINES = st.lists(st.sampled_from(["", "a", "b", "c", "-", "+", " x", "@@", "\\"]), max_size=24)
TEXTS = st.builds(
    lambda lines, ended: "\n".join(lines) + ("\n" if ended and lines else ""), LINES, st.booleans()
)
HEAD = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


def applied(before: str, diff: str) -> str:
    """Apply a unified diff, as the program `patch` does, and check that it fits."""
    old = before.splitlines(keepends=True) if before else []
    old = [line + "\n" for line in before.split("\n")]
    last = old.pop()[:-1]
    old += [last] if last else []
    new: list[str] = []
    position = 0
    lines = diff.split("\n")[2:-1]
    index = 0
    while index < len(lines):
        found = HEAD.fullmatch(lines[index])
        assert found, lines[index]
        start, length = int(found[1]), int(found[2] or 1)
        first = start - 1 if length else start
        new += old[position:first]
        position = first
        index += 1
        while index < len(lines) and not HEAD.fullmatch(lines[index]):
            mark, content = lines[index][0], lines[index][1:] + "\n"
            if index + 1 < len(lines) and lines[index + 1].startswith("\\ No newline"):
                content = content[:-1]
                index += 1
            if mark in " -":
                assert old[position] == content
                position += 1
            if mark in " +":
                new.append(content)
            index += 1
    return "".join(new + old[position:])


@given(TEXTS, TEXTS)
def test_a_diff_leads_from_one_text_to_the_other(before: str, after: str) -> None:
    """Whatever they are; the counts are those of its lines."""
    found = between("x", before, after)

    assert (before != after) == bool(found.diff)
    if found.diff:
        assert after == applied(before, found.diff)
        lines = found.diff.split("\n")[2:]
        assert found.added == sum(line.startswith("+") for line in lines)
        assert found.removed == sum(line.startswith("-") for line in lines)


def test_it_reads_like_every_unified_diff() -> None:
    """Three lines around a change; changes that are near each other together."""
    before = "".join(f"{number}\n" for number in range(30))
    after = before.replace("3\n", "three\n", 1).replace("9\n", "nine\n", 1).replace("28\n", "")
    found = between("a b.txt", before, after)

    assert (2, 3) == (found.added, found.removed)
    assert found.diff == (
        "--- a/a b.txt\n+++ b/a b.txt\n"
        "@@ -1,13 +1,13 @@\n 0\n 1\n 2\n-3\n+three\n 4\n 5\n 6\n 7\n 8\n-9\n+nine\n 10\n 11\n 12\n"
        "@@ -26,5 +26,4 @@\n 25\n 26\n 27\n-28\n 29\n"
    )


@pytest.mark.parametrize(
    ("before", "after", "diff"),
    [
        (None, "x\n", "--- /dev/null\n+++ b/f\n@@ -0,0 +1 @@\n+x\n"),
        ("x\n", None, "--- a/f\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"),
        (None, "", ""),
        ("x", "x\n", "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-x\n\\ No newline at end of file\n+x\n"),
        ("a\r\n", "a\n", "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\r\n+a\n"),
    ],
)
def test_beginnings_and_ends(before: str | None, after: str | None, diff: str) -> None:
    """Of files, and of lines."""
    assert diff == between("f", before, after).diff


def test_a_name_cannot_forge_a_line() -> None:
    """It is quoted, as git does it."""
    assert '--- "a/x\\n+++ b/y"\n' in between("x\n+++ b/y", "1\n", "2\n").diff


def test_the_fewest_lines_change() -> None:
    """As long as they can be found in time."""
    before = [f"{number}" for number in range(500)]
    after = [*before[250:], *before[:250], "new"]
    found = between("x", "\n".join(before), "\n".join(after))

    assert (251, 250) == (found.added, found.removed)


@pytest.mark.timeout(60)
def test_hostile_texts_come_to_an_end() -> None:
    """Two that have nothing in common, and two that have everything in another order.

    Without a bound they would take hours.
    """
    count = 30_000
    pairs = [
        ("\n".join(f"a{number}" for number in range(count)), "\n".join("b" for _ in range(count))),
        ("ab\n" * count, "a\nb\n" * count),
        ("a\nb\n" * count, "b\na\na\n" * count),
    ]
    found = [between("x", before, after) for before, after in pairs]

    assert all(one.diff for one in found)


def test_beyond_that_the_middle_counts_as_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """What both begin and end with is not told."""
    monkeypatch.setattr(difference, "EDITS", 1)
    found = between("x", "1\na\nb\n9\n", "1\nb\nc\n9\n")

    assert (2, 2) == (found.added, found.removed)
    assert "-a\n-b\n+b\n+c\n" in found.diff


def test_ways_through_lines_that_are_the_same_are_not_all_followed() -> None:
    """Whoever has written them for that would keep a processor busy for long."""
    before, after = (
        "".join(
            f"{number}{mark}\n" if number % beat == 0 else "abb"[number % 3] + "\n"
            for number in range(40_000)
        )
        for mark, beat in (("x", 301), ("y", 307))
    )
    found = between("x", before, after)

    assert (39_800, 39_800) < (found.added, found.removed)
