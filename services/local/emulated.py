"""Says what becomes of the data that a run's emulator has in memory.

Does not know how the emulator is started, nor how to write to a terminal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from services.local.emulator import SaveError
from services.local.texts import Texts


class Savable(Protocol):
    """What has data in memory."""

    async def save(self) -> None:
        """Write it down.

        Raises:
            SaveError: That did not succeed.
        """


class EmulatedData:
    """The data of one run, from the emulator's start to its save.

    Args:
        emulator: Has it in memory.
        texts: Sentences in the person's language.
        tell: Writes what happens on the way.
    """

    def __init__(self, emulator: Savable, *, texts: Texts, tell: Callable[[str], None]) -> None:
        self._emulator = emulator
        self._texts = texts
        self._tell = tell
        self._lost = False

    def died(self) -> None:
        """Tell that what was in memory is lost: another emulator starts from the last save."""
        self._lost = True
        self._tell(self._texts.lost)

    async def save(self) -> None:
        """Save what is there, and tell what is not saved."""
        try:
            await self._emulator.save()
        except SaveError as error:
            self._tell(self._texts.not_saved.format(reason=error))
        else:
            # The save succeeds without what was lost, which else looked as if it were in it.
            if self._lost:
                self._tell(self._texts.saved_in_part)
