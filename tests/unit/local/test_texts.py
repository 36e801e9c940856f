"""The language of the terminal."""

from __future__ import annotations

import string
from dataclasses import asdict

import pytest

from services.local.texts import ENGLISH, KOREAN, Texts, texts_for


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, ENGLISH),
        ({"LANG": "C.UTF-8"}, ENGLISH),
        ({"LANG": "ko_KR.UTF-8"}, KOREAN),
        ({"LANG": "ko_KR.UTF-8", "LC_ALL": "en_US.UTF-8"}, ENGLISH),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "ko_KR.UTF-8"}, KOREAN),
    ],
)
def test_the_locale_chooses_the_language(environ: dict[str, str], expected: Texts) -> None:
    """The stronger variable of the locale wins; what is not Korean gets English."""
    assert expected == texts_for(environ)


def test_both_languages_say_the_same() -> None:
    """A sentence has the same blanks to fill in both languages."""
    for name, english in asdict(ENGLISH).items():
        korean = asdict(KOREAN)[name]
        if isinstance(english, str):
            assert blanks(english) == blanks(korean)
        else:
            assert english.keys() == korean.keys()


def blanks(text: str) -> set[str]:
    """The names to fill in."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}
