"""Each process's clock is an hour off, one ahead and one behind: nobody can tell."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from websockets.asyncio.client import connect

import moorline
from moorline.connection import ConnectionState
from services.local.readiness import until_ready
from tests.nemesis.cluster import Cluster
from tests.nemesis.faults import clocks_possible
from tests.system.clusters import cluster, documents, owner, user
from tests.system.wire import Transcript, Wire, follow

pytestmark = [pytest.mark.alone, pytest.mark.firestore, pytest.mark.timeout(180)]

LEASE_SECONDS = 15.0
PERMISSION_SECONDS = 3.0
KEY_SECONDS = 8
TRUE_SECONDS = 5.0
"""By so much a time may differ from the true one on a busy machine; the clocks are an hour off."""
USERS = 12
"""So many that hardly ever one pod has them all."""
SERVICES = ("gateway", "session", "executor")
CLOCKS = {
    f"{service}-{number}": clock
    for service in SERVICES
    for number, clock in ((1, "+1h"), (2, "-1h"))
}
SCRIPT = "/sim write a.txt kept\n/sim stream 20 50\n/sim say done"


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Two of each, two hours apart."""
    if not clocks_possible():
        pytest.skip("no libfaketime: install the package faketime")
    settings = {"session": {"MOORLINE_PERMISSION_TIMEOUT": str(PERMISSION_SECONDS)}}
    async with cluster(
        tmp_path, lease_seconds=LEASE_SECONDS, clocks=CLOCKS, settings=settings
    ) as site:
        ports = [pod.port for pod in site.of("gateway")]
        async with asyncio.timeout(60):
            await until_ready(grpc_ports=[], http_ports=ports)
        yield site


async def test_a_clock_an_hour_off_changes_nothing(site: Cluster) -> None:
    """Turns, their times, logins, tickets, keys, permissions and leases are as ever."""
    begin = time.time()
    async with AsyncExitStack() as stack:
        wires = [
            await stack.enter_async_context(
                user(site, f"user-{number}", f"gateway-{1 + number % 2}")
            )
            for number in range(USERS)
        ]
        agents = [await wire.agent() for wire in wires]
        owners = {(await owner(site, wire.user)).name for wire in wires}
        ways = [check_turns(wire, agent, begin) for wire, agent in zip(wires, agents, strict=True)]
        await asyncio.gather(
            *ways,
            check_permission(wires[0], await wires[0].agent()),
            check_program(site),
            *(check_proofs(site, name) for name in site.gateways),
        )
        placed = {
            fields["executor"]
            for agent in agents
            for fields in (await documents(site, f"{agent}/turns")).values()
        }
        # Longer than two leases: whoever trusted a clock would have taken over.
        await asyncio.sleep(max(0, 2.2 * LEASE_SECONDS - (time.time() - begin)))
        await asyncio.gather(
            *(check_turns(wire, agent, begin) for wire, agent in zip(wires, agents, strict=True))
        )

    assert {"session-1", "session-2"} == owners
    assert len(placed) == 2
    # Of somebody idle it is given back, and taken again.
    assert causes(site) <= {"free", "released"}


def causes(site: Cluster) -> set[str]:
    """Return why users were taken, as the session services have logged it."""
    lines = [line for pod in site.of("session") for line in pod.log.read_text().splitlines()]
    entries = [json.loads(line) for line in lines if line.startswith("{")]
    found = {entry["cause"] for entry in entries if entry["message"] == "lease taken"}
    assert found
    return found


async def check_turns(wire: Wire, agent: str, born: float) -> None:
    """A turn runs, and every time it shows is true."""
    begin = time.time()
    turn = await wire.prompt(agent, SCRIPT)
    seen = await follow(wire, agent, Transcript(), turn)
    events = [event for event in seen.events if event.get("turnId") == turn.rpartition("/")[2]]
    shown = [events, (await wire.call("getTurn", {"name": turn}))["turn"]]
    settings = (await wire.call("getAgent", {"name": agent}))["agent"]
    end = time.time()
    for since, what, least in ((begin, shown, 8), (born, settings, 2)):
        found = list(times(what))
        assert len(found) >= least
        for name, told in found:
            assert since - TRUE_SECONDS < told < end + TRUE_SECONDS, name
    outcome = seen.outcome(turn)
    assert outcome is not None
    assert "STATE_FINISHED" == outcome["state"]
    assert 0.5 < float(outcome["duration"].removesuffix("s")) < end - begin + TRUE_SECONDS
    instants = [instant(event["createTime"]) for event in events]
    assert sorted(instants) == instants


