"""What a run says about the data in its emulator."""

from __future__ import annotations

from services.local.emulated import EmulatedData
from services.local.emulator import SaveError
from services.local.texts import ENGLISH

LOST = ENGLISH.lost
IN_PART = ENGLISH.saved_in_part


class Memory:
    """An emulator that can be saved, or cannot."""

    def __init__(self, reason: str = "") -> None:
        self.saves = 0
        self._reason = reason

    async def save(self) -> None:
        """Write down what is in it."""
        if self._reason:
            raise SaveError(self._reason)
        self.saves += 1


class Terminal:
    """What the person reads."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def data(self, emulator: Memory) -> EmulatedData:
        """The data of an emulator, which is spoken of here."""
        return EmulatedData(emulator, texts=ENGLISH, tell=self.lines.append)


async def test_data_that_is_saved_is_not_spoken_of() -> None:
    """The usual end of a run."""
    memory, terminal = Memory(), Terminal()

    await terminal.data(memory).save()

    assert 1 == memory.saves
    assert [] == terminal.lines


async def test_a_save_that_fails_is_told() -> None:
    """With the reason."""
    terminal = Terminal()

    await terminal.data(Memory("full")).save()

    assert [ENGLISH.not_saved.format(reason="full")] == terminal.lines


async def test_an_emulator_that_died_is_told_at_once_and_at_the_end() -> None:
    """Another that is saved in its place has nothing of what was in the first."""
    memory, terminal = Memory(), Terminal()
    data = terminal.data(memory)

    data.died()
    assert [LOST] == terminal.lines
    await data.save()

    assert 1 == memory.saves
    assert [LOST, IN_PART] == terminal.lines


async def test_an_end_without_a_save_does_not_speak_of_one() -> None:
    """After a death as well, what could not be saved is the whole of it."""
    terminal = Terminal()
    data = terminal.data(Memory("gone"))

    data.died()
    await data.save()

    assert [LOST, ENGLISH.not_saved.format(reason="gone")] == terminal.lines
