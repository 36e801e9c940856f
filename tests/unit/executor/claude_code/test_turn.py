"""Tests of `services.executor.claude_code.turn`."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from moorline.errors.v1 import errors_pb2
from moorline.transcript.v1 import transcript_pb2
from services.executor.agent_process import Ending, Result
from services.executor.book import Book
from services.executor.claude_code.asks import ask_of
from services.executor.claude_code.pieces import PIECE_BYTES
from services.executor.claude_code.turn import Turn
from tests.unit.executor.fakes import items, kinds, texts


@pytest.fixture
def book() -> Book:
    """The turn's book."""
    return Book()


@pytest.fixture
def turn(book: Book) -> Turn:
    """A turn that has just begun."""
    return Turn(message_id="u1", book=book)


def start(turn: Turn, message_id: str = "m1", parent: str | None = None) -> None:
    """Begin a message."""
    event = {"type": "message_start", "message": {"id": message_id}}
    turn.stream_event({"event": event, "parent_tool_use_id": parent})


def delta(turn: Turn, text: str, index: Any = 0, kind: str = "text") -> None:
    """Stream a fragment."""
    inner = {"type": f"{kind}_delta", kind: text}
    event = {"type": "content_block_delta", "index": index, "delta": inner}
    turn.stream_event({"event": event, "parent_tool_use_id": None})


def confirm(turn: Turn, *contents: dict[str, Any], message_id: str = "m1", **more: Any) -> None:
    """Confirm blocks of a message."""
    message = {"id": message_id, "model": "model", "content": list(contents)}
    turn.assistant({"message": message} | more)


def text(said: str) -> dict[str, Any]:
    """Return a block of text."""
    return {"type": "text", "text": said}


def end(turn: Turn, result: Result) -> Ending:
    """End the turn."""
    return turn.end(result, None, transcript_pb2.Usage(), background=0)


def open_texts(book: Book) -> dict[str, str]:
    """Return the open pieces."""
    return {block_id: block.text for block_id, block in book.blocks.items()}


def test_streamed_text_becomes_an_item_when_confirmed(turn: Turn, book: Book) -> None:
    """The piece keeps its id."""
    start(turn)
    delta(turn, "one ")
    delta(turn, "two")
    before = open_texts(book)
    confirm(turn, text("one two"))

    assert {"m1-0": "one two"} == before
    (item,) = items(book)
    assert ("m1-0", "one two", False) == (
        item.agent_message.block_id,
        item.agent_message.text,
        item.agent_message.partial,
    )


def test_thought_and_text_of_one_message_are_two_pieces(turn: Turn, book: Book) -> None:
    """They are confirmed by kind, in order."""
    start(turn)
    delta(turn, "hm", kind="thinking")
    confirm(turn, {"type": "thinking", "thinking": "hm"})
    delta(turn, "a", index=1)
    confirm(turn, text("a"))

    assert ["agent_thought", "agent_message"] == kinds(book)
    assert "m1-1" == items(book)[1].agent_message.block_id


def test_text_of_a_second_kind_does_not_confirm_the_first(turn: Turn, book: Book) -> None:
    """A confirmation without its stream is a piece of its own."""
    start(turn)
    delta(turn, "hm", kind="thinking")
    confirm(turn, text("a"))

    assert ["a"] == texts(book)
    assert {"m1-0": "hm"} == open_texts(book)


def test_message_that_was_not_streamed_is_an_item(turn: Turn, book: Book) -> None:
    """After retries the CLI may answer in one piece."""
    confirm(turn, text("whole"), text("again"), message_id="m9")

    assert ["whole", "again"] == texts(book)
    assert 2 == len({item.agent_message.block_id for item in items(book)})


def test_confirmed_text_wins_over_what_was_streamed(turn: Turn, book: Book) -> None:
    """Pieces without text left are taken back."""
    start(turn)
    delta(turn, "x" * PIECE_BYTES)
    delta(turn, "more")
    confirm(turn, text("short"))

    assert ["short"] == texts(book)
    assert {} == open_texts(book)


def test_empty_text_is_no_item(turn: Turn, book: Book) -> None:
    """Nothing said is nothing recorded, and an empty fragment opens nothing."""
    start(turn)
    delta(turn, "")
    confirm(turn, text(""))

    assert [] == items(book)
    assert {} == book.blocks


