"""Which headers pass between an agent and the provider. Does not know what they do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from multidict import CIMultiDict

_ASKED = frozenset(
    {
        "accept",
        "content-encoding",
        "content-length",
        "content-type",
        "user-agent",
        "x-app",
        "x-client-request-id",
    }
)
_ASKED_PREFIXES = ("anthropic-", "x-stainless-", "x-claude-code-")
"""An agent may say what it is and wants, and nothing of who it is."""

_NOT_ANSWERED = frozenset(
    {
        "alt-svc",
        "anthropic-organization-id",
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "server",
        "set-cookie",
        "strict-transport-security",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""What belongs to a connection, and who the account's owner is."""


def asked(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """Return what of a request's headers goes to the provider."""
    passing = (
        (name, value)
        for name, value in headers.items()
        if name.lower() in _ASKED or name.lower().startswith(_ASKED_PREFIXES)
    )
    found = CIMultiDict(passing)
    # What it consumed has to be read from the answer.
    found["Accept-Encoding"] = "identity"
    return found


def answered(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """Return what of an answer's headers goes to the agent."""
    named = set(_words(headers.get("Connection", "")))
    passing = (
        (name, value)
        for name, value in headers.items()
        if name.lower() not in _NOT_ANSWERED and name.lower() not in named
    )
    return CIMultiDict(passing)


def _words(value: str) -> Iterator[str]:
    return (word.strip().lower() for word in value.split(","))
