"""Runs the work of a command, and turns what goes wrong into words and an exit code.

Does not know the commands.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, cast

import typer

import moorline
from moorline.cli import options
from moorline.cli.exits import Exit, exit_of_error
from moorline.cli.invocation import Invocation, WrongUsage

Work = Callable[[moorline.AsyncClient, Invocation], Coroutine[Any, Any, Exit | None]]


def run_work(ctx: typer.Context, work: Work) -> None:
    """Connect, do the work, and leave the process with its exit code."""
    invocation = cast("Invocation", ctx.obj)
    code = invocation.run(lambda client: work(client, invocation))
    raise typer.Exit(int(code))


def parse_mode(given: str | None) -> moorline.PermissionMode | None:
    """Read `--permission-mode`.

    Raises:
        BadParameter: It is none.
    """
    if given is None:
        return None
    if given not in options.MODES:
        message = f"{given!r} is not one of {', '.join(options.MODES)}."
        raise typer.BadParameter(message, param_hint="--permission-mode")
    return moorline.PermissionMode(given)


@contextmanager
def usage(invocation: Invocation) -> Iterator[None]:
    """Turn wrong usage into words and an exit code."""
    try:
        yield
    except WrongUsage as wrong:
        invocation.tell(str(wrong))
        raise typer.Exit(int(Exit.USAGE)) from wrong
    except moorline.MoorlineError as error:
        invocation.tell(invocation.texts.error(error))
        raise typer.Exit(int(exit_of_error(error))) from error
