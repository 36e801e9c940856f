"""How the services are started."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.local.folder import DataFolder
from services.local.programs import Program, programs
from services.local.replicas import SERVICES, choose_replicas


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[DataFolder]:
    """A data folder in use."""
    with DataFolder(tmp_path) as folder:
        yield folder


def described(folder: DataFolder, count: int = 1, **inherited: str) -> dict[str, Program]:
    """The services by name."""
    listed = programs(
        folder=folder,
        replicas=choose_replicas(gateway=8080, count=count, before={}),
        store={"MOORLINE_STORE": "memory:"},
        agents={"MOORLINE_DEFAULT_BACKEND": "process"},
        inherited=inherited,
        chosen={
            "MOORLINE_MODELS": "one,two",
            "MOORLINE_USER_MONTH_BUDGET_USD": "5",
            "MOORLINE_LISTEN": "0.0.0.0:80",
        },
    )
    return {program.name: program for program in listed}


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


def test_replicas_are_given_every_address(folder: DataFolder) -> None:
    """Each gateway knows all session services, and each of those all executors."""
    by_name = described(folder, count=2)
    listens = {name: each.environment["MOORLINE_LISTEN"] for name, each in by_name.items()}
    executors = f"{listens['executor-1']},{listens['executor-2']}"

    for number in (1, 2):
        gateway = by_name[f"gateway-{number}"].environment
        assert f"{listens['session-1']},{listens['session-2']}" == gateway["MOORLINE_SESSION"]
        assert executors == gateway["MOORLINE_EXECUTOR"]
        assert executors == by_name[f"session-{number}"].environment["MOORLINE_EXECUTOR"]
    assert 6 == len(set(listens.values()))


def test_each_executor_has_a_folder_of_its_own(folder: DataFolder) -> None:
    """The first one's is the same with one as with two, and so are the files in it."""
    alone = described(folder)["executor"].environment["MOORLINE_WORKSPACES"]
    two = described(folder, count=2)
    both = [two[f"executor-{number}"].environment["MOORLINE_WORKSPACES"] for number in (1, 2)]

    assert str(folder.path / "workspaces") == alone == both[0]
    assert str(folder.path / "workspaces-2") == both[1]


def test_only_the_session_service_is_told_of_the_store(folder: DataFolder) -> None:
    """Another service refuses a variable that is none of its own."""
    told = [
        name for name, each in described(folder).items() if "MOORLINE_STORE" in each.environment
    ]

    assert ["session"] == told


def test_only_the_executor_is_told_of_agents(folder: DataFolder) -> None:
    """It runs them, and nobody else needs to know how."""
    told = [
        name
        for name, each in described(folder).items()
        if "MOORLINE_DEFAULT_BACKEND" in each.environment
    ]

    assert ["executor"] == told


def test_a_chosen_setting_reaches_the_service_it_is_of(folder: DataFolder) -> None:
    """The others would refuse it; what a run decides by itself cannot be chosen."""
    by_name = described(folder)
    models, budgets = (
        [by_name[name].environment.get(variable) for name in SERVICES]
        for variable in ("MOORLINE_MODELS", "MOORLINE_USER_MONTH_BUDGET_USD")
    )

    assert {"executor": "one,two", "session": None, "gateway": None} == dict(
        zip(SERVICES, models, strict=True)
    )
    assert {"executor": None, "session": "5", "gateway": None} == dict(
        zip(SERVICES, budgets, strict=True)
    )
    assert "0.0.0.0:80" not in {each.environment["MOORLINE_LISTEN"] for each in by_name.values()}


def test_replicas_have_logs_of_their_own(folder: DataFolder) -> None:
    """What one says does not mix with what another says."""
    by_name = described(folder, count=2)

    assert folder.path / "logs" / "session-2.log" == by_name["session-2"].log
    assert 6 == len({each.log for each in by_name.values()})
