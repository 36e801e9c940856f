"""The CLI's own transcripts: what of them is worth keeping, and their files on a machine.

Knows the CLI's files; does not know processes, books or who keeps the entries.

A conversation is resumed from its own file. Of its entries those of the kinds below were found to
be all that a resumed conversation needs: what else there is, the CLI makes anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import orjson

from moorline.executor.v1 import executions_pb2
from services.chassis.failures import Failure, field_invalid
from services.executor.backend import View
from services.executor.claude_code import inside
from services.executor.claude_code.heaps import parsed
from services.executor.place import Place

PART_BYTES = 512 << 10
"""Bytes of the entries of one part."""

_KINDS = frozenset({"assistant", "summary", "system", "user"})
_QUEUED = "queued_command"
"""The attachment that is something said to the agent: what ended in the background."""
_LONG_BYTES = 16 << 10
"""A text within an entry that is too large is shortened to this."""
_FILE_BYTES = 256 << 20
_ENTRY_BYTES = 32 << 20
"""Bytes of one entry in a file."""
_UNTOLD_PARTS = 128
"""Parts of a file that are told of at once; a process that died has left one, or two."""
_ID_CHARACTERS = 100
"""Of an entry's id; it is a UUID."""
_CONVERSATION = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,62}")
_FILE = re.compile(r"(?:[0-9A-Za-z_][0-9A-Za-z._-]{0,99}/){0,3}[0-9A-Za-z_][0-9A-Za-z._-]{0,99}")


@dataclass(slots=True)
class Parts:
    """Gathers entries into parts.

    Attributes:
        conversation: The conversation.
        last_entry: Id of the newest entry so far.
    """

    conversation: str
    last_entry: str = ""
    _entries: list[str] = field(default_factory=list)
    _size: int = 0

    def add(self, entries: Iterable[Mapping[str, Any]]) -> Iterator[executions_pb2.TranscriptPart]:
        """Take entries in; give the parts that they fill, and the rest as the last one."""
        for entry in entries:
            if not _is_kept(entry):
                continue
            text = _text_of(entry)
            size = len(text.encode())
            if size > PART_BYTES:
                # Made of so many small things that none of them is worth to be shortened.
                continue
            if self._size + size > PART_BYTES:
                yield self._part()
            self._entries.append(text)
            self._size += size
            self.last_entry = _id_of(entry) or self.last_entry
        if self._entries:
            yield self._part()

    def _part(self) -> executions_pb2.TranscriptPart:
        entries, self._entries, self._size = self._entries, [], 0
        return executions_pb2.TranscriptPart(
            conversation=self.conversation, entries=entries, last_entry=self.last_entry
        )


def checked_conversation(conversation: str) -> str:
    """Return a conversation as a process names it.

    Raises:
        ValueError: It is no name that could be the CLI's.
    """
    if not _CONVERSATION.fullmatch(conversation):
        raise ValueError(conversation)
    return conversation


def conversation_of(path: str) -> str:
    """Return the conversation whose own file is at a path; empty for other files."""
    folder, _, name = path.rpartition("/")
    conversation, dot, kind = name.rpartition(".")
    # The files of sub-agents lie deeper. They cannot be gone on with, so nobody needs them.
    if (dot, kind) != (".", "jsonl") or "/subagents" in folder:
        return ""
    return conversation if _CONVERSATION.fullmatch(conversation) else ""


def has(place: Place, view: View, conversation: str, entry_id: str) -> bool:
    """Tell whether a conversation's file is here and holds an entry. Reads the file."""
    entries = _entries(place, view, conversation, mention=entry_id)
    return any(entry.get("uuid") == entry_id for entry in entries)


def is_begun(place: Place, view: View, conversation: str) -> bool:
    """Tell whether anything of a conversation is here, so that it can be gone on with.

    A program that is killed in its first turn may have written nothing of it. Reads the file.
    """
    return any(map(_is_kept, _entries(place, view, conversation, mention="")))


def missing(
    place: Place, view: View, conversation: str, last_entry: str
) -> list[executions_pb2.TranscriptPart]:
    """Return what a conversation's file holds after an entry: what nobody was told of.

    A process that died has not told what it wrote last. Reads the file.

    Args:
        place: What the agent has.
        view: Where its processes find that.
        conversation: The conversation.
        last_entry: Id of the newest entry that is stored; empty for none.

    Returns:
        Nothing when the file, or the entry in it, is not here.
    """
    parts = Parts(conversation, last_entry)
    entries = _entries(place, view, conversation, mention="")
    if last_entry and not any(entry.get("uuid") == last_entry for entry in entries):
        return []
    return list(islice(parts.add(entries), _UNTOLD_PARTS))


