"""The options of the command, each with its help, once.

Does not know what they do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moorline.cli.invocation import Output
from moorline.resources import PermissionMode

MODES = [mode.value for mode in PermissionMode if mode is not PermissionMode.UNKNOWN]

Url = Annotated[
    str | None, typer.Option(help="Address of the server. [MOORLINE_URL]", metavar="URL")
]
TokenFile = Annotated[
    Path | None,
    typer.Option(help="File that holds the token, mode 0600. [MOORLINE_TOKEN]", metavar="PATH"),
]
Context = Annotated[
    str | None,
    typer.Option(help="Name of a context: a server and its token. [MOORLINE_CONTEXT]"),
]
Lang = Annotated[str | None, typer.Option(help="Language: en or ko. [MOORLINE_LANG, LC_ALL, LANG]")]
Form = Annotated[
    Output, typer.Option("--output", "-o", help="Form of what goes to standard output.")
]
Prompt = Annotated[
    str | None,
    typer.Option(
        "--prompt",
        "-p",
        metavar="TEXT",
        help="Run one turn and exit; what is piped in goes below it. - for only what is piped.",
    ),
]
AgentOption = Annotated[
    str | None, typer.Option("--agent", metavar="AGENT", help="Whom to ask; else the last one.")
]
New = Annotated[bool, typer.Option("--new", help="Ask a new agent.")]
BackendOption = Annotated[
    str, typer.Option("--backend", help="What runs a new agent's turns, for example simulation.")
]
Mode = Annotated[
    str | None,
    typer.Option(
        "--permission-mode",
        metavar="|".join(MODES),
        help="What the agent may do without asking.",
    ),
]
Allow = Annotated[
    list[str] | None,
    typer.Option("--allow", metavar="TOOL,…", help="Tools to allow without asking."),
]
Deny = Annotated[
    list[str] | None,
    typer.Option("--deny", metavar="TOOL,…", help="Tools to refuse without asking; wins."),
]
NoInput = Annotated[
    bool,
    typer.Option(
        "--no-input", help="Ask nobody: a permission nobody gave is refused, and the exit is 5."
    ),
]
Timeout = Annotated[
    str | None,
    typer.Option("--timeout", metavar="10m", help="Cancel the turn when it takes longer."),
]
Detach = Annotated[
    bool, typer.Option("--detach", help="Print the turn's id and leave it to itself.")
]
StopOnExit = Annotated[
    bool,
    typer.Option(
        "--stop-on-exit", help="Cancel the turn when leaving before its end; else it goes on."
    ),
]
Deltas = Annotated[
    bool, typer.Option("--deltas", help="With -o jsonl: text while it is written, too.")
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is added.")]
After = Annotated[
    int, typer.Option("--after", metavar="N", min=0, help="Only events with a greater number.")
]
Version = Annotated[bool, typer.Option("--version", help="Print the version and exit.")]
AgentArgument = Annotated[
    str | None, typer.Argument(metavar="[AGENT]", help="Its id; else the last one.")
]
AgentsArgument = Annotated[list[str], typer.Argument(metavar="AGENT…", help="Their ids.")]
RequestArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[REQUEST]",
        help="AGENT/TURN/PERMISSION, or an end or the agent of it; else the only open one.",
    ),
]
Reason = Annotated[str, typer.Option("--reason", help="Told to the agent.")]
Name = Annotated[str | None, typer.Option("--name", help="A name for people.")]
Instructions = Annotated[
    str | None,
    typer.Option("--instructions", help="Appended to the agent's standing instructions."),
]
AgentBackend = Annotated[
    str | None, typer.Option("--backend", help="What runs its turns, for example docker.")
]
Model = Annotated[
    str | None, typer.Option("--model", help="Model that answers; empty for the default.")
]
TurnBudget = Annotated[
    str | None,
    typer.Option("--turn-budget", metavar="USD", help="What one turn may cost; 0 for no limit."),
]
Budget = Annotated[
    str | None,
    typer.Option(
        "--budget", metavar="USD", help="What all its turns together may cost; 0 for no limit."
    ),
]
MaxSteps = Annotated[
    int | None,
    typer.Option("--max-steps", min=0, help="Answers of the model per turn; 0 for no limit."),
]
Rules = Annotated[
    list[str] | None,
    typer.Option(
        "--rule",
        metavar="RULE",
        help="A use of a tool that needs no question, for example 'Bash(npm test:*)';"
        " several times for several, which take the place of those before.",
    ),
]
OneAgent = Annotated[str, typer.Argument(metavar="AGENT", help="Its id.")]
Always = Annotated[
    bool,
    typer.Option("--always", help="Allow it for the time to come, as the agent suggests."),
]
Replies = Annotated[
    list[str] | None,
    typer.Option(
        "--answer", metavar="TEXT", help="Answer to a question of the agent; one for each."
    ),
]
Month = Annotated[
    str, typer.Argument(metavar="[MONTH]", help="As 2026-11, in UTC; else the current one.")
]
User = Annotated[str | None, typer.Option("--user", metavar="NAME", help="Whose; else your own.")]
Ttl = Annotated[
    str | None, typer.Option("--ttl", metavar="90d", help="How long it is good; 90 days if absent.")
]
KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="Its id.")]
ContextArgument = Annotated[str, typer.Argument(metavar="CONTEXT", help="Its name.")]


def tools(given: list[str] | None) -> frozenset[str]:
    """Tool names from options that may each hold several."""
    return frozenset(
        name.strip() for text in given or () for name in text.split(",") if name.strip()
    )


def hoist(arguments: list[str]) -> list[str]:
    """Move options that hold for every command to the front.

    So that `moorline ls -o json` is understood like `moorline -o json ls`.
    """
    front: list[str] = []
    rest: list[str] = []
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        if argument == "--":
            rest += [argument, *waiting]
            break
        if argument in _VALUED and waiting:
            front += [argument, waiting.pop(0)]
        elif argument.partition("=")[0] in _VALUED and "=" in argument:
            front.append(argument)
        elif argument in {"-p", "--prompt"} and waiting:
            # What a person says may look like an option.
            rest += [argument, waiting.pop(0)]
        else:
            rest.append(argument)
    return front + rest


EVERYWHERE = frozenset({"url", "token_file", "context", "lang", "output"})
"""Names of the options that hold for every command."""

_VALUED = frozenset({"--url", "--token-file", "--context", "--lang", "-o", "--output"})