def test_new_message_withdraws_the_one_never_confirmed(turn: Turn, book: Book) -> None:
    """After a broken stream the CLI writes anew."""
    start(turn, "m1")
    delta(turn, "bad")
    start(turn, "m2")
    delta(turn, "good")

    assert {"m2-0": "good"} == open_texts(book)


def test_sub_agent_is_told_by_its_parent(turn: Turn, book: Book) -> None:
    """What it says comes whole; it does not disturb what the agent itself is writing."""
    start(turn)
    delta(turn, "mine")
    start(turn, "sub", parent="t1")
    call = {"type": "tool_use", "id": "t2", "name": "Read", "input": {}}
    thought = {"type": "thinking", "thinking": "hm"}
    confirm(turn, text("inner"), thought, call, message_id="sub", parent_tool_use_id="t1")
    said, thinking, called = items(book)

    assert {"m1-0": "mine"} == open_texts(book)
    assert ("inner", "t1") == (said.agent_message.text, said.agent_message.parent_tool_call_id)
    assert "t1" == thinking.agent_thought.parent_tool_call_id
    assert "t1" == called.tool_call.parent_tool_call_id


def test_prose_about_provider_errors_is_not_the_agents(turn: Turn, book: Book) -> None:
    """The result carries the facts."""
    turn.assistant({"message": {"id": "m", "model": "<synthetic>", "content": [text("401")]}})

    assert [] == items(book)


def test_refused_message_stays_and_the_model_is_asked_again(turn: Turn, book: Book) -> None:
    """Once; what the program tells the model is nobody's words."""
    start(turn)
    delta(turn, "half")
    confirm(turn, text("half"))
    turn.user({"refused_message_id": "m1", "message": {"content": [text("Go on.")]}})
    said, retry = items(book)

    assert "half" == said.agent_message.text
    assert (1, 1) == (retry.provider_retry.attempt, retry.provider_retry.attempts)
    assert errors_pb2.ERROR_REASON_PROVIDER_REJECTED == retry.provider_retry.error.reason


def test_unknown_content_is_skipped(turn: Turn, book: Book) -> None:
    """A newer CLI may say more than is understood here."""
    confirm(turn, {"type": "novelty"})
    turn.user({"message": {"content": "plain"}})
    turn.user({"message": {"content": [{"type": "novelty"}]}})
    turn.stream_event({"event": {"type": "ping"}})

    assert [] == items(book)


def test_tool_call_and_result_are_items(turn: Turn, book: Book) -> None:
    """Results come as text or as a list of texts; both tell failure."""
    confirm(turn, {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}})
    confirm(turn, {"type": "tool_use", "id": "t2", "name": "Bash", "input": {}})
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "out"}
    listed = {
        "type": "tool_result",
        "tool_use_id": "t2",
        "content": [{"type": "text", "text": "a"}, {"type": "image"}],
        "is_error": True,
    }
    turn.user({"message": {"content": [result, listed]}})
    first, _, ok, failed = items(book)
    ending = end(turn, Result.FINISHED)

    assert {"command": "ls"} == orjson.loads(first.tool_call.input_json)
    assert ("out", False) == (ok.tool_result.output, ok.tool_result.failed)
    assert ("a", True) == (failed.tool_result.output, failed.tool_result.failed)
    assert (0, 1, 1) == (ending.tools_running, ending.tools_succeeded, ending.tools_failed)


def test_tool_without_result_is_still_running(turn: Turn) -> None:
    """What it did is not known."""
    confirm(turn, {"type": "tool_use", "id": "t1", "name": "Bash", "input": {}})

    assert 1 == end(turn, Result.DIED).tools_running


def test_long_output_is_cut_between_characters(turn: Turn, book: Book) -> None:
    """The item says how many bytes are missing."""
    output = "한" * 30_000
    result = {"type": "tool_result", "tool_use_id": "t1", "content": output}
    turn.user({"message": {"content": [result]}})
    (item,) = items(book)
    kept = item.tool_result.output

    assert output.startswith(kept)
    assert len(kept.encode()) in range(PIECE_BYTES - 3, PIECE_BYTES + 1)
    assert 90_000 == len(kept.encode()) + item.tool_result.omitted_bytes


