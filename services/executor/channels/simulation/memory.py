"""What a simulated agent keeps of a conversation, in the file where the real one keeps all of it.

Does not know turns. Only prompts with remarks are kept: the others have nothing to recall.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import orjson

from services.executor.channels.simulation.script import PREFIX


class Memory:
    """The transcript of one conversation.

    Args:
        folder: The CLI's folder.
        directory: The workspace, as the process sees it.
        conversation: The conversation.
    """

    def __init__(self, *, folder: Path, directory: str, conversation: str) -> None:
        slug = re.sub(r"[^0-9A-Za-z]", "-", directory)
        self.path = folder / "projects" / slug / f"{conversation}.jsonl"
        self._conversation = conversation

    def keep(self, prompt: str, message_id: str) -> dict[str, Any]:
        """Keep a prompt, and return the entry that it became. Does file work."""
        entry = {
            "type": "user",
            "uuid": message_id,
            "sessionId": self._conversation,
            "message": {"role": "user", "content": prompt},
        }
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write(b"%b\n" % orjson.dumps(entry))
        return entry

    def recall(self, before: str) -> list[str]:
        """Return the remarks of the prompts that were kept. Does file work.

        Args:
            before: Id of the message that is left out: the one being answered.
        """
        if not self.path.exists():
            return []
        entries = map(orjson.loads, self.path.read_bytes().splitlines())
        return [
            remark_of(entry["message"]["content"])
            for entry in entries
            if entry["type"] == "user" and entry["uuid"] != before
        ]


def remark_of(prompt: str) -> str:
    """Return the first line of a script that is no step; empty when there is none, or no script."""
    lines = prompt.split("\n")
    if not any(line.startswith(PREFIX) for line in lines):
        return ""
    return next((line for line in lines if line.strip() and not line.startswith(PREFIX)), "")
