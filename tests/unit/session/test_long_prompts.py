"""Tests of the longest prompts: whatever they are made of, they last."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from moorline.session.v1 import events_pb2
from services.session.limits import Limits
from tests.unit.session.fakes import FakeExecutor
from tests.unit.session.service import AGENT, CONTEXT, Service

LONGEST = Limits().prompt


async def read_texts(service: Service) -> list[str]:
    """Return the prompts in the history, read by pages that are limited by their size."""
    texts: list[str] = []
    request = events_pb2.ListEventsRequest(parent=AGENT)
    while events := (await service.events.ListEvents(request, CONTEXT)).events:
        texts += [event.item.user_message.text for event in events]
        request.after_sequence = events[-1].sequence
    return texts


@pytest.mark.parametrize("character", ["가", "\U0001f680", "\x01", '"'])
async def test_prompts_of_the_greatest_length_are_kept(
    make_service: Callable[[], Service], executor: FakeExecutor, character: str
) -> None:
    """In three bytes each, in four, or in six of JSON; running, waiting, and loaded again."""
    prompt = character * LONGEST
    async with make_service() as service:
        await service.create_agent()
        for number in range(3):
            await service.create_turn(f"t{number}", prompt)
        (await executor.execution()).end()
        await service.ended("t0")
        assert prompt == (await executor.execution(2)).asked.prompt.text

    async with make_service() as service:
        assert prompt == (await service.get_turn("t2")).prompt.text
        texts = await read_texts(service)
        assert 3 == texts.count(prompt)
