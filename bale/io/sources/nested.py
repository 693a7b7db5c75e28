"""Files within a file that stores them as they are: each is read through a window, by the reader of its own format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from pathlib import Path

from bale.errors import BaleError, SourceError
from bale.io.checkpoint import Checkpoint, Checksum
from bale.io.faults import Malformed, TooMuch, Unsupported, printable
from bale.io.sources.storages import ROOT, Names
from bale.io.storage.bytes import ByteSource, Version
from bale.io.storage.files import flat
from bale.notes import Note
from bale.spec import Array, Unit, View

_NOTES = 8  # of members, beyond which none is told

Inside = Callable[[Path, ByteSource], Checkpoint | None]
"""Reads a file within another; None where it is of no known format. It may raise `Malformed` and `Unsupported`."""


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
        self.whole.read_into(buffer, self._place(flat(buffer).nbytes, offset))

    def read(self, size: int, offset: int) -> bytes:
        """Bytes from `offset`, all or an error."""
        return self.whole.read(size, self._place(size, offset))

    def _place(self, size: int, offset: int) -> int:
        if not 0 <= offset <= self.nbytes - size:
            raise self.error(f"{self.name} ends at byte {self.start + self.nbytes}, within what was to be read")
        return self.start + offset

    def raising(self, error: type[BaleError]) -> Window:
        """The same range, of which another error is raised."""
        return replace(self, whole=self.whole.raising(error))


@dataclass(frozen=True)
class Part:
    """A file within another: its name, and the range that it takes."""

    name: str
    start: int
    size: int


@dataclass(frozen=True)
class Contents:
    """The tensors of all parts, and the parts that none were found in."""

    units: tuple[Unit, ...]
    checksums: tuple[Checksum, ...]
    notes: tuple[Note, ...]
    others: tuple[Part, ...]

    @property
    def warnings(self) -> tuple[Note, ...]:
        """The notes that are to be given even where nothing was found."""
        return tuple(note for note in self.notes if note.kind == "dangerous")


def read_parts(path: Path, source: ByteSource, parts: Iterable[Part], inside: Inside) -> Contents:
    """Read the files within one; their ranges are disjoint. Each is given the path of the whole: none lies beside them.

    Names are prefixed by that of the part where several have tensors; one that has a lone tensor without a name gives
    its own, without the suffix.
    """
    read, notes, others, names = list[tuple[Part, Checkpoint]](), list[Note](), list[Part](), Names()
    told = list[Note]()
    for part in parts:
        try:
            found = inside(path, Window(source, part.start, part.size))
        except TooMuch:
            raise
        except (Malformed, Unsupported, SourceError) as problem:
            found = None
            if len(notes) < _NOTES:
                notes.append(Note("undescribed", f"{printable(part.name)} is kept as bytes: {_words(problem)}"))
            told += _prefixed(part, problem.notes if isinstance(problem, Unsupported) else ())
        if found is None or not _names(found):
            others.append(part)
        else:
            for name in _names(found):
                names.count(len(part.name) + 1 + len(name))
            read.append((part, found))
    units, checksums = list[Unit](), list[Checksum]()
    for part, found in read:
        prefix = f"{part.name}/" if len(read) > 1 else ""
        alone = _stem(part.name) if _names(found) == [ROOT] else None
        named = partial(_unique, names, prefix, alone)
        moved_units, moved_checksums = moved(found, part.start, named)
        units += moved_units
        checksums += moved_checksums
        told += _prefixed(part, found.notes)
    units.sort(key=attrgetter("start", "end"))
    return Contents(tuple(units), tuple(checksums), (*notes, *first_notes(told)), tuple(others))


def _prefixed(part: Part, notes: Iterable[Note]) -> Iterator[Note]:
    return (Note(note.kind, f"{printable(part.name)}: {note.text}") for note in notes)


def first_notes(notes: Iterable[Note]) -> list[Note]:
    """The first of many notes, and all that warn."""
    seen = list(dict.fromkeys(notes))
    return [note for number, note in enumerate(seen) if number < _NOTES or note.kind == "dangerous"]


def moved(checkpoint: Checkpoint, by: int, named: Callable[[str], str]) -> tuple[list[Unit], list[Checksum]]:
    """Units and checksums of a file that begins at an offset of another, with names that are made of its own."""
    units = [
        Unit(
            unit.start + by,
            unit.spec,
            tuple(View(named(view.name), view.spec, view.offset, view.strides) for view in unit.views),
            unit.exact,
            unit.swapped,
        )
        for unit in checkpoint.units
    ]
    checksums = [
        Checksum(each.start + by, each.length, tuple(at + by for at in each.fields)) for each in checkpoint.checksums
    ]
    return units, checksums


def _names(found: Checkpoint) -> list[str]:
    return [view.name for unit in found.units for view in unit.views]


def _unique(names: Names, prefix: str, alone: str | None, name: str) -> str:
    return names.free(alone or prefix + name)


def _stem(part: str) -> str:
    folder, slash, name = part.rpartition("/")
    return folder + slash + (name.rpartition(".")[0] or name)


def _words(problem: Exception) -> str:
    return problem.message if isinstance(problem, BaleError) else str(problem)
