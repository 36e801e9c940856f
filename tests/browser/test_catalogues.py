"""The page's words: the same keys in both languages, and none missing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from moorline.errors.v1 import errors_pb2
from services.gateway.vendor import ROOT, STATIC

UNIT = Path(__file__).parent / "unit"
PLACEHOLDER = re.compile(r"\{(\w+)\}")
LITERAL = re.compile(r"\bt\(\s*'([^']+)'")
STEM = re.compile(r"\bt\(\s*`([\w.]+)\$\{")
PARTICLE = re.compile(r"\}(을|를|이|가|은|는|와|과|로|으로)(?![가-힣])")


def catalogue(tag: str) -> dict[str, str]:
    """The words of a language."""
    words: dict[str, str] = json.loads((STATIC / "locales" / f"{tag}.json").read_text("utf-8"))
    return words


def sources() -> str:
    """The page's own modules, as one text."""
    files = [*STATIC.glob("*.js"), *(STATIC / "components").glob("*.js")]
    return "\n".join(path.read_text("utf-8") for path in files)


def test_both_languages_have_the_same_keys_and_placeholders() -> None:
    """A word that exists in one exists in the other, with the same values in it."""
    en, ko = catalogue("en"), catalogue("ko")

    def shape(words: dict[str, str]) -> dict[str, list[str]]:
        return {key: sorted(PLACEHOLDER.findall(text)) for key, text in words.items()}

    assert shape(en) == shape(ko)


def test_every_key_that_is_used_exists() -> None:
    """Also those that are put together: something begins with their first part."""
    en, text = catalogue("en"), sources()

    assert [] == [key for key in LITERAL.findall(text) if key not in en]
    assert [] == [
        stem for stem in STEM.findall(text) if not any(key.startswith(stem) for key in en)
    ]


def test_every_reason_has_words() -> None:
    """Each failure of the contract is explained in both languages."""
    names = errors_pb2.ErrorReason.DESCRIPTOR.values_by_name
    reasons = {name.removeprefix("ERROR_REASON_") for name in names}
    explained = {key.split(".")[1] for key in catalogue("ko") if key.startswith("failure.")}

    assert set() == reasons - explained


def test_korean_has_no_particle_after_a_value() -> None:
    """Which particle is right depends on the value, so sentences are built without one."""
    assert [] == [text for text in catalogue("ko").values() if PARTICLE.search(text)]


# Longer than what it allows Node, whose words say what failed.
@pytest.mark.timeout(90)
def test_the_models_hold(modules: Path) -> None:
    """Node runs the tests of the modules that need no browser."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node.js on PATH to run tests/browser/unit with")
    files = sorted(str(path) for path in UNIT.glob("*.test.mjs"))
    done = subprocess.run(
        [node, "--test", *files], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )

    assert 0 == done.returncode, done.stdout[-4000:]
