"""The platform where agents cannot run in containers: it says why, and runs."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer

import pytest

from tests.system.stack import running
from tests.system.wire import Transcript, follow, open_wire


class WithoutImage(BaseHTTPRequestHandler):
    """An engine that has no image at all."""

    def do_GET(self) -> None:
        """Tell its version, and nothing else."""
        known = self.path.endswith("/version")
        told = {"ApiVersion": "1.41", "Version": "27"} if known else {"message": "No such image"}
        body = json.dumps(told).encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        """Return nothing: who asks has no address."""
        return ""

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def engine_without_image(folder: Path) -> Iterator[Mapping[str, str]]:
    """An engine answers."""
    with ThreadingUnixStreamServer(str(folder / "s"), WithoutImage) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {"DISABLE_DOCKER": "false", "DOCKER_HOST": f"unix://{folder}/s"}
        server.shutdown()


@contextmanager
def broken_socket(folder: Path) -> Iterator[Mapping[str, str]]:
    """An engine that is gone has left its socket."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(folder / "s"))
    yield {"DISABLE_DOCKER": "false", "DOCKER_HOST": f"unix://{folder}/s"}


@contextmanager
def no_engine(folder: Path) -> Iterator[Mapping[str, str]]:
    """There is none."""
    yield {"DISABLE_DOCKER": "false", "DOCKER_HOST": f"unix://{folder}/s"}


@contextmanager
def switched_off(_: Path) -> Iterator[Mapping[str, str]]:
    """Nobody is to look for one."""
    yield {"DISABLE_DOCKER": "true", "DOCKER_HOST": "unix:///nowhere"}


@contextmanager
def switched_off_loudly(_: Path) -> Iterator[Mapping[str, str]]:
    """The same, in capitals."""
    yield {"DISABLE_DOCKER": "TRUE", "DOCKER_HOST": "unix:///nowhere"}


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("machine", "reason"),
    [
        (switched_off, "Switched off by DISABLE_DOCKER."),
        (switched_off_loudly, "Switched off by DISABLE_DOCKER."),
        (no_engine, "there is no engine at its address"),
        (broken_socket, "is broken: nobody answers there"),
        (engine_without_image, "`make agent-image` builds it."),
    ],
)
async def test_platform_runs_and_says_why(
    machine: Callable[[Path], AbstractContextManager[Mapping[str, str]]],
    reason: str,
    tmp_path: Path,
) -> None:
    """Simulated agents are not concerned."""
    with machine(tmp_path) as environment, running(tmp_path / "data", environment) as stack:
        async with open_wire(stack.url, stack.token) as wire:
            agent = await wire.agent()
            turn = await wire.prompt(agent, "/sim say well")
            told = await follow(wire, agent, Transcript(), turn)
            listed = (await wire.call("listBackends", {}))["backends"]
            (docker,) = [one for one in listed if one["name"] == "backends/docker"]

    assert not docker.get("available")
    assert reason in docker["detail"]
    assert ["well"] == [one["text"] for one in told.items("agentMessage")]
