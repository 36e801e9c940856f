"""Serves the Messages API. Does not know the wire form of a stream, nor how scripts are read."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from services.executor.channels.simulation import script
from services.executor.channels.simulation.reading import steps_of
from services.executor.channels.simulation.script import Step
from tests.standin.answers import COSTLY_TOKENS, LONG_TOKENS, Answer, answer, with_plan_file
from tests.standin.conversation import Asked, read, summary
from tests.standin.ledger import Entry, Ledger
from tests.standin.stream import Stream

_BODY_BYTES = 64 << 20
_STATUSES = {
    "auth": 401,
    "forbidden": 403,
    "bad_request": 400,
    "rate_limited": 429,
    "overloaded": 529,
    "provider": 500,
    "provider_unreachable": 0,
}
_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}
_LEAVING_SECONDS = 0.05
_FINAL = frozenset({400, 401, 403})


class StandIn:
    """One provider.

    Args:
        key: What requests must be authenticated with; empty for anything.
    """

    def __init__(self, *, key: str) -> None:
        self.key = key
        """May be changed at any time."""
        self.ledger = Ledger()
        self.url = ""
        """Where it serves; empty for a socket."""
        self._attempts: Counter[str] = Counter()
        self._first_models: dict[str, str] = {}
        self._ids = 0

    @asynccontextmanager
    async def serve(self, *, port: int = 0, path: Path | None = None) -> AsyncIterator[StandIn]:
        """Serve while inside, on a port of the loopback address or on a socket.

        Args:
            port: 0 for any.
            path: Of the socket; None for a port.
        """
        application = web.Application(client_max_size=_BODY_BYTES)
        application.router.add_post("/v1/messages", self._messages)
        application.router.add_route("*", "/{path:.*}", self._stray)
        # A request that nobody waits for any more must not be answered to its end.
        runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        try:
            if path is not None:
                await web.UnixSite(runner, str(path)).start()
            else:
                site = web.TCPSite(runner, "127.0.0.1", port)
                await site.start()
                self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield self
        finally:
            await runner.cleanup()

    async def _stray(self, request: web.Request) -> web.Response:
        self.ledger.strays.append(f"{request.method} {request.path}")
        return _error(404)

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        body: dict[str, Any] = await request.json()
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        entry = Entry(
            session=request.headers.get("x-claude-code-session-id", ""),
            model=body["model"],
            credential=request.headers.get("x-api-key") or bearer,
            body=body,
        )
        self.ledger.entries.append(entry)
        try:
            return await self._answer(request, entry)
        except (asyncio.CancelledError, ConnectionError):
            entry.aborted = True
            raise
        finally:
            entry.active = False

    async def _answer(self, request: web.Request, entry: Entry) -> web.StreamResponse:
        if self.key and entry.credential != self.key:
            return _refuse(entry, 401)
        asked = read(entry.body["messages"])
        due = self._due(asked)
        trouble = self._trouble(entry, asked, due)
        if trouble is None and due.failure in _STATUSES:
            trouble = script.Fail(due.failure)
        match trouble:
            case script.Retry(_, status):
                return _fail(request, entry, status, retry_after="0")
            case script.Fallback():
                return _fail(request, entry, 529)
            case script.Fail(reason):
                # So long that nobody waits for it.
                return _fail(request, entry, _STATUSES[reason], retry_after="3600")
        if not entry.body.get("stream"):
            return self._whole(entry, asked, due)
        return await self._stream(request, entry, asked, due, trouble)

    async def _stream(
        self,
        request: web.Request,
        entry: Entry,
        asked: Asked,
        due: Answer,
        trouble: Step | None,
    ) -> web.StreamResponse:
        stream = Stream(
            request=request,
            entry=entry,
            message_id=self._new_id("msg"),
            usage=_usage(entry.body, due),
            new_id=self._new_id,
        )
        if due.whole:
            # Nothing at all, which makes the program ask for the whole at once.
            await stream.response.prepare(request)
            entry.status = 200
            return stream.response
        await stream.begin()
        if trouble is not None:
            await stream.part(trouble, "")
            # What is said so far must have left before the line is cut.
            await asyncio.sleep(_LEAVING_SECONDS)
            return _hang_up(request, stream.response)
        for part in due.parts:
            await stream.part(part, _recalled(asked))
        if due.broken:
            await stream.break_off()
            return stream.response
        for call in due.calls:
            await stream.call(call)
        await stream.end(due)
        return stream.response

    def _due(self, asked: Asked) -> Answer:
        """Return the answer that is due, whatever becomes of it."""
        if asked.notice:
            return Answer(parts=(script.Say(asked.notice),))
        if asked.summary:
            said = summary(asked.prompt, answers=asked.answers, ids=self._ids)
            return Answer(parts=(script.Say(said),))
        return with_plan_file(answer(steps_of(asked.prompt), asked.answers), asked.plan_file)

    def _trouble(self, entry: Entry, asked: Asked, due: Answer) -> Step | None:
        """Return what is to happen to this attempt; each trouble happens once."""
        if not due.troubles:
            return None
        place = (entry.session, len(asked.earlier), asked.prompt, asked.answers)
        named = json.dumps(place)
        key = hashlib.sha256(named.encode()).hexdigest()
        first = self._first_models.setdefault(key, entry.model)
        attempt = self._attempts[key]
        if attempt >= len(due.troubles):
            return None
        trouble = due.troubles[attempt]
        if isinstance(trouble, script.Fallback) and entry.model == first:
            # As often as this model is asked.
            return trouble
        self._attempts[key] += 1
        if isinstance(trouble, script.Fallback):
            return self._trouble(entry, asked, due)
        return trouble

    def _whole(self, entry: Entry, asked: Asked, due: Answer) -> web.Response:
        """Answer without streaming."""
        usage = _usage(entry.body, due)
        content: list[dict[str, Any]] = []
        for part in due.parts:
            match part:
                case script.Say(text) | script.Refuse(text) | script.Unstreamed(text):
                    content.append({"type": "text", "text": text})
                case script.Recall():
                    content.append({"type": "text", "text": _recalled(asked)})
                case script.Stream(count):
                    text = " ".join(f"w{number + 1}" for number in range(count))
                    content.append({"type": "text", "text": text})
        for call in due.calls:
            named = {"id": self._new_id("toolu"), "name": call.tool, "input": call.tool_input}
            content.append({"type": "tool_use", **named})
        usage["output_tokens"] += len(content)
        entry.status = 200
        entry.tell(usage)
        return web.json_response(
            {
                "id": self._new_id("msg"),
                "type": "message",
                "role": "assistant",
                "model": entry.model,
                "content": content,
                "stop_reason": due.stop_reason,
                "stop_sequence": None,
                "usage": usage,
            }
        )

    def _new_id(self, kind: str) -> str:
        self._ids += 1
        return f"{kind}_{self._ids:020d}"


def _recalled(asked: Asked) -> str:
    if not asked.earlier:
        return "I remember nothing."
    return f"I remember: {', '.join(asked.earlier)}"


def _usage(body: dict[str, Any], due: Answer) -> dict[str, int]:
    """Return what is charged for what was read; it depends on nothing but the request."""
    count = len(body["messages"])
    usage = {
        "input_tokens": 100 + 10 * count,
        "cache_creation_input_tokens": 20,
        "cache_read_input_tokens": 50 * (count - 1),
        "output_tokens": 1,
    }
    for part in due.parts:
        match part:
            case script.Usage(read_tokens, written_tokens):
                usage |= {"input_tokens": read_tokens, "output_tokens": written_tokens}
            case script.Compact():
                usage["input_tokens"] = LONG_TOKENS
    if due.failure == "budget_exhausted":
        usage["input_tokens"] = COSTLY_TOKENS
    return usage


def _fail(
    request: web.Request, entry: Entry, status: int, *, retry_after: str = ""
) -> web.StreamResponse:
    if status == 0:
        return _hang_up(request, web.Response())
    return _refuse(entry, status, retry_after=retry_after if status == 429 else "")


def _refuse(entry: Entry, status: int, *, retry_after: str = "") -> web.Response:
    entry.status = status
    return _error(status, retry_after=retry_after)


def _hang_up(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return response


def _error(status: int, *, retry_after: str = "") -> web.Response:
    kind = _ERRORS.get(status, "not_found_error")
    headers = {"retry-after": retry_after} if retry_after else {}
    if status in _FINAL:
        headers["x-should-retry"] = "false"
    error = {"type": kind, "message": f"The stand-in says {status}."}
    return web.json_response({"type": "error", "error": error}, status=status, headers=headers)
