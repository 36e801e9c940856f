"""Says how many processes of each service there are, and where each listens.

Does not know how they are started.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.local.ports import CHOICE, LAST, LOOPBACK, free_port, is_free

SERVICES = ("executor", "session", "gateway")
"""In the order in which they are started: who is dialled comes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One process of a service, and where it listens for the whole run.

    Attributes:
        service: Which service.
        number: 1, 2, 3 … among the processes of its service.
        name: Short, for people and for `run.json`.
        port: Where it serves, on the loopback interface.
        metrics_port: Where its page of metrics is.
    """

    service: str
    number: int
    name: str
    port: int
    metrics_port: int

    @property
    def address(self) -> str:
        """Where others reach it."""
        return f"{LOOPBACK}:{self.port}"


def choose_replicas(*, gateway: int, count: int, before: Mapping[str, int]) -> list[Replica]:
    """Choose ports for so many processes of each service.

    The first gateway has the port that was asked for, further ones the next ports
    when they are free. Session services and executors have those they had before
    when they are free, because addresses are kept with what lasts: an agent's
    files, for one, are where its executor is.

    Args:
        gateway: The first gateway's port; 0 chooses it as well.
        count: Processes of each service.
        before: Ports of the last run, as `ports_to_keep` returned them.
    """
    taken = {gateway + number for number in range(count)} if gateway else set()

    def choose(wanted: int) -> int:
        fits = wanted in CHOICE and wanted not in taken and is_free(wanted)
        port = wanted if fits else free_port(taken=taken)
        taken.add(port)
        return port

    def port_of(service: str, number: int) -> int:
        if service != "gateway":
            return choose(before.get(f"{service}-{number}", 0))
        wanted = gateway + number - 1
        if gateway and (number == 1 or (wanted <= LAST and is_free(wanted))):
            return wanted
        return choose(0)

    return [
        Replica(
            service=service,
            number=number,
            name=service if count == 1 else f"{service}-{number}",
            port=port_of(service, number),
            metrics_port=choose(0),
        )
        for service in SERVICES
        for number in range(1, count + 1)
    ]


def ports_to_keep(replicas: list[Replica]) -> dict[str, int]:
    """Return what the next run should be given as `before`."""
    return {f"{each.service}-{each.number}": each.port for each in replicas}
