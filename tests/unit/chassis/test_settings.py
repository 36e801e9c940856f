"""Tests of `services.chassis.settings`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Literal

import pytest

from services.chassis.settings import ServiceSettings, SettingsError, load, read, setting, table

KEY = "k" * 32


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, kw_only=True)
class Everything:
    name: str = setting("A name.")
    password: str = setting("A password.", secret=True, minimum=4, maximum=8)
    count: int = setting("How many, 1 to 9.", 3, minimum=1, maximum=9)
    ratio: float = setting("A ratio.", 0.5)
    fast: bool = setting("Whether it is fast.", default=False)
    wait: timedelta = setting("Seconds to wait.", timedelta(seconds=2), minimum=1)
    folder: Path = setting("A folder.", Path("data"))
    file: Path | None = setting("A file.", None)
    hosts: tuple[str, ...] = setting("Hosts.", ("a", "b"), maximum=3)
    colour: Colour = setting("A colour.", Colour.RED)
    style: Literal["plain", "fancy"] = setting("`plain` | `fancy`.", "plain")
    docker: bool = setting("Docker off.", default=False, variable="DISABLE_DOCKER")


@dataclass(frozen=True, kw_only=True)
class Even:
    number: int = setting("An even number.", 0)

    def __post_init__(self) -> None:
        if self.number == 13:
            raise SettingsError(["unlucky"])
        if self.number % 2:
            raise ValueError("MOORLINE_NUMBER must be even.")


REQUIRED = {"MOORLINE_NAME": "n", "MOORLINE_PASSWORD": "pass"}


def test_every_type_is_read() -> None:
    """Text becomes a value by the type of its field."""
    environ = REQUIRED | {
        "MOORLINE_COUNT": "5",
        "MOORLINE_RATIO": "0.25",
        "MOORLINE_FAST": "TRUE",
        "MOORLINE_WAIT": "1.5",
        "MOORLINE_FOLDER": "/data",
        "MOORLINE_FILE": "/file",
        "MOORLINE_HOSTS": "x, y,",
        "MOORLINE_COLOUR": "blue",
        "MOORLINE_STYLE": "fancy",
        "DISABLE_DOCKER": "True",
        "HOME": "/somewhere",
    }

    expected = Everything(
        name="n",
        password="pass",
        count=5,
        ratio=0.25,
        fast=True,
        wait=timedelta(seconds=1.5),
        folder=Path("/data"),
        file=Path("/file"),
        hosts=("x", "y"),
        colour=Colour.BLUE,
        style="fancy",
        docker=True,
    )
    assert expected == load(Everything, environ)


def test_what_is_not_set_has_its_default() -> None:
    """Only fields without a default are required; an empty optional is None."""
    assert Everything(name="n", password="pass") == load(Everything, REQUIRED)
    assert load(Everything, REQUIRED | {"MOORLINE_FILE": ""}).file is None


def test_all_problems_are_told_at_once() -> None:
    """One restart can repair everything; a secret's value is never shown."""
    environ = {
        "MOORLINE_PASSWORD": "tell-nobody",
        "MOORLINE_COUNT": "many",
        "MOORLINE_WAIT": "0.5",
        "MOORLINE_HOSTS": "a,b,c,d",
        "MOORLINE_COLOUR": "green",
        "MOORLINE_STYLE": "loud",
        "MOORLINE_FAST": "maybe",
        "MOORLINE_FATS": "true",
    }

    with pytest.raises(SettingsError) as caught:
        load(Everything, environ)

    assert caught.value.problems == (
        "MOORLINE_NAME is required: A name.",
        "MOORLINE_PASSWORD is not valid: A password.",
        "MOORLINE_COUNT='many' is not valid: How many, 1 to 9.",
        "MOORLINE_FAST='maybe' is not valid: Whether it is fast.",
        "MOORLINE_WAIT='0.5' is not valid: Seconds to wait.",
        "MOORLINE_HOSTS='a,b,c,d' is not valid: Hosts.",
        "MOORLINE_COLOUR='green' is not valid: A colour.",
        "MOORLINE_STYLE='loud' is not valid: `plain` | `fancy`.",
        "MOORLINE_FATS is not a setting of this service.",
    )
    assert "tell-nobody" not in str(caught.value)


def test_a_class_may_refuse_combinations() -> None:
    """A ValueError of `__post_init__` is a problem with the settings."""
    with pytest.raises(SettingsError, match="must be even"):
        load(Even, {"MOORLINE_NUMBER": "3"})
    with pytest.raises(SettingsError, match="unlucky"):
        load(Even, {"MOORLINE_NUMBER": "13"})


def test_secrets_are_not_in_repr() -> None:
    """Printing the settings gives no secret away."""
    assert "pass" not in repr(Everything(name="n", password="pass")).replace("password", "")


def test_a_short_identity_key_is_refused() -> None:
    """Every service needs a key of at least 32 characters."""
    assert load(ServiceSettings, {"MOORLINE_IDENTITY_KEY": KEY}).identity_key == KEY
    with pytest.raises(SettingsError, match="at least 32"):
        load(ServiceSettings, {"MOORLINE_IDENTITY_KEY": "short"})


def test_the_table_lists_every_variable_once() -> None:
    """The table is Markdown: name, default, meaning; durations in seconds."""
    lines = table(Everything, Even, Everything).splitlines()

    assert lines == [
        "| variable | default | meaning |",
        "|---|---|---|",
        "| `MOORLINE_NAME` | required | A name. |",
        "| `MOORLINE_PASSWORD` | required | A password. |",
        "| `MOORLINE_COUNT` | `3` | How many, 1 to 9. |",
        "| `MOORLINE_RATIO` | `0.5` | A ratio. |",
        "| `MOORLINE_FAST` | `false` | Whether it is fast. |",
        "| `MOORLINE_WAIT` | `2` | Seconds to wait. |",
        "| `MOORLINE_FOLDER` | `data` | A folder. |",
        "| `MOORLINE_FILE` |  | A file. |",
        "| `MOORLINE_HOSTS` | `a,b` | Hosts. |",
        "| `MOORLINE_COLOUR` | `red` | A colour. |",
        "| `MOORLINE_STYLE` | `plain` | `plain` \\| `fancy`. |",
        "| `DISABLE_DOCKER` | `false` | Docker off. |",
        "| `MOORLINE_NUMBER` | `0` | An even number. |",
    ]


def test_main_gets_the_settings() -> None:
    """Without arguments, `read` is `load`."""
    assert Even(number=2) == read(Even, argv=[], environ={"MOORLINE_NUMBER": "2"})


@pytest.mark.parametrize(
    ("argv", "environ", "code", "stdout", "stderr"),
    [
        (["--settings"], {}, 0, table(Even), ""),
        (["--help"], {}, 0, "Settings are environment variables", ""),
        (["serve"], {}, 2, "", "Arguments are not known here"),
        ([], {"MOORLINE_NUMBER": "1"}, 2, "", "MOORLINE_NUMBER must be even.\n"),
    ],
)
def test_main_ends_with_what_to_read(
    argv: list[str],
    environ: dict[str, str],
    code: int,
    stdout: str,
    stderr: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Help goes to standard output with 0, a mistake to standard error with 2."""
    with pytest.raises(SystemExit) as caught:
        read(Even, argv=argv, environ=environ)

    printed = capsys.readouterr()
    assert code == caught.value.code
    assert (printed.out.startswith(stdout), printed.err.startswith(stderr)) == (True, True)
