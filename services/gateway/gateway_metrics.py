"""The gateway's figures.

Does not know what they are counted from.
"""

from __future__ import annotations

from services.chassis.metrics import Metrics
from services.gateway.closing import CloseCode

# Codes that a client may send, and that we do; anything else is counted together.
_CODES = frozenset(
    {1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1011, 1012, 1013}
    | {code.value for code in CloseCode}
)


class GatewayMetrics:
    """Every metric of the gateway but those of its parts.

    Args:
        metrics: The process's metrics.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.open_connections = metrics.gauge(
            "moorline_ws_connections", "WebSocket connections that are open."
        )
        self.handshakes = metrics.counter(
            "moorline_ws_handshakes_total", "Attempts to open a WebSocket.", ("result",)
        )
        self.csp_reports = metrics.counter(
            "moorline_csp_reports_total", "Violations of the page's policy that browsers reported."
        )
        self.auth_attempts = metrics.counter(
            "moorline_auth_attempts_total", "Proofs checked.", ("method", "result")
        )
        self.request_duration = metrics.histogram(
            "http_server_request_duration_seconds",
            "Duration of HTTP requests, WebSockets not included.",
            ("http_request_method", "http_route", "http_response_status_code"),
        )
        self._closes = metrics.counter(
            "moorline_ws_closes_total", "WebSocket connections closed.", ("code", "initiator")
        )
        self._limited = metrics.counter(
            "moorline_rate_limited_total", "Refusals because of a limit.", ("limit",)
        )

    def closed(self, code: int, initiator: str) -> None:
        """Count a close: its code, and `server` or `client` for who began it."""
        self._closes.labels(str(code) if code in _CODES else "other", initiator).inc()

    def limited(self, limit: str) -> None:
        """Count a refusal by the name of the limit."""
        self._limited.labels(limit).inc()
