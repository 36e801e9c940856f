"""Asks the person at the terminal for a line.

Imports prompt-toolkit, and is therefore imported only when somebody is asked.
Does not know what the lines mean.
"""

from __future__ import annotations

from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import create_output

from moorline.cli.invocation import Invocation


class Prompter:
    """Reads lines with editing and history, on standard error.

    Standard output is the answer's and may be a file.
    """

    def __init__(self, invocation: Invocation, *, history: Path | None = None) -> None:
        output = create_output(stdout=invocation.surroundings.stderr)
        kept: History = FileHistory(str(history)) if history else InMemoryHistory()
        keys = KeyBindings()

        @keys.add("escape", "enter")
        def _new_line(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        @keys.add("enter")
        def _send(event: KeyPressEvent) -> None:
            event.current_buffer.validate_and_handle()

        self._lines: PromptSession[str] = PromptSession(
            history=kept, key_bindings=keys, multiline=True, output=output
        )
        self._answers: PromptSession[str] = PromptSession(history=InMemoryHistory(), output=output)

    async def line(self, prompt: str) -> str:
        """Read a prompt, which may have several lines.

        Raises:
            EOFError: The person is done (Ctrl-D).
            KeyboardInterrupt: Ctrl-C.
        """
        return await self._lines.prompt_async(prompt)

    async def ask(self, question: str) -> str:
        """Ask for a line; empty when the person has none to give (Ctrl-D).

        Raises:
            KeyboardInterrupt: Ctrl-C.
        """
        try:
            return await self._answers.prompt_async(question)
        except EOFError:
            return ""
