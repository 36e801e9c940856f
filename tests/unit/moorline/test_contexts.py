"""Tests of where the client finds its server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import moorline
from moorline import contexts


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment with a configuration folder of its own."""
    return {"XDG_CONFIG_HOME": str(tmp_path)}


def write_token(path: Path, token: str) -> Path:
    """A token file as `make run` leaves it."""
    path.write_text(token)
    path.chmod(0o600)
    return path


def test_arguments_win_over_the_environment_over_the_file(
    environ: dict[str, str], tmp_path: Path
) -> None:
    """Each place is looked at only when the one before says nothing."""
    token_file = write_token(tmp_path / "token", "from-file\n")
    contexts.set_context("local", url="http://file", token_file=token_file, environ=environ)
    found = contexts.resolve(environ=environ)
    assert ("http://file", "from-file", "local") == (found.url, found.token(), found.context)
    environ |= {"MOORLINE_URL": "http://env", "MOORLINE_TOKEN": "from-env"}
    found = contexts.resolve(environ=environ)
    assert ("http://env", "from-env") == (found.url, found.token())
    found = contexts.resolve(url="http://flag", token="from-flag", environ=environ)
    assert ("http://flag", "from-flag") == (found.url, found.token())
    found = contexts.resolve(context="local", environ=environ)
    assert "http://file" == found.url


def test_the_token_of_a_context_goes_to_its_server_only(
    environ: dict[str, str], tmp_path: Path
) -> None:
    """Another address named beside a context does not get the context's token."""
    token_file = write_token(tmp_path / "token", "secret")
    contexts.set_context("local", url="http://file", token_file=token_file, environ=environ)
    found = contexts.resolve(url="http://other", context="local", environ=environ)
    assert "" == found.token()
    assert "" == contexts.resolve(url="http://other", environ=environ).token()
    found = contexts.resolve(url="http://file/", environ=environ)
    assert ("secret", "local") == (found.token(), found.context)


def test_make_run_does_not_take_over_from_another_context(
    environ: dict[str, str], tmp_path: Path
) -> None:
    """A new context becomes current only when none, or `local`, is."""
    path = contexts.config_path(environ)
    contexts.set_context("local", url="http://one", token_file=None, environ=environ)
    contexts.set_context("work", url="https://work", token_file=None, environ=environ)
    assert "work" == contexts.read(path).current
    contexts.set_context("local", url="http://two", token_file=None, environ=environ)
    assert "work" == contexts.read(path).current
    assert "https://work" == contexts.resolve(environ=environ).url
    contexts.use_context("local", environ=environ)
    assert "http://two" == contexts.resolve(environ=environ).url
    environ["MOORLINE_CONTEXT"] = "work"
    assert "https://work" == contexts.resolve(environ=environ).url


def test_the_file_holds_no_token(environ: dict[str, str], tmp_path: Path) -> None:
    """Only the absolute path of the token's file is written, whatever is in it."""
    token_file = write_token(tmp_path / 'to "ken\\', "very-secret")
    contexts.set_context("a-1", url="http://a", token_file=token_file, environ=environ)
    text = contexts.config_path(environ).read_text()
    assert "very-secret" not in text
    assert token_file == contexts.read(contexts.config_path(environ)).contexts["a-1"].token_file
    assert "very-secret" == contexts.resolve(environ=environ).token()


def test_what_is_missing_is_told_with_what_to_do(environ: dict[str, str]) -> None:
    """No server, an unknown context, a damaged file and a bad name are refused."""
    with pytest.raises(moorline.InvalidRequestError, match="make run"):
        contexts.resolve(environ=environ)
    with pytest.raises(moorline.InvalidRequestError, match="no context 'x'"):
        contexts.resolve(context="x", environ=environ)
    with pytest.raises(moorline.InvalidRequestError, match="no context 'x'"):
        contexts.use_context("x", environ=environ)
    with pytest.raises(moorline.InvalidRequestError, match="cannot name"):
        contexts.set_context("No Name", url="http://a", token_file=None, environ=environ)
    path = contexts.config_path(environ)
    path.parent.mkdir()
    for text in ("current = ", "contexts = 3", "[contexts.a]\nurls = 1"):
        path.write_text(text)
        with pytest.raises(moorline.InvalidRequestError, match="damaged"):
            contexts.read(path)


def test_without_a_configuration_folder_the_platforms_own_is_used() -> None:
    """The file lies where the system keeps configuration."""
    assert ("moorline", "config.toml") == contexts.config_path({}).parts[-2:]


def test_the_module_writes_a_context(environ: dict[str, str], tmp_path: Path) -> None:
    """`python -m moorline.contexts set` does, without a warning."""
    token_file = write_token(tmp_path / "token", "t")
    command = ["-W", "error", "-m", "moorline.contexts", "set", "local", "--url", "http://h:1"]
    done = subprocess.run(
        [sys.executable, *command, "--token-file", str(token_file)],
        env=environ,
        capture_output=True,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert (0, b"", b"") == (done.returncode, done.stdout, done.stderr)
    assert "http://h:1" == contexts.resolve(environ=environ).url
