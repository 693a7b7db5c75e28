"""Structure of an HDF5 file, read within limits: whatever addresses and counts say, the work is bounded."""

from __future__ import annotations

from bale.io.faults import Malformed, Unsupported
from bale.io.sources.order import Ranges
from bale.io.storage.bytes import ByteSource

UNDEFINED = (1 << 64) - 1
BLOCK_LIMIT = 1 << 25  # bytes of one block of structure
WORK_LIMIT = 5_000_000  # messages, links and nodes
_PAGE, _PAGES = 1 << 13, 256  # bytes of what is kept at once, as blocks are small and lie together
_SLACK, _TIMES = 1 << 24, 4  # each byte of an honest file is read once or twice


class Blocks:
    """Reads blocks of structure by their addresses.

    Attributes
    ----------
    taken : Ranges
        All blocks whose length is known.
    """

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self.size = source.size
        self.taken = Ranges()
        self._left = _TIMES * self.size + _SLACK
        self._work = WORK_LIMIT
        self._pages: dict[int, bytes] = {}

    def read(self, at: int, size: int) -> bytes:
        """Bytes of a block; `Malformed` where the file has none."""
        self.check(at, size)
        self.taken.add(at, at + size)
        return self._read(at, size)

    def check(self, at: int, size: int) -> None:
        """Raise `Malformed` where the file does not have these bytes."""
        if at + size > self.size:
            raise Malformed(f"it has only {self.size} bytes, and its structure leads to byte {at + size}")

    def begin(self, at: int, size: int) -> bytes:
        """The same of a block that may be shorter: its length, which it says itself, is for the caller to note."""
        if at >= self.size:
            raise Malformed(f"it has only {self.size} bytes, and its structure leads to byte {at}")
        return self._read(at, min(size, self.size - at))

    def signed(self, at: int, size: int, signature: bytes) -> bytes:
        """The same of a block that begins with a signature."""
        block = self.read(at, size)
        if not block.startswith(signature):
            raise Malformed(f"at byte {at} is no {signature.decode()}, to which its structure leads")
        return block

    def work(self, steps: int = 1) -> None:
        """Count steps; `Unsupported` where they are too many."""
        self._work -= steps
        if self._work < 0:
            raise Unsupported(f"an HDF5 file whose structure takes more than {WORK_LIMIT} steps")

    def _read(self, at: int, size: int) -> bytes:
        self._left -= size
        if size > BLOCK_LIMIT or self._left < 0:
            raise Unsupported("an HDF5 file with more structure than is followed")
        page, within = divmod(at, _PAGE)
        if within + size > _PAGE:
            return self._source.read(size, at)
        if page not in self._pages:
            if len(self._pages) == _PAGES:
                self._pages.clear()
            self._pages[page] = self._source.read(min(_PAGE, self.size - page * _PAGE), page * _PAGE)
        return self._pages[page][within : within + size]
