"""Serves a stand-in until it is ended: `python -m tests.standin --port 8100`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from pathlib import Path

from tests.standin.server import StandIn


async def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(prog="python -m tests.standin", description=__doc__)
    parser.add_argument("--port", type=int, default=8100, help="of 127.0.0.1; 0 for any")
    parser.add_argument("--socket", type=Path, help="serve on this socket instead")
    parser.add_argument("--key", default="", help="refuse requests with another key")
    chosen = parser.parse_args()
    async with StandIn(key=chosen.key).serve(port=chosen.port, path=chosen.socket) as provider:
        sys.stdout.write(f"The stand-in serves on {provider.url or chosen.socket}.\n")
        sys.stdout.flush()
        # Until the process is ended.
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
