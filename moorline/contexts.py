"""Where the server is and how to prove who you are: arguments, environment, file.

`$XDG_CONFIG_HOME/moorline/config.toml` holds named contexts:

    current = "local"

    [contexts.local]
    url = "http://127.0.0.1:8080"
    token_file = "/home/ada/project/.data/token"

A token itself is never in it, only the path of a file nobody else can read.
`python -m moorline.contexts set NAME --url URL --token-file PATH` writes it.
Does not know the protocol.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moorline.exceptions import AuthenticationError, InvalidRequestError

LOCAL = "local"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """A server and the file that holds the token for it.

    Attributes:
        url: `http(s)://host[:port]`.
        token_file: Path of a file with the token alone; None to send none.
    """

    url: str
    token_file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What the file holds.

    Attributes:
        current: Name of the context used when none is named; empty for none.
        contexts: Every context by its name.
    """

    current: str
    contexts: Mapping[str, Context]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to connect.

    Attributes:
        url: `http(s)://host[:port]`.
        token: Returns the token now; a file is read anew each time, so that a
            token that is replaced while a client runs is picked up.
        context: Name of the context it came from; empty when from none.
    """

    url: str
    token: Callable[[], str]
    context: str = ""


def environment() -> Mapping[str, str]:
    """The process's environment: the one place of this package that reads it."""
    return os.environ  # noqa: TID251 - see above


def resolve(
    *,
    url: str | None = None,
    token: str | None = None,
    token_file: Path | None = None,
    context: str | None = None,
    environ: Mapping[str, str],
) -> Target:
    """Find out where to connect: arguments win over the environment, that over the file.

    Args:
        url: Address; None to look further.
        token: Token; None to look further.
        token_file: File with the token; None to look further.
        context: Name of a context; None to look further.
        environ: `MOORLINE_URL`, `MOORLINE_TOKEN`, `MOORLINE_CONTEXT` and
            `XDG_CONFIG_HOME` are read from it.

    Raises:
        InvalidRequestError: No server is known, or the named context is not.
    """
    token = token if token is not None else environ.get("MOORLINE_TOKEN")
    named = context or environ.get("MOORLINE_CONTEXT", "")
    # A context named in the call wins over an address in the environment.
    address = url or ("" if context else environ.get("MOORLINE_URL", ""))
    configuration = read(config_path(environ))
    name = named or _context_of(configuration, address)
    found = configuration.contexts.get(name)
    if found is None and (named or not address):
        raise _unknown(name)
    target_url = address or (found.url if found else "")
    context_name = name if found else ""
    if token is not None and token_file is None:
        return Target(url=target_url, token=lambda: token, context=context_name)
    # The token of a context goes to that context's server and nowhere else.
    own = found is not None and _same(target_url, found.url)
    path = token_file or (found.token_file if found and own else None)
    return Target(
        url=target_url,
        token=(lambda: read_token(path)) if path else lambda: "",
        context=context_name,
    )


def _context_of(configuration: Configuration, address: str) -> str:
    """Name of the context to use for an address, or of the current one without."""
    if not address:
        return configuration.current
    fitting = [name for name, each in configuration.contexts.items() if _same(each.url, address)]
    current = configuration.current
    return current if current in fitting else next(iter(fitting), "")


def _same(one: str, other: str) -> bool:
    return one.rstrip("/") == other.rstrip("/")


def config_path(environ: Mapping[str, str]) -> Path:
    """Path of the file."""
    home = environ.get("XDG_CONFIG_HOME")
    if home:
        return Path(home) / "moorline" / "config.toml"
    # Only here: the import costs as much as all of this module.
    from platformdirs import user_config_path  # noqa: PLC0415

    return user_config_path("moorline", appauthor=False) / "config.toml"


