"""Reads the READMEs: their headings, their blocks, and the part that is generated.

`python -m tests.docs.readme` writes the tables of settings into both.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
READMES = ("README.md", "README.ko.md")
SERVICES = ("gateway", "session", "executor")
BEGIN = "<!-- settings:begin -->\n"
END = "<!-- settings:end -->\n"

BLOCK = re.compile(
    r"(?:<!-- (?P<note>[^\n]*?) -->\n)?```(?P<language>\w+)\n(?P<code>.*?)```", re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: What stands behind the fence.
        note: The comment right above it, or nothing.
        code: Its lines.
    """

    language: str
    note: str
    code: str

    @property
    def runs(self) -> bool:
        """False for a block that says why it is not run."""
        return not self.note.startswith("not run: ")


def text(name: str) -> str:
    """One README."""
    return (ROOT / name).read_text()


def blocks(name: str, language: str) -> list[Block]:
    """Its blocks in one language."""
    found = [
        Block(match["language"], match["note"] or "", match["code"])
        for match in BLOCK.finditer(text(name))
    ]
    return [block for block in found if block.language == language]


def headings(name: str) -> list[str]:
    """Its headings, outside of blocks."""
    return re.findall(r"^#+ .*$", BLOCK.sub("", text(name)), re.MULTILINE)


def settings() -> str:
    """The tables as the services print them."""
    parts = []
    for service in SERVICES:
        command = [sys.executable, "-m", f"services.{service}", "--settings"]
        table = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        parts.append(f"\n**{service}**\n\n{table.strip()}\n")
    return "".join(parts) + "\n"


def between(name: str) -> str:
    """What stands between the markers."""
    return text(name).partition(BEGIN)[2].partition(END)[0]


def main() -> None:
    """Write the tables into both READMEs."""
    tables = settings()
    for name in READMES:
        before, begin, rest = text(name).partition(BEGIN)
        (ROOT / name).write_text(before + begin + tables + END + rest.partition(END)[2])


if __name__ == "__main__":
    main()
