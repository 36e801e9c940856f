"""Tests of `services.executor.backends.docker`, without an engine."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from moorline.diagnosis.v1 import diagnosis_pb2
from services.chassis.failures import Failure
from services.chassis.tasks import Tasks
from services.executor.backends.docker import Docker
from services.executor.channel import Launch
from services.executor.workspaces import Workspaces
from tests.unit.executor.docker.engines import (
    IMAGE,
    NO_CONTAINERS,
    NO_IMAGE,
    VERSION,
    FakeEngine,
    make_docker,
)
from tests.unit.executor.fakes import until

PLACE = Workspaces(root=Path("/nowhere")).place("abcdefgh")
LAUNCH = Launch(place=PLACE, tenant="", argv=(), environment={})


def states(docker: Docker) -> list[str]:
    """Return what is known of engine and image."""
    return [
        diagnosis_pb2.Check.State.Name(check.state).removeprefix("STATE_")
        for check in docker.checks()
    ]


async def found(tasks: Tasks, host: str) -> str:
    """Return what the first look finds at an address."""
    async with asyncio.timeout(15), make_docker(tasks, host) as docker:
        return docker.unavailable


async def test_disabled_touches_no_socket(tmp_path: Path, tasks: Tasks) -> None:
    """Not even to look whether there is an engine."""
    engine = FakeEngine({})
    async with (
        engine.at(tmp_path / "s") as host,
        make_docker(tasks, host, disabled=True) as docker,
    ):
        assert 0 == engine.calls
        assert "Switched off by DISABLE_DOCKER." == docker.unavailable
        assert ["UNUSED", "UNUSED"] == states(docker)
        assert () == await docker.survivors()
        await docker.reap(())


@pytest.mark.parametrize("disabled", [True, False])
async def test_what_cannot_run_is_refused_with_the_reason(tasks: Tasks, disabled: bool) -> None:
    """Both a new agent and one to be adopted."""
    async with make_docker(tasks, "unix:///nowhere", disabled=disabled) as docker:
        with pytest.raises(Failure) as caught:
            docker.channel(LAUNCH)
        with pytest.raises(Failure) as lost:
            docker.adopt(PLACE)

    assert "BACKEND_UNAVAILABLE" == caught.value.reason_name
    assert {"backend": "docker"} == caught.value.metadata
    assert docker.unavailable in caught.value.message
    assert "EXECUTION_LOST" == lost.value.reason_name


async def test_missing_engine_is_a_warning(
    tmp_path: Path, tasks: Tasks, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing crashes, nobody survives, and there is nothing to remove."""
    async with make_docker(tasks, f"unix://{tmp_path}/none") as docker:
        assert ["Docker not available"] == caplog.messages
        assert "there is no engine at its address" in docker.unavailable
        assert ["FAILED", "UNUSED"] == states(docker)
        assert "Install and start Docker" in docker.checks()[0].remedy
        assert () == await docker.survivors()
        await docker.reap(())


async def test_address_that_is_none(tasks: Tasks) -> None:
    """A wrong setting does not keep the executor from starting."""
    assert "nonsense://x is no address" in await found(tasks, "nonsense://x")


async def test_socket_nobody_serves(tmp_path: Path, tasks: Tasks) -> None:
    """An engine that is gone leaves it."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "s"))

    assert "is broken: nobody answers" in await found(tasks, f"unix://{tmp_path}/s")


async def test_file_that_is_no_socket(tmp_path: Path, tasks: Tasks) -> None:
    """A directory or a file there counts as a broken socket."""
    (tmp_path / "s").touch()

    assert "is broken: nobody answers" in await found(tasks, f"unix://{tmp_path}/s")


@pytest.fixture
def nobody() -> Iterator[None]:
    """The test runs as a user without rights."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    os.seteuid(user)


async def test_socket_of_others(tmp_path: Path, tasks: Tasks, nobody: None) -> None:
    """The group to join is named."""
    user = os.geteuid()
    os.seteuid(os.getuid())
    async with FakeEngine({}).at(tmp_path / "s") as host:
        (tmp_path / "s").chmod(0)
        os.seteuid(user)
        async with make_docker(tasks, host) as docker:
            assert "this user may not use the engine's socket" in docker.unavailable
            assert "group `docker`" in docker.checks()[0].remedy
        os.seteuid(os.getuid())


async def test_nothing_at_a_port(tasks: Tasks) -> None:
    """An engine may be reached by TCP, or not."""
    assert "nothing answers" in await found(tasks, "tcp://127.0.0.1:1")


