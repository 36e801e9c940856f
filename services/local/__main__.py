"""`python -m services.local`: the command line of a run on this machine."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from services.local.errors import StartError
from services.local.model import Agents
from services.local.run import Request, Run, Store
from services.local.texts import texts_for


def parse(arguments: Sequence[str]) -> Request:
    """Read the command line.

    Raises:
        SystemExit: It is wrong, or help was asked for.
    """
    parser = argparse.ArgumentParser(prog="python -m services.local", description=__doc__)
    parser.add_argument(
        "--port",
        type=_port,
        default=8080,
        metavar="PORT",
        help="the first gateway's port on the loopback interface, further ones take the next;"
        " 0 takes free ones",
    )
    parser.add_argument(
        "--data", type=Path, default=Path(".data"), help="folder of everything that lasts"
    )
    parser.add_argument(
        "--replicas",
        type=int,
        choices=range(1, 10),
        default=1,
        metavar="N",
        help="processes of each service, 1 to 9",
    )
    parser.add_argument(
        "--store",
        choices=("sqlite", "firestore"),
        help="where everything that lasts is kept: a file in the data folder, which one replica"
        " takes by itself, or the Firestore emulator, which several do; it is started here unless"
        " FIRESTORE_EMULATOR_HOST says where one is",
    )
    parser.add_argument(
        "--backend",
        choices=("simulation", "process", "docker"),
        default="simulation",
        help="how agents run that name no backend: simulated; as processes with all rights of"
        " this user; or each in a container",
    )
    parser.add_argument(
        "--key-file",
        type=Path,
        help="file with the model provider's key, which is copied into the data folder; else"
        " ANTHROPIC_API_KEY is taken, or the key of an earlier run",
    )
    parser.add_argument(
        "--upstream",
        type=_url,
        help="where the Messages API is, when it is not the provider's own",
    )
    options = parser.parse_args(arguments)
    # Only one session service can have an SQLite file.
    store: Store = options.store or ("sqlite" if options.replicas == 1 else "firestore")
    return Request(
        port=options.port,
        data=options.data,
        replicas=options.replicas,
        store=store,
        agents=Agents(
            backend=options.backend, key_file=options.key_file, upstream=options.upstream or ""
        ),
    )


def _url(text: str) -> str:
    """Read an address.

    Raises:
        ArgumentTypeError: It is none.
    """
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query:
        raise argparse.ArgumentTypeError(f"{text} is not an address such as http://host:8000")
    return text


def _port(text: str) -> int:
    """Read a port.

    Raises:
        ArgumentTypeError: It is none.
    """
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port; use 0 to 65535")
    return int(text)


async def serve(request: Request, environ: Mapping[str, str]) -> None:
    """Run until stopped."""

    def show(text: str) -> None:
        print(text, flush=True)  # noqa: T201 - the program's answer

    def tell(text: str) -> None:
        print(text, file=sys.stderr, flush=True)  # noqa: T201 - the program's answer

    run = Run(request=request, environ=environ, texts=texts_for(environ), show=show, tell=tell)
    await run.serve()


def main() -> int:
    """Run the platform on this machine; return the exit status."""
    request = parse(sys.argv[1:])
    # Whatever is written from here on, here or in a service, is the owner's alone.
    os.umask(0o077)
    try:
        asyncio.run(serve(request, os.environ))
    except StartError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the program's answer
        return error.status
    return 0


if __name__ == "__main__":
    sys.exit(main())
