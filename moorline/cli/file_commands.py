"""`moorline files`: its grammar.

Does not know what files are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moorline.cli import filing, options
from moorline.cli.running import run_work

files = typer.Typer(
    help="An agent's files: list, show, put, get, delete, compare, pack.", no_args_is_help=True
)

_Folder = Annotated[
    str, typer.Argument(metavar="[PATH]", help="The folder; else the whole workspace.")
]
_File = Annotated[str, typer.Argument(metavar="PATH", help="The file, within the workspace.")]
_Paths = Annotated[
    list[str], typer.Argument(metavar="PATH…", help="Files, links, or folders with all in them.")
]
_Source = Annotated[Path, typer.Argument(metavar="LOCAL", help="A file of this machine.")]
_Where = Annotated[
    str | None,
    typer.Argument(metavar="[PATH]", help="Where to, within the workspace; else the same name."),
]
_Target = Annotated[
    Path | None,
    typer.Argument(
        metavar="[LOCAL]", help="Where to, a file or a folder; else the same name here."
    ),
]
_To = Annotated[
    Path | None, typer.Option("--to", metavar="LOCAL", help="Where to, a file or a folder.")
]
_New = Annotated[bool, typer.Option("--new", help="Replace nothing that is there.")]


@files.command("ls")
def list_files(ctx: typer.Context, agent: options.OneAgent, path: _Folder = "") -> None:
    """List a folder."""
    run_work(ctx, lambda client, invocation: filing.list_files(client, invocation, agent, path))


@files.command("cat")
def show_file(ctx: typer.Context, agent: options.OneAgent, path: _File) -> None:
    """Write a file to standard output."""
    run_work(ctx, lambda client, invocation: filing.show_file(client, invocation, agent, path))


@files.command("put")
def put_file(
    ctx: typer.Context,
    agent: options.OneAgent,
    local: _Source,
    path: _Where = None,
    *,
    new: _New = False,
) -> None:
    """Send a file of this machine to the agent."""
    run_work(
        ctx,
        lambda client, invocation: filing.put_file(client, invocation, agent, local, path, new=new),
    )


@files.command("get")
def get_file(
    ctx: typer.Context, agent: options.OneAgent, path: _File, local: _Target = None
) -> None:
    """Save a file of the agent on this machine."""
    run_work(
        ctx, lambda client, invocation: filing.get_file(client, invocation, agent, path, local)
    )


@files.command("rm")
def delete_files(ctx: typer.Context, agent: options.OneAgent, paths: _Paths) -> None:
    """Delete files and folders of the agent."""
    run_work(ctx, lambda client, invocation: filing.delete_files(client, invocation, agent, paths))


@files.command("diff")
def compare_files(ctx: typer.Context, agent: options.OneAgent) -> None:
    """Show what changed since the running turn began, or else the last one."""
    run_work(ctx, lambda client, invocation: filing.compare_files(client, invocation, agent))


@files.command("archive")
def pack_files(
    ctx: typer.Context, agent: options.OneAgent, path: _Folder = "", *, to: _To = None
) -> None:
    """Save a folder of the agent as a ZIP archive on this machine."""
    run_work(ctx, lambda client, invocation: filing.pack_files(client, invocation, agent, path, to))
