"""Starts the gateway."""

from __future__ import annotations

import logging
import os
import sys

from services.chassis import logs, server
from services.chassis.settings import read
from services.chassis.stopping import stop_signal
from services.gateway.serving import SERVICE, serve
from services.gateway.settings import Settings

log = logging.getLogger(__name__)


async def main(settings: Settings) -> None:
    """Serve until told to stop."""
    with stop_signal() as stop:
        await serve(
            settings,
            stop=stop,
            on_listening=lambda port: log.info("serving", extra={"service": SERVICE, "port": port}),
        )


if __name__ == "__main__":
    chosen = read(Settings, argv=sys.argv[1:], environ=os.environ)
    logs.configure(service=SERVICE, format=chosen.log_format, level=chosen.log_level)
    server.run(lambda: main(chosen))