async def test_engine_that_hangs(tmp_path: Path, tasks: Tasks) -> None:
    """The start is not held up for long."""
    async with FakeEngine({"version": None}).at(tmp_path / "s") as host:
        assert "does not answer within 10 seconds" in await found(tasks, host)


@pytest.mark.parametrize("body", [b'{"message": "x"}', b"x"])
async def test_engine_that_fails(tmp_path: Path, tasks: Tasks, body: bytes) -> None:
    """It counts as none, whatever it says."""
    async with FakeEngine({"version": ("500 Oops", body)}).at(tmp_path / "s") as host:
        assert "Docker not available: " in await found(tasks, host)


async def test_what_is_no_engine(tmp_path: Path, tasks: Tasks) -> None:
    """Something else may sit at its address."""
    async with FakeEngine({"version": ("200 OK", b"[]")}).at(tmp_path / "s") as host:
        assert "is no Docker engine" in await found(tasks, host)


async def test_missing_image(tmp_path: Path, tasks: Tasks) -> None:
    """How to build it is said."""
    engine = FakeEngine({"version": VERSION, "images/agents:1/json": NO_IMAGE})
    async with engine.at(tmp_path / "s") as host, make_docker(tasks, host) as docker:
        assert "has no image agents:1. `make agent-image` builds it." in docker.unavailable
        assert ["GOOD", "FAILED"] == states(docker)


async def test_engine_and_image(
    tmp_path: Path, tasks: Tasks, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is the matter."""
    engine = FakeEngine({"version": VERSION, "images/agents:1/json": IMAGE})
    async with engine.at(tmp_path / "s") as host, make_docker(tasks, host) as docker:
        assert "" == docker.unavailable
        assert ["GOOD", "GOOD"] == states(docker)
        assert [] == caplog.messages


@pytest.mark.parametrize("labels", [b"null", b'{"moorline.cli.version": "0.9"}'])
async def test_image_with_another_version(tmp_path: Path, tasks: Tasks, labels: bytes) -> None:
    """It may do, and is told about."""
    image = ("200 OK", b'{"Config": {"Labels": ' + labels + b"}}")
    engine = FakeEngine({"version": VERSION, "images/agents:1/json": image})
    async with engine.at(tmp_path / "s") as host, make_docker(tasks, host) as docker:
        assert "" == docker.unavailable
        assert ["GOOD", "WARNING"] == states(docker)
        assert "1 is expected" in docker.checks()[1].detail


async def test_engine_and_image_come_and_go(tmp_path: Path, tasks: Tasks) -> None:
    """Nobody has to restart the executor; what the engine has left over is removed."""
    path = tmp_path / "s"
    replies = {"version": VERSION, "agents:1/json": NO_IMAGE, "containers/json": NO_CONTAINERS}
    engine = FakeEngine({**replies})
    async with make_docker(tasks, f"unix://{path}", interval=0.02) as docker:
        await docker.reap(())
        async with engine.at(path):
            await until(lambda: "has no image" in docker.unavailable)
            engine.replies["agents:1/json"] = IMAGE
            await until(lambda: not docker.unavailable)
        path.unlink()
        await until(lambda: "there is no engine" in docker.unavailable)


async def test_engine_that_is_slow_once_stays_available(
    tmp_path: Path, tasks: Tasks, caplog: pytest.LogCaptureFixture
) -> None:
    """A busy one may be; nobody's turn fails for it."""
    engine = FakeEngine({"version": VERSION, "agents:1/json": IMAGE})
    async with (
        engine.at(tmp_path / "s") as host,
        make_docker(tasks, host, interval=0.02) as docker,
    ):
        engine.replies["version"] = None
        await until(lambda: engine.unanswered)
        engine.replies["version"] = VERSION
        looked = engine.calls
        await until(lambda: engine.calls > looked + 10)

        assert "" == docker.unavailable
    assert 1 == engine.unanswered
    assert [] == caplog.messages


async def test_missing_library(
    monkeypatch: pytest.MonkeyPatch, tasks: Tasks, caplog: pytest.LogCaptureFixture
) -> None:
    """It is an optional extra."""
    monkeypatch.setitem(sys.modules, "aiodocker", None)
    async with make_docker(tasks, "") as docker:
        assert "aiodocker is not installed" in docker.unavailable
        assert ["Docker not available"] == caplog.messages


async def test_view_is_the_same_for_all(tasks: Tasks) -> None:
    """Each container has its own."""
    assert "/workspace" == make_docker(tasks, "").view(PLACE).files
