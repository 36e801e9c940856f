"""What is measured on a shared database, without one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.load import cluster, shared
from tests.load.connection import Account, Recorder
from tests.load.frames import watch_events
from tests.load.silence import Follower

ADA = Account(user="users/ada", token="t")


def frame(item: dict[str, Any]) -> bytes:
    """A frame of the watch with one event."""
    event = {"sequence": 1, "turnId": "t-1", "item": item}
    return orjson.dumps({"id": 1, "watchEventsResponse": {"updates": [{"event": event}]}})


def test_it_is_left_out_by_name_where_there_is_no_emulator(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The other measures need none."""
    monkeypatch.setenv("PATH", str(tmp_path))
    told: list[str] = []

    assert shared.measure(shared.QUICK, told.append) is None
    assert len(told) == 1
    assert told[0].startswith("shared database: left out, no Java")


def test_an_item_is_timed_by_the_time_it_holds() -> None:
    """From the making of its one word to its event; other events are not timed."""
    clock = shared.ItemClock()
    made = time.time_ns() // 1000 - 50_000

    clock.take(frame({"agentMessage": {"blockId": "b1", "text": str(made)}}))
    clock.take(frame({"toolCall": {"toolCallId": "c1"}}))

    assert len(clock.delays_us) == 1
    assert 50_000 <= clock.delays_us[0] < 5_000_000
    assert clock.events == 2


@pytest.mark.parametrize(
    ("arrivals", "expected"),
    [
        ([9.9, 9.95, 10.01, 14.0, 14.05], 4.0),
        ([9.9, 14.0, 14.05], 4.0),
        ([5.0, 9.9, 10.01, 10.2, 10.3], 0.2),
    ],
)
async def test_a_silence_is_measured_from_the_signal_to_its_end(
    arrivals: list[float], expected: float
) -> None:
    """What was on its way still comes; what was before does not count."""
    follower = Follower(account=ADA, agent="a1", recorder=Recorder())
    follower._arrivals += arrivals

    assert follower.silence_after(10.0) == pytest.approx(expected)


def test_documents_are_read_from_the_metrics_page() -> None:
    """By operation; other counters are passed over."""
    page = (
        'moorline_store_operations_total{operation="commit",result="ok"} 9.0\n'
        'moorline_store_documents_total{operation="write"} 12.0\n'
        'moorline_store_documents_total{operation="read"} 3.0\n'
    )

    assert cluster.DOCUMENTS.findall(page) == [("write", "12.0"), ("read", "3.0")]


def test_a_watch_begins_after_what_was_seen() -> None:
    """As a client does that comes back."""
    request = orjson.loads(watch_events("users/ada", "a1", after=3))["watchEvents"]

    assert request == {"parent": "users/ada/agents/a1", "includeDeltas": True, "afterSequence": 3}
    assert b"afterSequence" not in watch_events("users/ada", "a1")
