"""Shows a turn on a terminal: Markdown as it is written.

Finished blocks are printed once; only the unfinished end is drawn again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown
from rich.text import Text

import moorline
from moorline.cli.invocation import Invocation
from moorline.cli.markdown import GrowingMarkdown
from moorline.cli.views import printable, show_aside, show_outcome

# Redrawing faster than a screen refreshes is wasted; slower is seen.
_REDRAWS_PER_SECOND = 15


@dataclass(slots=True)
class _Piece:
    """A message on its way to the screen."""

    growing: GrowingMarkdown = field(default_factory=GrowingMarkdown)
    finished: str = ""
    complete: bool = False


class TerminalView:
    """Streams the answer to standard output, a terminal."""

    def __init__(self, invocation: Invocation) -> None:
        self._invocation = invocation
        self._console = Console(
            file=invocation.surroundings.stdout,
            no_color=not invocation.colour,
            highlight=False,
        )
        self._growing: dict[str, _Piece] = {}
        self._live: Live | None = None

    def show(self, event: moorline.AsyncEvent) -> None:
        """See `View`."""
        match event:
            case moorline.TextDelta(thought=False):
                self._extend(event)
            case moorline.Message(parent_tool_call_id=""):
                self._finish(event.block_id)
            case moorline.MessageDiscarded():
                if self._growing.pop(event.block_id, None) is not None:
                    self.pause()
                    show_aside(self._invocation, event)
            case moorline.StoredEvent() if not isinstance(
                event, moorline.UserMessage | moorline.PermissionRequest | moorline.TurnOutcome
            ):
                self.pause()
                show_aside(self._invocation, event)

    def pause(self) -> None:
        """See `View`."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def end(self, result: moorline.TurnResult) -> None:
        """See `View`."""
        for block_id in list(self._growing):
            self._finish(block_id)
        self.pause()
        show_outcome(self._invocation, result.outcome)

    def _extend(self, delta: moorline.TextDelta) -> None:
        if delta.snapshot:
            # Only when text was replaced, which happens when it was taken
            # back while we were away: what is printed cannot be unprinted.
            self._growing.pop(delta.block_id, None)
        piece = self._growing.setdefault(delta.block_id, _Piece())
        piece.finished += piece.growing.feed(printable(delta.text))
        self._show_first()

    def _finish(self, block_id: str) -> None:
        piece = self._growing.get(block_id)
        if piece is not None:
            piece.finished += piece.growing.finish()
            piece.complete = True
            self._show_first()

    def _show_first(self) -> None:
        """Show the piece begun first; the next one waits for its end.

        A piece may begin before the one ahead of it is recorded as complete:
        two at once would be printed into each other.
        """
        while self._growing:
            block_id, piece = next(iter(self._growing.items()))
            finished, piece.finished = piece.finished, ""
            self._print(finished)
            if not piece.complete:
                self._draw(piece.growing.tail)
                return
            del self._growing[block_id]

    def _print(self, markdown: str) -> None:
        if markdown.strip():
            self.pause()
            self._console.print(Markdown(markdown))
            self._console.print()

    def _draw(self, tail: str) -> None:
        if not tail.strip():
            return
        # A part taller than the screen could not be redrawn in place.
        lines = tail.splitlines()[-max(self._console.height - 4, 1) :]
        drawn = Text("\n".join(lines))
        if self._live is None:
            self._live = Live(
                drawn,
                console=self._console,
                transient=True,
                refresh_per_second=_REDRAWS_PER_SECOND,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        else:
            self._live.update(drawn)
