"""One run of the platform on this machine, from its folder to its last process.

Does not know the command line, nor how to write to a terminal.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from services.local.errors import StartError
from services.local.folder import DataFolder
from services.local.ports import LOOPBACK, is_free
from services.local.programs import INHERITED, ROOT, Ports, Program, choose_ports, programs
from services.local.readiness import until_ready
from services.local.supervisor import Backoff, Death, Supervisor
from services.local.texts import Texts

GRACE = timedelta(seconds=2.5)
READY_WITHIN = timedelta(seconds=30)
DEATHS_BEFORE_READY = 3
"""A service that ends so often before all are ready will not get better by itself."""
CONTEXT_SECONDS = 10
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked for.

    Attributes:
        port: The gateway's; 0 chooses a free one.
        data: Folder of everything that lasts.
    """

    port: int
    data: Path


class Run:
    """The three services, from start to stop.

    Args:
        request: What was asked for.
        environ: This process's environment.
        texts: Sentences in the person's language.
        show: Writes the answer.
        tell: Writes what happens on the way.
    """

    def __init__(
        self,
        *,
        request: Request,
        environ: Mapping[str, str],
        texts: Texts,
        show: Callable[[str], None],
        tell: Callable[[str], None],
    ) -> None:
        self._request = request
        self._inherited = {name: environ[name] for name in INHERITED if name in environ}
        self._texts = texts
        self._show = show
        self._tell = tell
        self._stop = asyncio.Event()
        self._hopeless: Program | None = None
        self._deaths: Counter[str] = Counter()
        self._ready = False

    async def serve(self) -> None:
        """Start everything, say where it is, and return once it has been stopped.

        Raises:
            StartError: It cannot be started as asked, or did not become ready.
        """
        if self._request.port and not is_free(self._request.port):
            port = self._request.port
            raise StartError(f"Port {port} is in use. Try:  make run PORT={port + 10}")
        with DataFolder(self._request.data) as folder:
            ports = choose_ports(self._request.port)
            supervisor = Supervisor(
                programs=programs(folder=folder, ports=ports, inherited=self._inherited),
                backoff=Backoff(),
                grace=GRACE,
                started=lambda: folder.record(_state(supervisor.pids, ports)),
                died=self._on_death,
            )
            async with self._signals(supervisor), supervisor:
                await self._until_ready(folder, ports)
                await self._stop.wait()

    async def _until_ready(self, folder: DataFolder, ports: Ports) -> None:
        """Wait for all services, then show where they are; return early when stopped."""
        url = f"http://{LOOPBACK}:{ports.gateway}"
        token = folder.secret("token")
        async with asyncio.TaskGroup() as tasks:
            ready = tasks.create_task(
                until_ready(grpc_ports=(ports.executor, ports.session), http_port=ports.gateway)
            )
            context = tasks.create_task(self._write_context(url, folder.path / "token"))
            stopped = tasks.create_task(self._stop.wait())
            await asyncio.wait(
                {ready, stopped},
                timeout=READY_WITHIN.total_seconds(),
                return_when=asyncio.FIRST_COMPLETED,
            )
            self._ready = ready.done()
            stopped.cancel()
            ready.cancel()
            if not self._ready:
                context.cancel()
        if self._ready:
            self._show(self._banner(f"{url}/?token={token}", folder))
        elif self._hopeless or not self._stop.is_set():
            raise StartError(self._why_not(folder), status=1)

    def _banner(self, url: str, folder: DataFolder) -> str:
        terminal = os.path.relpath(Path(sys.prefix) / "bin" / "moorline")
        return self._texts.banner.format(
            url=url, data=folder.path, logs=folder.path / "logs", terminal=terminal
        )

    def _why_not(self, folder: DataFolder) -> str:
        program = self._hopeless
        if program is None:
            seconds = READY_WITHIN.total_seconds()
            return f"Not ready after {seconds:g} s; see the logs in {folder.path / 'logs'}."
        words = program.log.read_text(errors="replace").splitlines()[-5:]
        return "\n".join([f"{program.name} does not start ({program.log}):", *words])

    def _on_death(self, death: Death) -> None:
        name, status = death.program.name, death.status
        how = (
            self._texts.signalled.format(number=-status)
            if status < 0
            else self._texts.exited.format(status=status)
        )
        pause = death.pause.total_seconds()
        self._tell(self._texts.died.format(name=name, how=how, pause=pause))
        self._deaths[name] += 1
        if not self._ready and self._deaths[name] >= DEATHS_BEFORE_READY:
            self._hopeless = death.program
            self._stop.set()

    async def _write_context(self, url: str, token_file: Path) -> None:
        """Make the `moorline` command find this server; a failure is told and no more."""
        command = ["-m", "moorline.contexts", "set", "local", "--url", url]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            "--token-file",
            str(token_file),
            cwd=ROOT,
            env=self._inherited,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(CONTEXT_SECONDS):
                output, _ = await process.communicate()
        except TimeoutError:
            output = b"no answer"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            words = output.decode(errors="replace").strip().splitlines() or ["no reason given"]
            self._tell(self._texts.no_context.format(reason=words[-1]))

    @asynccontextmanager
    async def _signals(self, supervisor: Supervisor) -> AsyncIterator[None]:
        """Stop at the first signal, and kill at the second."""
        loop = asyncio.get_running_loop()

        def on_signal() -> None:
            if self._stop.is_set():
                supervisor.kill()
            else:
                self._stop.set()
                self._tell(self._texts.stopping)

        # `nohup` ignores a hang-up on purpose, and that has to stay so.
        hangs_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
        numbers = STOP_SIGNALS if hangs_up else STOP_SIGNALS[:2]
        for number in numbers:
            loop.add_signal_handler(number, on_signal)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)


def _state(pids: Mapping[str, int], ports: Ports) -> dict[str, Any]:
    """What `run.json` holds."""
    return {
        "pids": {"supervisor": os.getpid(), **pids},
        "ports": {name: getattr(ports, name) for name in Ports.__dataclass_fields__},
    }
