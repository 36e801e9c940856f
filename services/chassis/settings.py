"""Reads one frozen dataclass from the environment, once, at start.

A field's name in capitals after `MOORLINE_` is its variable, its type decides
how text becomes a value, its default makes it optional. Does not know any
service's settings, and does not look at `os.environ` by itself.
"""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, TypeVar

C = TypeVar("C")

PREFIX = "MOORLINE_"
"""Every variable with this prefix must belong to a field."""

_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class SettingsError(ValueError):
    """Every bad variable, one a line, so that one restart fixes all.

    Args:
        problems: One sentence for each bad variable. Never holds a value of a
            secret.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def setting(
    help: str,  # noqa: A002
    default: Any = MISSING,
    *,
    secret: bool = False,
    variable: str | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
) -> Any:
    """Declare a field of a settings class.

    Args:
        help: One sentence with the unit and the legal range.
        default: Value when the variable is not set; without one it is required.
        secret: True keeps the value out of `repr` and of error messages.
        variable: Name of the variable; None means `MOORLINE_` and the field's
            name in capitals.
        minimum: Smallest legal number, seconds of a duration, or length of a text.
        maximum: Largest legal one.
    """
    metadata = {
        "help": help,
        "secret": secret,
        "variable": variable,
        "minimum": minimum,
        "maximum": maximum,
    }
    return dataclasses.field(default=default, repr=not secret, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """What every service can be told."""

    listen: str = setting("Address to serve on, `host:port`; port 0 takes any.", "127.0.0.1:0")
    metrics_listen: str = setting(
        "Address of the metrics page, `host:port`; empty switches it off.", ""
    )
    identity_key: str = setting(
        "Key that signs who a caller is, at least 32 characters, the same for all services.",
        secret=True,
        minimum=32,
    )
    log_format: Literal["json", "text"] = setting("`json` for machines, `text` for people.", "json")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = setting("Least level logged.", "INFO")
    production: bool = setting("True switches conveniences for developers off.", default=False)
    drain_seconds: timedelta = setting(
        "Seconds that calls in progress get to finish at shutdown.",
        timedelta(seconds=5),
        minimum=0,
    )
    lame_duck: timedelta = setting(
        "Seconds to go on serving after readiness is withdrawn at shutdown.",
        timedelta(0),
        minimum=0,
    )


@dataclass(frozen=True, kw_only=True)
class ServerSettings(ServiceSettings):
    """What every service can be told that other services call."""

    connection_age: timedelta = setting(
        "Seconds after which callers connect anew, give or take a tenth, so that pods that have"
        " joined get their share. Calls and feeds in progress go on.",
        timedelta(seconds=60),
        minimum=1,
    )


def load(cls: type[C], environ: Mapping[str, str]) -> C:
    """Build a settings class from the environment.

    Raises:
        SettingsError: Variables are missing, malformed, out of range, or carry
            our prefix and belong to no field. Names all of them.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    hints = typing.get_type_hints(cls)
    fields = _fields(cls)
    for variable, field in fields.items():
        text = environ.get(variable)
        if text is None:
            if field.default is MISSING:
                problems.append(f"{variable} is required: {field.metadata['help']}")
            continue
        try:
            values[field.name] = _checked(_parse(hints[field.name], text), field)
        except (ValueError, KeyError):
            shown = "" if field.metadata["secret"] else f"={text!r}"
            problems.append(f"{variable}{shown} is not valid: {field.metadata['help']}")
    unknown = sorted(name for name in environ if name.startswith(PREFIX) and name not in fields)
    problems += [f"{name} is not a setting of this service." for name in unknown]
    if problems:
        raise SettingsError(problems)
    try:
        return cls(**values)
    except SettingsError:
        raise
    except ValueError as error:
        raise SettingsError([str(error)]) from error


def read(cls: type[C], *, argv: Sequence[str], environ: Mapping[str, str]) -> C:
    """Read a service's settings for its `__main__`, or end the process.

    `--settings` prints the table of variables and `--help` how to use it, and
    both exit with 0. A wrong argument or variable exits with 2.

    Args:
        cls: The settings class.
        argv: Arguments without the program's name.
        environ: The environment.
    """
    if argv and argv[0] in ("--settings", "--help", "-h"):
        usage = "Settings are environment variables; `--settings` prints them as a table.\n"
        sys.stdout.write(table(cls) if argv[0] == "--settings" else usage)
        raise SystemExit(0)
    if argv:
        sys.stderr.write("Arguments are not known here; `--settings` prints what is.\n")
        raise SystemExit(2)
    try:
        return load(cls, environ)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from None


def table(*classes: type) -> str:
    """Return a Markdown table of the variables of settings classes.

    A variable that several classes share appears once, as the first has it.
    """
    rows: dict[str, str] = {}
    for cls in classes:
        for variable, field in _fields(cls).items():
            text = field.metadata["help"].replace("|", "\\|")
            rows.setdefault(variable, f"| `{variable}` | {_shown(field)} | {text} |")
    return "\n".join(["| variable | default | meaning |", "|---|---|---|", *rows.values()]) + "\n"


def _fields(cls: type) -> dict[str, dataclasses.Field[Any]]:
    return {
        field.metadata["variable"] or PREFIX + field.name.upper(): field
        for field in dataclasses.fields(cls)
    }


def _shown(field: dataclasses.Field[Any]) -> str:
    match field.default:
        case value if value is MISSING:
            return "required"
        case None:
            text = ""
        case bool() as value:
            text = str(value).lower()
        case timedelta() as value:
            text = f"{value.total_seconds():g}"
        case tuple() as value:
            text = ",".join(value)
        case value:
            text = str(value)
    return f"`{text}`" if text else ""


_PARSERS: dict[Any, Callable[[str], Any]] = {
    str: str,
    int: int,
    float: float,
    bool: lambda text: _BOOLEANS[text.lower()],
    timedelta: lambda text: timedelta(seconds=float(text)),
    Path: Path,
}


def _parse(kind: Any, text: str) -> Any:
    origin = typing.get_origin(kind)
    if origin is Literal:
        return {str(choice): choice for choice in typing.get_args(kind)}[text]
    if origin is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if origin in (types.UnionType, typing.Union):
        inner = [part for part in typing.get_args(kind) if part is not types.NoneType]
        return _parse(inner[0], text) if text else None
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return kind(text)
    return _PARSERS[kind](text)


def _checked(value: Any, field: dataclasses.Field[Any]) -> Any:
    minimum, maximum = field.metadata["minimum"], field.metadata["maximum"]
    match value:
        case timedelta():
            size: Any = value.total_seconds()
        case str() | tuple():
            size = len(value)
        case _:
            size = value
    if (minimum is not None and size < minimum) or (maximum is not None and size > maximum):
        raise ValueError(field.name)
    return value
