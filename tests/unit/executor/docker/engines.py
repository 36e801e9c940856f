"""Things at an engine's address that are no good engine, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from services.chassis.tasks import Tasks
from services.executor.backends.docker import Docker
from services.executor.channels.docker.container import Limits, Setting

LIMITS = Limits(memory=512, cpus=1, pids=256, shell_processes=200)


def make_setting(**changed: str) -> Setting:
    """Return what a test's containers have in common."""
    values = {"image": "agents:1", "cli_version": "1", "instance": "test", "version": "0"}
    return Setting(limits=LIMITS, **(values | changed))


def make_docker(tasks: Tasks, host: str, *, disabled: bool = False, interval: float = 60) -> Docker:
    """Return the Docker backend of an engine's address."""
    return Docker(
        disabled=disabled,
        host=host,
        setting=make_setting(),
        patience=timedelta(seconds=10),
        interval=timedelta(seconds=interval),
        tasks=tasks,
    )


class FakeEngine:
    """Answers HTTP requests with what a test wants, one to a connection.

    Args:
        replies: Status and body by the end of the path; None for a request never answered.
    """

    def __init__(self, replies: dict[str, tuple[str, bytes] | None]) -> None:
        self.replies = replies
        self.calls = 0
        self.unanswered = 0
        """Requests that never got an answer."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, or none."""
        self.calls += 1
        try:
            path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode().partition("?")[0]
        except asyncio.IncompleteReadError:
            writer.close()
            return
        reply = next((one for end, one in self.replies.items() if path.endswith(end)), None)
        if reply is None:
            self.unanswered += 1
            await reader.read()
        else:
            status, body = reply
            head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
            head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode() + body)
        writer.close()

    @asynccontextmanager
    async def at(self, path: Path) -> AsyncIterator[str]:
        """Serve at a socket; yields the engine's address."""
        async with await asyncio.start_unix_server(self.serve, path):
            yield f"unix://{path}"


VERSION = ("200 OK", b'{"ApiVersion": "1.41", "Version": "27"}')
IMAGE = ("200 OK", b'{"Config": {"Labels": {"moorline.cli.version": "1"}}}')
NO_IMAGE = ("404 Not Found", b'{"message": "No such image"}')
NO_CONTAINERS = ("200 OK", b"[]")
