"""Listings of folders: of weights, or compressed ones."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bale.errors import ArchiveError, BaleError, SourceError
from bale.io.archive.archive import open_archive
from bale.io.checkpoint import Checkpoint
from bale.io.folders.contents import examine, not_fetched
from bale.io.folders.file_list import Avoidable, list_files
from bale.io.folders.record import COPY, RECORD, Entry, Record, is_stored_folder, read_record
from bale.io.folders.selection import ALL, Selection
from bale.io.folders.shards import read_indexes
from bale.io.names import own_name, source_of
from bale.io.storage.tree import is_incomplete
from bale.notes import Note
from bale.report.files import Copied, FolderRow


class NoWeights(SourceError):
    """A folder holds no weights; what was noted of its files may say why."""

    def __init__(self, message: str, hint: str, notes: tuple[Note, ...]) -> None:
        super().__init__(message, hint)
        self.notes = notes

    @property
    def lines(self) -> list[str]:
        """The error, and its notes below."""
        return [str(self), *(f"  note: {note.text}" for note in self.notes)]

    @property
    def details(self) -> dict[str, Any]:
        """Notes and their kinds, where there are any."""
        if not self.notes:
            return {}
        return {"notes": [note.text for note in self.notes], "note_kinds": [note.kind for note in self.notes]}


@dataclass(frozen=True)
class SourceFolder:
    """A folder of weights: what is coded, by name, and the bytes of the files that are copied as they are."""

    path: Path
    checkpoints: dict[str, Checkpoint]
    side: Mapping[str, int]
    notes: tuple[Note, ...] = ()
    selection: Selection = ALL
    folders: tuple[str, ...] = ()

    @property
    def copied(self) -> Copied:
        """The sums of what is copied."""
        return Copied.of(self.side)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(checkpoint.size for checkpoint in self.checkpoints.values()) + sum(self.side.values())


def open_folder(
    path: Path,
    hint: str = "name a file to have it stored as it is",
    selection: Selection = ALL,
) -> SourceFolder:
    """List the files of a folder that are wanted, and read the structure of its weight files.

    Raises
    ------
    SourceError
        When it holds no weights, with this hint, or when weights are broken or missing.
    UsageError
        When a pattern matches nothing, unless that is allowed.
    """
    check_whole(path, SourceError)
    if is_stored_folder(path):
        raise SourceError(f"{path} is a compressed folder already", "give the original, or use `bale decompress`")
    found = examine(path, selection)
    if not found.checkpoints:
        for name, what in found.stand_ins.items():
            raise not_fetched(path, name, what)
        left = f" beside what is left out by {selection.options}" if selection else ""
        raise NoWeights(f"{path} holds no weights that bale knows{left}", hint, found.notes)
    return SourceFolder(path, found.checkpoints, found.side, found.notes, selection, found.folders)


@contextmanager
def without_options() -> Iterator[None]:
    """Errors of a folder that is read for something else than to be compressed: they name no option."""
    try:
        yield
    except Avoidable as problem:
        raise SourceError(problem.message, problem.plain_hint) from None


def weights_of(path: Path) -> list[str]:
    """Names of the weight files of a folder; files without a reader only where it has no others."""
    with without_options():
        found = open_folder(path).checkpoints
    return [name for name, checkpoint in found.items() if checkpoint.kind != "opaque"] or list(found)


def indexed_files(path: Path) -> set[str]:
    """Names of the files, or archives, of a folder that an index of shards names."""
    try:
        indexes, _ = read_indexes(path, list_files(path).names)
    except SourceError:
        return set()
    named = {shard for index in indexes for shard in index.files}
    return {f"{name}.bale" for name in named} if is_stored_folder(path) else named


def check_whole(path: Path, error: type[BaleError]) -> None:
    """Raise an error for a folder that a killed run of `decompress` has left."""
    if is_incomplete(path):
        raise error(f"{path} is incomplete: it was interrupted", "run `bale decompress` on its archive again")


def archives_of(path: Path) -> list[Path]:
    """The archives of a compressed folder."""
    return _archives(path, {name: each for name, each in complete_record(path).entries.items() if each.kind != COPY})


def weight_archives_of(path: Path) -> list[Path]:
    """The same without those of files that have no reader, where there are others."""
    coded = {name: each for name, each in complete_record(path).entries.items() if each.kind != COPY}
    return _archives(path, {name: each for name, each in coded.items() if each.kind != "opaque"} or coded)


def _archives(path: Path, entries: Mapping[str, Entry]) -> list[Path]:
    found = [path / entry.stored for entry in entries.values()]
    if not found:
        raise ArchiveError(f"{path} has no archives in its {RECORD}", "fetch it again")
    for archive in found:
        if not os.path.lexists(archive):
            raise ArchiveError(f"{archive} is missing", "fetch it again")
    return found


def stored_folder_row(path: Path) -> tuple[FolderRow, list[Note]]:
    """The row of a compressed folder in reports, and a note on what was left out of it."""
    record = complete_record(path)
    name, chosen = own_name(path), record.selection
    row = FolderRow(source_of(name), name, copied_of(record.entries), os.path.getsize(path / RECORD))
    return row, [Note("left-out", f"made with {chosen}: other files of the source are not in it")] if chosen else []


def copied_of(entries: Mapping[str, Entry]) -> Copied:
    """The sums of what was copied."""
    copies = {name: entry for name, entry in entries.items() if entry.kind == COPY}
    marked = next((name for name, entry in copies.items() if entry.is_marked), None)
    return Copied.of({name: entry.stored_bytes for name, entry in copies.items()}, marked)


def source_bytes(path: Path) -> int:
    """Bytes of the checkpoint that an archive, or a compressed folder, gives back; 0 where it cannot be told."""
    try:
        if os.path.isdir(path):
            return sum(entry.source_bytes for entry in complete_record(path).entries.values())
        with open_archive(path) as archive:
            return archive.manifest.source_bytes
    except (BaleError, OSError):
        return 0


def complete_record(path: Path) -> Record:
    """The record of a compressed folder; raise `ArchiveError` when it was interrupted."""
    check_whole(path, ArchiveError)
    record = read_record(path)
    if not record.complete:
        raise ArchiveError(f"{path} is incomplete: it was interrupted", "run `bale compress` on its source again")
    return record
