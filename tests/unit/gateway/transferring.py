"""A gateway before an executor with files, and requests to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from yarl import URL

from services.gateway import file_routes
from tests.unit.gateway.executor_api import WORKSPACE, FakeExecutor, fake_executor
from tests.unit.gateway.running import BEARER, TOKEN, Gateway, gateway

AGENT = "users/dev/agents/a"
FILES = "/v1/agents/a/files/"
ARCHIVE = "/v1/agents/a/archive"
PART = file_routes.PART_BYTES


@dataclass
class Setting:
    """A gateway before an executor with files."""

    gateway: Gateway
    executor: FakeExecutor

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Make a request; status, body and headers. As the developer unless told otherwise."""
        url = URL(self.gateway.url + path, encoded=True)
        sent = BEARER | {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {name: value for name, value in sent.items() if value}
        async with self.gateway.client.request(method, url, data=body, headers=sent) as response:
            if "json" in response.content_type:
                return response.status, await response.json(), response.headers
            return response.status, await response.read(), response.headers

    async def cookie(self) -> str:
        """Log in."""
        url = f"{self.gateway.url}/?token={TOKEN}"
        async with self.gateway.client.get(url, allow_redirects=False) as response:
            return str(response.headers["Set-Cookie"].split(";")[0])


@asynccontextmanager
async def transferring() -> AsyncIterator[Setting]:
    """A gateway and an executor."""
    async with fake_executor() as executor, gateway() as running:
        running.session.places[AGENT] = (WORKSPACE, executor.target)
        yield Setting(running, executor)
