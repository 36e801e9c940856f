"""Tests of `services.executor.files.paths`."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.failures import Failure
from services.executor.files import paths
from tests.unit.executor.files.places import reason

NAMES = st.text(min_size=1, max_size=20)


@pytest.mark.parametrize(
    "path",
    [
        "..",
        "../x",
        "a/..",
        "a/../b",
        "./a",
        "a/.",
        "/etc/passwd",
        "a//b",
        "a/",
        "",
        "a\0b",
        "x" * 256,
        "가" * 86,
        "/".join(["x" * 200] * 21),
    ],
)
def test_bad_paths_are_refused(path: str) -> None:
    """Whatever could lead elsewhere, or cannot be a file's name."""
    with pytest.raises(Failure) as caught:
        paths.parse(path, field="path")

    assert "FIELD_INVALID" == reason(caught)
    assert "path" == caught.value.metadata["field"]


@pytest.mark.parametrize(
    "path", ["a", "a/b.txt", "...", "..a/b..", " ", "a\nb", "x" * 255, "한글/파일", "~", "a\\b"]
)
def test_good_paths_are_taken_apart(path: str) -> None:
    """Names are as free as the system has them."""
    assert tuple(path.split("/")) == paths.parse(path, field="path")


def test_only_where_it_is_wanted_the_empty_path_is_the_workspace() -> None:
    """Nobody deletes it by leaving something out."""
    assert () == paths.parse("", field="path", root=True)


@given(st.lists(NAMES, max_size=6).map("/".join))
def test_no_path_leads_out(path: str) -> None:
    """Whatever is accepted names something below the workspace."""
    try:
        parts = paths.parse(path, field="path", root=True)
    except Failure:
        return

    assert not {"", ".", ".."} & set(parts)
    assert all("/" not in part and "\0" not in part for part in parts)
    root = Path("/root/workspace")
    assert Path(os.path.normpath(root.joinpath(*parts))).is_relative_to(root)


@given(st.lists(st.binary(min_size=1, max_size=8), min_size=1, max_size=4))
def test_every_name_can_be_shown(names: list[bytes]) -> None:
    """Also one that is no text, in protocols that know nothing but text."""
    shown = paths.shown([os.fsdecode(name) for name in names])

    shown.encode()
    assert "\n" not in paths.quoted(shown)


def test_names_for_people_are_on_one_line() -> None:
    """So that no file can forge lines of a diff."""
    assert "plain 한글.txt" == paths.quoted("plain 한글.txt")
    assert r'"a\n+++ b\t\"\\\x1b"' == paths.quoted('a\n+++ b\t"\\\x1b')


@pytest.mark.parametrize(
    ("parts", "packed"),
    [
        (("a", "b.txt"), "a/b.txt"),
        (("..\\..\\evil",), "..%5C..%5Cevil"),
        (("C:", "Windows"), "C%3A/Windows"),
        (("a", "C:x"), "a/C:x"),
        (("a\nb",), "a%0Ab"),
        (("100%",), "100%25"),
    ],
)
def test_archives_stay_in_their_folder_everywhere(parts: tuple[str, ...], packed: str) -> None:
    """Also on systems with other names for disks and folders."""
    assert packed == paths.packed(parts)


@given(st.lists(NAMES.filter(lambda name: "/" not in name), min_size=1, max_size=4))
def test_packed_names_survive_the_archive(parts: list[str]) -> None:
    """What is written is what is read."""
    packed = paths.packed(parts)

    assert packed == zipfile.ZipInfo(packed).filename
    assert "\\" not in packed