def restore(
    place: Place,
    view: View,
    conversation: str,
    file: str,
    position: int,
    entries: Sequence[str],
) -> None:
    """Write a part of a transcript where the CLI looks for it. Does file work.

    Args:
        place: What the agent has; exists.
        view: Where its processes find that.
        conversation: The conversation.
        file: As in `TranscriptPart.file`.
        position: Entries before this part; those after it are dropped.
        entries: One JSON object each.

    Raises:
        Failure: FIELD_INVALID for names, entries and positions that cannot be; FILE_UNSUITABLE
            when something else is in the way; QUOTA_EXCEEDED.
    """
    parts = _way(view, conversation, file)
    for entry in entries:
        _check(entry)
    lines: list[bytes] = []
    if position:
        there = inside.lines(place.state, parts, limit=_FILE_BYTES)
        lines = list(islice(there, max(0, position)))
    if position != len(lines):
        raise field_invalid("position", "be the number of entries restored so far")
    whole = b"".join(b"%b\n" % line for line in (*lines, *map(str.encode, entries)))
    inside.write(place.state, parts, whole)


def _is_kept(entry: Mapping[str, Any]) -> bool:
    kind = entry.get("type")
    if kind == "attachment":
        attachment = entry.get("attachment")
        return isinstance(attachment, dict) and attachment.get("type") == _QUEUED
    return kind in _KINDS


def _text_of(entry: Mapping[str, Any]) -> str:
    # A second copy of what a tool gave back, for people to look at; often whole files.
    kept = {key: value for key, value in entry.items() if key != "toolUseResult"}
    text = orjson.dumps(kept).decode()
    if len(text.encode()) <= PART_BYTES:
        return text
    limit = _LONG_BYTES
    while len(text.encode()) > PART_BYTES and limit:
        text = orjson.dumps(_shortened(kept, limit)).decode()
        limit //= 4
    return text


def _shortened(value: Any, limit: int) -> Any:
    if isinstance(value, str):
        if len(value) <= limit:
            return value
        return f"{value[:limit]}\n[{len(value) - limit} characters are not kept.]"
    if isinstance(value, dict):
        if value.get("type") == "image":
            return {"type": "text", "text": "[An image is not kept.]"}
        return {key: _shortened(inner, limit) for key, inner in value.items()}
    if isinstance(value, list):
        return [_shortened(inner, limit) for inner in value]
    return value


def _way(view: View, conversation: str, file: str) -> list[str]:
    if not _CONVERSATION.fullmatch(conversation):
        raise field_invalid("conversation", "be the handle of a conversation")
    if file and not _FILE.fullmatch(file):
        raise field_invalid("file", "be the name of a file of the conversation")
    slug = re.sub(r"[^0-9A-Za-z]", "-", view.files)
    below = [conversation, *file.split("/")] if file else [f"{conversation}.jsonl"]
    return ["claude", "projects", slug, *below]


def _check(entry: str) -> None:
    try:
        whole = isinstance(orjson.loads(entry), dict) and "\n" not in entry
    except ValueError:
        whole = False
    if not whole:
        raise field_invalid("entries", "be one JSON object each, on one line")


def _id_of(entry: Mapping[str, Any]) -> str:
    found = entry.get("uuid")
    return found if isinstance(found, str) and len(found) <= _ID_CHARACTERS else ""


def _entries(
    place: Place, view: View, conversation: str, *, mention: str
) -> Iterator[Mapping[str, Any]]:
    """Return the entries of a conversation's file that mention a text, one at a time.

    A line cut short is none.
    """
    if not _CONVERSATION.fullmatch(conversation):
        return
    try:
        for line in inside.lines(place.state, _way(view, conversation, ""), limit=_FILE_BYTES):
            if mention.encode() in line and (entry := _entry(line)) is not None:
                yield entry
    except Failure:
        # The agent has put something else there: its conversation is not here.
        return


def _entry(line: bytes) -> Mapping[str, Any] | None:
    if len(line) > _ENTRY_BYTES:
        return None
    try:
        entry = parsed(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