def read(path: Path) -> Configuration:
    """Read the file; an absent one holds nothing.

    Raises:
        InvalidRequestError: It is not what this module writes.
    """
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        contexts = {
            str(name): Context(
                url=str(entry["url"]),
                token_file=Path(entry["token_file"]) if "token_file" in entry else None,
            )
            for name, entry in table.get("contexts", {}).items()
        }
        return Configuration(current=str(table.get("current", "")), contexts=contexts)
    except FileNotFoundError:
        return Configuration(current="", contexts={})
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError) as error:
        raise InvalidRequestError(
            f"{path} is damaged ({error}). Mend or delete it.", reason="FIELD_INVALID", code=3
        ) from error


def write(path: Path, configuration: Configuration) -> None:
    """Write the file, whole or not at all."""
    lines = [f"current = {_quote(configuration.current)}"] if configuration.current else []
    for name, context in sorted(configuration.contexts.items()):
        lines += ["", f"[contexts.{name}]", f"url = {_quote(context.url)}"]
        if context.token_file is not None:
            lines.append(f"token_file = {_quote(str(context.token_file))}")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text("\n".join(lines).lstrip("\n") + "\n", encoding="utf-8")
    draft.replace(path)


def set_context(
    name: str, *, url: str, token_file: Path | None, environ: Mapping[str, str]
) -> None:
    """Write one context, and make it current when none or `local` is.

    Args:
        name: `[a-z0-9][a-z0-9_-]{0,62}`.
        url: Address of the server.
        token_file: File with the token; made absolute.
        environ: Where the configuration lies; see `resolve`.

    Raises:
        InvalidRequestError: The name cannot be one.
    """
    if not _NAME.fullmatch(name):
        message = f"{name!r} cannot name a context: use a-z, 0-9, - and _."
        raise InvalidRequestError(message, reason="FIELD_INVALID", code=3)
    path = config_path(environ)
    before = read(path)
    context = Context(url=url, token_file=token_file.absolute() if token_file else None)
    keeps = before.current in before.contexts and before.current != LOCAL
    write(
        path,
        Configuration(
            current=before.current if keeps else name,
            contexts={**before.contexts, name: context},
        ),
    )


def use_context(name: str, *, environ: Mapping[str, str]) -> None:
    """Make a context current.

    Raises:
        InvalidRequestError: There is none of that name.
    """
    path = config_path(environ)
    configuration = read(path)
    if name not in configuration.contexts:
        raise _unknown(name)
    write(path, Configuration(current=name, contexts=configuration.contexts))


def read_token(path: Path) -> str:
    """Read a token from its file.

    Raises:
        AuthenticationError: The file is absent, or others may read it.
    """
    try:
        readable = path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH)
        if readable and os.name == "posix":
            message = f"Others can read the token in {path}. Run: chmod 600 {path}"
            raise AuthenticationError(message, reason="TOKEN_INVALID", code=16)
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        message = f"Cannot read the token: {error}. Is the platform's folder still there?"
        raise AuthenticationError(message, reason="TOKEN_INVALID", code=16) from error


def _unknown(name: str) -> InvalidRequestError:
    message = (
        f"There is no context {name!r}. Run: moorline context ls"
        if name
        else "No server is known. Run `make run`, or set MOORLINE_URL and MOORLINE_TOKEN."
    )
    return InvalidRequestError(
        message, reason="FIELD_INVALID", code=3, metadata={"field": "context", "rule": "known"}
    )


def _quote(text: str) -> str:
    # A JSON string is a TOML basic string.
    return json.dumps(text, ensure_ascii=False)


def main(arguments: list[str]) -> int:
    """Run `python -m moorline.contexts set NAME --url URL --token-file PATH`."""
    import argparse  # noqa: PLC0415

    parser = argparse.ArgumentParser(prog="python -m moorline.contexts")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("set", help="write a context")
    command.add_argument("name")
    command.add_argument("--url", required=True)
    command.add_argument("--token-file", type=Path)
    given = parser.parse_args(arguments)
    set_context(given.name, url=given.url, token_file=given.token_file, environ=environment())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
