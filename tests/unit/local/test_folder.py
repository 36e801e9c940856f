"""The data folder."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from services.local import folder as folders
from services.local.errors import StartError
from services.local.folder import DataFolder


def mode(path: Path) -> int:
    """The permissions of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def test_the_folder_is_made_for_its_owner_only(tmp_path: Path) -> None:
    """A folder that did not exist is made, with its parents, readable by the owner alone."""
    with DataFolder(tmp_path / "a" / "data") as folder:
        assert 0o700 == mode(folder.path)
        assert 0o700 == mode(folder.path / "logs")


def test_a_second_run_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    """Two supervisors on one folder would start every service twice."""
    with (
        DataFolder(tmp_path) as folder,
        pytest.raises(StartError, match=r"is in use by process [0-9]+"),
        DataFolder(tmp_path),
    ):
        pass

    assert 2 == StartError("").status
    with DataFolder(folder.path):
        pass


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """A file where the folder should be gives a sentence, not a traceback."""
    (tmp_path / "file").write_text("")

    with pytest.raises(StartError, match="cannot be used"), DataFolder(tmp_path / "file"):
        pass


def test_a_secret_is_kept_across_runs(tmp_path: Path) -> None:
    """The same token is valid after a restart, and nobody else can read it."""
    with DataFolder(tmp_path) as folder:
        first = folder.secret("token")
    with DataFolder(tmp_path) as folder:
        again = folder.secret("token")

    assert first == again
    assert len(first) >= 32
    assert 0o600 == mode(tmp_path / "token")


def test_an_empty_secret_is_made_anew(tmp_path: Path) -> None:
    """A file that a crash left empty does not become an empty token."""
    (tmp_path / "token").write_text("\n")

    with DataFolder(tmp_path) as folder:
        assert folder.secret("token")


def test_a_secret_that_is_no_text_is_told(tmp_path: Path) -> None:
    """A file of other bytes gives a sentence that names it, and is left as it is."""
    (tmp_path / "identity.key").write_bytes(b"\xff\xfe")

    with (
        DataFolder(tmp_path) as folder,
        pytest.raises(StartError, match=r"identity\.key .* not a secret"),
    ):
        folder.secret("identity.key")
    assert b"\xff\xfe" == (tmp_path / "identity.key").read_bytes()


def test_a_secret_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """A folder in its place gives a sentence, too."""
    (tmp_path / "token").mkdir()

    with DataFolder(tmp_path) as folder, pytest.raises(StartError, match="cannot be used"):
        folder.secret("token")


@pytest.mark.parametrize("text", ["two lines", "two\nlines", "nul\0", "한글"])
def test_a_secret_that_no_service_would_take_is_told(tmp_path: Path, text: str) -> None:
    """It could not be handed over in an environment, or not be shown as a token."""
    (tmp_path / "token").write_text(text)

    with DataFolder(tmp_path) as folder, pytest.raises(StartError, match="not a secret"):
        folder.secret("token")


def test_a_readable_secret_is_closed_again(tmp_path: Path) -> None:
    """A mode that somebody widened is put right at the next start."""
    (tmp_path / "token").write_text("secret")
    (tmp_path / "token").chmod(0o644)

    with DataFolder(tmp_path) as folder:
        assert "secret" == folder.secret("token")
    assert 0o600 == mode(tmp_path / "token")


def test_a_long_log_is_set_aside_at_start(tmp_path: Path) -> None:
    """A log does not grow for ever over restarts, and the last one stays readable."""
    with DataFolder(tmp_path) as folder:
        log = folder.log("session")
        log.write_bytes(b"x" * folders.LOG_BYTES)
        assert log.exists()
        assert log == folder.log("session")
        assert log.exists()

        log.write_bytes(b"x" * (folders.LOG_BYTES + 1))
        folder.log("session")

        assert not log.exists()
        assert log.with_suffix(".log.1").exists()


def test_the_record_is_there_while_it_runs(tmp_path: Path) -> None:
    """Programs read where it runs; a stale record would send them to strangers' ports."""
    with DataFolder(tmp_path) as folder:
        folder.record({"ports": {"gateway": 1}})
        assert {"ports": {"gateway": 1}} == json.loads((tmp_path / "run.json").read_text())

    assert not (tmp_path / "run.json").exists()


def test_a_later_run_reads_what_was_kept(tmp_path: Path) -> None:
    """Unlike the record, it stays when the run ends."""
    with DataFolder(tmp_path) as folder:
        assert {} == folder.kept("ports.json")
        folder.keep("ports.json", {"session-1": 1})
    with DataFolder(tmp_path) as folder:
        assert {"session-1": 1} == folder.kept("ports.json")


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"session-1": "x"}', "\x00"])
def test_what_was_kept_and_is_damaged_counts_for_nothing(tmp_path: Path, text: str) -> None:
    """It is a convenience, and no reason to refuse a start."""
    (tmp_path / "ports.json").write_text(text)

    with DataFolder(tmp_path) as folder:
        assert {} == folder.kept("ports.json")
