"""What the gateway can be told.

Does not read the environment; `__main__.py` does.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from services.chassis.discovery import check_target
from services.chassis.settings import ServiceSettings, setting


class Authentication(StrEnum):
    """How clients prove who they are. API keys are accepted with each."""

    DEVELOPMENT = "development"
    JWT = "jwt"
    KEYS = "keys"


@dataclass(frozen=True, kw_only=True)
class Settings(ServiceSettings):
    """Settings of the gateway."""

    listen: str = setting("Address for clients, `host:port`; port 0 takes any.", "127.0.0.1:8080")
    session: str = setting(
        "Session service: `host:port`, several with commas between, or `dns:///name:port` for "
        "every address of a name."
    )
    executor: str = setting(
        "Executors: `host:port`, several with commas between, or `dns:///name:port` for every "
        "address of a name."
    )

    auth: Authentication = setting(
        "`development`: one token, loopback only; `jwt`: signed tokens of an identity provider; "
        "`keys`: nothing but API keys, which the other two accept as well.",
        Authentication.KEYS,
    )
    development_token: str = setting(
        "The token of `users/dev`, at least 16 characters; required by `development`.",
        "",
        secret=True,
    )
    admin_token: str = setting(
        "A token of `users/admin`, who administers, at least 32 characters; accepted with each "
        "`MOORLINE_AUTH`, so that the first API keys can be made. None when empty.",
        "",
        secret=True,
    )
    jwt_jwks_url: str = setting(
        "Where the identity provider publishes its keys, an `https` address.", ""
    )
    jwt_jwks_file: Path | None = setting("The same as a file, instead of an address.", None)
    jwt_issuer: str = setting("Required `iss` of a signed token; required by `jwt`.", "")
    jwt_audience: str = setting("Required `aud` of a signed token; required by `jwt`.", "")
    jwt_user_claim: str = setting("Claim that names the user.", "sub")
    admins: tuple[str, ...] = setting(
        "Users who administer, as ids without `users/`, separated by commas; signed tokens only.",
        (),
    )

    allowed_origins: tuple[str, ...] = setting(
        "Origins whose pages may connect, for example `https://agents.example.com`, separated by "
        "commas. The page's own origin needs no entry on a loopback address.",
        (),
    )
    behind_tls: bool = setting(
        "True when clients reach this server through HTTPS: cookies are then `Secure`.",
        default=False,
    )

    frame_bytes: int = setting(
        "Bytes of one frame from a client, 8 KiB to 4 MiB; at least 4 KiB and 4 for each of "
        "`MOORLINE_PROMPT_CHARACTERS`.",
        524_288,
        minimum=8 << 10,
        maximum=4 << 20,
    )
    prompt_characters: int = setting(
        "Characters of a prompt, told to clients; the session service enforces it.",
        100_000,
        minimum=1,
    )
    calls_in_flight: int = setting(
        "Calls in progress on one connection, streams not counted.", 32, minimum=1
    )
    watches: int = setting("Streams on one connection.", 50, minimum=1)
    frames_per_second: int = setting(
        "Frames a second from one connection, sustained.", 20, minimum=1
    )
    frames_burst: int = setting("Frames from one connection that may come at once.", 60, minimum=1)
    connections_per_user: int = setting("Connections of one user.", 10, minimum=1)
    upgrades_per_second: int = setting(
        "New connections a second for the whole server; four times as many may come at once.",
        500,
        minimum=1,
    )
    heartbeat: timedelta = setting(
        "Seconds of silence after which a heartbeat is sent.", timedelta(seconds=20), minimum=1
    )
    call_timeout: timedelta = setting(
        "Seconds a call may take.", timedelta(seconds=30), minimum=0.1
    )

    def __post_init__(self) -> None:
        """Refuse combinations that would be unsafe or could not work.

        Raises:
            ValueError: With one sentence a problem.
        """
        problems = [
            *self._target_problems(),
            *self._development_problems(),
            *self._jwt_problems(),
            *self._frame_problems(),
        ]
        if self.admin_token and len(self.admin_token) < 32:
            problems.append("MOORLINE_ADMIN_TOKEN needs at least 32 characters, or none.")
        if problems:
            raise ValueError("\n".join(problems))

    def _target_problems(self) -> list[str]:
        problems = []
        for variable, target in (
            ("MOORLINE_SESSION", self.session),
            ("MOORLINE_EXECUTOR", self.executor),
        ):
            try:
                check_target(target)
            except ValueError as error:
                problems.append(f"{variable}: {error}")
        return problems

    def _development_problems(self) -> list[str]:
        if self.auth is not Authentication.DEVELOPMENT:
            return []
        problems = []
        if len(self.development_token) < 16:
            problems.append(
                "MOORLINE_AUTH=development needs MOORLINE_DEVELOPMENT_TOKEN with at least 16 "
                "characters."
            )
        if not is_loopback(self.listen.rpartition(":")[0]):
            problems.append(
                f"MOORLINE_AUTH=development serves loopback addresses only, and MOORLINE_LISTEN is "
                f"{self.listen!r}. Listen on 127.0.0.1, or choose MOORLINE_AUTH=jwt or keys."
            )
        return problems

    def _jwt_problems(self) -> list[str]:
        if self.auth is not Authentication.JWT:
            return []
        problems = [
            f"MOORLINE_AUTH=jwt needs {variable}."
            for variable, value in (
                ("MOORLINE_JWT_ISSUER", self.jwt_issuer),
                ("MOORLINE_JWT_AUDIENCE", self.jwt_audience),
            )
            if not value
        ]
        if bool(self.jwt_jwks_url) == bool(self.jwt_jwks_file):
            problems.append(
                "MOORLINE_AUTH=jwt needs either MOORLINE_JWT_JWKS_URL or MOORLINE_JWT_JWKS_FILE."
            )
        if self.jwt_jwks_url and not _is_safe(self.jwt_jwks_url):
            problems.append("MOORLINE_JWT_JWKS_URL must begin with https:// off this machine.")
        return problems

    def _frame_problems(self) -> list[str]:
        # UTF-8 has at most 4 bytes a character; the rest is for what is around the prompt.
        needed = 4 * self.prompt_characters + 4096
        if self.frame_bytes >= needed:
            return []
        problem = (
            f"MOORLINE_FRAME_BYTES must be at least {needed}, so that a frame can hold a prompt of "
            f"MOORLINE_PROMPT_CHARACTERS={self.prompt_characters}."
        )
        return [problem]


def _is_safe(url: str) -> bool:
    """True when nobody on the way can put keys of his own into the answer."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))


def is_loopback(host: str) -> bool:
    """True for `localhost` and for every address that only this machine reaches."""
    host = host.strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
