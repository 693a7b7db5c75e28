"""Progress within a unit, which is encoded and then read back."""

from __future__ import annotations

from bale.engine.run import Progress


class Meter:
    """Tells how much of a unit has been done: never more than there is, whatever is done twice.

    Parameters
    ----------
    tell : callable
        Called with the name and the bytes that have been done since the last call.
    size : int
        Bytes that the work counts for.
    """

    def __init__(self, tell: Progress, name: str, size: int) -> None:
        self._tell, self._name, self._left = tell, name, size

    def add(self, count: int) -> None:
        """Note that so many bytes have been done."""
        count = min(count, self._left)
        if count:
            self._left -= count
            self._tell(self._name, count)

    def finish(self) -> None:
        """Note that nothing is left to do."""
        self.add(self._left)
