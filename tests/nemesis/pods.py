"""One pod: a process of a service that can be killed, held, and started again.

Does not know which pods there are.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

LEASH = Path(__file__).parents[2] / "services" / "local" / "leash.py"
FAKETIME = (
    Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"),
    Path("/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1"),
    Path("/usr/lib/faketime/libfaketimeMT.so.1"),
)
_CONNECT_SECONDS = 0.2


@dataclass(slots=True, kw_only=True)
class Pod:
    """A process of a service.

    Attributes:
        name: For example `session-1`.
        service: For example `session`.
        port: Where it listens.
        source: Folder with `services/` and `moorline/`.
        environment: The whole environment it gets.
        log: File its output is appended to.
        clock: By how much its wall clock is wrong, as libfaketime writes it, for
            example `+1h`; empty for a right one.
        starts: How often it was started.
        paused: True while it is held.
    """

    name: str
    service: str
    port: int
    source: Path
    environment: Mapping[str, str]
    log: Path
    clock: str = ""
    starts: int = 0
    paused: bool = False
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        """Where it listens, `host:port`."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Number of the process, 0 when there is none."""
        return self.process.pid if self.running and self.process else 0

    @property
    def running(self) -> bool:
        """True while the process lives."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.running:
            return
        environment = dict(self.environment)
        if self.clock:
            library = next(path for path in FAKETIME if path.exists())
            environment |= {
                "LD_PRELOAD": str(library),
                "FAKETIME": self.clock,
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "DONT_FAKE_MONOTONIC": "1",
            }
        command = [sys.executable, "-m", f"services.{self.service}"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), *command],
                cwd=self.source,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.starts += 1
        self.paused = False

    async def listening(self, seconds: float) -> bool:
        """Wait until it accepts connections; False when it does not in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.running:
                    with contextlib.suppress(OSError, TimeoutError):
                        async with asyncio.timeout(_CONNECT_SECONDS):
                            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                        writer.close()
                        return True
                    await asyncio.sleep(0.05)
        return False

    def kill(self) -> None:
        """SIGKILL it."""
        self._signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()
        self.paused = False

    def pause(self) -> None:
        """SIGSTOP it: it lives, and does nothing."""
        self._signal(signal.SIGSTOP)
        self.paused = True

    def resume(self) -> None:
        """SIGCONT it."""
        self._signal(signal.SIGCONT)
        self.paused = False

    async def terminate(self, seconds: float) -> float:
        """SIGTERM it, SIGKILL after `seconds`; return how long it took to end."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._signal(signal.SIGTERM)
        while self.running and loop.time() - began < seconds:  # noqa: ASYNC110 - a process's end
            await asyncio.sleep(0.02)
        took = loop.time() - began
        self.kill()
        return took

    def _signal(self, number: signal.Signals) -> None:
        if self.running and self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
