"""The work of `moorline files`: a few lines of the client's calls each.

What an agent has named and written is shown without what a terminal would act on.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

import moorline
from moorline.cli.exits import Exit
from moorline.cli.invocation import Invocation, Output
from moorline.cli.language import Texts
from moorline.cli.tables import Row, moment
from moorline.cli.views import printable

R = TypeVar("R")

FILE_COLUMNS = ("file", "size", "changed")
_MARKS = {moorline.FileKind.FOLDER: "/", moorline.FileKind.OTHER: "?"}


async def list_files(
    client: moorline.AsyncClient, invocation: Invocation, agent: str, path: str
) -> None:
    """`moorline files ls`."""
    texts = invocation.texts if invocation.output is Output.TEXT else None
    found = await _files(client, agent).list(path)
    invocation.write_rows(FILE_COLUMNS, [file_row(file, texts) for file in found])


async def show_file(
    client: moorline.AsyncClient, invocation: Invocation, agent: str, path: str
) -> None:
    """`moorline files cat`: the bytes as they are, unless a person looks at them."""
    content = await _files(client, agent).read(path)
    if invocation.output is not Output.TEXT:
        invocation.write_json({"file": path, **_told(content)})
        return
    stdout = invocation.surroundings.stdout
    raw = getattr(stdout, "buffer", None)
    if stdout.isatty() or raw is None:
        invocation.write(printable(content.decode(errors="replace")))
        return
    raw.write(content)
    raw.flush()


async def put_file(
    client: moorline.AsyncClient,
    invocation: Invocation,
    agent: str,
    local: Path,
    path: str | None,
    *,
    new: bool,
) -> Exit | None:
    """`moorline files put`."""
    try:
        file = await _local(invocation, _files(client, agent).upload(local, path, create_only=new))
    except moorline.ConflictError as error:
        if error.reason != "RESOURCE_EXISTS":
            raise
        invocation.say("files.exists", file=_line(path or local.name))
        return Exit.FAILED
    if file is None:
        return Exit.USAGE
    if invocation.output is Output.TEXT:
        invocation.say("files.put", file=_line(file.path), bytes=file.size)
    else:
        invocation.write_json(file_row(file, None))
    return None


async def get_file(
    client: moorline.AsyncClient,
    invocation: Invocation,
    agent: str,
    path: str,
    local: Path | None,
) -> Exit | None:
    """`moorline files get`."""
    return _saved(invocation, await _local(invocation, _files(client, agent).download(path, local)))


async def delete_files(
    client: moorline.AsyncClient, invocation: Invocation, agent: str, paths: list[str]
) -> None:
    """`moorline files rm`."""
    files = _files(client, agent)
    for path in paths:
        await files.delete(path)
        invocation.say("files.deleted", file=_line(path))


async def compare_files(client: moorline.AsyncClient, invocation: Invocation, agent: str) -> None:
    """`moorline files diff`: what the program `patch` understands."""
    found = await _files(client, agent).diff()
    if invocation.output is Output.TEXT:
        for change in found.changes:
            invocation.write(_shown(change, invocation))
        if found.omitted_files:
            invocation.say("files.omitted", count=found.omitted_files)
        return
    rows = [{**dataclasses.asdict(change), "kind": change.kind.value} for change in found.changes]
    if invocation.output is Output.JSONL:
        invocation.write_rows((), rows)
    else:
        invocation.write_json({"changes": rows, "omitted_files": found.omitted_files})


async def pack_files(
    client: moorline.AsyncClient,
    invocation: Invocation,
    agent: str,
    path: str,
    to: Path | None,
) -> Exit | None:
    """`moorline files archive`."""
    return _saved(invocation, await _local(invocation, _files(client, agent).archive(to, path)))


def file_row(file: moorline.File, texts: Texts | None) -> Row:
    """A file as a row; `texts` is None for a program, which gets values as they are."""
    if texts is not None:
        target = f" → {_line(file.target)}" if file.target else ""
        return {
            "file": f"{_line(file.name)}{_MARKS.get(file.kind, '')}{target}",
            "size": file.size if file.kind is moorline.FileKind.FILE else "-",
            "changed": moment(file.update_time, texts),
        }
    return {
        "path": file.path,
        "kind": file.kind.value,
        "size": file.size,
        "changed": moment(file.update_time, None),
        "etag": file.etag,
        "target": file.target,
        "executable": file.executable,
    }


def _files(client: moorline.AsyncClient, agent: str) -> moorline.AsyncFiles:
    name = agent if "/" in agent else f"{client.user}/agents/{agent}"
    return moorline.AsyncFiles(client.connection, name)


async def _local(invocation: Invocation, work: Awaitable[R]) -> R | None:
    """Do something with a file of this machine; tell what is wrong with that."""
    try:
        return await work
    except OSError as error:
        invocation.say("files.local", file=error.filename or "", why=error.strerror or error)
        return None


def _saved(invocation: Invocation, local: Path | None) -> Exit | None:
    if local is None:
        return Exit.FAILED
    if invocation.output is Output.TEXT:
        invocation.say("files.saved", file=local)
    else:
        invocation.write_json({"saved": str(local)})
    return None


def _told(content: bytes) -> Row:
    try:
        return {"text": content.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(content).decode()}


def _shown(change: moorline.FileChange, invocation: Invocation) -> str:
    if change.diff:
        return printable(change.diff) if invocation.surroundings.stdout.isatty() else change.diff
    # A line that `patch` takes for a remark.
    kind = invocation.texts(f"change.{change.kind.value}")
    return f"# {_line(change.path)}: {kind}\n"


def _line(text: str) -> str:
    return printable(text).replace("\n", "␤").replace("\t", "␉")
