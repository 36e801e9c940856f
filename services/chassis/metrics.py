"""Counts and measures, and the page where Prometheus reads them.

Does not know what the figures mean. Label values must come from a closed set:
never a user, an agent or anything a caller chose.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import platform
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import prometheus_client
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector

from services.chassis.tasks import Tasks

DURATION_BUCKETS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
"""Bounds in seconds for calls between services and for waits."""

_PREFIXES = ("moorline_", "rpc_", "http_", "gen_ai_")
_LAG_PERIOD = 0.25
_REQUEST_SECONDS = 5.0


class Tally:
    """One number of a counter that counts by the thousand a second.

    Belongs to the event loop, and is only read elsewhere: to add to it takes a tenth of what a
    counter with its lock takes.
    """

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Metrics:
    """The metrics of one process.

    Asking for a metric twice gives the same one, so that each object can ask for
    what it feeds.

    Args:
        service: The service's name, a label of `moorline_build_info`.
    """

    def __init__(self, *, service: str) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = prometheus_client.CollectorRegistry()
        self._metrics: dict[str, Any] = {}
        prometheus_client.ProcessCollector(registry=self.registry)
        prometheus_client.PlatformCollector(registry=self.registry)
        prometheus_client.GCCollector(registry=self.registry)
        build = self.gauge(
            "moorline_build_info", "What runs here.", ("service", "version", "python")
        )
        build.labels(service, version_of("moorline"), platform.python_version()).set(1)
        self._lag = self.histogram(
            "moorline_event_loop_lag_seconds", "How late the event loop wakes a sleeper."
        )

    def counter(self, name: str, help: str, labels: Sequence[str] = ()) -> Counter:  # noqa: A002
        """Return the counter `name`, which ends in `_total`."""
        metric: Counter = self._metric(Counter, name, help, labels)
        return metric

    def tallies(
        self,
        name: str,
        help: str,  # noqa: A002
        *,
        label: str,
        values: Sequence[str],
    ) -> Mapping[str, Tally]:
        """Return a counter's numbers by the values of its only label.

        Args:
            name: Whole name; ends in `_total`.
            help: One sentence.
            label: Name of the label.
            values: All the values it has.
        """
        if name not in self._metrics:
            self._check(name)
            tallies = {value: Tally() for value in values}
            self.registry.register(_Tallies(name, help, label, tallies))
            self._metrics[name] = tallies
        found: Mapping[str, Tally] = self._metrics[name]
        return found

    def gauge(self, name: str, help: str, labels: Sequence[str] = ()) -> Gauge:  # noqa: A002
        """Return the gauge `name`."""
        metric: Gauge = self._metric(Gauge, name, help, labels)
        return metric

    def histogram(
        self,
        name: str,
        help: str,  # noqa: A002
        labels: Sequence[str] = (),
        *,
        buckets: Sequence[float] = DURATION_BUCKETS,
    ) -> Histogram:
        """Return the histogram `name`.

        Args:
            name: Whole name; ends in its unit, for example `_seconds`.
            help: One sentence.
            labels: Names of the labels.
            buckets: Upper bounds, ascending, in the metric's unit.
        """
        metric: Histogram = self._metric(Histogram, name, help, labels, buckets=buckets)
        return metric

    @asynccontextmanager
    async def serve(self, listen: str) -> AsyncIterator[int | None]:
        """Measure the event loop and serve the metrics page while inside.

        Args:
            listen: `host:port`, port 0 takes any; empty serves no page.

        Yields:
            The port listened on, None without a page.

        Raises:
            OSError: The address cannot be listened on.
        """
        async with Tasks() as tasks:
            tasks.spawn(self._measure_lag(), name="event-loop-lag")
            if not listen:
                yield None
                return
            host, _, port = listen.rpartition(":")
            server = await asyncio.start_server(self._answer, host.strip("[]") or None, int(port))
            async with server:
                yield server.sockets[0].getsockname()[1]

    def _metric(self, kind: Any, name: str, text: str, labels: Sequence[str], **more: Any) -> Any:
        if name not in self._metrics:
            self._check(name)
            self._metrics[name] = kind(name, text, tuple(labels), registry=self.registry, **more)
        return self._metrics[name]

    def _check(self, name: str) -> None:
        if not name.startswith(_PREFIXES):
            raise ValueError(f"a metric's name starts with one of {', '.join(_PREFIXES)}: {name}")

    async def _measure_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _LAG_PERIOD
            await asyncio.sleep(_LAG_PERIOD)
            self._lag.observe(max(0.0, loop.time() - due))

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith((b"GET /metrics ", b"GET /metrics?")):
                    # In a thread: a page takes milliseconds, which calls would wait for.
                    page = await asyncio.to_thread(prometheus_client.generate_latest, self.registry)
                    status, kind = "200 OK", prometheus_client.CONTENT_TYPE_PLAIN_0_0_4
                else:
                    page, status, kind = b"See /metrics.\n", "404 Not Found", "text/plain"
                writer.write(
                    f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n"
                    f"Content-Length: {len(page)}\r\nConnection: close\r\n\r\n".encode()
                )
                writer.write(page)
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            # A scraper that went away or is none; it comes again.
            return
        finally:
            writer.close()


class _Tallies(Collector):
    """Shows tallies to the registry."""

    def __init__(self, name: str, text: str, label: str, tallies: Mapping[str, Tally]) -> None:
        self._name = name
        self._text = text
        self._label = label
        self._tallies = tallies

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Return what was counted so far; called by the registry, in any thread."""
        family = CounterMetricFamily(self._name, self._text, labels=(self._label,))
        for value, tally in self._tallies.items():
            family.add_metric((value,), tally.count)
        yield family


def version_of(package: str) -> str:
    """Return the version of an installed package; `development` for one that is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "development"
