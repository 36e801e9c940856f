"""Tests of `services.executor.model_proxy.key`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.executor.model_proxy.key import Key


def test_key_is_read_anew_when_it_changes(tmp_path: Path) -> None:
    """Whether the file is written over or replaced; blanks around it do not count."""
    file = tmp_path / "key"
    file.write_text("one\n")
    key = Key(str(file))
    values = [key.value]
    file.write_text(" second ")
    values.append(key.value)
    (tmp_path / "new").write_text("third!")
    (tmp_path / "new").replace(file)
    values.append(key.value)

    assert ["one", "second", "third!"] == values
    assert "" == key.problem


def test_file_that_did_not_change_is_not_read(tmp_path: Path) -> None:
    """A look at its dates is all that a request costs."""
    file = tmp_path / "key"
    file.write_text("one")
    os.utime(file, ns=(5, 5))
    key = Key(str(file))
    before = key.value
    file.write_text("two")
    os.utime(file, ns=(5, 5))

    assert "one" == before == key.value


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b"two words", "it does not contain one key"),
        (b"line\nline", "it does not contain one key"),
        (b"\xff\xfe", "it does not contain one key"),
        (b"x" * 9000, "it does not contain one key"),
        (None, "No such file"),
    ],
)
def test_bad_file_keeps_the_last_good_key(
    tmp_path: Path, content: bytes | None, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told once in the log, and the file's next state counts."""
    file = tmp_path / "key"
    file.write_text("good")
    key = Key(str(file))
    before = key.value
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    kept = [key.value, key.value]
    problem = key.problem
    file.write_text("better")

    assert "good" == before
    assert ["good", "good"] == kept
    assert words in problem
    assert str(file) in problem
    assert ["model key not usable"] == caplog.messages
    assert ("better", "") == (key.value, key.problem)


def test_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """It would hold up everybody."""
    file = tmp_path / "key"
    os.mkfifo(file)
    key = Key(str(file))

    assert "" == key.value
    assert "a pipe" in key.problem


def test_no_file_is_no_key() -> None:
    """The problem names the setting."""
    key = Key("")

    assert "" == key.value
    assert "MOORLINE_MODEL_KEY_FILE" in key.problem
