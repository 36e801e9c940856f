"""Tests of the two catalogues."""

from __future__ import annotations

import re
import string
from pathlib import Path

import moorline
from moorline.cli.language import LANGUAGES, Texts, choose_language, read_catalogue

ROOT = Path(__file__).parents[4]


def placeholders(text: str) -> set[str | None]:
    """Names of a text's placeholders."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_both_languages_say_the_same() -> None:
    """Same keys, sorted or not, and the same placeholders."""
    english, korean = (read_catalogue(language) for language in LANGUAGES)
    assert english.keys() == korean.keys()
    assert {key: placeholders(text) for key, text in english.items()} == {
        key: placeholders(text) for key, text in korean.items()
    }


def test_every_key_used_exists_and_every_text_is_used() -> None:
    """Each literal key in the code has a text, and no text is left over."""
    source = "\n".join(path.read_text() for path in (ROOT / "moorline/cli").glob("*.py"))
    keys = read_catalogue("en").keys()
    used = set(re.findall(r"""(?:say|texts)\(\s*["']([a-z.-]+)["']""", source))
    used |= {"no"} | set(re.findall(r'"([a-z]+\.[a-z.-]+)"', source)) & keys
    assert set() == used - keys
    families = (
        "error.",
        "outcome.",
        "agent.state.",
        "change.",
        "column.",
        "decider.",
        "doctor.",
        "log.",
    )
    assert set() == {key for key in keys - used if not key.startswith(families)}


def test_an_error_without_a_text_is_told_in_english() -> None:
    """A reason of a newer server does no harm."""
    error = moorline.MoorlineError("It is odd.", reason="BRAND_NEW")
    assert "It is odd." == Texts("ko").error(error)


def test_a_reason_with_several_texts_has_the_one_that_fits() -> None:
    """Whose budget is spent decides how to go on; one that is not known has a text, too."""
    texts = [
        Texts("en").error(
            moorline.MoorlineError("x", reason="BUDGET_EXHAUSTED", metadata={"budget": budget})
        )
        for budget in ("turn", "month", "new")
    ]
    assert "--turn-budget" in texts[0]
    assert "operator" in texts[1]
    assert texts[2].startswith("A budget is spent.")


def test_the_language_is_the_first_one_set() -> None:
    """One nobody wrote a catalogue for is English."""
    assert "en" == choose_language(None, {})
    assert "en" == choose_language(None, {"LC_ALL": "C", "LANG": "ko_KR.UTF-8"})
    assert "en" == choose_language("fr", {"LANG": "ko_KR"})
    assert "ko" == choose_language("ko-KR", {})
