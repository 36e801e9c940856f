"""Tests of `services.executor.model_proxy.headers`."""

from __future__ import annotations

from services.executor.model_proxy.headers import answered, asked


def test_request_says_what_it_wants_and_not_who_asks() -> None:
    """Nothing that could speak for somebody, and nothing of the connection."""
    sent = [
        ("Anthropic-Version", "2023-06-01"),
        ("anthropic-beta", "a"),
        ("Anthropic-Beta", "b"),
        ("X-Stainless-Lang", "js"),
        ("X-Claude-Code-Session-Id", "s"),
        ("Content-Type", "application/json"),
        ("Content-Length", "3"),
        ("User-Agent", "cli"),
        ("Accept-Encoding", "gzip, br"),
        ("Authorization", "Bearer x"),
        ("X-Api-Key", "x"),
        ("Cookie", "x"),
        ("Connection", "keep-alive"),
        ("Transfer-Encoding", "chunked"),
        ("Host", "localhost"),
        ("X-Forwarded-For", "1.2.3.4"),
        ("Proxy-Authorization", "x"),
    ]

    assert {
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "a,b",
        "x-stainless-lang": "js",
        "x-claude-code-session-id": "s",
        "content-type": "application/json",
        "content-length": "3",
        "user-agent": "cli",
        "accept-encoding": "identity",
    } == asked(sent)


def test_agent_cannot_have_the_provider_reach_other_machines() -> None:
    """Features that fetch, search or call servers for an agent without a network are taken out."""
    betas = "prompt-caching-2024, mcp-client-2025-04-04,web-fetch-2025-09-10 ,code-execution-2025"

    assert "prompt-caching-2024" == asked([("anthropic-beta", betas)])["anthropic-beta"]
    assert "anthropic-beta" not in asked([("Anthropic-Beta", "mcp-client-2025-04-04")])


def test_answer_keeps_what_is_said_and_not_who_pays() -> None:
    """Ids pass; cookies, the account, what others leave of it and the connection's own do not."""
    told = [
        ("Content-Type", "text/event-stream"),
        ("Request-Id", "r"),
        ("Retry-After", "3"),
        ("X-Should-Retry", "true"),
        ("Content-Length", "7"),
        ("Anthropic-RateLimit-Requests-Remaining", "1"),
        ("Anthropic-Organization-Id", "o"),
        ("Set-Cookie", "c"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "close, X-Internal"),
        ("X-Internal", "i"),
        ("Server", "s"),
    ]

    assert told[:5] == answered(told, unpacked=False)


def test_answer_that_was_unpacked_does_not_say_how_it_was_packed() -> None:
    """Nor how long that was."""
    told = [("Content-Encoding", "gzip"), ("Content-Length", "7"), ("Request-Id", "r")]

    assert told[2:] == answered(told, unpacked=True)
