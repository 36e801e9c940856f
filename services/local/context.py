"""Makes the `moorline` command find a server. Does not know how the command keeps that."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

from services.local.programs import ROOT

_SECONDS = 10


class ContextError(Exception):
    """The command was not told; the message says why."""


async def keep_context(*, url: str, token_file: Path, environ: Mapping[str, str]) -> None:
    """Name a server to the command as its context `local`.

    Args:
        url: The server's address.
        token_file: File with what opens it.
        environ: Environment of the program that does it; says where contexts are kept.

    Raises:
        ContextError: It failed, or took too long.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "moorline.contexts", "set", "local"),
        *("--url", url, "--token-file", str(token_file)),
        cwd=ROOT,
        env=environ,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        raise ContextError("no answer") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        words = output.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise ContextError(words[-1])
