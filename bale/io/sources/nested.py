"""Files within a file that stores them as they are: each is read through a window, by the reader of its own format."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bale.errors import BaleError
from bale.io.checkpoint import Checkpoint, Checksum
from bale.io.storage.bytes import ByteSource, Version
from bale.io.storage.files import flat
from bale.spec import Array, Unit, View


@dataclass(frozen=True)
class Window(ByteSource):
    """A range of another source."""

    whole: ByteSource
    start: int
    nbytes: int

    @property
    def name(self) -> str:  # type: ignore[override]
        """That of the whole."""
        return self.whole.name

    @property
    def error(self) -> type[BaleError]:  # type: ignore[override]
        """That of the whole."""
        return self.whole.error

    @property
    def version(self) -> Version:
        """Its size, and the time of the whole."""
        return self.nbytes, self.whole.version[1]

    @property
    def size(self) -> int:
        """Bytes."""
        return self.nbytes

    def read_into(self, buffer: memoryview | Array, offset: int) -> None:
        """Fill a contiguous buffer from `offset`, never from beyond the range."""
        size = flat(buffer).nbytes
        if not 0 <= offset <= self.nbytes - size:
            raise self.error(f"{self.name} ends at byte {self.start + self.nbytes}, within what was to be read")
        self.whole.read_into(buffer, self.start + offset)

    def raising(self, error: type[BaleError]) -> Window:
        """The same range, of which another error is raised."""
        return replace(self, whole=self.whole.raising(error))


def shifted(checkpoint: Checkpoint, start: int, prefix: str = "") -> Checkpoint:
    """The same structure where the file begins at an offset of another one; names get a prefix."""
    return replace(
        checkpoint,
        units=tuple(_shifted_unit(unit, start, prefix) for unit in checkpoint.units),
        checksums=tuple(
            Checksum(each.start + start, each.length, tuple(at + start for at in each.fields))
            for each in checkpoint.checksums
        ),
    )


def _shifted_unit(unit: Unit, start: int, prefix: str) -> Unit:
    views: tuple[View, ...] = unit.views
    if prefix:
        views = tuple(replace(view, name=prefix + view.name) for view in views)
    return replace(unit, start=unit.start + start, views=views)
