"""Tests of `services.executor.claude_code.transcripts`."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import orjson
import pytest

from moorline.executor.v1 import executions_pb2
from services.chassis.failures import Failure
from services.executor.backend import View
from services.executor.claude_code.transcripts import (
    PART_BYTES,
    Parts,
    conversation_of,
    has,
    missing,
    restore,
)
from services.executor.place import Place
from services.executor.workspaces import Workspaces

VIEW = View(files="/work space", state="/state", run="/run")
CONVERSATION = "6d2b7a52-0f2c-4a55-9c39-7a3a7a9d8f11"


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    """What an agent has."""
    return await Workspaces(root=tmp_path).make("abcdefgh")


def entry(uuid: str, kind: str = "user", **more: Any) -> dict[str, Any]:
    """Return an entry."""
    return {"type": kind, "uuid": uuid, "message": {"role": "user", "content": uuid}} | more


def parts_of(*entries: dict[str, Any]) -> list[executions_pb2.TranscriptPart]:
    """Return the parts that entries become."""
    return list(Parts(CONVERSATION).add(entries))


def file_of(place: Place) -> Path:
    """Return where the CLI keeps the conversation."""
    return place.state / "claude/projects/-work-space" / f"{CONVERSATION}.jsonl"


def test_what_resuming_needs_is_kept() -> None:
    """Prose and what ended in the background; not what the CLI makes anew, nor second copies."""
    (part,) = parts_of(
        entry("1", toolUseResult={"originalFile": "x" * 100}),
        entry("2", "assistant"),
        {"type": "queue-operation"},
        entry("3", "attachment", attachment={"type": "prompt_snapshot"}),
        entry("4", "attachment", attachment={"type": "queued_command"}),
        entry("5", "attachment"),
        entry("6", "system", subtype="compact_boundary"),
        {"type": "summary", "summary": "s", "leafUuid": "6"},
    )
    kept = [orjson.loads(text) for text in part.entries]

    assert ["user", "assistant", "attachment", "system", "summary"] == [one["type"] for one in kept]
    assert "toolUseResult" not in kept[0]
    assert (CONVERSATION, "", "6") == (part.conversation, part.file, part.last_entry)


def test_nothing_kept_is_no_part() -> None:
    """What comes later knows the newest entry all the same."""
    parts = Parts(CONVERSATION, "0")
    nothing = list(parts.add([{"type": "last-prompt"}]))
    (part,) = parts.add([{"type": "summary"}])

    assert [] == nothing
    assert "0" == part.last_entry


def test_parts_are_bounded() -> None:
    """Entries are never cut; a part ends before the one that would be too much."""
    parts = parts_of(*(entry(str(number), text="x" * 200_000) for number in range(5)))

    assert [2, 2, 1] == [len(part.entries) for part in parts]
    assert ["1", "3", "4"] == [part.last_entry for part in parts]


@pytest.mark.parametrize("text", ["x" * 700_000, "한" * 300_000])
def test_entry_that_is_too_large_loses_its_largest_texts(text: str) -> None:
    """A note tells that something is missing; the rest stays."""
    image = {"type": "image", "source": {"data": "x" * 100_000}}
    content = [image, {"type": "text", "text": text}, {"type": "text", "text": "short"}]
    (part,) = parts_of(entry("1", message={"content": content}))
    first, second, third = orjson.loads(part.entries[0])["message"]["content"]

    assert len(part.entries[0].encode()) <= PART_BYTES
    assert {"type": "text", "text": "[An image is not kept.]"} == first
    assert second["text"].endswith("characters are not kept.]")
    assert "short" == third["text"]


def test_entry_of_many_texts_is_shortened_further() -> None:
    """Until it fits."""
    (part,) = parts_of(entry("1", texts=["x" * 16_000] * 100))

    assert len(part.entries[0]) <= PART_BYTES


@pytest.mark.parametrize(
    ("path", "conversation"),
    [
        (f"/state/claude/projects/-w/{CONVERSATION}.jsonl", CONVERSATION),
        (f"/state/claude/projects/-w/{CONVERSATION}/subagents/agent-1.jsonl", ""),
        ("/state/x.json", ""),
        ("/state/..jsonl", ""),
    ],
)
def test_conversation_has_one_file(path: str, conversation: str) -> None:
    """Others are of no use to anybody."""
    assert conversation == conversation_of(path)


def test_restored_conversation_is_where_the_cli_looks(place: Place) -> None:
    """Part by part, each as often as one likes."""
    first, second = [orjson.dumps(entry(uuid)).decode() for uuid in "12"]
    restore(place, VIEW, CONVERSATION, "", 0, ["{}"])
    for position, text in ((0, first), (1, second), (1, second)):
        restore(place, VIEW, CONVERSATION, "", position, [text])

    assert f"{first}\n{second}\n" == file_of(place).read_text()
    assert has(place, VIEW, CONVERSATION, "2")
    assert not has(place, VIEW, CONVERSATION, "3")
    assert not has(place, VIEW, "../x", "2")


def test_file_of_a_sub_agent_lies_below_its_conversation(place: Place) -> None:
    """Under its own name."""
    restore(place, VIEW, CONVERSATION, "subagents/agent-1.jsonl", 0, ["{}"])

    assert (file_of(place).with_suffix("") / "subagents/agent-1.jsonl").exists()


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"conversation": "../x"}, "conversation"),
        ({"file": "../x.jsonl"}, "file"),
        ({"file": "/x.jsonl"}, "file"),
        ({"file": "a//b"}, "file"),
        ({"position": 1}, "position"),
        ({"position": -1}, "position"),
        ({"entries": ["{"]}, "entries"),
        ({"entries": ["[]"]}, "entries"),
        ({"entries": ["{\n}"]}, "entries"),
    ],
)
def test_what_cannot_be_is_refused(place: Place, changed: dict[str, Any], field: str) -> None:
    """Nothing is written."""
    values: dict[str, Any] = {
        "conversation": CONVERSATION,
        "file": "",
        "position": 0,
        "entries": ["{}"],
    } | changed
    with pytest.raises(Failure) as caught:
        restore(place, VIEW, **values)

    assert {"field": field} == {"field": caught.value.metadata["field"]}
    assert not file_of(place).exists()


def test_agent_cannot_send_what_is_restored_elsewhere(place: Place, tmp_path: Path) -> None:
    """A link in the place of a folder is no way; its conversation is not here."""
    (place.state / "claude").symlink_to(tmp_path)
    with pytest.raises(Failure) as caught:
        restore(place, VIEW, CONVERSATION, "", 0, ["{}"])

    assert "FILE_UNSUITABLE" == caught.value.reason_name
    assert not has(place, VIEW, CONVERSATION, "1")
    assert not (tmp_path / "projects").exists()


def test_what_nobody_was_told_of_is_found(place: Place) -> None:
    """All that follows the entry stored last; a line that was cut short is none."""
    lines = [orjson.dumps(entry(uuid)) for uuid in "123"]
    file_of(place).parent.mkdir(parents=True)
    file_of(place).write_bytes(b"\n".join([*lines, b"[]", b'{"type": "us']))

    def found(last_entry: str) -> list[str]:
        parts = missing(place, VIEW, CONVERSATION, last_entry)
        return [orjson.loads(text)["uuid"] for part in parts for text in part.entries]

    assert ["2", "3"] == found("1")
    assert [] == found("3")
    assert ["1", "2", "3"] == found("")
    assert [] == found("9")


def test_conversation_that_is_not_here_has_nothing_to_tell(place: Place) -> None:
    """It is somewhere else, or nowhere."""
    assert [] == missing(place, VIEW, CONVERSATION, "")
    assert [] == missing(place, VIEW, CONVERSATION, "1")


def test_file_full_of_nothing_takes_no_memory(place: Place) -> None:
    """An agent may write into it what it likes; it is read piece by piece."""
    file_of(place).parent.mkdir(parents=True)
    file_of(place).write_bytes(b"\n" * (8 << 20) + orjson.dumps(entry("1")))
    tracemalloc.start()
    try:
        found = has(place, VIEW, CONVERSATION, "1")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert found
    assert peak < 32 << 20


def test_entry_that_cannot_be_shortened_is_not_kept() -> None:
    """A part of it would be none, and the whole is more than a message carries."""
    (part,) = parts_of(entry("1"), entry("2", numbers=list(range(200_000))), entry("3"))

    assert ["1", "3"] == [orjson.loads(text)["uuid"] for text in part.entries]


@pytest.mark.parametrize("uuid", ["x" * 1000, 7])
def test_id_that_is_none_is_not_remembered(uuid: Any) -> None:
    """It goes along with everything that is stored."""
    (part,) = parts_of(entry("1"), entry("2") | {"uuid": uuid})

    assert "1" == part.last_entry
