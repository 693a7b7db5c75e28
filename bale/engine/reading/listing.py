"""Listings of folders: of weights, or compressed ones."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bale.errors import ArchiveError, BaleError, SourceError
from bale.io.archive.archive import open_archive
from bale.io.checkpoint import Checkpoint
from bale.io.folder import COPY, RECORD, Record, check_indexes, list_files, read_record
from bale.io.sources.open import open_checkpoint
from bale.io.storage.tree import is_incomplete

_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")  # of weights: such a file is never meant to be empty


@dataclass(frozen=True)
class SourceFolder:
    """A folder of weights: its checkpoints by name, and the names of all other files."""

    path: Path
    checkpoints: dict[str, Checkpoint]
    side: tuple[str, ...]


def open_folder(path: Path, hint: str = "name a file to have it stored as it is") -> SourceFolder:
    """List a folder, read the structure of its weight files, and check its indexes.

    Raises `SourceError` when it holds no weights, with this hint, when a weights file is broken, or a shard is missing.
    """
    check_whole(path, SourceError)
    if is_stored_folder(path):
        raise SourceError(f"{path} is a compressed folder already", "give the original, or use `bale decompress`")
    names = list_files(path)
    named = check_indexes(path, names)
    found = {
        name: open_checkpoint(path / name)  # which refuses an empty one
        for name in names
        if name in named or name.lower().endswith(_SUFFIXES) or os.path.getsize(path / name)
    }
    weights = {name: checkpoint for name, checkpoint in found.items() if checkpoint.kind != "opaque"}
    if not weights:
        raise SourceError(f"{path} holds no weights that bale knows", hint)
    for name in weights:
        if f"{name}.bale" in found:
            raise SourceError(f"{path} has both {name} and {name}.bale, its archive's name", "move one of them away")
    return SourceFolder(path, weights, tuple(name for name in names if name not in weights))


def weights_of(path: Path) -> list[str]:
    """Names of the weight files of a folder."""
    return list(open_folder(path).checkpoints)


def is_stored_folder(path: Path) -> bool:
    """Whether a folder is a compressed one."""
    return os.path.isfile(path / RECORD)


def check_whole(path: Path, error: type[BaleError]) -> None:
    """Raise an error for a folder that a killed run of `decompress` has left."""
    if is_incomplete(path):
        raise error(f"{path} is incomplete: it was interrupted", "run `bale decompress` on its archive again")


def archives_of(path: Path) -> list[Path]:
    """The archives of a compressed folder."""
    found = [path / entry.stored for entry in complete_record(path).entries.values() if entry.kind != COPY]
    if not found:
        raise ArchiveError(f"{path} has no archives in its {RECORD}", "fetch it again")
    for archive in found:
        if not os.path.lexists(archive):
            raise ArchiveError(f"{archive} is missing", "fetch it again")
    return found


def side_bytes(path: Path) -> int:
    """Bytes of the files of a compressed folder that were copied as they are."""
    return sum(entry.stored_bytes for entry in complete_record(path).entries.values() if entry.kind == COPY)


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
