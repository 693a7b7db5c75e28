"""Finds and opens bases: a named one, or the one of an archive."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bale.engine.reading.base import Base, BaseFile, can_be_known
from bale.engine.reading.decode import NO_BASE, Decoder, check_codecs
from bale.engine.reading.listing import weight_archives_of, weights_of
from bale.engine.reading.names import opaque_notes
from bale.engine.reading.source import SourceFile
from bale.engine.reading.unit_values import DecodedCache, DecodedValues, PlainValues, UnitValues
from bale.engine.run import Run
from bale.errors import ArchiveError, SourceError
from bale.io.archive.archive import ArchiveFile, is_archive, open_archive
from bale.io.archive.manifest import StoredUnit
from bale.io.folders.record import is_stored_folder
from bale.io.sources.open import open_checkpoint
from bale.io.storage.files import reading
from bale.notes import Note
from bale.planning.renames import Renames

_DEPTH = 8


@contextmanager
def open_base(path: Path, run: Run, renames: Renames | None = None, depth: int = 0) -> Iterator[Base]:
    """Open a checkpoint, an archive or a folder of either as a base; `SourceError` when that cannot be.

    `depth` counts the bases that stand on this one.
    """
    refuse_depth(path, depth)
    with ExitStack() as stack:
        cache = DecodedCache()
        files: list[BaseFile] = []
        opaque: list[tuple[str, str, Sequence[Note]]] = []
        found: list[UnitValues]
        try:
            for each in files_of(path):
                if is_archive(each):
                    archive = stack.enter_context(open_archive(each))
                    check_codecs(archive)
                    opaque.append((each.name, archive.manifest.kind, archive.manifest.notes))
                    references = stack.enter_context(find_references(archive, None, run, depth + 1))
                    decoder = Decoder(archive, run, references)
                    units = [stored.unit for stored in archive.manifest.units]
                    known = [at for at, unit in enumerate(units) if can_be_known(unit)]
                    found = [DecodedValues.of_unit(decoder, at, cache) for at in known]
                else:
                    checkpoint = open_checkpoint(each)
                    opaque.append((each.name, checkpoint.kind, checkpoint.notes))
                    source = SourceFile.of(checkpoint, stack.enter_context(reading(each, SourceError)))
                    found = [PlainValues.of_unit(source, unit) for unit in checkpoint.units if can_be_known(unit)]
                files.append(BaseFile(each, tuple(found)))
        except ArchiveError as problem:
            raise SourceError(f"the base cannot be read: {problem.message}", problem.hint) from None
        if not any(file.tensors for file in files):
            raise SourceError(f"the base {path} holds no tensors", "name a checkpoint, a bale, or a folder of them")
        notes = tuple(Note(note.kind, f"the base {note.text}") for note in opaque_notes(opaque))
        yield Base(path, tuple(files), renames or Renames(), notes)


def refuse_depth(path: Path, depth: int) -> None:
    """Raise `SourceError` when too many bases stand on each other."""
    if depth > _DEPTH:
        raise SourceError(
            f"{path}: more than {_DEPTH} bases stand on each other, or in a circle", "start from a checkpoint"
        )


def files_of(path: Path) -> list[Path]:
    """The checkpoints or archives that a base is made of."""
    if not os.path.isdir(path):
        return [path]
    return weight_archives_of(path) if is_stored_folder(path) else [path / name for name in weights_of(path)]


def base_path(archive: ArchiveFile, path: Path | None) -> Path | None:
    """The path of the base of an archive: `path`, or beside the archive by its name; None where it has none.

    Raises `SourceError` when it is not there.
    """
    if archive.manifest.base is None:
        return None
    return path or _beside(archive.path, archive.manifest.base)


@contextmanager
def find_references(
    archive: ArchiveFile, path: Path | None, run: Run, depth: int = 0
) -> Iterator[_ReferenceFinder | None]:
    """The function that finds the tensors of an archive's base: the one at `path`, or beside the archive by its name.

    Every tensor that is needed is found, and its digest taken, before anything is decoded.

    Raises
    ------
    SourceError
        When the base is missing or not the one.
    """
    where = base_path(archive, path)
    if where is None:
        yield None
        return
    with open_base(where, run, depth=depth) as base:
        found = {
            stored.unit.start: base.tensor(stored, archive.path)
            for stored in archive.manifest.units
            if stored.base is not None and stored.same_as is None
        }
        yield _ReferenceFinder(found)


@dataclass(frozen=True)
class _ReferenceFinder:
    found: dict[int, UnitValues]

    def __call__(self, stored: StoredUnit) -> UnitValues:
        return self.found[stored.unit.start]


def _beside(archive: Path, name: str) -> Path:
    """The path of the base of an archive that lies beside it; `SourceError` when it does not."""
    plain = name.removesuffix(".bale")
    if name == os.path.basename(name) and plain not in ("", ".", ".."):
        for folder in (archive.parent, archive.parent.parent):
            for candidate in (folder / plain, folder / f"{plain}.bale"):
                if os.path.exists(candidate) and candidate.resolve() != archive.resolve():
                    return candidate
    raise SourceError(f"{archive} holds differences to the base {name!r}, which is not beside it", NO_BASE)
