"""Which headers pass between an agent and the provider. Does not know what they do."""

from __future__ import annotations

from collections.abc import Iterable

_ASKED = frozenset(
    {
        "accept",
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


_REFUSED_BETAS = ("code-execution-", "mcp-client-", "web-fetch-", "web-search-")
"""What would let the provider reach other machines for an agent that must not."""


def asked(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return what of a request's headers goes to the provider, by small names."""
    found: dict[str, str] = {}
    for name, value in headers:
        small = name.lower()
        if small in _ASKED or small.startswith(_ASKED_PREFIXES):
            found[small] = f"{found[small]}, {value}" if small in found else value
    if beta := _allowed(found.pop("anthropic-beta", "")):
        found["anthropic-beta"] = beta
    # What it consumed has to be read from the answer.
    found["accept-encoding"] = "identity"
    return found


def _allowed(betas: str) -> str:
    wanted = (beta.strip() for beta in betas.split(","))
    return ",".join(beta for beta in wanted if beta and not beta.startswith(_REFUSED_BETAS))


_PACKED = frozenset({"content-encoding", "content-length"})

_NOT_ANSWERED_PREFIXES = ("anthropic-ratelimit-",)
"""What all who share the key have left tells each of them what the others do."""


def answered(headers: Iterable[tuple[str, str]], *, unpacked: bool) -> list[tuple[str, str]]:
    """Return what of an answer's headers goes to the agent.

    Args:
        headers: All of them.
        unpacked: Whether the answer was compressed, and is not any more.
    """
    told = [(name, value) for name, value in headers if not (unpacked and name.lower() in _PACKED)]
    connection = [value for name, value in told if name.lower() == "connection"]
    named = {word.strip().lower() for value in connection for word in value.split(",")}
    return [
        (name, value)
        for name, value in told
        if name.lower() not in _NOT_ANSWERED
        and name.lower() not in named
        and not name.lower().startswith(_NOT_ANSWERED_PREFIXES)
    ]
