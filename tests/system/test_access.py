"""Who gets in, decided before the upgrade; and no token left lying about."""

from __future__ import annotations

import http.client
import json
import time
from urllib.parse import urlsplit

import pytest

from tests.system.conftest import key_for
from tests.system.stack import Stack
from tests.system.wire import Frame, Wire, open_wire

HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Protocol": "moorline.v1",
}


def request(
    stack: Stack, path: str, headers: dict[str, str] | None = None
) -> tuple[int, Frame, dict[str, str]]:
    """Status, JSON body and headers of a GET."""
    connection = http.client.HTTPConnection(urlsplit(stack.url).netloc, timeout=10)
    try:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        text = response.read() if response.status != 101 else b""
        body = json.loads(text) if text.startswith(b"{") else {}
        return response.status, body, dict(response.headers)
    finally:
        connection.close()


def upgrade(stack: Stack, **headers: str) -> tuple[int, Frame]:
    """Status and body of a WebSocket handshake."""
    status, body, _ = request(stack, "/v1/ws", {**HANDSHAKE, **headers})
    return status, body


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic ZGV2OmRldg=="},
        {"Authorization": "Bearer moorline_aaaaaaaaaaaa_" + "0" * 38},
        {"Authorization": "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJkZXYifQ."},
    ],
)
def test_a_missing_or_wrong_token_is_refused_before_the_upgrade(
    stack: Stack, headers: dict[str, str]
) -> None:
    """Without a good credential there is no socket, and the body says what to do."""
    status, body = upgrade(stack, **headers)

    assert status == 401
    assert body["error"]["reason"] == "ERROR_REASON_TOKEN_INVALID"
    assert body["error"]["message"]


def test_a_foreign_origin_is_refused_before_the_upgrade(stack: Stack) -> None:
    """A page of another origin gets no socket, whatever it knows."""
    status, body = upgrade(
        stack, Authorization=f"Bearer {stack.token}", Origin="http://evil.example"
    )

    assert status == 403
    assert "MOORLINE_ALLOWED_ORIGINS" in body["error"]["message"]


async def test_an_expired_or_revoked_key_is_refused(stack: Stack, wire: Wire) -> None:
    """A key is good until it expires or is revoked."""
    short = await key_for(wire, "carol", ttl="1s")
    revoked = await key_for(wire, "carol")
    async with open_wire(stack.url, revoked) as carol:
        assert carol.user == "users/carol"
    await wire.call("revokeKey", {"name": f"users/carol/keys/{revoked.split('_')[1]}"})
    deadline = time.monotonic() + 12
    statuses: set[int] = set()
    while time.monotonic() < deadline:
        statuses = {
            upgrade(stack, Authorization=f"Bearer {secret}")[0] for secret in (short, revoked)
        }
        if statuses == {401}:
            break
        time.sleep(0.3)  # noqa: ASYNC251

    assert {401} == statuses


async def test_a_key_cannot_make_keys(stack: Stack, wire: Wire) -> None:
    """A stolen key cannot be turned into one that outlives its revocation."""
    secret = await key_for(wire, "carol")
    async with open_wire(stack.url, secret) as carol:
        number = await carol.send("createKey", {"parent": "users/carol"})
        frame = await carol.reply(number)

    assert frame["error"]["reason"] == "ERROR_REASON_FORBIDDEN"


def test_login_moves_the_token_out_of_the_address(stack: Stack) -> None:
    """The printed address logs in once and leads to an address without the token."""
    status, _, headers = request(stack, f"/?token={stack.token}&lang=ko")

    assert status == 303
    assert headers["Location"] == "/?lang=ko"
    cookie = headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite" in cookie
    assert stack.token not in cookie
    value = cookie.split(";")[0]
    assert upgrade(stack, Cookie=value, Origin=stack.url)[0] == 101
    assert upgrade(stack, Cookie=value)[0] == 403
    assert upgrade(stack, Cookie=value, Origin="http://evil.example")[0] == 403
    assert request(stack, "/?token=wrong")[0] == 403


async def test_no_token_is_in_any_log(stack: Stack, wire: Wire) -> None:
    """Nothing secret is written down, whatever was sent."""
    secret = await key_for(wire, "dora")
    async with open_wire(stack.url, secret):
        pass
    request(stack, f"/?token={stack.token}")
    upgrade(stack, Authorization="Bearer canary-7f3a9c")
    request(stack, "/?token=canary-7f3a9c")
    request(stack, "/v1/ws?token=canary-7f3a9c", HANDSHAKE)
    logs = stack.logs()

    for canary in (stack.token, secret, secret.split("_")[2], "canary-7f3a9c", "eyJ"):
        assert canary not in logs


def test_health_is_open_and_metrics_are_elsewhere(stack: Stack) -> None:
    """Probes need no credential; metrics are not on the public port."""
    assert request(stack, "/healthz")[0] == 200
    assert request(stack, "/readyz")[0] == 200
    assert request(stack, "/metrics")[0] == 404
