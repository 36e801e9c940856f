"""Copies of the services with a few words replaced: planted bugs, and points to die at.

The product itself holds no test code.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.nemesis.cluster import ROOT

# What agents run is large, and no service imports it.
_IGNORED = shutil.ignore_patterns("static", "node_modules", ".mypy_cache")


@dataclass(frozen=True, slots=True)
class Replacement:
    """Words of one file and what comes in their place.

    Attributes:
        file: Path from the root.
        old: What must be there exactly once.
        new: What comes in its place.
    """

    file: str
    old: str
    new: str


class StaleReplacementError(Exception):
    """Raised when a replacement no longer fits the code it was written for."""


def replaced(replacements: Iterable[Replacement], source: Path = ROOT) -> dict[str, str]:
    """Return the new text of each file that is replaced in, by path from the root.

    Raises:
        StaleReplacementError: Old words are missing, or there more than once.
    """
    texts: dict[str, str] = {}
    for replacement in replacements:
        path = source / replacement.file
        if not path.is_file():
            raise StaleReplacementError(f"{replacement.file} is not there any more")
        text = texts.get(replacement.file) or path.read_text()
        count = text.count(replacement.old)
        if count != 1:
            raise StaleReplacementError(
                f"{replacement.file} has these words {count} times, not once:\n{replacement.old}"
            )
        texts[replacement.file] = text.replace(replacement.old, replacement.new)
    return texts


def copy_services(
    to: Path,
    replacements: Iterable[Replacement],
    *,
    added: Mapping[str, str] | None = None,
    source: Path = ROOT,
) -> Path:
    """Copy the services and what they import, replace, and return the folder.

    Args:
        to: A folder that does not exist.
        replacements: What to replace, in order.
        added: More files, content by path.
        source: Where to copy from.

    Raises:
        StaleReplacementError: Old words are missing, or there more than once.
    """
    texts = replaced(replacements, source) | dict(added or {})
    # Times are kept, so that what was compiled is not compiled again.
    shutil.copytree(source / "services", to / "services", ignore=_IGNORED)
    shutil.copytree(source / "moorline", to / "moorline", ignore=_IGNORED)
    (to / "services" / "gateway" / "static").symlink_to(source / "services/gateway/static")
    for name, text in texts.items():
        (to / name).write_text(text)
    return to
