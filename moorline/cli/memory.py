"""Remembers which agent was talked to last, for each server.

Lies in `$XDG_STATE_HOME/moorline/last.json`; losing it costs a convenience.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import moorline


class Memory:
    """The last agent of the server and user of a client."""

    def __init__(self, client: moorline.AsyncClient, environ: Mapping[str, str]) -> None:
        self._path = _path(environ)
        self._place = f"{client.target.url} {client.user}"
        self._client = client

    async def last(self) -> moorline.AsyncAgent | None:
        """The agent talked to last; None when there is none, or it is gone."""
        name = self._read().get(self._place)
        if not name:
            return None
        try:
            return await self._client.agents.get(name)
        except moorline.NotFoundError:
            return None

    def keep(self, agent: moorline.Agent) -> None:
        """Note the agent talked to; a file that cannot be written is no failure."""
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps({**self._read(), self._place: agent.name}))

    def _read(self) -> dict[str, str]:
        try:
            notes = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return notes if isinstance(notes, dict) else {}


def _path(environ: Mapping[str, str]) -> Path:
    home = environ.get("XDG_STATE_HOME")
    if home:
        return Path(home) / "moorline" / "last.json"
    from platformdirs import user_state_path  # noqa: PLC0415

    return user_state_path("moorline", appauthor=False) / "last.json"
