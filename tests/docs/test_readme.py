"""The READMEs say the same in both languages, and nothing that is not there."""

from __future__ import annotations

import re
import subprocess

import pytest

from moorline.cli.exits import Exit
from tests.docs.readme import READMES, ROOT, between, blocks, headings, settings, text

both = pytest.mark.parametrize("name", READMES)


def test_both_have_the_same_structure() -> None:
    """A section added to one README is missing in the other until it is translated."""
    english, korean = ([h.split(" ")[0] for h in headings(name)] for name in READMES)

    assert english == korean


@pytest.mark.parametrize("language", ["sh", "python", "json"])
def test_both_have_the_same_blocks(language: str) -> None:
    """A command that changed in one README has changed in the other."""
    english, korean = (
        [(block.note, plain(block.code)) for block in blocks(name, language)] for name in READMES
    )

    assert english
    assert english == korean


def plain(code: str) -> str:
    """A block without what a translation changes: comments, and texts with spaces."""
    return re.sub(r'"[^"]* [^"]*"|\s+#.*', "", code)


def test_both_have_the_same_tables() -> None:
    """Codes, steps and targets are the same rows."""
    english, korean = (
        re.findall(r"^\| (`.*?`|\d+)(?: \||,)", text(name), re.MULTILINE) for name in READMES
    )

    assert english == korean


@both
def test_the_first_screen_is_short(name: str) -> None:
    """One sentence, one picture, the other language, and the two commands, in this order."""
    first = text(name).partition("\n## ")[0]
    places = [
        first.find(what) for what in ("Moorline", "<picture>", "English", "make run", "make test")
    ]

    assert sorted(places) == places
    assert -1 not in places
    assert len(first.splitlines()) <= 30


@both
def test_links_lead_somewhere(name: str) -> None:
    """Every file linked or shown is there, and every heading linked to."""
    anchors = {
        re.sub(r"[^\w-]", "", h.lstrip("# ").lower().replace(" ", "-")) for h in headings(name)
    }
    targets = re.findall(r"\]\(([^)]+)\)|(?:src|srcset)=\"([^\"]+)\"", text(name))

    for target in ("".join(pair) for pair in targets):
        if target.startswith("#"):
            assert target[1:] in anchors
        else:
            assert (ROOT / target).exists(), target


@both
def test_every_target_named_exists(name: str) -> None:
    """`make X` in the text is a target of the Makefile."""
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", text(name), re.MULTILINE))
    for target in named:
        done = subprocess.run(
            ["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert 0 == done.returncode, done.stderr


def test_every_target_is_described() -> None:
    """`make` and both READMEs name every target."""
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    for target in phony[1].split():
        assert f"make {target} " in shown
        if target != "help":
            assert all(f"`make {target}`" in text(name) for name in READMES), target


@both
def test_the_settings_are_the_services(name: str) -> None:
    """The tables are what the services print; `python -m tests.docs.readme` writes them."""
    assert settings() == between(name)


@both
def test_the_exit_codes_are_the_commands(name: str) -> None:
    """The table has every code of the command line, and no other."""
    assert [str(int(code)) for code in Exit] == re.findall(
        r"^\| (\d+) \|", text(name), re.MULTILINE
    )


def test_the_package_is_told_in_the_changelog() -> None:
    """The version that is built has a section, or is not released yet."""
    changelog = (ROOT / "CHANGELOG.md").read_text()
    version = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None

    assert f"## [{version[1]}]" in changelog or "## [Unreleased]" in changelog
