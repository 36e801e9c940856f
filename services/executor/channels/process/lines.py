"""Lines a process has printed, on their way. Does not know what they say."""

from __future__ import annotations

from services.executor.channel import Exit, Receiver


class Lines:
    """Cuts what is read into lines and hands them over, unless they are held.

    Args:
        receiver: Who hears the process.
        limit: Bytes that a line may have.
    """

    __slots__ = ("_begun", "_begun_bytes", "_ended", "_limit", "_receiver", "_waiting", "held")

    def __init__(self, *, receiver: Receiver, limit: int) -> None:
        self.held = False
        """Whether nothing may be handed over now."""
        self._receiver: Receiver | None = receiver
        self._limit = limit
        self._waiting: list[bytes] = []
        # A long line comes in many parts, which are put together once.
        self._begun: list[bytes] = []
        self._begun_bytes = 0
        self._ended: Exit | None = None

    @property
    def waiting(self) -> int:
        """How many lines are held."""
        return len(self._waiting)

    def feed(self, data: bytes) -> bool:
        """Take what was read; False once a line is longer than any may be.

        Nothing is kept from then on: whoever printed it is to be ended.
        """
        head, end, rest = data.partition(b"\n")
        self._begun.append(head)
        self._begun_bytes += len(head)
        if self._begun_bytes > self._limit:
            # It is printed on until its process is dead, as fast as a pipe goes.
            self._begun = []
            return False
        if not end:
            return True
        lines = rest.split(b"\n")
        lines.insert(0, b"".join(self._begun))
        last = lines.pop()
        self._begun, self._begun_bytes = [last], len(last)
        self._waiting += lines
        self._flush()
        return True

    def hold(self) -> None:
        """Hand over nothing until `release`."""
        self.held = True

    def release(self) -> None:
        """Hand over what waits, and go on."""
        self.held = False
        self._flush()

    def drop(self) -> None:
        """Forget what waits."""
        self._waiting = []
        self._begun = []

    def end(self, ended: Exit) -> None:
        """Tell the receiver, after what waits, that nothing follows. Called once."""
        if last := b"".join(self._begun):
            self._waiting.append(last)
        self._begun = []
        self._ended = ended
        self._flush()

    def _flush(self) -> None:
        receiver = self._receiver
        if self.held or receiver is None:
            return
        if self._waiting:
            batch, self._waiting = self._waiting, []
            receiver.receive(batch)
        # To hear the lines may have made it hold.
        if self._ended is not None and not self.held:
            self._receiver = None
            receiver.exited(self._ended)
