"""Tests of how connections are refused and end, and whether the client comes back."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path
from socket import create_server

import pytest

import moorline
from moorline.closing import ended_by_close
from tests.unit.moorline.scripted import Gateway, scripted_gateway
from tests.unit.moorline.scripted_platform import TOKEN, until

MS = timedelta(milliseconds=1)
QUICK = moorline.Patience(connect=50 * MS, reconnect=timedelta(seconds=5))


@pytest.fixture(autouse=True)
def _quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reconnecting takes milliseconds: the jitter's dice always fall low."""
    monkeypatch.setattr(random, "uniform", lambda low, high: min(high, 0.005))


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (403, moorline.PermissionDeniedError, "FORBIDDEN"),
        (404, moorline.ProtocolError, "METHOD_UNKNOWN"),
    ],
)
async def test_a_refused_upgrade_is_a_typed_error(
    gateway: Gateway, status: int, kind: type[moorline.MoorlineError], reason: str
) -> None:
    """What waiting does not mend is raised at once."""
    gateway.refusals = [(status, {}, "no")]
    with pytest.raises(kind) as refused:
        async with moorline.AsyncClient(gateway.url, TOKEN, environ={}):
            pass
    assert reason == refused.value.reason


async def test_a_wrong_token_is_an_authentication_error(gateway: Gateway) -> None:
    """The server's own words are passed on."""
    with pytest.raises(moorline.AuthenticationError, match="Get a token") as refused:
        async with moorline.AsyncClient(gateway.url, "bad", environ={}):
            pass
    assert "TOKEN_INVALID" == refused.value.reason


@pytest.mark.parametrize(
    ("status", "kind"),
    [(429, moorline.RateLimitedError), (503, moorline.UnavailableError)],
)
async def test_a_busy_server_is_asked_again_while_patience_lasts(
    gateway: Gateway, status: int, kind: type[moorline.MoorlineError]
) -> None:
    """429 and 503 are tried again; when patience ends before, they are raised."""
    gateway.refusals = [(status, {"Retry-After": "0"}, "no")] * 2
    async with moorline.AsyncClient(gateway.url, TOKEN, environ={}) as client:
        assert "users/ada" == client.user
    body = '{"error": {"reason": "ERROR_REASON_RATE_LIMITED", "message": "Later."}}'
    gateway.refusals = [(status, {"Retry-After": "7"}, body)]
    with pytest.raises(kind, match="Later") as refused:
        async with moorline.AsyncClient(gateway.url, TOKEN, patience=QUICK, environ={}):
            pass
    assert timedelta(seconds=7) == refused.value.retry_after


async def test_an_unreachable_server_is_a_lost_connection() -> None:
    """Nobody listening is told as such, within the patience for it."""
    async with scripted_gateway() as gateway:
        url = gateway.url
    with pytest.raises(moorline.ConnectionLostError, match="Cannot reach"):
        async with moorline.AsyncClient(url, TOKEN, patience=QUICK, environ={}):
            pass


async def test_a_handshake_that_never_ends_is_given_up() -> None:
    """A server that accepts and then says nothing is a lost connection."""
    with create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        patience = moorline.Patience(connect=20 * MS, handshake=20 * MS)
        with pytest.raises(moorline.ConnectionLostError, match=r"within 0\.02 s"):
            async with moorline.AsyncClient(url, TOKEN, patience=patience, environ={}):
                pass


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 4001, 4002, 4003, 4499])
async def test_these_close_codes_mean_again(
    gateway: Gateway, client: moorline.AsyncClient, code: int
) -> None:
    """After 1001, 1012, 1013 and 4000 to 4499 the client comes back."""
    await gateway.close_all(code)
    assert 2 == len(await client.backends())
    assert 2 == gateway.welcomes


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (1008, moorline.ProtocolError),
        (4500, moorline.ProtocolError),
        (4501, moorline.AuthenticationError),
        (4502, moorline.PermissionDeniedError),
        (4503, moorline.ProtocolError),
        (4506, moorline.RateLimitedError),
        (4999, moorline.ProtocolError),
    ],
)
async def test_these_close_codes_mean_never(
    gateway: Gateway,
    client: moorline.AsyncClient,
    code: int,
    kind: type[moorline.MoorlineError],
) -> None:
    """4500 to 4999 end the client; every call and stream tells why."""
    agent = await client.agents.create()
    async with agent.events() as events:
        await anext(events)
        await gateway.close_all(code, "so there")
        with pytest.raises(kind, match="so there"):
            await anext(events)
    with pytest.raises(kind):
        await client.backends()
    assert 1 == gateway.welcomes


@pytest.mark.parametrize("code", [1013, 4005, 4006])
def test_an_overloaded_server_is_given_a_second(code: int) -> None:
    """These close codes mean again, and not at once."""
    ending = ended_by_close(code, "busy")
    assert (True, timedelta(seconds=1)) == (ending.again, ending.delay)


async def test_nonsense_ends_the_client(gateway: Gateway, client: moorline.AsyncClient) -> None:
    """A server that does not speak JSON is no Moorline server."""
    for socket in gateway.sockets:
        await socket.send("hello?")
    await until(lambda: client.connection.failure)
    with pytest.raises(moorline.ProtocolError, match="no JSON"):
        await client.backends()


async def test_a_token_file_that_vanished_is_told(gateway: Gateway, tmp_path: Path) -> None:
    """Without its token file a client cannot come back."""
    file = tmp_path / "token"
    file.write_text("good")
    with pytest.raises(moorline.AuthenticationError, match="chmod 600"):
        async with moorline.AsyncClient(gateway.url, token_file=file, environ={}):
            pass
    file.chmod(0o600)
    async with moorline.AsyncClient(gateway.url, token_file=file, environ={}) as client:
        file.unlink()
        gateway.cut()
        with pytest.raises(moorline.AuthenticationError, match="Cannot read the token"):
            await client.backends()
