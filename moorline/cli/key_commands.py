"""`moorline key` and `moorline context`: their grammar.

Does not know what keys and contexts are.
"""

from __future__ import annotations

import typer

from moorline.cli import commands, options
from moorline.cli.running import run_work, usage

keys = typer.Typer(help="API keys: make, list, revoke.", no_args_is_help=True)
places = typer.Typer(help="Contexts: servers and their tokens.", no_args_is_help=True)


@keys.command("create")
def create_key(
    ctx: typer.Context,
    user: options.User = None,
    name: options.Name = None,
    ttl: options.Ttl = None,
) -> None:
    """Make a key and print its secret, this once."""
    with usage(ctx.obj):
        duration = commands.parse_ttl(ctx.obj, ttl)
    run_work(
        ctx,
        lambda client, invocation: commands.create_key(
            client, invocation, user=user, name=name or "", ttl=duration
        ),
    )


@keys.command("ls")
def list_keys(ctx: typer.Context, user: options.User = None) -> None:
    """List keys."""
    run_work(ctx, lambda client, invocation: commands.list_keys(client, invocation, user=user))


@keys.command("revoke")
def revoke_key(ctx: typer.Context, key: options.KeyArgument, user: options.User = None) -> None:
    """Revoke a key."""
    run_work(
        ctx, lambda client, invocation: commands.revoke_key(client, invocation, key, user=user)
    )


@places.command("ls")
def list_contexts(ctx: typer.Context) -> None:
    """List contexts; the current one has a star."""
    with usage(ctx.obj):
        commands.list_contexts(ctx.obj)


@places.command("use")
def use_context(ctx: typer.Context, context: options.ContextArgument) -> None:
    """Make a context current."""
    with usage(ctx.obj):
        commands.use_context(ctx.obj, context)
