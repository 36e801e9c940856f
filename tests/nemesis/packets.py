"""Partitions by iptables: packets of some loopback ports vanish, as they do in a network.

Root only. Every rule is in a chain of this process and goes with it; one that a
killed process has left is removed by the next.
"""

from __future__ import annotations

import atexit
import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

_WAIT_SECONDS = "2"
_NUMBERS = itertools.count()


class Packets:
    """Lets packets vanish; a context manager.

    Attributes:
        allowed: False when this machine does not permit it; nothing happens then.
    """

    def __init__(self) -> None:
        self.allowed = False
        self._chain = f"NEMESIS-{os.getpid()}-{next(_NUMBERS)}"

    def __enter__(self) -> Self:
        """Make the chain."""
        if os.geteuid() != 0 or shutil.which("iptables") is None:
            return self
        for chain in _left_behind():
            self._remove(chain)
        if self._iptables("-N", self._chain):
            atexit.register(self._remove, self._chain)
            self.allowed = self._iptables("-I", "INPUT", "-i", "lo", "-j", self._chain)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove the chain with all rules."""
        self._remove(self._chain)
        atexit.unregister(self._remove)
        self.allowed = False

    def drop(self, ports: Iterable[int]) -> None:
        """Let everything from and to these ports vanish."""
        for port in ports:
            for way in ("--dport", "--sport"):
                self._iptables("-A", self._chain, "-p", "tcp", way, str(port), "-j", "DROP")

    def restore(self, ports: Iterable[int]) -> None:
        """Let it pass again."""
        for port in ports:
            for way in ("--dport", "--sport"):
                self._iptables("-D", self._chain, "-p", "tcp", way, str(port), "-j", "DROP")

    def _remove(self, chain: str) -> None:
        for arguments in (
            ("-D", "INPUT", "-i", "lo", "-j", chain),
            ("-F", chain),
            ("-X", chain),
        ):
            self._iptables(*arguments)

    def _iptables(self, *arguments: str) -> bool:
        command = ["iptables", "-w", _WAIT_SECONDS, *arguments]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _left_behind() -> list[str]:
    """Chains of processes that are gone."""
    command = ["iptables", "-w", _WAIT_SECONDS, "-S"]
    rules = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    chains = re.findall(r"^-N (NEMESIS-(\d+)-\d+)$", rules, re.MULTILINE)
    return [chain for chain, pid in chains if not Path(f"/proc/{pid}").exists()]
