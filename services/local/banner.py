"""Says where everything is, once it is ready.

Does not know how anything was started.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from services.local.emulator import Emulator
from services.local.folder import DataFolder
from services.local.model import Backend
from services.local.replicas import Replica
from services.local.texts import Texts


def banner(
    *,
    texts: Texts,
    folder: DataFolder,
    replicas: Sequence[Replica],
    emulator: Emulator | None,
    foreign: str,
    pids: Mapping[str, int],
    backend: Backend,
) -> str:
    """Return what the person at the terminal reads when all services are ready.

    Args:
        texts: Sentences in that person's language.
        folder: Where data, keys and logs are.
        replicas: The processes of the services.
        emulator: The emulator of this run, if there is one.
        foreign: Address of an emulator that is used and not of this run, or nothing.
        pids: The process of each program, by name.
        backend: How agents run by default.
    """
    token = folder.secret("token")
    gateways = [each.address for each in replicas if each.service == "gateway"]
    programs = [(each.name, each.address) for each in replicas]
    details = ""
    if emulator is not None:
        programs.insert(0, (emulator.program.name, emulator.address))
        details = texts.emulated
    elif foreign:
        details = texts.foreign.format(address=foreign)
    if details:
        # Which is which is of no use to whoever opens the address above for the first time.
        table = "\n".join(
            f"    {name:<11} pid {pids[name]:<8} {address:<16} logs/{name}.log"
            for name, address in programs
        )
        details += texts.processes.format(record=folder.path / "run.json", table=table)
    return texts.banner.format(
        urls="\n    ".join(f"http://{address}/?token={token}" for address in gateways),
        data=folder.path,
        logs=folder.path / "logs",
        terminal=os.path.relpath(Path(sys.prefix) / "bin" / "moorline"),
        agents=texts.agents[backend],
        details=details,
    )
