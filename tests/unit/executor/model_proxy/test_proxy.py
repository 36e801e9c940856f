"""Tests of `services.executor.model_proxy.proxy`: who gets in, and how."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from moorline.diagnosis.v1 import diagnosis_pb2
from services.chassis.failures import Failure
from services.chassis.metrics import Metrics
from services.executor.backend import Link, View
from services.executor.model_proxy import upstream
from services.executor.model_proxy.meter import Meter
from services.executor.model_proxy.proxy import SOCKET, Access, ModelProxy
from services.executor.place import Place
from tests.unit.executor.fakes import until
from tests.unit.executor.model_proxy.conftest import make_proxy, write
from tests.unit.executor.model_proxy.provider import Agent, Provider, start, streaming

Check = diagnosis_pb2.Check


@asynccontextmanager
async def asking(access: Access) -> AsyncIterator[Agent]:
    """An agent with this access."""
    agent = Agent(access)
    async with agent.session:
        yield agent


@pytest.mark.parametrize("link", [Link.SOCKET, Link.TCP])
async def test_agent_gets_in_and_its_meter_counts(
    proxy: ModelProxy, meter: Meter, place: Place, view: View, link: Link
) -> None:
    """By either way; nothing it is told is the provider's key."""
    access = await proxy.admit(meter, link=link, place=place, view=view)
    async with asking(access) as agent:
        await agent.say()

    assert 30 == meter.usage.input_tokens + meter.usage.output_tokens
    assert not [value for value in access.environment.values() if "sk-" in value]
    await access.close()


async def test_socket_is_named_as_the_agent_sees_it(
    proxy: ModelProxy, meter: Meter, place: Place
) -> None:
    """Which is not where it is here."""
    inside = View(files="/workspace", state="/state", run="/run/moorline")
    access = await proxy.admit(meter, link=Link.SOCKET, place=place, view=inside)

    assert "/run/moorline/api.sock" == access.environment["ANTHROPIC_UNIX_SOCKET"]
    assert (place.run / "api.sock").is_socket()


async def test_socket_is_there_again_after_a_restart(
    provider: Provider, key_file: Path, metrics: Metrics, place: Place, view: View
) -> None:
    """At the same path, although nobody has cleaned up; closing leaves nothing, twice."""
    for _ in range(2):
        async with make_proxy(provider.url, key_file, metrics) as proxy:
            access = await proxy.admit(proxy.meter(), link=Link.SOCKET, place=place, view=view)
            async with asking(access) as agent:
                await agent.say()
    async with make_proxy(provider.url, key_file, metrics) as proxy:
        access = await proxy.admit(proxy.meter(), link=Link.SOCKET, place=place, view=view)
        await access.close()
        await access.close()

    assert [] == list(place.run.iterdir())


async def test_nothing_is_left_of_an_opening_that_is_cut_short(
    proxy: ModelProxy, place: Place, view: View
) -> None:
    """Whenever that is, and although the thread that makes the socket goes on."""
    for steps in itertools.count():
        admission = proxy.admit(proxy.meter(), link=Link.SOCKET, place=place, view=view)
        opening = asyncio.ensure_future(admission)
        for _ in range(steps):
            await asyncio.sleep(0)
        whole = opening.done()
        opening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await (await opening).close()
        if whole:
            break

    await until(lambda: not listening())


async def test_opening_that_is_cut_short_takes_nothing_from_the_next(
    proxy: ModelProxy, place: Place, view: View
) -> None:
    """Its thread may go on, but never after the next one's, at the same path."""
    for _ in range(20):
        cut = [
            asyncio.ensure_future(
                proxy.admit(proxy.meter(), link=Link.SOCKET, place=place, view=view)
            )
            for _ in range(3)
        ]
        await asyncio.sleep(0)
        for opening in cut:
            opening.cancel()
        access = await proxy.admit(proxy.meter(), link=Link.SOCKET, place=place, view=view)
        await asyncio.gather(*cut, return_exceptions=True)
        async with asking(access) as agent:
            await agent.say()
        await access.close()


def listening() -> list[socket.socket]:
    """The sockets of agents that nobody has closed."""
    return [
        one
        for one in gc.get_objects()
        if isinstance(one, socket.socket) and one.fileno() >= 0 and SOCKET in str(one.getsockname())
    ]


