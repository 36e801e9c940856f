"""A toy shell for the simulated agent: a few commands, and no process of the machine.

Does not know the wire protocol.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from services.executor.channels.simulation import files

_HARMLESS = frozenset({"cat", "echo", "false", "sleep", "true"})
_EDITING = frozenset({"echo", "touch"})
_AND = " && "


def is_harmless(command: str) -> bool:
    """Tell whether a command only looks, so that it needs no permission."""
    return all(words and words[0] in _HARMLESS and ">" not in words for words in _parts(command))


def is_editing(command: str) -> bool:
    """Tell whether a command only looks and edits files of the workspace."""
    return all(words and words[0] in _HARMLESS | _EDITING for words in _parts(command))


def _parts(command: str) -> list[list[str]]:
    return [part.split() for part in command.split(_AND)]


async def run_command(command: str, workspace: Path) -> tuple[str, bool]:
    """Run commands joined by ` && ` until one fails.

    Args:
        command: `echo WORDS`, `echo WORDS > FILE`, `touch FILE`, `cat FILE`, `sleep SECONDS`,
            `true` and `false`.
        workspace: Where they work.

    Returns:
        What they print, and whether one failed.
    """
    printed: list[str] = []
    for part in command.split(_AND):
        try:
            printed += await _run(part.split(), workspace)
        except files.ToolError as error:
            return "\n".join(["Exit code 1", *printed, *filter(None, [str(error)])]), True
    return "\n".join(printed) or "(Bash completed with no output)", False


async def _run(words: list[str], workspace: Path) -> list[str]:
    match words:
        case ["echo", *said, ">", path]:
            await asyncio.to_thread(files.write, workspace, path, f"{' '.join(said)}\n")
            return []
        case ["echo", *said]:
            return [" ".join(said)]
        case ["touch", path]:
            await asyncio.to_thread(files.touch, workspace, path)
            return []
        case ["cat", path]:
            return [(await asyncio.to_thread(files.read, workspace, path)).removesuffix("\n")]
        case ["sleep", seconds] if seconds.replace(".", "", 1).isdecimal():
            await asyncio.sleep(float(seconds))
            return []
        case ["true"]:
            return []
        case ["false"]:
            raise files.ToolError
        case _:
            name = words[0] if words else ""
            raise files.ToolError(f"{name}: command not found")
