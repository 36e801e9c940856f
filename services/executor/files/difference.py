"""What changed in a text, line by line, as a unified diff. Does not know files."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from services.executor.files.paths import quoted

Region: TypeAlias = tuple[int, int, int, int]
"""Lines `[first, second)` became lines `[third, fourth)`."""

CONTEXT = 3
"""Lines shown around a change."""
EDITS = 600
"""Lines that are added and removed at most when the shortest way is looked for, which takes time
that grows with the square of it; beyond, the whole middle counts as replaced."""
STEPS = 2_000_000
"""Lines that are compared at most meanwhile: where many are the same, each of the ways leads
through all of them."""

_UNENDED = "\\ No newline at end of file\n"


@dataclass(frozen=True, slots=True)
class Difference:
    """What changed.

    Attributes:
        added: Lines that are new.
        removed: Lines that are gone.
        diff: The unified diff; empty when nothing changed.
    """

    added: int
    removed: int
    diff: str


def between(path: str, before: str | None, after: str | None) -> Difference:
    """Compare two texts.

    Args:
        path: Where the text is, for the head of the diff.
        before: The text as it was; None when there was none.
        after: The text as it is; None when there is none.
    """
    old, new = _lines(before or ""), _lines(after or "")
    regions = list(_regions(old, new))
    added = sum(region[3] - region[2] for region in regions)
    removed = sum(region[1] - region[0] for region in regions)
    if not regions:
        return Difference(0, 0, "")
    pieces = [
        f"--- {'/dev/null' if before is None else quoted('a/' + path)}\n",
        f"+++ {'/dev/null' if after is None else quoted('b/' + path)}\n",
    ]
    for hunk in _hunks(regions):
        pieces.extend(_hunk(old, new, hunk))
    return Difference(added, removed, "".join(pieces))


def _lines(text: str) -> list[str]:
    # Only this one ends a line for the programs that read diffs.
    lines = [line + "\n" for line in text.split("\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


def _regions(old: Sequence[str], new: Sequence[str]) -> Iterator[Region]:
    """Find what changed, first to last."""
    start = _same(zip(old, new, strict=False))
    rest = min(len(old), len(new)) - start
    end = min(rest, _same(zip(reversed(old), reversed(new), strict=False)))
    numbers: dict[str, int] = {}
    middle_old = [numbers.setdefault(line, len(numbers)) for line in old[start : len(old) - end]]
    middle_new = [numbers.setdefault(line, len(numbers)) for line in new[start : len(new) - end]]
    x = y = 0
    for match_x, match_y in (*_matches(middle_old, middle_new), (len(middle_old), len(middle_new))):
        if match_x > x or match_y > y:
            yield start + x, start + match_x, start + y, start + match_y
        x, y = match_x + 1, match_y + 1


def _same(pairs: Iterator[tuple[str, str]]) -> int:
    count = 0
    for one, other in pairs:
        if one != other:
            break
        count += 1
    return count


def _matches(old: Sequence[int], new: Sequence[int]) -> list[tuple[int, int]]:
    """Return which lines stay, as pairs of their numbers, by Myers' greedy search.

    None stay when there are more edits than are looked for, or when that takes too long.
    """
    most = min(len(old) + len(new), EDITS)
    # How far one gets in the old text on each diagonal, with so many edits.
    reached = array("l", [0] * (2 * most + 3))
    middle = most + 1
    trail: list[Sequence[int]] = []
    steps = 0
    for edits in range(most + 1):
        trail.append(reached[middle - edits : middle + edits + 1])
        for diagonal in range(-edits, edits + 1, 2):
            at = middle + diagonal
            down = _goes_down(reached, at, diagonal, edits)
            x = reached[at + 1] if down else reached[at - 1] + 1
            y = x - diagonal
            steps -= x
            while x < len(old) and y < len(new) and old[x] == new[y]:
                x, y = x + 1, y + 1
            steps += x
            reached[at] = x
            if x >= len(old) and y >= len(new):
                return _way_back(trail, len(old), len(new))
            if steps > STEPS:
                return []
    return []


def _way_back(trail: Sequence[Sequence[int]], x: int, y: int) -> list[tuple[int, int]]:
    matches = []
    for edits in range(len(trail) - 1, 0, -1):
        reached, diagonal = trail[edits], x - y
        down = _goes_down(reached, edits + diagonal, diagonal, edits)
        before = diagonal + 1 if down else diagonal - 1
        before_x = reached[edits + before]
        before_y = before_x - before
        while x > before_x and y > before_y:
            x, y = x - 1, y - 1
            matches.append((x, y))
        x, y = before_x, before_y
    matches.extend((one, one) for one in range(x - 1, -1, -1))
    return matches[::-1]


def _goes_down(reached: Sequence[int], at: int, diagonal: int, edits: int) -> bool:
    """Tell whether a line that is new comes last on the way, and not one that is gone."""
    if diagonal in (-edits, edits):
        return diagonal == -edits
    return reached[at - 1] < reached[at + 1]


def _hunks(regions: Sequence[Region]) -> Iterator[list[Region]]:
    """Put regions together whose surroundings touch."""
    hunk = [regions[0]]
    for region in regions[1:]:
        if region[0] - hunk[-1][1] > 2 * CONTEXT:
            yield hunk
            hunk = []
        hunk.append(region)
    yield hunk


def _hunk(old: Sequence[str], new: Sequence[str], hunk: Sequence[Region]) -> Iterator[str]:
    first, last = hunk[0], hunk[-1]
    before = min(CONTEXT, first[0])
    after = min(CONTEXT, len(old) - last[1])
    old_range = _range(first[0] - before, last[1] + after)
    new_range = _range(first[2] - before, last[3] + after)
    yield f"@@ -{old_range} +{new_range} @@\n"
    position = first[0] - before
    for old_start, old_end, new_start, new_end in hunk:
        yield from _marked(" ", old[position:old_start])
        yield from _marked("-", old[old_start:old_end])
        yield from _marked("+", new[new_start:new_end])
        position = old_end
    yield from _marked(" ", old[position : position + after])


def _range(start: int, end: int) -> str:
    length = end - start
    if length == 1:
        return str(start + 1)
    # An empty range is named by the line before it.
    return f"{start + 1 if length else start},{length}"


def _marked(mark: str, lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        yield mark + line
        if not line.endswith("\n"):
            yield "\n" + _UNENDED
