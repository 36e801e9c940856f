"""One run of the command: where it speaks to, in which language, to which streams.

Does not know the commands.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, TextIO

import moorline
from moorline.cli.exits import Exit, exit_of_error
from moorline.cli.language import Texts

# Long enough for a server that restarts, short enough for a person who waits.
CONNECT_LIMIT = timedelta(seconds=2)


class Output(StrEnum):
    """Form of what goes to standard output."""

    TEXT = "text"
    JSON = "json"
    JSONL = "jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the process was given: its standard streams and its environment."""

    stdin: TextIO
    stdout: TextIO
    stderr: TextIO
    environ: Mapping[str, str]


class WrongUsage(Exception):  # noqa: N818 - it is told to a person, not caught by a program
    """The command was called in a way that makes no sense; the message says how to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """What every command is given.

    Attributes:
        url: `--url`.
        token_file: `--token-file`.
        context: `--context`.
        output: `--output`.
        texts: What to say.
        surroundings: The standard streams and the environment.
    """

    url: str | None
    token_file: Path | None
    context: str | None
    output: Output
    texts: Texts
    surroundings: Surroundings
    _connected: list[bool] = field(default_factory=list)

    def client(self) -> moorline.AsyncClient:
        """A client of the server meant, which tells when the connection breaks."""
        return moorline.AsyncClient(
            self.url,
            None,
            self.context,
            token_file=self.token_file,
            patience=moorline.Patience(connect=CONNECT_LIMIT),
            on_state=self._on_state,
            environ=self.environ,
        )

    @property
    def environ(self) -> Mapping[str, str]:
        """The environment."""
        return self.surroundings.environ

    @property
    def colour(self) -> bool:
        """True when standard output may have colours."""
        return self.surroundings.stdout.isatty() and not self.environ.get("NO_COLOR")

    @property
    def attended(self) -> bool:
        """True when a person can be asked."""
        return self.surroundings.stdin.isatty() and self.surroundings.stderr.isatty()

    def say(self, key: str, /, **values: object) -> None:
        """Tell the person something, on standard error."""
        self.tell(self.texts(key, **values))

    def tell(self, text: str) -> None:
        """Write a line to standard error."""
        self.surroundings.stderr.write(f"{text}\n")
        self.surroundings.stderr.flush()

    def write(self, text: str) -> None:
        """Write to standard output what was asked for."""
        self.surroundings.stdout.write(text)
        self.surroundings.stdout.flush()

    def write_json(self, value: object) -> None:
        """Write a JSON value on a line of its own."""
        self.write(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")

    def write_rows(self, columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> None:
        """Write a table: as text with headings, or as JSON, whole or a line for each row.

        Args:
            columns: Keys of the rows to show as text; `column.KEY` names each.
            rows: What to write.
        """
        if self.output is Output.JSON:
            self.write_json(list(rows))
        elif self.output is Output.JSONL:
            for row in rows:
                self.write_json(row)
        else:
            heads = [self.texts(f"column.{column}") for column in columns]
            cells = [[str(row[column]) for column in columns] for row in rows]
            self.write(align([heads, *cells]))

    def run(self, work: Callable[[moorline.AsyncClient], Coroutine[Any, Any, Exit | None]]) -> Exit:
        """Connect, do the work, and turn what goes wrong into words and an exit code."""

        async def connected() -> Exit | None:
            async with self.client() as client:
                return await work(client)

        try:
            return asyncio.run(connected()) or Exit.OK
        except moorline.MoorlineError as error:
            self.tell(self.texts.error(error))
            return exit_of_error(error)
        except WrongUsage as wrong:
            self.tell(str(wrong))
            return Exit.USAGE
        except KeyboardInterrupt:
            return Exit.INTERRUPTED

    def _on_state(self, state: moorline.ConnectionState) -> None:
        if state is moorline.ConnectionState.RECONNECTING and not self._connected:
            self._connected.append(False)
            self.say("connection.reconnecting")
        elif state is moorline.ConnectionState.CONNECTED and self._connected:
            self._connected.clear()
            self.say("connection.connected")


def align(rows: Sequence[Sequence[str]]) -> str:
    """Put rows of cells under each other, by the width the terminal gives each character."""
    from rich.cells import cell_len  # noqa: PLC0415

    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)
        ]
        lines.append("  ".join(cells).rstrip() + "\n")
    return "".join(lines)
