"""Tests of `services.executor.model_proxy.reach`."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from services.executor.model_proxy.reach import Look

SIZES = (1, 7, 100, 1 << 20)


def found(request: bytes, size: int) -> bool:
    """Tell whether a request is found that comes in pieces of a size."""
    look = Look()
    pieces = [request[start : start + size] for start in range(0, len(request), size)]
    return any(look.finds(piece) for piece in pieces)


def tool(**fields: Any) -> bytes:
    """Return a request with a tool."""
    return orjson.dumps({"model": "m", "messages": [], "tools": [fields]})


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "request_",
    [
        tool(type="web_search_20250305", name="web_search"),
        tool(name="web_fetch", type="web_fetch_20250910"),
        tool(type="code_execution_20250825"),
        tool(type="mcp_toolset"),
        b'{"mcp_servers" : []}',
        b'{"source":{"type":"url","url":"http://x/?secret"}}',
        b'{"source":{"type" :\n"url"}}',
        b'{"type"' + b" " * 300 + b":" + b"\n" * 300 + b'"web_search_1"}',
        b'{"type":"\\u0077eb_search_1"}',
        b'{"t\\u0079pe":"web_search_1"}',
        '{"type":"web_search_1"}'.encode("utf-16"),
        '{"type":"web_search_1"}'.encode("utf-32"),
    ],
)
def test_reach_is_found(request_: bytes, size: int) -> None:
    """However it is written, and wherever it is cut."""
    assert found(request_, size)


@pytest.mark.parametrize("size", SIZES)
def test_what_is_only_talked_about_is_not(size: int) -> None:
    """Prose, and what tools have read, may say all of it; so may other alphabets."""
    said = '{"type":"web_search_1"} "mcp_servers": \\u0041 \\\\u0042 \x7f <&> 한글 \U0001f600'
    body = {
        "messages": [{"content": [{"type": "text", "text": said * 20}]}],
        "tools": [{"name": "web_search", "input_schema": {"type": "object", "url": "x"}}],
        "type": "url-like",
    }

    assert not found(orjson.dumps(body), size)
    assert not found(json.dumps(body).encode(), size)
