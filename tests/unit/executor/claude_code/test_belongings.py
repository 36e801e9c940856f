"""Tests of `services.executor.claude_code.belongings`."""

from __future__ import annotations

from pathlib import Path

import orjson

from services.executor.backend import View
from services.executor.claude_code.belongings import Belongings
from services.executor.claude_code.transcripts import restore
from services.executor.place import Place
from services.executor.workspaces import Workspaces

VIEW = View(files="/workspace", state="/state", run="/run")


def belongings(place: Place, conversation: str, last_entry: str = "") -> Belongings:
    """Return what a process has on disk."""
    return Belongings(place=place, view=VIEW, conversation=conversation, last_entry=last_entry)


async def test_what_is_told_is_noted(tmp_path: Path) -> None:
    """Whoever adopts the process tells the same, whatever the process has written since."""
    place = await Workspaces(root=tmp_path).make("abcdefgh")
    one, two = [orjson.dumps({"type": "user", "uuid": uuid}).decode() for uuid in "12"]
    restore(place, VIEW, "s1", "", 0, [one, two])
    told = belongings(place, "s1", "1").prepare()
    restore(place, VIEW, "s1", "", 2, [one])
    noted = belongings(place, "", "").noted()

    assert [[two]] == [list(part.entries) for part in told]
    assert told == noted


async def test_new_process_has_nothing_to_tell(tmp_path: Path) -> None:
    """Its folders are there, however often it is started; a note before it is gone."""
    place = await Workspaces(root=tmp_path).make("abcdefgh")
    unknown = belongings(place, "").noted()
    for _ in range(2):
        told = belongings(place, "").prepare()

    assert [] == unknown == told == belongings(place, "").noted()
    assert {"claude", "home", "tmp"} == {path.name for path in place.state.iterdir()}
