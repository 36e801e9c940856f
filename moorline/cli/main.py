"""Entry of the `moorline` command: its grammar, and nothing of its work.

Reads the environment, once, through `moorline.contexts.environment`.
"""

from __future__ import annotations

import asyncio
import io
import os
import sys
from importlib import metadata
from typing import cast

import typer

import moorline
from moorline import contexts
from moorline.cli import asking, commands, doctor, logs, options, permissions, settings
from moorline.cli.exits import HELP, Exit
from moorline.cli.file_commands import files
from moorline.cli.invocation import Invocation, Output, Surroundings, WrongUsage
from moorline.cli.key_commands import keys, places
from moorline.cli.language import Texts, choose_language
from moorline.cli.running import Work, parse_mode, run_work, usage

app = typer.Typer(
    name="moorline",
    help="Talk to your agents. Without a command or -p: a conversation at the terminal.",
    epilog=HELP,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(keys, name="key")
app.add_typer(places, name="context")
app.add_typer(files, name="files")


def main() -> None:
    """Run the command and leave the process with its exit code."""
    surroundings = Surroundings(
        # A process may be started without standard input.
        stdin=sys.stdin or io.StringIO(),
        stdout=sys.stdout,
        stderr=sys.stderr,
        environ=contexts.environment(),
    )
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What a terminal cannot show is no reason to end.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = run(sys.argv[1:], surroundings)
        surroundings.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has seen enough; do not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = int(Exit.FAILED)
    sys.exit(code)


def run(arguments: list[str], surroundings: Surroundings) -> int:
    """Run the command and return its exit code.

    Args:
        arguments: Without the command's own name.
        surroundings: Where it reads and writes; help and wrong options go to the
            process's own.
    """
    try:
        app(args=options.hoist(arguments), obj=surroundings, prog_name="moorline")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(Exit.FAILED)
    return int(Exit.OK)


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    *,
    prompt: options.Prompt = None,
    output: options.Form = Output.TEXT,
    agent: options.AgentOption = None,
    new: options.New = False,
    backend: options.BackendOption = "",
    permission_mode: options.Mode = None,
    allow: options.Allow = None,
    deny: options.Deny = None,
    no_input: options.NoInput = False,
    timeout: options.Timeout = None,
    detach: options.Detach = False,
    stop_on_exit: options.StopOnExit = False,
    deltas: options.Deltas = False,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    context: options.Context = None,
    lang: options.Lang = None,
    version: options.Version = False,
) -> None:
    """Talk to your agents. Without a command or -p: a conversation at the terminal."""
    surroundings = cast("Surroundings", ctx.obj)
    if version:
        surroundings.stdout.write(f"moorline {_version()}\n")
        raise typer.Exit
    invocation = Invocation(
        url=url,
        token_file=token_file,
        context=context,
        output=output,
        texts=Texts(choose_language(lang, surroundings.environ)),
        surroundings=surroundings,
    )
    ctx.obj = invocation
    if ctx.invoked_subcommand is not None:
        with usage(invocation):
            _check_alone(ctx, invocation)
        return
    talking = prompt is None and invocation.attended and not no_input
    with usage(invocation):
        question = asking.Question(
            # Before connecting: what is piped in may take its time.
            prompt="" if talking else asking.read_prompt(invocation, prompt),
            agent=agent,
            new=new,
            backend=backend,
            permission_mode=parse_mode(permission_mode),
            allow=options.tools(allow),
            deny=options.tools(deny),
            no_input=no_input,
            limit=asking.parse_limit(invocation, timeout),
            detach=detach,
            stop_on_exit=stop_on_exit,
            deltas=deltas,
        )
    run_work(ctx, _talk(question) if talking else _question(question))


@app.command("ls")
def list_agents(ctx: typer.Context) -> None:
    """List your agents."""
    run_work(ctx, commands.list_agents)


@app.command("new")
def create_agent(
    ctx: typer.Context,
    *,
    name: options.Name = None,
    backend: options.AgentBackend = None,
    permission_mode: options.Mode = None,
    instructions: options.Instructions = None,
    model: options.Model = None,
    turn_budget: options.TurnBudget = None,
    budget: options.Budget = None,
    max_steps: options.MaxSteps = None,
    rule: options.Rules = None,
) -> None:
    """Create an agent and print its id."""
    with usage(ctx.obj):
        given = {
            "display_name": name,
            "backend": backend,
            "permission_mode": parse_mode(permission_mode),
            "instructions": instructions,
            "model": model,
            "turn_budget_usd_micros": settings.parse_dollars(ctx.obj, turn_budget),
            "budget_usd_micros": settings.parse_dollars(ctx.obj, budget),
            "max_steps": max_steps,
            "allowed_rules": rule,
        }
    run_work(ctx, lambda client, invocation: commands.create_agent(client, invocation, given))


