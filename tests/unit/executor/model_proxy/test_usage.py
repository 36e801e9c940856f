"""Tests of `services.executor.model_proxy.usage`."""

from __future__ import annotations

import orjson
import pytest

from services.executor.model_proxy.prices import Told
from services.executor.model_proxy.usage import StreamReader, WholeReader
from tests.unit.executor.model_proxy.provider import MODEL, delta, event, start

TEXT = event("content_block_delta", delta={"text": 'not a "message_delta" {"usage": 1}\n\n'})
STREAM = b"".join(
    [
        start(
            input_tokens=10,
            output_tokens=1,
            cache_read_input_tokens=5,
            cache_creation_input_tokens=7,
            cache_creation={"ephemeral_1h_input_tokens": 3, "ephemeral_5m_input_tokens": 4},
            speed="fast",
            inference_geo="us",
        ),
        event("ping"),
        TEXT,
        delta(output_tokens=20, input_tokens=0, server_tool_use={"web_search_requests": 2}),
        event("message_stop"),
    ]
)
TOLD = Told(
    model=MODEL,
    read=10,
    written=20,
    cache_read=5,
    cache_written=7,
    cache_written_hour=3,
    searches=2,
    fast=True,
    region="us",
)


@pytest.mark.parametrize("size", [1, 2, 7, 64, 1000, 100_000])
def test_stream_is_read_in_any_pieces(size: int) -> None:
    """What a later event says of nothing takes nothing back."""
    reader = StreamReader()
    for place in range(0, len(STREAM), size):
        reader.feed(STREAM[place : place + size])

    assert TOLD == reader.told
    assert not reader.finish()


def test_news_are_told_when_they_come() -> None:
    """At the beginning, at the end, and at nothing in between."""
    reader = StreamReader()
    told = [reader.feed(part) for part in (start(input_tokens=1), TEXT, delta(output_tokens=2))]

    assert [True, False, True] == told
    assert not reader.feed(delta(output_tokens=2))


def test_stream_that_is_cut_has_told_its_beginning() -> None:
    """A line that is not complete counts when it can be read, and else does not."""
    reader = StreamReader()
    reader.feed(start(input_tokens=4, output_tokens=1) + delta(output_tokens=9)[:-30])

    assert not reader.finish()
    assert (4, 1) == (reader.told.read, reader.told.written)

    reader.feed(delta(output_tokens=9).rstrip())
    assert reader.finish()
    assert 9 == reader.told.written


def test_long_lines_are_not_kept() -> None:
    """They tell no usage; what follows them does."""
    reader = StreamReader()
    for _ in range(40):
        reader.feed(b'data: "message_delta"' + b"x" * 100_000)

    assert sum(map(len, reader._begun)) <= 1 << 20
    assert reader.feed(b"\n" + start(input_tokens=4))


@pytest.mark.parametrize(
    "line",
    [
        b'data: {"type": "message_delta"}\n',
        b'data: {"type": "message_delta", "usage": []}\n',
        b'data: {"type": "message_delta", "usage": {"output_tokens": "x"}}\n',
        b'data: {"message_start"\n',
        b'data: {"type": "other", "x": "message_start"}\n',
        b'data: {"type": "message_start", "message": {}}\n',
    ],
)
def test_strange_events_tell_nothing(line: bytes) -> None:
    """And fail nothing."""
    assert not StreamReader().feed(line)


def test_hour_is_a_part_of_what_is_written() -> None:
    """Whatever is told: nothing costs less than nothing."""
    reader = StreamReader()
    reader.feed(
        start(
            input_tokens=-5,
            cache_creation_input_tokens=2,
            cache_creation={"ephemeral_1h_input_tokens": 50},
        )
    )

    assert (0, 2) == (reader.told.read, reader.told.cache_written_hour)


def test_whole_answer_tells_at_its_end() -> None:
    """It is read once it is complete."""
    reader = WholeReader()
    text = orjson.dumps({"model": MODEL, "usage": {"input_tokens": 3, "output_tokens": 4}})
    early = [reader.feed(text[:10]), reader.feed(text[10:])]

    assert [False, False] == early
    assert reader.finish()
    assert Told(model=MODEL, read=3, written=4) == reader.told


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"model": "m"}', b'{"usage": {}}'])
def test_strange_answers_tell_nothing(text: bytes) -> None:
    """And fail nothing."""
    reader = WholeReader()
    reader.feed(text)

    assert not reader.finish()
    assert Told() == reader.told


def test_endless_answer_is_not_kept() -> None:
    """It passes, and is not read."""
    reader = WholeReader()
    for _ in range(70):
        reader.feed(b"x" * (1 << 20))

    assert len(reader._parts) <= 64
    assert not reader.finish()
