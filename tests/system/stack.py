"""Starts the three real services for a test, and kills them one at a time."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Stack:
    """A running platform.

    Attributes:
        data: Its data folder.
        process: The supervisor that restarts what dies.
    """

    data: Path
    process: subprocess.Popen[bytes]

    @property
    def run(self) -> dict[str, Any]:
        """What the supervisor says about itself: `pids` and `ports` by service."""
        run: dict[str, Any] = json.loads((self.data / "run.json").read_text())
        return run

    @property
    def url(self) -> str:
        """Where the gateway listens."""
        return f"http://127.0.0.1:{self.run['ports']['gateway']}"

    @property
    def token(self) -> str:
        """The bearer token of the development user, an administrator."""
        return (self.data / "token").read_text().strip()

    def url_of(self, name: str) -> str:
        """Where one of several gateways listens."""
        return f"http://127.0.0.1:{self.run['ports'][name]}"

    def pid(self, service: str) -> int:
        """Process number of a service."""
        return int(self.run["pids"][service])

    def logs(self) -> str:
        """Everything the three services have logged."""
        return "\n".join(path.read_text() for path in sorted((self.data / "logs").glob("*")))

    async def kill(self, service: str, number: signal.Signals = signal.SIGKILL) -> None:
        """End a service by a signal, and return once the supervisor has started another."""
        before = self.pid(service)
        os.kill(before, number)
        async with asyncio.timeout(20):
            while self.pid(service) == before:  # noqa: ASYNC110 - another process's news
                await asyncio.sleep(0.02)

    def resident_bytes(self, service: str) -> int:
        """Memory a service holds, as the kernel counts it."""
        pages = int(Path(f"/proc/{self.pid(service)}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def running(
    data: Path, environment: Mapping[str, str] | None = None, *arguments: str
) -> Iterator[Stack]:
    """A platform on free ports that ends with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "services.local", "--port", "0", "--data", str(data), *arguments],
        cwd=ROOT,
        env={
            "PATH": os.defpath,
            "HOME": str(data.parent),
            "XDG_CONFIG_HOME": str(data.parent / "config"),
            "DISABLE_DOCKER": "true",
            **(environment or {}),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    output = b""
    deadline = time.monotonic() + 60
    for line in process.stdout:
        output += line
        if b"?token=" in line or time.monotonic() > deadline:
            break
    try:
        assert process.poll() is None, output.decode()
        assert b"?token=" in output, output.decode()
        yield Stack(data, process)
    finally:
        process.terminate()
        try:
            process.wait(10)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
