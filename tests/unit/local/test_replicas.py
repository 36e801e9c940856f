"""How many processes there are, and where each listens."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from services.local import ports
from services.local.replicas import Replica, choose_replicas, ports_to_keep


def by_name(replicas: list[Replica]) -> dict[str, Replica]:
    """The replicas by name."""
    return {replica.name: replica for replica in replicas}


@pytest.fixture
def gateway() -> int:
    """A port that is free, as are the two after it."""
    return next(
        port for port in ports.CHOICE if all(map(ports.is_free, (port, port + 1, port + 2)))
    )


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A socket to listen with."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        yield listener


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("gateway", [0, 8080])
def test_all_ports_differ(gateway: int, count: int) -> None:
    """No two processes are sent to one port, the gateway's own included."""
    replicas = choose_replicas(gateway=gateway, count=count, before={})
    chosen = [port for each in replicas for port in (each.port, each.metrics_port)]

    assert 6 * count == len(set(chosen))
    assert all(chosen)


def test_one_of_each_has_the_service_s_name() -> None:
    """Who runs one of each need not know of numbers."""
    replicas = by_name(choose_replicas(gateway=8080, count=1, before={}))

    assert ["executor", "session", "gateway"] == list(replicas)
    assert 8080 == replicas["gateway"].port


def test_further_gateways_take_the_next_ports(gateway: int) -> None:
    """The addresses of two gateways are easily told from one another."""
    replicas = by_name(choose_replicas(gateway=gateway, count=2, before={}))

    assert {"session-1", "session-2", "gateway-1", "gateway-2"} < set(replicas)
    assert gateway == replicas["gateway-1"].port
    assert gateway + 1 == replicas["gateway-2"].port
    assert f"127.0.0.1:{gateway + 1}" == replicas["gateway-2"].address


def test_a_next_port_in_use_is_passed_over(gateway: int, listener: socket.socket) -> None:
    """Only the port that was asked for is a reason not to start."""
    listener.bind((ports.LOOPBACK, gateway + 1))
    listener.listen()

    replicas = by_name(choose_replicas(gateway=gateway, count=3, before={}))

    assert replicas["gateway-2"].port not in range(gateway, gateway + 3)
    assert gateway + 2 == replicas["gateway-3"].port


def test_there_is_nothing_behind_the_last_port() -> None:
    """Who asks for the last one gets others for the rest."""
    replicas = by_name(choose_replicas(gateway=ports.LAST, count=2, before={}))

    assert ports.LAST == replicas["gateway-1"].port
    assert replicas["gateway-2"].port in ports.CHOICE


def test_a_later_run_has_the_ports_of_the_one_before() -> None:
    """What lasts names addresses, and they stay right; also when there are more of each."""
    first = choose_replicas(gateway=0, count=1, before={})
    again = by_name(choose_replicas(gateway=0, count=2, before=ports_to_keep(first)))

    for service in ("session", "executor"):
        assert by_name(first)[service].port == again[f"{service}-1"].port


def test_a_port_that_was_taken_meanwhile_is_given_up(listener: socket.socket) -> None:
    """So is a number that is none of ours, whoever wrote it there."""
    listener.bind((ports.LOOPBACK, ports.free_port()))
    listener.listen()
    before = {"session-1": listener.getsockname()[1], "executor-1": 22}

    replicas = by_name(choose_replicas(gateway=0, count=1, before=before))

    assert before["session-1"] != replicas["session"].port
    assert 22 != replicas["executor"].port
