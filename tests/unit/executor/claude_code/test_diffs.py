"""Tests of `services.executor.claude_code.diffs`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from services.executor.claude_code.diffs import diff_of

SEEN_AS = "/workspace"


def diff(files: Path, tool: str, **tool_input: Any) -> str:
    """Return what a tool would change."""
    return diff_of(tool, tool_input, files=files, seen_as=SEEN_AS)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A workspace with a file."""
    folder = tmp_path / "files"
    (folder / "a").mkdir(parents=True)
    (folder / "a/b.txt").write_text("one\ntwo\ntwo\n")
    return folder


def test_new_file_is_added(files: Path) -> None:
    """All its lines are new."""
    expected = "--- /dev/null\n+++ b/n.txt\n@@ -0,0 +1,2 @@\n+one\n+two\n"

    assert expected == diff(files, "Write", file_path="/workspace/n.txt", content="one\ntwo\n")


def test_file_that_is_there_is_compared(files: Path) -> None:
    """As it is now; a path may be relative to the workspace."""
    expected = "--- a/a/b.txt\n+++ b/a/b.txt\n@@ -1,3 +1,3 @@\n one\n two\n-two\n+three\n"

    assert expected == diff(files, "Write", file_path="a/b.txt", content="one\ntwo\nthree\n")


@pytest.mark.parametrize(
    ("edit", "changed"),
    [
        ({"old_string": "two", "new_string": "2"}, ["-two", "+2"]),
        (
            {"old_string": "two", "new_string": "2", "replace_all": True},
            ["-two", "-two", "+2", "+2"],
        ),
    ],
)
def test_edit_is_shown_where_it_happens(
    files: Path, edit: dict[str, Any], changed: list[str]
) -> None:
    """Once, or everywhere."""
    lines = diff(files, "Edit", file_path="/workspace/a/b.txt", **edit).splitlines()[3:]

    assert changed == [line for line in lines if line[0] != " "]


def test_several_edits_are_one_change(files: Path) -> None:
    """Each works on what the one before has left."""
    edits = [
        {"old_string": "one", "new_string": "1"},
        {"old_string": "1\ntwo", "new_string": "12"},
    ]
    told = diff(files, "MultiEdit", file_path="/workspace/a/b.txt", edits=edits)

    assert told.endswith("-one\n-two\n+12\n two\n")


def test_edit_may_make_a_file(files: Path) -> None:
    """Of nothing."""
    edit = {"old_string": "", "new_string": "x\n"}

    assert "+x\n" in diff(files, "Edit", file_path="/workspace/n.txt", **edit)


@pytest.mark.parametrize(
    ("how", "changed"),
    [
        ({"cell_id": "c2", "new_source": "new"}, ["-old", "+new"]),
        ({"cell_id": "c2", "new_source": "", "edit_mode": "delete"}, ["-old"]),
        ({"new_source": "new", "edit_mode": "insert"}, ["+new"]),
    ],
)
def test_cell_of_a_notebook_is_shown(files: Path, how: dict[str, Any], changed: list[str]) -> None:
    """Its source, and not the notebook's JSON."""
    cells = [{"id": "c1", "source": ["x"]}, {"id": "c2", "source": ["old"]}]
    (files / "n.ipynb").write_bytes(orjson.dumps({"cells": cells}))
    lines = diff(files, "NotebookEdit", notebook_path="/workspace/n.ipynb", **how).splitlines()

    assert changed == [line for line in lines[3:] if not line.startswith("\\")]


@pytest.mark.parametrize(
    ("tool", "tool_input"),
    [
        ("Bash", {"command": "rm -rf /"}),
        ("Other", {"file_path": "/workspace/a/b.txt"}),
        ("Write", {"content": "x"}),
        ("Write", {"file_path": 7, "content": "x"}),
        ("Write", {"file_path": "/etc/passwd", "content": "x"}),
        ("Write", {"file_path": "/workspace/../x", "content": "x"}),
        ("Write", {"file_path": "/workspace", "content": "x"}),
        ("Write", {"file_path": "/workspace/a", "content": "x"}),
        ("Write", {"file_path": "/workspace/a/b.txt/c", "content": "x"}),
        ("Write", {"file_path": "/workspace/link", "content": "x"}),
        ("Write", {"file_path": "/workspace/way/secret", "content": "x"}),
        ("Write", {"file_path": "/workspace/binary", "content": "x"}),
        ("Write", {"file_path": "/workspace/long", "content": "x"}),
        ("Write", {"file_path": "/workspace/n", "content": "x" * 70_000}),
        ("Write", {"file_path": "/workspace/n", "content": "\n" * 300_000}),
        (
            "Edit",
            {
                "file_path": "/workspace/repeated",
                "old_string": "a",
                "new_string": "b" * (1 << 20),
                "replace_all": True,
            },
        ),
        ("Edit", {"file_path": "/workspace/a/b.txt", "old_string": "no", "new_string": "x"}),
        ("Edit", {"file_path": "/workspace/a/b.txt", "old_string": "", "new_string": "x"}),
        ("MultiEdit", {"file_path": "/workspace/a/b.txt", "edits": "x"}),
        (
            "MultiEdit",
            {
                "file_path": "/workspace/a/b.txt",
                "edits": [{"old_string": "one", "new_string": "one one"}] * 101,
            },
        ),
        (
            "NotebookEdit",
            {"notebook_path": "/workspace/cells", "cell_id": "c", "new_source": "x"},
        ),
    ],
)
def test_what_cannot_be_shown_is_left_out(
    files: Path, tmp_path: Path, tool: str, tool_input: dict[str, Any]
) -> None:
    """What lies outside, behind links, or is no text of a bearable size."""
    (tmp_path / "secret").write_text("secret")
    (files / "link").symlink_to(tmp_path / "secret")
    (files / "way").symlink_to(tmp_path)
    (files / "binary").write_bytes(b"\xff\xfe")
    (files / "long").write_bytes(b"x" * (1 << 20) + b"x")
    (files / "repeated").write_bytes(b"a" * 200_000)
    (files / "cells").write_text('{"cells": []}')

    assert "" == diff(files, tool, **tool_input)
    assert "" == diff_of(tool, "no object", files=files, seen_as=SEEN_AS)
