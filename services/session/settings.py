"""What the session service can be told.

Read once, in `__main__.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from services.chassis.discovery import check_address, check_target
from services.chassis.settings import ServerSettings, setting
from services.session.limits import Limits

_SQLITE = "sqlite:"
_FIRESTORE = "firestore"
_ANYWHERE = ("", "0.0.0.0", "[::]", "::", "*")  # noqa: S104 - told apart, not listened on
_GATHER = timedelta(milliseconds=50)
"""What comes within it shares a commit; each document written is paid for."""
_LINGER = timedelta(seconds=2)
"""Time to write what a tool is called with: the call then shares a commit with the text before."""
_PACE = timedelta(seconds=1)
"""Firestore takes about one write a second to one document."""


@dataclass(frozen=True, kw_only=True)
class Settings(ServerSettings):
    """Settings of the session service."""

    listen: str = setting("Address to serve on, `host:port`; port 0 takes any.", "127.0.0.1:7001")
    address: str = setting(
        "Address at which gateways reach this one and no other, `host:port`; empty for that of"
        " `MOORLINE_LISTEN`.",
        "",
    )
    executor: str = setting(
        "Executors: `host:port`, several with commas between, or `dns:///name:port` for every"
        " address of a name."
    )
    store: str = setting(
        "Where everything that lasts is kept: `sqlite:` and the path of a file for one session"
        " service, `firestore` or `firestore:` and the id of a database for any number.",
        "sqlite:.data/moorline.db",
    )
    project: str = setting(
        "Google Cloud project of the database; empty for that of the credentials.",
        "",
        variable="GOOGLE_CLOUD_PROJECT",
    )
    firestore_emulator: str = setting(
        "Address of a Firestore emulator, `host:port`; empty for the service itself.",
        "",
        variable="FIRESTORE_EMULATOR_HOST",
    )
    lease_seconds: timedelta = setting(
        "Seconds after which a user of a session service that is gone is taken over, at least 1;"
        " the same for all of them.",
        timedelta(seconds=15),
        minimum=1,
    )
    sweep_seconds: timedelta = setting(
        "Seconds between looks for turns whose session service is gone.",
        timedelta(seconds=10),
        minimum=0.1,
    )
    max_agents: int = setting("Agents a user may have, at least 1.", 200, minimum=1, maximum=900)
    max_keys: int = setting("API keys a user may have, at least 1.", 100, minimum=1, maximum=900)
    max_queued_turns: int = setting("Turns that may wait for one agent.", 20, minimum=0)
    max_prompt_characters: int = setting("Characters of a prompt.", 100_000, minimum=1)
    max_sessions: int = setting("Users in memory at once, at least 1.", 10_000, minimum=1)
    max_attempts: int = setting("Executions of one turn, at least 1.", 3, minimum=1)
    executor_unreachable: timedelta = setting(
        "Seconds after which the executions of an executor that is away are given up.",
        timedelta(seconds=20),
        minimum=0.1,
    )
    permission_timeout: timedelta = setting(
        "Seconds after which an unanswered permission request is refused; 0 means never.",
        timedelta(0),
        minimum=0,
    )
    user_month_budget_usd: float = setting(
        "US dollars that one user's agents may cost in a month, of UTC; turns stop when they are"
        " spent. 0 means no limit.",
        0.0,
        minimum=0,
    )
    session_idle: timedelta = setting(
        "Seconds a session stays in memory with nothing to do.",
        timedelta(minutes=30),
        minimum=1,
    )

    def __post_init__(self) -> None:
        """Check what one field alone cannot tell."""
        _check("MOORLINE_EXECUTOR", check_target, self.executor)
        if self.address:
            _check("MOORLINE_ADDRESS", check_address, self.address)
        kind, colon, rest = self.store.partition(":")
        if not (kind == _FIRESTORE and bool(colon) == bool(rest)) and not (
            kind == "sqlite" and rest
        ):
            raise ValueError(
                "MOORLINE_STORE must be `sqlite:` and the path of a file, `firestore`, or"
                " `firestore:` and the id of a database."
            )
        if self.database is not None and not self.reached_at:
            raise ValueError(
                "MOORLINE_ADDRESS is required, `host:port`: MOORLINE_LISTEN does not say where"
                " gateways reach this session service."
            )

    @property
    def reached_at(self) -> str:
        """Where others reach this service; empty when that is not known."""
        if self.address:
            return self.address
        host, _, port = self.listen.rpartition(":")
        return "" if host in _ANYWHERE or port == "0" else self.listen

    @property
    def database(self) -> str | None:
        """Id of the Firestore database; None when the store is a file."""
        kind, _, database = self.store.partition(":")
        return (database or "(default)") if kind == _FIRESTORE else None

    @property
    def store_words(self) -> str:
        """What the store is, to begin a sentence with."""
        if self.database is None:
            return f"The file {self.store_path()}"
        where = f" at {self.firestore_emulator}" if self.firestore_emulator else ""
        return f"The Firestore database {self.database}{where}"

    def store_path(self) -> Path:
        """Return the file that the store is in."""
        return Path(self.store.removeprefix(_SQLITE))

    def limits(self) -> Limits:
        """Return the limits that the logic holds to."""
        return Limits(
            agents=self.max_agents,
            keys=self.max_keys,
            queued_turns=self.max_queued_turns,
            prompt=self.max_prompt_characters,
            sessions=self.max_sessions,
            attempts=self.max_attempts,
            unreachable=self.executor_unreachable,
            permission=self.permission_timeout,
            idle=self.session_idle,
            month_budget=round(self.user_month_budget_usd * 1_000_000),
            lease=self.lease_seconds,
            # A file costs nothing for a commit.
            gather=timedelta(0) if self.database is None else _GATHER,
            linger=timedelta(0) if self.database is None else _LINGER,
            pace=timedelta(0) if self.database is None else _PACE,
        )


def _check(variable: str, check: Callable[[str], None], value: str) -> None:
    try:
        check(value)
    except ValueError as error:
        raise ValueError(f"{variable}: {error}") from None
