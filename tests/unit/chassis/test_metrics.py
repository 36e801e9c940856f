"""Tests of `services.chassis.metrics`."""

from __future__ import annotations

import asyncio

import pytest

from services.chassis import metrics as module
from services.chassis.metrics import Metrics
from tests.unit.chassis.service import until


async def get(port: int, request: bytes) -> bytes:
    """Return the raw answer to a raw request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_the_page_has_what_was_counted() -> None:
    """Counters, gauges and histograms are on the page, with build and process."""
    metrics = Metrics(service="gateway")
    metrics.counter("moorline_turns_total", "Turns.", ("outcome",)).labels("finished").inc()
    metrics.gauge("moorline_sessions", "Sessions.").set(3)
    sent = metrics.tallies("moorline_sent_total", "Sent.", label="kind", values=("event", "agent"))
    sent["event"].count += 2
    metrics.histogram("moorline_wait_seconds", "Waits.", buckets=(1.0, 2.0)).observe(1.5)

    async with metrics.serve("127.0.0.1:0") as port:
        assert port is not None
        answer = await get(port, b"GET /metrics?x=1 HTTP/1.1\r\nHost: x\r\n\r\n")

    head, _, page = answer.partition(b"\r\n\r\n")
    assert head.splitlines()[0] == b"HTTP/1.1 200 OK"
    for line in (
        b'moorline_turns_total{outcome="finished"} 1.0',
        b"moorline_sessions 3.0",
        b'moorline_sent_total{kind="event"} 2.0',
        b'moorline_sent_total{kind="agent"} 0.0',
        b'moorline_wait_seconds_bucket{le="2.0"} 1.0',
        b'moorline_build_info{python="',
        b"process_resident_memory_bytes",
    ):
        assert line in page
    assert b"_created" not in page


@pytest.mark.parametrize(
    ("request_head", "status"),
    [(b"GET / HTTP/1.1\r\n\r\n", b"404 Not Found"), (b"nonsense\r\n\r\n", b"404 Not Found")],
)
async def test_there_is_no_other_page(request_head: bytes, status: bytes) -> None:
    """Anything but the page says where it is."""
    async with Metrics(service="gateway").serve("127.0.0.1:0") as port:
        assert port is not None
        answer = await get(port, request_head)

    assert answer.startswith(b"HTTP/1.1 " + status)
    assert answer.endswith(b"See /metrics.\n")


async def test_a_scraper_that_leaves_is_forgotten() -> None:
    """Half a request is no error of ours."""
    async with Metrics(service="gateway").serve("127.0.0.1:0") as port:
        assert port is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metr")
        writer.write_eof()

        assert await reader.read() == b""

        writer.close()
        await writer.wait_closed()


async def test_the_event_loop_is_measured() -> None:
    """Its lag is observed several times a second, with or without a page."""
    metrics = Metrics(service="gateway")

    def measured() -> float:
        return metrics.registry.get_sample_value("moorline_event_loop_lag_seconds_count") or 0.0

    async with metrics.serve("") as port:
        assert port is None
        await until(lambda: measured() > 0)


def test_asking_twice_gives_the_same_metric() -> None:
    """Each object may ask for the metric it feeds."""
    metrics = Metrics(service="gateway")

    first, second = (
        metrics.tallies("moorline_b_total", "B.", label="kind", values=("a",)) for _ in range(2)
    )

    assert metrics.gauge("moorline_a", "A.") is metrics.gauge("moorline_a", "A.")
    assert first["a"] is second["a"]


def test_two_services_of_one_process_do_not_share() -> None:
    """Each `Metrics` has a registry of its own."""
    first, second = Metrics(service="gateway"), Metrics(service="session")

    assert first.gauge("moorline_a", "A.") is not second.gauge("moorline_a", "A.")


def test_a_name_without_a_known_prefix_is_refused() -> None:
    """Names can be told from others' on the same Prometheus."""
    with pytest.raises(ValueError, match="starts with"):
        Metrics(service="gateway").gauge("sessions", "Sessions.")


@pytest.mark.parametrize(
    ("package", "expected"),
    [("pytest", pytest.__version__), ("no-such-package", "development")],
)
def test_the_build_is_told(package: str, expected: str) -> None:
    """The version is the package's, or says that it runs from a work tree."""
    assert expected == module.version_of(package)
