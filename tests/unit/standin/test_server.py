"""Tests of `tests.standin.server`: what other tests believe of the model provider."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from tests.contract.agents.turns import until
from tests.standin.ledger import tokens
from tests.standin.server import StandIn

KEY = "sk-right"
Event = dict[str, Any]


@pytest.fixture
async def provider() -> AsyncIterator[StandIn]:
    """A provider that takes one key."""
    async with StandIn(key=KEY).serve() as provider:
        yield provider


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Whoever asks."""
    async with aiohttp.ClientSession() as session:
        yield session


class Asker:
    """Asks a provider what a script says, as the agent's program does."""

    def __init__(self, provider: StandIn, session: aiohttp.ClientSession) -> None:
        self._url = f"{provider.url}/v1/messages"
        self._session = session

    @asynccontextmanager
    async def ask(
        self, *script: str, key: str = KEY, stream: bool = True
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask once; yields the beginning of the answer."""
        messages = [{"role": "user", "content": "\n".join(script)}]
        body = {"model": "claude-opus-5-5", "stream": stream, "messages": messages}
        headers = {"x-api-key": key, "x-claude-code-session-id": "s1"}
        async with self._session.post(self._url, json=body, headers=headers) as response:
            yield response

    async def events(self, *script: str) -> list[Event]:
        """Ask once; return the events of the answer, to its end."""
        async with self.ask(*script) as response:
            return [event async for event in events_of(response)]


@pytest.fixture
def asker(provider: StandIn, session: aiohttp.ClientSession) -> Asker:
    """Asks the provider."""
    return Asker(provider, session)


async def events_of(response: aiohttp.ClientResponse) -> AsyncIterator[Event]:
    """Read the events of a stream, each of which is two lines and an empty one."""
    assert response.status == 200
    assert response.content_type == "text/event-stream"
    while name := await response.content.readline():
        data, empty = await response.content.readline(), await response.content.readline()
        event: Event = json.loads(data.removeprefix(b"data: "))
        assert b"\n" == empty
        assert f"event: {event['type']}\n" == name.decode()
        yield event


async def events_until_cut(response: aiohttp.ClientResponse) -> list[Event]:
    """Read the events of a stream that breaks; one that ends is an error."""
    events: list[Event] = []
    stream = events_of(response)
    try:
        while True:
            events.append(await anext(stream))
    except aiohttp.ClientError:
        return events


def kinds(events: list[Event]) -> list[str]:
    """Return the kinds of events, repeated ones once."""
    names = [event["type"].removeprefix("content_block_") for event in events]
    return [name for index, name in enumerate(names) if names[index - 1 : index] != [name]]


def deltas(events: list[Event], key: str) -> str:
    """Return what the fragments of a kind make together."""
    found = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    return "".join(delta.get(key, "") for delta in found)


async def test_answer_is_a_message_of_blocks(asker: Asker) -> None:
    """Thoughts, text and the call of a tool, in order, each begun and ended."""
    events = await asker.events("/sim think hm", "/sim say two words", "/sim bash ls")
    blocks = [event for event in events if event["type"].startswith("content_block_")]
    starts = [event["content_block"] for event in blocks if "content_block" in event]
    block = ["start", "delta", "stop"]

    assert ["message_start", *block * 3, "message_delta", "message_stop"] == kinds(events)
    assert [0, 1, 2] == sorted({event["index"] for event in blocks})
    assert ["thinking", "text", "tool_use"] == [one["type"] for one in starts]
    assert ("hm", "two words") == (deltas(events, "thinking"), deltas(events, "text"))
    assert "ls" == json.loads(deltas(events, "partial_json"))["command"]
    assert "tool_use" == events[-2]["delta"]["stop_reason"]


@pytest.mark.parametrize(("step", "reason"), [("say x", "end_turn"), ("refuse x", "refusal")])
async def test_answer_says_why_it_ends(asker: Asker, step: str, reason: str) -> None:
    """Whether it is streamed or not."""
    events = await asker.events(f"/sim {step}")
    async with asker.ask(f"/sim {step}", stream=False) as response:
        whole = await response.json()

    assert reason == events[-2]["delta"]["stop_reason"] == whole["stop_reason"]
    assert "x" == deltas(events, "text") == whole["content"][0]["text"]


async def test_ledger_has_what_was_told(asker: Asker, provider: StandIn) -> None:
    """Of each request: who asked, for which model, and the tokens that the answer named."""
    first = await asker.events("/sim say one two three")
    second = await asker.events("/sim usage 1234 56 0", "/sim say x")
    told = [events[-2]["usage"] for events in (first, second)]
    names = ("input_tokens", "output_tokens", "cache_read_input_tokens")
    sums = [sum(usage[name] for usage in told) for name in names]
    entries = provider.ledger.entries

    assert [4, 57] == [usage["output_tokens"] for usage in told]
    assert sums == list(tokens(entries))[:3]
    assert [("s1", "claude-opus-5-5", KEY, 200, False)] * 2 == [
        (entry.session, entry.model, entry.credential, entry.status, entry.aborted)
        for entry in entries
    ]
    assert entries == provider.ledger.of("s1")
    assert (0, 0) == (provider.ledger.active, provider.ledger.aborted)


async def test_wrong_key_is_refused(asker: Asker, provider: StandIn) -> None:
    """It is seen in the ledger, and charged nothing."""
    async with asker.ask("/sim say never", key="sk-wrong") as response:
        error = (await response.json())["error"]
    (entry,) = provider.ledger.entries

    assert (401, "authentication_error") == (response.status, error["type"])
    assert ("sk-wrong", 401) == (entry.credential, entry.status)
    assert (0, 0, 0, 0) == tokens([entry])


async def test_provider_recovers(asker: Asker, provider: StandIn) -> None:
    """A request fails as often as the script says, and then succeeds."""
    script = ("/sim retry 2 529", "/sim say on")
    statuses = []
    for _ in range(2):
        async with asker.ask(*script) as response:
            statuses.append(response.status)
    events = await asker.events(*script)

    assert [529, 529] == statuses
    assert "on" == deltas(events, "text")
    assert [529, 529, 200] == [entry.status for entry in provider.ledger.entries]


async def test_cut_stream_has_no_end(asker: Asker, provider: StandIn) -> None:
    """What was said is there, and charged as far as it was told; the next attempt is whole."""
    script = ("/sim retract half an", "/sim say whole")
    async with asker.ask(*script) as response:
        cut = await events_until_cut(response)
    again = await asker.events(*script)
    entry = provider.ledger.entries[0]

    assert ["message_start", "start", "delta"] == kinds(cut)
    assert ("half an", "whole") == (deltas(cut, "text"), deltas(again, "text"))
    assert cut[0]["message"]["usage"]["input_tokens"] == entry.input_tokens > 0
    assert 1 == entry.output_tokens


async def test_silent_stream_lasts_until_somebody_hangs_up(asker: Asker, provider: StandIn) -> None:
    """It has begun; that nobody waited for its end is in the ledger; the next attempt goes on."""
    script = ("/sim silence", "/sim say at last")
    async with asker.ask(*script) as response:
        event = await anext(events_of(response))
        active = provider.ledger.active
        response.close()
    await until(lambda: not provider.ledger.active)
    again = await asker.events(*script)

    assert ("message_start", 1) == (event["type"], active)
    assert [True, False] == [entry.aborted for entry in provider.ledger.entries]
    assert "at last" == deltas(again, "text")
