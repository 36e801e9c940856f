"""Failures as HTTP answers.

Does not know routes.
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from aiohttp import web
from google.protobuf import json_format

from services.chassis.failures import Failure

_STATUS = {3: 400, 4: 504, 5: 404, 7: 403, 8: 429, 9: 409, 12: 405, 14: 503, 16: 401}
"""HTTP status by gRPC code; everything else is 500."""


class Refusal(Exception):  # noqa: N818 - it names a thing, like Failure
    """An HTTP request is refused.

    Args:
        failure: What the client is told.
        status: HTTP status; None for the one that goes with the failure's code.
        headers: Further headers.
    """

    def __init__(
        self,
        failure: Failure,
        *,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.status = status or _STATUS.get(failure.code, 500)
        self.headers = dict(headers or {})


def to_response(refusal: Refusal) -> web.Response:
    """Return the answer: `{"error": …}` with an `errors.v1.Error` in JSON."""
    headers = refusal.headers
    delay = refusal.failure.retry_delay
    if delay is not None:
        headers.setdefault("Retry-After", str(max(1, round(delay.total_seconds()))))
    if refusal.status == 401:
        headers.setdefault("WWW-Authenticate", "Bearer")
    error = json_format.MessageToDict(refusal.failure.to_error())
    return json_response({"error": error}, status=refusal.status, headers=headers)


def json_response(
    content: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return an answer in JSON that no cache keeps."""
    return web.Response(
        body=orjson.dumps(content),
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store"} | dict(headers or {}),
    )
