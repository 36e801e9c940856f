"""Which agents a run has, and the key that real ones need."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.local.__main__ import parse
from services.local.errors import StartError
from services.local.folder import DataFolder
from services.local.model import Agents, variables

KEY = {"ANTHROPIC_API_KEY": "sk-environment"}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[DataFolder]:
    """A data folder in use."""
    with DataFolder(tmp_path / "data") as folder:
        yield folder


def test_simulated_agents_need_and_take_no_key(folder: DataFolder) -> None:
    """A key that happens to be in the environment stays there."""
    told = variables(Agents(), folder=folder, environ=KEY)

    assert {"MOORLINE_DEFAULT_BACKEND": "simulation"} == told
    assert not folder.has("model.key")


def test_key_goes_into_a_file_of_its_owner_only(folder: DataFolder) -> None:
    """No service has it in its environment; the executor knows the file."""
    told = variables(Agents(backend="docker"), folder=folder, environ=KEY)
    file = Path(told["MOORLINE_MODEL_KEY_FILE"])

    assert "sk-environment\n" == file.read_text()
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    assert folder.path == file.parent
    assert not [value for value in told.values() if "sk-" in value]


def test_key_file_comes_first(folder: DataFolder, tmp_path: Path) -> None:
    """Whoever names a file means it, for simulated agents too."""
    (tmp_path / "key").write_text("  sk-file\n\n")
    told = variables(Agents(key_file=tmp_path / "key"), folder=folder, environ=KEY)

    assert "sk-file\n" == Path(told["MOORLINE_MODEL_KEY_FILE"]).read_text()


def test_key_of_an_earlier_run_will_do(folder: DataFolder) -> None:
    """It need not be given each time."""
    agents = Agents(backend="process")
    before = variables(agents, folder=folder, environ=KEY)

    assert before == variables(agents, folder=folder, environ={})


def test_processes_are_allowed_when_they_are_asked_for(folder: DataFolder) -> None:
    """Only then."""
    allowed = [
        backend
        for backend in ("simulation", "process", "docker")
        if "MOORLINE_ALLOW_PROCESS"
        in variables(Agents(backend=backend), folder=folder, environ=KEY)
    ]

    assert ["process"] == allowed


@pytest.mark.parametrize("backend", ["process", "docker"])
def test_missing_key_is_told_with_what_to_type(folder: DataFolder, backend: str) -> None:
    """Both ways of giving one."""
    agents = parse(["--backend", backend]).agents
    with pytest.raises(StartError) as caught:
        variables(agents, folder=folder, environ={"ANTHROPIC_API_KEY": " "})

    assert f"ANTHROPIC_API_KEY=... make run BACKEND={backend}" in str(caught.value)
    assert "KEY_FILE=path" in str(caught.value)


@pytest.mark.parametrize(("content", "words"), [(None, "cannot be read"), (" \n", "is empty")])
def test_unusable_key_file_is_told(
    folder: DataFolder, tmp_path: Path, content: str | None, words: str
) -> None:
    """Before anything starts."""
    file = tmp_path / "key"
    if content is not None:
        file.write_text(content)
    with pytest.raises(StartError, match=words):
        variables(Agents(key_file=file), folder=folder, environ=KEY)


def test_folder_that_takes_no_key_is_told(folder: DataFolder) -> None:
    """The error names the file."""
    (folder.path / "model.key.new").mkdir()
    with pytest.raises(StartError, match=r"model\.key cannot be used"):
        variables(Agents(backend="docker"), folder=folder, environ=KEY)


def test_other_upstream_is_told_to_the_executor(folder: DataFolder) -> None:
    """As it was given."""
    agents = parse(["--upstream=http://127.0.0.1:8100/v"]).agents
    told = variables(agents, folder=folder, environ={})

    assert "http://127.0.0.1:8100/v" == told["MOORLINE_MODEL_UPSTREAM"]


@pytest.mark.parametrize("url", ["x", "ftp://host", "http://", "http://host?a=b"])
def test_upstream_that_is_no_address_is_refused(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error shows one that is."""
    with pytest.raises(SystemExit):
        parse([f"--upstream={url}"])

    assert "such as http://host:8000" in capsys.readouterr().err
