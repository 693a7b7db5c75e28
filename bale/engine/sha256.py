"""SHA-256 of bytes that are also written: beside that, by a thread of its own."""

from __future__ import annotations

import hashlib
from queue import SimpleQueue
from threading import BoundedSemaphore, Thread
from types import TracebackType

from bale.spec import Array

_AHEAD = 4  # pieces that wait
_LARGE = 16 << 20  # bytes of a piece that nobody can wait beside: it is as large as a tensor


class Sha256:
    """The digest of pieces in the order in which they come; nothing may be written into a piece afterwards.

    Parameters
    ----------
    beside : bool
        Whether a thread computes it; else `update` does.
    """

    def __init__(self, *, beside: bool) -> None:
        self._digest = hashlib.sha256()
        self._pieces: SimpleQueue[Array | None] = SimpleQueue()
        self._room = BoundedSemaphore(_AHEAD)
        self._problem: Exception | None = None
        self._thread = Thread(target=self._work, name="bale-sha256", daemon=True) if beside else None

    def __enter__(self) -> Sha256:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def update(self, piece: Array) -> None:
        """Take the next bytes."""
        if self._thread is None:
            self._digest.update(piece.data)
            return
        self._room.acquire()
        self._pieces.put(piece)
        if piece.nbytes > _LARGE:
            self._drain()

    def result(self) -> str:
        """The digest of all pieces, in hexadecimal; nothing can follow. Raises what the thread has raised."""
        self._stop()
        if self._problem is not None:
            raise self._problem
        return self._digest.hexdigest()

    def _work(self) -> None:
        while (piece := self._pieces.get()) is not None:
            try:
                if self._problem is None:
                    self._digest.update(piece.data)
            except Exception as problem:
                self._problem = problem  # whoever brings more must not wait for ever
            del piece
            self._room.release()

    def _drain(self) -> None:
        """Wait until nothing waits."""
        for _ in range(_AHEAD):
            self._room.acquire()
        for _ in range(_AHEAD):
            self._room.release()

    def _stop(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            self._pieces.put(None)
            self._thread.join()
