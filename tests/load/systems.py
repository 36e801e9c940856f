"""Starts what is measured: the real three services, or the monolith, on free ports.

Does not know what is measured.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

START_SECONDS = 60.0
"""Patience with a start, on a machine that has other things to do."""

STOP_SECONDS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A system that runs.

    Attributes:
        url: Its WebSocket.
        token: Bearer token of its administrator.
        pids: Its processes, by name.
    """

    url: str
    token: str
    pids: Mapping[str, int]


@contextmanager
def moorline() -> Iterator[System]:
    """The three services as `make run` starts them, with a data folder of their own."""
    with tempfile.TemporaryDirectory(prefix="moorline-bench-") as folder:
        data = Path(folder)
        command = ["-m", "services.local", "--port", "0", "--data", str(data)]
        output = data / "output"
        with _process(command, output) as process:
            # The banner is printed when all three are ready.
            _wait_until(lambda: b"?token=" in output.read_bytes(), process, output)
            run = json.loads((data / "run.json").read_text())
            port = run["ports"]["gateway"]
            yield System(
                url=f"ws://127.0.0.1:{port}/v1/ws",
                token=(data / "token").read_text().strip(),
                pids={name: run["pids"][name] for name in ("gateway", "session", "executor")},
            )


@contextmanager
def monolith() -> Iterator[System]:
    """The FastAPI application that streams the same fragments."""
    with tempfile.TemporaryDirectory(prefix="moorline-bench-") as folder:
        port = _free_port()
        output = Path(folder) / "output"
        with _process(["-m", "tests.load.monolith", str(port)], output) as process:
            _wait_until(lambda: _listens(port), process, output)
            yield System(
                url=f"ws://127.0.0.1:{port}/v1/ws", token="none", pids={"monolith": process.pid}
            )


@contextmanager
def _process(arguments: list[str], output: Path) -> Iterator[subprocess.Popen[bytes]]:
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={
                "PATH": os.defpath,
                # A context file for the command line is written there, not into the user's.
                "HOME": str(output.parent),
                "XDG_CONFIG_HOME": str(output.parent / "config"),
                "DISABLE_DOCKER": "true",
            },
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        finally:
            process.kill()
            process.wait()


def _wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], output: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            msg = f"did not start:\n{output.read_text()}"
            raise RuntimeError(msg)
        time.sleep(0.05)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