@app.command("set")
def change_agent(
    ctx: typer.Context,
    agent: options.OneAgent,
    *,
    name: options.Name = None,
    backend: options.AgentBackend = None,
    permission_mode: options.Mode = None,
    instructions: options.Instructions = None,
    model: options.Model = None,
    turn_budget: options.TurnBudget = None,
    budget: options.Budget = None,
    max_steps: options.MaxSteps = None,
    rule: options.Rules = None,
) -> None:
    """Change settings of an agent; what is not given stays."""
    with usage(ctx.obj):
        given = {
            "display_name": name,
            "backend": backend,
            "permission_mode": parse_mode(permission_mode),
            "instructions": instructions,
            "model": model,
            "turn_budget_usd_micros": settings.parse_dollars(ctx.obj, turn_budget),
            "budget_usd_micros": settings.parse_dollars(ctx.obj, budget),
            "max_steps": max_steps,
            "allowed_rules": rule,
        }
    run_work(
        ctx, lambda client, invocation: settings.change_agent(client, invocation, agent, given)
    )


@app.command("rm")
def delete_agents(ctx: typer.Context, agents: options.AgentsArgument) -> None:
    """Delete agents with their history and files."""
    run_work(ctx, lambda client, invocation: commands.delete_agents(client, invocation, agents))


@app.command("stop")
def stop_agent(ctx: typer.Context, agent: options.AgentArgument = None) -> None:
    """Cancel what an agent does and what waits for it."""

    async def work(client: moorline.AsyncClient, invocation: Invocation) -> None:
        found = await commands.named_or_last(client, invocation, agent)
        await permissions.stop_turns(found, invocation)

    run_work(ctx, work)


@app.command("attach")
def attach(
    ctx: typer.Context,
    agent: options.AgentArgument = None,
    allow: options.Allow = None,
    deny: options.Deny = None,
) -> None:
    """Talk to an agent; shows what it is doing first."""
    question = asking.Question(agent=agent, allow=options.tools(allow), deny=options.tools(deny))
    run_work(ctx, _talk(question, existing=True))


@app.command("logs")
def show_log(
    ctx: typer.Context,
    agent: options.AgentArgument = None,
    follow: options.Follow = False,
    after: options.After = 0,
    deltas: options.Deltas = False,
) -> None:
    """Print an agent's history."""

    async def work(client: moorline.AsyncClient, invocation: Invocation) -> Exit:
        found = await commands.named_or_last(client, invocation, agent)
        return await logs.show_log(found, invocation, after=after, follow=follow, deltas=deltas)

    run_work(ctx, work)


@app.command("approve")
def approve(
    ctx: typer.Context,
    request: options.RequestArgument = None,
    *,
    always: options.Always = False,
    answer: options.Replies = None,
) -> None:
    """Allow what an agent asks for, or answer its questions."""
    run_work(
        ctx,
        lambda client, invocation: permissions.answer(
            client, invocation, request, allowed=True, always=always, answers=answer or ()
        ),
    )


@app.command("deny")
def deny(
    ctx: typer.Context, request: options.RequestArgument = None, reason: options.Reason = ""
) -> None:
    """Refuse what an agent asks for."""
    run_work(
        ctx,
        lambda client, invocation: permissions.answer(
            client, invocation, request, allowed=False, reason=reason
        ),
    )


@app.command("status")
def show_status(ctx: typer.Context) -> None:
    """Tell where you are connected, as whom, and which backends there are."""
    run_work(ctx, commands.show_status)


@app.command("usage")
def show_usage(ctx: typer.Context, month: options.Month = "current") -> None:
    """Tell what your agents consumed in a month."""
    run_work(ctx, lambda client, invocation: commands.show_usage(client, invocation, month))


@app.command("doctor")
def examine(ctx: typer.Context) -> None:
    """Look at everything that agents need, and say how to mend what is missing."""
    raise typer.Exit(int(asyncio.run(doctor.examine(ctx.obj))))


def _version() -> str:
    try:
        return metadata.version("moorline")
    except metadata.PackageNotFoundError:
        # Run from its source, without having been installed.
        return "from source"


def _question(question: asking.Question) -> Work:
    return lambda client, invocation: asking.ask(client, invocation, question)


def _talk(question: asking.Question, *, existing: bool = False) -> Work:
    async def work(client: moorline.AsyncClient, invocation: Invocation) -> Exit:
        refused = commands.require_attended(invocation)
        if refused:
            return refused
        from moorline.cli.chat import chat  # noqa: PLC0415
        from moorline.cli.memory import Memory  # noqa: PLC0415

        if existing:
            agent = await commands.named_or_last(client, invocation, question.agent)
        else:
            memory = Memory(client, invocation.environ)
            agent = await asking.pick_agent(client, invocation, memory, question)
        return await chat(client, invocation, agent, allow=question.allow, deny=question.deny)

    return work


def _check_alone(ctx: typer.Context, invocation: Invocation) -> None:
    """Refuse options of a prompt before a command, which would not heed them.

    Raises:
        WrongUsage: One is there.
    """
    for option in ctx.command.params:
        source = ctx.get_parameter_source(option.name or "")
        given = source is not None and source.name == "COMMANDLINE"
        if given and option.name not in options.EVERYWHERE:
            raise WrongUsage(
                invocation.texts(
                    "usage.conflict", first=option.opts[0], second=ctx.invoked_subcommand
                )
            )


if __name__ == "__main__":
    main()
