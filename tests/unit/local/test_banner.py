"""What the person at the terminal reads when everything is ready."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.local.banner import banner
from services.local.folder import DataFolder
from services.local.model import Backend
from services.local.replicas import Replica, choose_replicas
from services.local.texts import ENGLISH, KOREAN, Texts


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[DataFolder]:
    """A data folder in use."""
    with DataFolder(tmp_path) as folder:
        yield folder


def shown(
    folder: DataFolder,
    replicas: list[Replica],
    *,
    foreign: str = "",
    texts: Texts = ENGLISH,
    backend: Backend = "simulation",
) -> str:
    """The banner of a run without an emulator of its own."""
    return banner(
        texts=texts,
        folder=folder,
        replicas=replicas,
        emulator=None,
        foreign=foreign,
        pids={each.name: 1000 + number for number, each in enumerate(replicas)},
        backend=backend,
    )


@pytest.mark.parametrize("texts", [ENGLISH, KOREAN])
def test_the_usual_run_is_told_in_short(folder: DataFolder, texts: Texts) -> None:
    """The address to open, and how to end it; no process has to be known."""
    text = shown(folder, choose_replicas(gateway=8080, count=1, before={}), texts=texts)

    assert f"http://127.0.0.1:8080/?token={folder.secret('token')}\n" in text
    assert text.rstrip().endswith("Ctrl-C")
    assert "pid" not in text


@pytest.mark.parametrize("texts", [ENGLISH, KOREAN])
def test_replicas_are_told_apart(folder: DataFolder, texts: Texts) -> None:
    """Each with its number, process, address and log, and each gateway can be opened."""
    replicas = choose_replicas(gateway=0, count=2, before={})
    text = shown(folder, replicas, foreign="db:1", texts=texts)

    for number, each in enumerate(replicas):
        (line,) = [line for line in text.splitlines() if line.split()[:1] == [each.name]]
        assert [each.name, "pid", str(1000 + number), each.address, f"logs/{each.name}.log"] == (
            line.split()
        )
        assert (each.service == "gateway") == (f"http://{each.address}/?token=" in text)
    assert "db:1" in text
    assert str(folder.path / "run.json") in text
    assert text.rstrip().endswith("Ctrl-C")


@pytest.mark.parametrize("texts", [ENGLISH, KOREAN])
@pytest.mark.parametrize("backend", ["simulation", "process", "docker"])
def test_how_agents_run_is_told(folder: DataFolder, texts: Texts, backend: Backend) -> None:
    """In one line, whatever was chosen; that real ones are to be had is told as well."""
    replicas = choose_replicas(gateway=8080, count=1, before={})
    text = shown(folder, replicas, texts=texts, backend=backend)

    assert 1 == text.count("BACKEND=")
    assert texts.agents[backend] in text