@pytest.mark.parametrize("token", ["", "x", "x.y", "{name}.", "{name}.wrong", "{name}", "é.é"])
async def test_wrong_token_lets_nobody_in(access: Access, provider: Provider, token: str) -> None:
    """Nor does the right name with another secret."""
    name = access.environment["ANTHROPIC_AUTH_TOKEN"].partition(".")[0]
    async with asking(access) as agent:
        agent.headers = {"Authorization": f"Bearer {token.format(name=name)}"}
        async with agent.post() as response:
            status = response.status

    assert 401 == status
    assert [] == provider.asked


async def test_token_that_is_no_text_lets_nobody_in(access: Access, provider: Provider) -> None:
    """It is refused like any other."""
    name = access.environment["ANTHROPIC_AUTH_TOKEN"].partition(".")[0]
    port = access.environment["ANTHROPIC_BASE_URL"].rpartition(":")[2]
    reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
    head = f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {name}."
    writer.write(head.encode() + b"\xff\r\nConnection: close\r\n\r\n")
    status = await reader.readline()
    writer.close()
    await writer.wait_closed()

    assert b"HTTP/1.1 401 Unauthorized\r\n" == status
    assert [] == provider.asked


async def test_agent_opens_as_many_connections_as_it_may(
    proxy: ModelProxy, place: Place, view: View
) -> None:
    """Its own programs could open more than the executor may have for all."""
    access = await proxy.admit(proxy.meter(), link=Link.SOCKET, place=place, view=view)
    path = str(place.run / SOCKET)
    ends = [await asyncio.open_unix_connection(path) for _ in range(64)]
    reader, writer = await asyncio.open_unix_connection(path)
    async with asyncio.timeout(15):
        with contextlib.suppress(ConnectionError):
            assert b"" == await reader.read()
    for _, end in (*ends, (reader, writer)):
        end.close()
    for _, end in ends:
        await end.wait_closed()
    async with asyncio.timeout(15), asking(access) as agent:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                await agent.say()
                break


async def test_crowd_gets_in_as_far_as_there_is_room(
    proxy: ModelProxy, place: Place, view: View
) -> None:
    """However many come before one of them is looked at."""
    await proxy.admit(proxy.meter(), link=Link.SOCKET, place=place, view=view)
    path, head = str(place.run / SOCKET), b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"
    ends = [await asyncio.open_unix_connection(path) for _ in range(63)]
    reader, writer = ends[-1]
    writer.write(head)
    await reader.readline()
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(64)]
        for one in crowd:
            one.settimeout(5)
            one.connect(path)
            one.setblocking(False)
        async with asyncio.timeout(10):
            await until(lambda: 63 <= sum(map(sent_away, crowd)))
        (let_in,) = (one for one in crowd if not sent_away(one))
        reader, writer = await asyncio.open_unix_connection(sock=let_in)
        writer.write(head)

        assert b"HTTP/1.1 200 OK\r\n" == await reader.readline()
        for _, end in (*ends, (reader, writer)):
            end.close()
            await end.wait_closed()


def sent_away(client: socket.socket) -> bool:
    """Tell whether a client that has asked for nothing was hung up on."""
    try:
        client.recv(1)
    except BlockingIOError:
        return False
    except ConnectionError:
        pass
    return True


async def test_token_ends_with_its_access(
    proxy: ModelProxy, meter: Meter, place: Place, view: View, provider: Provider
) -> None:
    """With what is being answered, and others stay."""
    provider.answer = streaming(start(input_tokens=1), end="silent")
    one, other = [await proxy.admit(meter, link=Link.TCP, place=place, view=view) for _ in range(2)]
    async with asking(one) as agent, asking(other) as neighbour:
        async with agent.post() as response:
            await response.content.readany()
            await one.close()
            await one.close()
            with pytest.raises(aiohttp.ClientError):
                await response.content.read()
        await asyncio.wait_for(provider.aborted.wait(), 15)
        async with agent.post() as response:
            assert 401 == response.status
        provider.answer = streaming(start(input_tokens=1))
        await neighbour.say()