async def check_permission(wire: Wire, agent: str) -> None:
    """A request that nobody answers is refused when its time is over, and not before."""
    turn = await wire.prompt(agent, "/sim ask Bash something\n/sim say done")
    seen = await follow(wire, agent, Transcript(), turn)
    (asked,) = (event for event in seen.events if "permissionRequest" in event["item"])
    (decided,) = (event for event in seen.events if "permissionDecision" in event["item"])
    expiry = instant(asked["item"]["permissionRequest"]["expireTime"])
    waited = instant(decided["createTime"]) - instant(asked["createTime"])
    assert abs(expiry - instant(asked["createTime"]) - PERMISSION_SECONDS) < TRUE_SECONDS
    assert PERMISSION_SECONDS - 0.5 < waited < PERMISSION_SECONDS + TRUE_SECONDS


async def check_program(site: Cluster) -> None:
    """The Python client stays connected and reads a turn."""
    states: list[ConnectionState] = []
    url, token = site.gateways["gateway-2"], site.token("program")
    async with moorline.AsyncClient(url, token, on_state=states.append) as client:
        assert "done" in (await client.run(SCRIPT)).text
    assert ConnectionState.RECONNECTING not in states


async def check_proofs(site: Cluster, name: str) -> None:
    """Tokens, cookies, tickets and keys made at one gateway are as good, for as long, at both."""
    person, urls = f"person-{name}", list(site.gateways.values())
    good, url = site.token(person), site.gateways[name]
    headers = {"Authorization": f"Bearer {good}"}
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as browser:
        for each in urls:
            assert await status(browser, each, headers) == 200
            for shift in (-2000, 600):
                wrong = {"Authorization": f"Bearer {site.token(person, shift)}"}
                assert await status(browser, each, wrong) == 401
        async with browser.post(f"{url}/v1/login", json={"token": good}) as reply:
            assert reply.status == 200
            (cookie,) = reply.cookies.values()
        assert abs(int(cookie["max-age"]) - 1800) < 60
        for each in urls:
            # Servers of one host keep their logins apart by the name.
            cookies = {"Cookie": f"moorline-{each.rpartition(':')[2]}={cookie.value}"}
            assert await status(browser, each, cookies) == 200
        for each in urls:
            async with browser.post(f"{url}/v1/tickets", headers=headers) as reply:
                ticket = await reply.json()
            assert 0 < instant(ticket["expireTime"]) - time.time() < 120
            protocols: Any = ["moorline.v1", f"ticket.{ticket['ticket']}"]
            async with connect(
                f"{each.replace('http', 'ws')}/v1/ws", subprotocols=protocols, proxy=None
            ) as socket:
                await socket.send('{"id": 1, "listBackends": {}}')
                assert "welcome" in json.loads(await socket.recv())
        await check_key(browser, site, name)


async def check_key(browser: aiohttp.ClientSession, site: Cluster, name: str) -> None:
    """A key is good until it expires, and then no more."""
    begin = time.time()
    async with user(site, f"person-{name}", name) as wire:
        made = await wire.call("createKey", {"parent": wire.user, "ttl": f"{KEY_SECONDS}s"})
    born, expiry = (instant(made["key"][name]) for name in ("createTime", "expireTime"))
    assert begin - TRUE_SECONDS < born < time.time() + TRUE_SECONDS
    assert KEY_SECONDS == round(expiry - born)
    headers = {"Authorization": f"Bearer {made['secret']}"}
    for url in site.gateways.values():
        assert await status(browser, url, headers) == 200
    await asyncio.sleep(expiry + TRUE_SECONDS - time.time())
    for url in site.gateways.values():
        assert await status(browser, url, headers) == 401


async def status(browser: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> int:
    """Return how a gateway takes a proof."""
    async with browser.get(f"{url}/v1/me", headers=headers) as reply:
        return reply.status


def times(shown: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Find every time in what a client was shown."""
    if isinstance(shown, dict):
        for key, value in shown.items():
            if key.endswith("Time"):
                yield f"{name}.{key}", instant(value)
            else:
                yield from times(value, f"{name}.{key}")
    elif isinstance(shown, list):
        for value in shown:
            yield from times(value, name)


def instant(text: str) -> float:
    """Return a timestamp as seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp()
