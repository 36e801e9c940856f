"""What the nemesis's own instruments record: tool effects, histories, alarms."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

from tests.nemesis.check_turns import expected_texts
from tests.nemesis.effects import Effects
from tests.nemesis.history import History, Kind, read
from tests.nemesis.pods import Pod
from tests.nemesis.reading import alarms


class CountedEffects(Effects):
    """Counts how often there was something to read."""

    def __init__(self, roots: Iterable[Path]) -> None:
        super().__init__(roots)
        self.readings = 0

    def read(self) -> None:
        """Take in what happened."""
        self.readings += 1
        super().read()


async def test_each_writing_of_a_file_is_counted(tmp_path: Path) -> None:
    """Two executors that write the same file are two effects, and so is writing it twice."""
    roots = [tmp_path / "one", tmp_path / "two"]
    with Effects(roots) as effects:
        for root in roots:
            (root / "w" / "files").mkdir(parents=True)
            await asyncio.sleep(0.05)
            (root / "w" / "files" / "t1.0").write_text("x")
        (roots[0] / "w" / "files" / "t2.0").write_text("x")
        (roots[0] / "w" / "files" / "t2.0").write_text("y")
        await asyncio.sleep(0.05)

    assert {"t1.0": 2, "t2.0": 2} == effects.counts


async def test_a_file_written_before_its_directory_is_watched_counts_once(tmp_path: Path) -> None:
    """Where counting races with a directory's birth it never counts too many."""
    with Effects([tmp_path]) as effects:
        (tmp_path / "w" / "files").mkdir(parents=True)
        (tmp_path / "w" / "files" / "t1.0").write_text("x")
        await asyncio.sleep(0.05)

    assert {"t1.0": 1} == effects.counts


async def test_looking_into_a_folder_is_no_news(tmp_path: Path) -> None:
    """Or the looking that news leads to would be news again, and nothing else were done."""
    with CountedEffects([tmp_path]) as effects:
        (tmp_path / "w" / "files").mkdir(parents=True)
        (tmp_path / "w" / "files" / "t1.0").write_text("x")
        async with asyncio.timeout(15):
            while not effects.counts:  # noqa: ASYNC110 - the kernel's news
                await asyncio.sleep(0)
        before = effects.readings
        # Whatever there is to read is read in the loop's next round.
        for _ in range(100):
            await asyncio.sleep(0)

        assert effects.readings - before < 10


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    """A record of a failed run can be checked again later."""
    history = History()
    history.add(Kind.FRAME, "ada-1", "users/ada/agents/a1", text="{}", watch=1)
    history.add(Kind.FAULT, number=1, fault="kill", target="session-1")
    history.write(tmp_path / "history.jsonl")

    assert history.entries == read(tmp_path / "history.jsonl").entries


def test_alarms_are_what_tells_of_a_bug(tmp_path: Path) -> None:
    """Warnings are no alarms, and neither is a line that a SIGKILL cut in two."""
    log = tmp_path / "session.log"
    log.write_text(
        '{"severity": "WARNING", "message": "the store is away"}\n'
        '{"severity": "ERROR", "message": "unexpected"}\n'
        "Traceback (most recent call last):\n"
        '{"severity": "ERR'
    )
    pod = Pod(name="s", service="session", port=1, source=tmp_path, environment={}, log=log)

    assert 2 == len(alarms([pod]))


def test_what_a_script_says_is_known_beforehand() -> None:
    """A finished turn can be compared with what it was asked to say."""
    assert ["hi you", "w1 w2"] == expected_texts("x\n/sim say hi you\n/sim stream 2 10")
    assert expected_texts("no script")[0].endswith("User message: no script")
