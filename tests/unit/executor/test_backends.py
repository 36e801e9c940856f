"""Tests of `services.executor.backends`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from services.chassis.failures import Failure
from services.chassis.tasks import Tasks
from services.executor.backend import Backend
from services.executor.backends.cloud_run import CloudRun
from services.executor.backends.docker import Docker
from services.executor.backends.simulation import Simulation
from services.executor.channel import Launch
from services.executor.workspaces import Workspaces
from tests.unit.executor.fakes import FakeReceiver

PLACE = Workspaces(root=Path("/nowhere")).place("abcdefgh")
LAUNCH = Launch(place=PLACE, tenant="", argv=(), environment={})


def make_docker(host: str, *, disabled: bool = False) -> Docker:
    """Return the Docker backend of an engine's address."""
    return Docker(disabled=disabled, host=host, patience=timedelta(seconds=0.3))


class Engine:
    """Something at an engine's address, which says what the test wants."""

    def __init__(self, reply: bytes | None) -> None:
        self.calls = 0
        self._reply = reply

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, or none."""
        self.calls += 1
        await reader.readuntil(b"\r\n\r\n")
        if self._reply is None:
            await reader.read()
        else:
            writer.write(self._reply)
        writer.close()


def reply(status: str, body: bytes) -> bytes:
    """Return an HTTP response."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\nConnection: close\r\n\r\n" + body


@pytest.fixture
async def address(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """The address of an engine that gives the reply of the test's parameter."""
    path = tmp_path / "docker.sock"
    server = await asyncio.start_unix_server(Engine(request.param).serve, path)
    async with server:
        yield f"unix://{path}"


async def test_simulation_is_available(tasks: Tasks) -> None:
    """It needs nothing, and gives a channel that opens."""
    backend = Simulation(seed=0, tasks=tasks)
    channel = backend.channel(LAUNCH)
    await channel.open(FakeReceiver())
    await channel.kill()

    assert ("simulation", "") == (backend.name, backend.unavailable)


@pytest.mark.parametrize("backend", [CloudRun(), make_docker("", disabled=True)])
def test_backend_that_cannot_run_says_why(backend: Backend) -> None:
    """It refuses with its reason."""
    with pytest.raises(Failure) as caught:
        backend.channel(LAUNCH)

    assert "BACKEND_UNAVAILABLE" == caught.value.reason_name
    assert {"backend": backend.name} == caught.value.metadata
    assert backend.unavailable in caught.value.message


async def test_disabled_docker_touches_no_socket(tmp_path: Path) -> None:
    """Not even to look whether there is an engine."""
    engine = Engine(b"")
    path = tmp_path / "other.sock"
    async with await asyncio.start_unix_server(engine.serve, path):
        docker = make_docker(f"unix://{path}", disabled=True)
        await docker.probe()

    assert 0 == engine.calls
    assert "Switched off by DISABLE_DOCKER." == docker.unavailable


async def test_missing_engine_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing crashes."""
    docker = make_docker(f"unix://{tmp_path}/none.sock")
    await docker.probe()

    assert ["Docker not available"] == caplog.messages
    assert "there is no engine at its address" in docker.unavailable


async def test_address_that_is_none_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """A wrong setting does not keep the executor from starting."""
    docker = make_docker("nonsense://x")
    await docker.probe()

    assert ["Docker not available"] == caplog.messages


@pytest.mark.parametrize("address", [reply("500 Oops", b'{"message": "x"}')], indirect=True)
async def test_engine_that_fails_is_a_warning(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It counts as missing."""
    await make_docker(address).probe()

    assert ["Docker not available"] == caplog.messages


@pytest.mark.parametrize("address", [None], indirect=True)
async def test_engine_that_does_not_answer_is_a_warning(address: str) -> None:
    """The start is not held up for long."""
    docker = make_docker(address)
    async with asyncio.timeout(5):
        await docker.probe()

    assert "does not answer" in docker.unavailable


@pytest.mark.parametrize(
    "address", [reply("200 OK", b'{"ApiVersion": "1.44", "Version": "27"}')], indirect=True
)
async def test_engine_is_found_and_not_used(address: str, caplog: pytest.LogCaptureFixture) -> None:
    """The reason is honest about it."""
    docker = make_docker(address)
    await docker.probe()

    assert [] == caplog.messages
    assert "not part of this version" in docker.unavailable


async def test_missing_library_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is an optional extra."""
    monkeypatch.setitem(sys.modules, "aiodocker", None)
    docker = make_docker("")
    await docker.probe()

    assert "aiodocker is not installed" in docker.unavailable
    assert ["Docker not available"] == caplog.messages
