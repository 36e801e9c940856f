"""Passes one request of an agent on to the provider, and counts what it consumes.

Does not know how agents connect. Nothing of what is said is kept or logged.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import orjson
from aiohttp import web

from services.chassis.metrics import Metrics
from services.executor.model_proxy import headers
from services.executor.model_proxy.coding import CodingError
from services.executor.model_proxy.meter import Charge, Meter
from services.executor.model_proxy.prices import PICOS, Told
from services.executor.model_proxy.reach import Look
from services.executor.model_proxy.upstream import (
    Answer,
    RefusedError,
    SilenceError,
    TooLargeError,
    UnreachableError,
    Upstream,
)
from services.executor.model_proxy.usage import StreamReader, WholeReader

_BODY_LIMIT = 64 << 20
"""Bytes of the largest request; twice what the provider takes."""
_PIECE = 64 << 10
_BUDGETS = {
    "turn": "The turn's budget is spent.",
    "agent": "The agent's budget is spent.",
    "month": "The user's budget for this month is spent.",
}


class Forwarding:
    """Answers requests.

    Args:
        upstream: The provider.
        metrics: Where requests, tokens and cost are counted.
    """

    def __init__(self, *, upstream: Upstream, metrics: Metrics) -> None:
        self._upstream = upstream
        self._requests = metrics.counter(
            "moorline_model_requests_total", "Requests to the model provider.", ("outcome",)
        )
        self._tokens = metrics.counter(
            "moorline_model_tokens_total", "Tokens the model provider has told.", ("kind",)
        )
        self._cost = metrics.counter(
            "moorline_model_cost_usd_micros_total", "Cost in millionths of a US dollar."
        )
        self._latency = metrics.histogram(
            "moorline_model_answer_begins_seconds",
            "Time until the model provider began to answer.",
            buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
        )

    async def __call__(self, request: web.BaseRequest, meter: Meter) -> web.StreamResponse:
        """Answer one request of the agent that `meter` belongs to."""
        if request.method == "HEAD" and request.path == "/":
            # Some versions look whether anybody is there.
            return web.Response()
        if request.method != "POST" or request.path != "/v1/messages":
            self._requests.labels("not_found").inc()
            return failure(404, "not_found_error", "Only the Messages API is here.")
        if request.headers.get("Content-Encoding", "identity") != "identity":
            return self._refuse("A compressed request cannot be looked at.")
        size = request.content_length or 0
        if size > _BODY_LIMIT:
            return self._too_large()
        try:
            # One that does not tell its size may have as much as any.
            charge = await meter.admit(size or _BODY_LIMIT)
            if charge is None:
                self._requests.labels("budget").inc()
                said = f"{_BUDGETS[meter.exhausted]} Raise it to go on."
                return failure(400, "invalid_request_error", said)
            with charge:
                return await self._forward(request, charge)
        except (asyncio.CancelledError, ConnectionError):
            # The agent has hung up; what was consumed until then is counted.
            self._requests.labels("aborted").inc()
            raise

    async def _forward(self, request: web.BaseRequest, charge: Charge) -> web.StreamResponse:
        begun = time.monotonic()
        try:
            async with self._upstream.ask(
                query=request.rel_url.raw_query_string,
                headers=headers.asked(request.headers.items()),
                body=_body(request),
            ) as answer:
                self._latency.observe(time.monotonic() - begun)
                self._requests.labels(_outcome(answer.status)).inc()
                return await self._pass_on(request, answer, charge)
        except TooLargeError:
            return self._too_large()
        except RefusedError:
            return self._refuse("The provider may not reach other machines for this agent.")
        except CodingError as error:
            # What cannot be read cannot be counted, and what is not counted has no budget.
            self._requests.labels("unreadable").inc()
            said = f"The model provider's answer is compressed by {str(error)[:20]}: not asked for."
            return failure(400, "invalid_request_error", said)
        except SilenceError:
            self._requests.labels("silent").inc()
            return failure(504, "timeout_error", "The model provider does not answer.")
        except UnreachableError:
            self._requests.labels("unreachable").inc()
            # What the agent would see if it asked the provider itself.
            return _hang_up(request, web.Response(status=502))

    async def _pass_on(
        self, request: web.BaseRequest, answer: Answer, charge: Charge
    ) -> web.StreamResponse:
        response = web.StreamResponse(
            status=answer.status,
            headers=headers.answered(answer.headers.items(), unpacked=answer.packed),
        )
        await response.prepare(request)
        streamed = answer.headers.get("Content-Type", "").startswith("text/event-stream")
        reader = StreamReader() if streamed else WholeReader()
        try:
            while piece := await answer.next():
                # Counted first: who has got the end may already ask what it was.
                if reader.feed(piece):
                    self._tell(charge, reader.told)
                await response.write(piece)
        except (SilenceError, UnreachableError):
            self._requests.labels("cut").inc()
            # A stream that is cut is asked for again.
            return _hang_up(request, response)
        finally:
            if answer.status == 200 and reader.finish():
                self._tell(charge, reader.told)
            charge.owe(reader.untold)
        await response.write_eof()
        return response

    def _tell(self, charge: Charge, told: Told) -> None:
        before = charge.told
        cost = charge.tell(told)
        for kind in ("read", "written", "cache_read", "cache_written"):
            self._tokens.labels(kind).inc(max(0, getattr(told, kind) - getattr(before, kind)))
        self._cost.inc(max(0, cost) / PICOS)

    def _refuse(self, why: str) -> web.Response:
        self._requests.labels("refused_here").inc()
        return failure(400, "invalid_request_error", why)

    def _too_large(self) -> web.Response:
        self._requests.labels("too_large").inc()
        return failure(413, "request_too_large", "The request is larger than 64 MiB.")


def failure(status: int, kind: str, message: str) -> web.Response:
    """Return an answer in the form of the provider's failures.

    Args:
        status: HTTP status; what is less than 500 is not tried again.
        kind: The provider's word for it.
        message: For people.
    """
    body = {"type": "error", "error": {"type": kind, "message": message}}
    again = "true" if status >= 500 else "false"
    return web.Response(
        status=status,
        body=orjson.dumps(body),
        content_type="application/json",
        headers={"x-should-retry": again},
    )


async def _body(request: web.BaseRequest) -> AsyncIterator[bytes]:
    """Pass on what the agent sends.

    Raises:
        TooLargeError: It is too much.
        RefusedError: It asks for what it may not have.
    """
    size, look = 0, Look()
    async for piece in request.content.iter_chunked(_PIECE):
        size += len(piece)
        if size > _BODY_LIMIT:
            raise TooLargeError
        if look.finds(piece):
            raise RefusedError
        yield piece


def _hang_up(request: web.BaseRequest, response: web.StreamResponse) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return response


def _outcome(status: int) -> str:
    if status < 400:
        return "answered"
    return "refused" if status < 500 else "failed"
