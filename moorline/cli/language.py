"""What the command says, in the user's language.

Knows the catalogues beside it and nothing of when what is said.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from moorline.exceptions import MoorlineError

LANGUAGES = ("en", "ko")
_CATALOGUES = Path(__file__).parent / "locales"
_CASES = {"BUDGET_EXHAUSTED": "budget"}
"""Reasons with more than one text, and the fact that says which."""


class Texts:
    """One language's catalogue."""

    def __init__(self, language: str) -> None:
        self.language = language
        self._texts = read_catalogue(language)

    def __call__(self, key: str, /, **values: object) -> str:
        """Text of a key, with its placeholders filled."""
        return self._texts[key].format(**values)

    def error(self, error: MoorlineError) -> str:
        """What went wrong and what to do, by the error's reason.

        A reason without a text of its own is told in the server's English.
        """
        case = error.metadata.get(_CASES.get(error.reason, ""))
        keys = (f"error.{error.reason}.{case}", f"error.{error.reason}")
        key = next((key for key in keys if key in self._texts), None)
        if key is None:
            return error.message
        values = {"message": error.message, "field": "", "limit": "", "backend": ""}
        return self._texts[key].format(**{**values, **error.metadata})

    def trouble(self, error: MoorlineError) -> str:
        """What went wrong, where nobody is asked to do anything: the first sentence."""
        first, _, advice = self.error(error).partition(". ")
        return f"{first}." if advice else first


def read_catalogue(language: str) -> Mapping[str, str]:
    """Every text of a language by its key."""
    texts: dict[str, str] = json.loads(
        (_CATALOGUES / f"{language}.json").read_text(encoding="utf-8")
    )
    return texts


def choose_language(flag: str | None, environ: Mapping[str, str]) -> str:
    """Language to speak: the flag, then `MOORLINE_LANG`, `LC_ALL`, `LC_MESSAGES`, `LANG`."""
    candidates = (
        flag,
        *(environ.get(name) for name in ("MOORLINE_LANG", "LC_ALL", "LC_MESSAGES", "LANG")),
    )
    # The first one set decides, as the C library has it, even when it is a
    # language nobody wrote a catalogue for.
    chosen = next((candidate for candidate in candidates if candidate), "")
    language = chosen.replace("-", "_").partition("_")[0].partition(".")[0].lower()
    return language if language in LANGUAGES else "en"
