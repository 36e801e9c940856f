"""Tests of `services.gateway.gateway_metrics`."""

from __future__ import annotations

import pytest

from services.chassis.metrics import Metrics
from services.gateway.closing import CloseCode
from services.gateway.gateway_metrics import GatewayMetrics


@pytest.mark.parametrize("code", [1000, 1006, *CloseCode])
def test_a_close_is_counted_by_its_code(code: int) -> None:
    """Those of the WebSocket, and all that this server sends."""
    metrics = Metrics(service="test")
    GatewayMetrics(metrics).closed(code, "server")
    labels = {"code": str(int(code)), "initiator": "server"}

    assert 1 == metrics.registry.get_sample_value("moorline_ws_closes_total", labels)


@pytest.mark.parametrize("code", [4001, 4006, 4502, 4503, 4999, 3000])
def test_codes_that_clients_make_up_are_counted_together(code: int) -> None:
    """A client cannot add time series."""
    metrics = Metrics(service="test")
    GatewayMetrics(metrics).closed(code, "client")
    labels = {"code": "other", "initiator": "client"}

    assert 1 == metrics.registry.get_sample_value("moorline_ws_closes_total", labels)