@pytest.mark.parametrize("character", ["x", "한", '"', "\\"])
def test_long_input_stays_an_object(turn: Turn, book: Book, character: str) -> None:
    """Cut input is an object with one key, within the limit, whatever it holds."""
    tool_input = {"content": character * 70_000}
    confirm(turn, {"type": "tool_use", "id": "t1", "name": "Write", "input": tool_input})
    call = items(book)[0].tool_call

    assert ["truncated"] == list(orjson.loads(call.input_json))
    assert len(call.input_json.encode()) <= PIECE_BYTES
    assert call.omitted_bytes > 0


def test_permission_request_is_an_item(turn: Turn, book: Book) -> None:
    """It is open until it is answered, or until its tool has run."""
    request = {"tool_name": "Bash", "input": {"command": "ls"}, "tool_use_id": "t1"}
    ask = ask_of("r1", request, plan="", diff="")
    turn.ask(ask)
    before = dict(turn.asks)
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "out"}
    turn.user({"message": {"content": [result]}})

    assert ask.request == items(book)[0].permission_request
    assert {"r1": ask} == before
    assert {} == turn.asks == turn.unsettled
    assert {"r1"} == turn.asked


@pytest.mark.parametrize("result", [Result.INTERRUPTED, Result.FAILED, Result.DIED])
def test_turn_that_ends_early_keeps_its_text(turn: Turn, book: Book, result: Result) -> None:
    """Nothing shown is thrown away."""
    start(turn)
    delta(turn, "hm", kind="thinking")
    delta(turn, "half", index=1)
    end(turn, result)
    thought, message = items(book)

    assert ("hm", True) == (thought.agent_thought.text, thought.agent_thought.partial)
    assert ("half", True) == (message.agent_message.text, message.agent_message.partial)


def test_finished_turn_takes_back_what_was_never_confirmed(turn: Turn, book: Book) -> None:
    """A message the CLI gave up is not part of the answer."""
    start(turn)
    delta(turn, "bad")
    end(turn, Result.FINISHED)

    assert [] == items(book)
    assert {} == book.blocks


@pytest.mark.parametrize("fragment", ["word ", "한글 ", "x" * 200_000, "한" * 50_000])
def test_long_text_is_several_pieces(turn: Turn, book: Book, fragment: str) -> None:
    """Each within the limit, together the whole, streamed and confirmed alike."""
    whole = fragment * (1 + 150_000 // len(fragment.encode()))
    start(turn)
    for position in range(0, len(whole), len(fragment)):
        delta(turn, whole[position : position + len(fragment)])
    streamed = open_texts(book)
    confirm(turn, text(whole))
    recorded = {item.agent_message.block_id: item.agent_message.text for item in items(book)}

    assert whole == "".join(streamed.values())
    assert streamed == recorded
    assert len(recorded) > 2
    assert max(len(piece.encode()) for piece in recorded.values()) <= PIECE_BYTES


def test_message_without_end_is_a_failure(turn: Turn) -> None:
    """More than can be carried ends the turn."""
    start(turn)
    for _ in range(260):
        delta(turn, "x" * PIECE_BYTES)

    assert turn.failure is not None
    assert "AGENT_FAILED" == turn.failure.reason_name


def test_item_that_no_message_can_carry_ends_the_turn(turn: Turn, book: Book) -> None:
    """Whatever runs beside the CLI may print in its name; others must not wait for that."""
    call = {"type": "tool_use", "id": "t1", "name": "x" * (1 << 20), "input": {}}
    confirm(turn, call)

    assert [] == items(book)
    assert turn.failure is not None
    assert "AGENT_FAILED" == turn.failure.reason_name


def test_names_that_are_none_are_not_taken(turn: Turn, book: Book) -> None:
    """Each would be repeated with every fragment."""
    with pytest.raises(ValueError, match=r"."):
        start(turn, "m" * 1000)
    with pytest.raises(ValueError, match=r"."):
        delta(turn, "x", index="9" * 1000)

    assert {} == open_texts(book)


def test_message_in_too_many_pieces_ends_the_turn(turn: Turn) -> None:
    """However small each of them is."""
    start(turn)
    for index in range(300):
        delta(turn, "x", index=index)

    assert turn.failure is not None
