"""The one way in which running on this machine fails."""

from __future__ import annotations


class StartError(Exception):
    """Raised when the services cannot be started; the text says what to do.

    Args:
        text: For the person at the terminal.
        status: Exit status: 2 when the request cannot be met, 1 when it broke.
    """

    def __init__(self, text: str, *, status: int = 2) -> None:
        super().__init__(text)
        self.status = status