async def test_agents_have_meters_of_their_own(proxy: ModelProxy, place: Place, view: View) -> None:
    """What one consumes is not another's."""
    meters = [proxy.meter(), proxy.meter()]
    for meter in meters:
        access = await proxy.admit(meter, link=Link.TCP, place=place, view=view)
    async with asking(access) as agent:
        await agent.say()

    assert [0, 10] == [meter.usage.input_tokens for meter in meters]


async def test_without_a_key_nobody_is_let_in(
    provider: Provider, tmp_path: Path, metrics: Metrics, place: Place, view: View
) -> None:
    """The reason is there for everybody; a key that comes later is taken."""
    file = tmp_path / "later"
    async with make_proxy(provider.url, file, metrics) as proxy:
        why = proxy.unavailable
        with pytest.raises(Failure) as caught:
            await proxy.admit(proxy.meter(), link=Link.TCP, place=place, view=view)
        file.write_text("sk-late")

        assert str(file) in why
        assert "BACKEND_UNAVAILABLE" == caught.value.reason_name
        assert why in caught.value.message
        assert "" == proxy.unavailable


async def test_folder_without_room_for_a_socket_is_a_failure(
    proxy: ModelProxy, meter: Meter, place: Place, view: View
) -> None:
    """The turn fails, and nothing else."""
    (place.run / "api.sock").mkdir()
    with pytest.raises(Failure) as caught:
        await proxy.admit(meter, link=Link.SOCKET, place=place, view=view)

    assert "BACKEND_UNAVAILABLE" == caught.value.reason_name


async def test_all_is_well_is_told(proxy: ModelProxy) -> None:
    """One look at the key and one at the provider, which need not like what it is asked."""
    checks = await proxy.check()

    assert [
        (Check.SUBJECT_KEY, Check.STATE_GOOD),
        (Check.SUBJECT_UPSTREAM, Check.STATE_GOOD),
    ] == [(check.subject, check.state) for check in checks]
    assert ["", ""] == [check.remedy for check in checks]


async def test_missing_key_and_provider_are_told(tmp_path: Path, metrics: Metrics) -> None:
    """With what to do about it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        async with make_proxy(url, tmp_path / "none", metrics) as proxy:
            checks = await proxy.check()

    assert [Check.STATE_FAILED] * 2 == [check.state for check in checks]
    assert all(check.remedy for check in checks)


async def test_key_that_is_kept_or_refused_is_told(
    proxy: ModelProxy, agent: Agent, provider: Provider, key_file: Path
) -> None:
    """What the provider said last counts until it says something else."""

    async def refuse(request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
        return aiohttp.web.Response(status=401)

    states = []
    provider.answer, good = refuse, provider.answer
    for provider.answer in (refuse, good):
        async with agent.post() as response:
            await response.read()
        states.append((await proxy.check())[0].state)
    write(key_file, "")
    (kept, _) = await proxy.check()

    assert [Check.STATE_FAILED, Check.STATE_GOOD] == states
    assert Check.STATE_WARNING == kept.state
    assert "last good key" in kept.detail


async def test_provider_that_says_nothing_is_told(
    key_file: Path, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look takes a bounded time."""
    monkeypatch.setattr(upstream, "_LOOKING_SECONDS", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with make_proxy(url, key_file, metrics) as proxy:
            (_, check) = await proxy.check()

    assert Check.STATE_FAILED == check.state
    assert "does not answer" in check.detail


async def test_provider_that_is_none_is_told(
    key_file: Path, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something else may sit at its address."""
    monkeypatch.setattr(upstream, "_LOOKING_SECONDS", 10)
    left = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0\r\n\r\n")
        await reader.read()
        writer.close()
        await writer.wait_closed()
        left.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        async with make_proxy(url, key_file, metrics) as proxy:
            (_, check) = await proxy.check()
        await left.wait()

    assert Check.STATE_FAILED == check.state
    assert "does not speak HTTP" in check.detail


async def test_address_that_is_none_is_told(key_file: Path, metrics: Metrics) -> None:
    """As somebody may mistype it."""
    async with make_proxy("http://[", key_file, metrics) as proxy:
        (_, check) = await proxy.check()

    assert "address is none" in check.detail
