"""How the services are started."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.local.folder import DataFolder
from services.local.programs import SERVICES, Ports, Program, choose_ports, programs


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[DataFolder]:
    """A data folder in use."""
    with DataFolder(tmp_path) as folder:
        yield folder


def described(folder: DataFolder, **inherited: str) -> dict[str, Program]:
    """The services by name."""
    listed = programs(folder=folder, ports=choose_ports(8080), inherited=inherited)
    return {program.name: program for program in listed}


def test_all_ports_differ() -> None:
    """No two services are sent to one port, the gateway's own included."""
    for gateway in (0, 8080):
        ports = choose_ports(gateway)
        values = [getattr(ports, name) for name in Ports.__dataclass_fields__]

        assert len(values) == len(set(values))
        assert all(values)
    assert 8080 == ports.gateway


def test_the_services_find_one_another(folder: DataFolder) -> None:
    """Each address that one service is given is where the other listens."""
    by_name = described(folder)
    listens = {name: by_name[name].environment["MOORLINE_LISTEN"] for name in SERVICES}

    assert listens["executor"] == by_name["session"].environment["MOORLINE_EXECUTOR"]
    assert listens["executor"] == by_name["gateway"].environment["MOORLINE_EXECUTOR"]
    assert listens["session"] == by_name["gateway"].environment["MOORLINE_SESSION"]
    assert all(address.startswith("127.0.0.1:") for address in listens.values())


def test_all_share_one_identity_key(folder: DataFolder) -> None:
    """What the gateway signs the others can check."""
    keys = {program.environment["MOORLINE_IDENTITY_KEY"] for program in described(folder).values()}

    assert {folder.secret("identity.key")} == keys


def test_only_the_gateway_gets_the_token(folder: DataFolder) -> None:
    """The bearer token is of no use to the others, so they do not have it."""
    token = folder.secret("token")
    holders = [
        name for name, each in described(folder).items() if token in each.environment.values()
    ]

    assert ["gateway"] == holders


def test_what_is_inherited_reaches_every_service(folder: DataFolder) -> None:
    """`DISABLE_DOCKER` keeps its meaning under `make run`."""
    for program in described(folder, DISABLE_DOCKER="true").values():
        assert "true" == program.environment["DISABLE_DOCKER"]
