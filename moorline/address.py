"""Address of a server, from whatever a person writes for it.

Does not connect.
"""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from moorline.exceptions import InvalidRequestError


def socket_url(url: str) -> str:
    """Address of the WebSocket, from whatever a person writes for the server.

    Args:
        url: `http(s)://host[:port]`, or the whole `ws(s)://…/v1/ws`.

    Raises:
        InvalidRequestError: It is not such an address.
    """
    parts = urlsplit(url)
    schemes = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
    if parts.scheme not in schemes or not parts.hostname:
        raise InvalidRequestError(
            f"{url!r} is not an address. Write http://HOST:PORT or https://HOST.",
            reason="FIELD_INVALID",
            code=3,
            metadata={"field": "url"},
        )
    path = parts.path.rstrip("/")
    path = path if path.endswith("/v1/ws") else f"{path}/v1/ws"
    return urlunsplit((schemes[parts.scheme], parts.netloc, path, "", ""))


def server_url(url: str) -> str:
    """Address of the server, without its end: of a WebSocket's address."""
    parts = urlsplit(url)
    schemes = {"ws": "http", "wss": "https"}
    path = parts.path.removesuffix("/v1/ws")
    return urlunsplit((schemes[parts.scheme], parts.netloc, path, "", ""))
