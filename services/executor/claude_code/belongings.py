"""What one process has on disk, before it runs. Does not know what is said to it."""

from __future__ import annotations

from pathlib import Path

from google.protobuf import json_format

from moorline.executor.v1 import executions_pb2
from services.executor.backend import View
from services.executor.claude_code import frames, inside, transcripts
from services.executor.files.folder import translated
from services.executor.place import Place

_NOTE = "transcript-untold.jsonl"
_NOTE_BYTES = 1 << 30


class Belongings:
    """What a process finds, and what is found out about it, on disk.

    Args:
        place: What the agent has; exists.
        view: Where the process finds that.
        conversation: Conversation it resumes; empty for a new one.
        last_entry: Id of the newest entry of the conversation that is stored; empty for none.
    """

    def __init__(self, *, place: Place, view: View, conversation: str, last_entry: str) -> None:
        self._place = place
        self._view = view
        self._conversation = conversation
        self._last_entry = last_entry

    def prepare(self) -> list[executions_pb2.TranscriptPart]:
        """Make what the process needs, and return the part of its transcript nobody was told of.

        That is noted, so that whoever adopts the process tells of the same. Does file work.

        Raises:
            Failure: QUOTA_EXCEEDED when the disk is full; SERVICE_UNAVAILABLE when it is broken.
        """
        with translated(()):
            for folder in frames.STATE_FOLDERS:
                _make(self._place.state / folder)
        parts: list[executions_pb2.TranscriptPart] = []
        if self._conversation:
            parts = transcripts.missing(
                self._place, self._view, self._conversation, self._last_entry
            )
        lines = [json_format.MessageToJson(part, indent=None).encode() for part in parts]
        inside.write(self._place.notes, [_NOTE], b"\n".join(lines))
        return parts

    def noted(self) -> list[executions_pb2.TranscriptPart]:
        """Return what `prepare` returned when the process was started. Does file work."""
        content = inside.read(self._place.notes, [_NOTE], limit=_NOTE_BYTES) or b""
        return [
            json_format.Parse(line, executions_pb2.TranscriptPart())
            for line in content.splitlines()
        ]


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        # Whatever the agent has put there instead is its own affair.
        return
