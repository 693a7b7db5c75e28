"""The files of a compressed folder: whether they are those of its record, and copies of them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from bale.errors import ArchiveError, OutputError, SourceError
from bale.io.archive.archive import open_archive
from bale.io.archive.manifest import Manifest
from bale.io.folders.marked import CONFIG_LIMIT, marked, unmarked
from bale.io.folders.record import COPY, RECORD, Entry
from bale.io.storage.commit import Target
from bale.io.storage.files import reading


def is_file_of(path: Path, size: int, sha256: str) -> bool:
    """Whether a path is that of a file of this content."""
    return os.path.isfile(path) and os.path.getsize(path) == size and sha256_of(path) == sha256


def copy_file(
    path: Path, target: Path, expected: str | None, force: bool = False, verify: bool = True
) -> tuple[int, str]:
    """Copy a file whole or not at all, and read the copy back, within folders that the caller brings to the disk.

    Returns its size and SHA-256, which must be `expected` if that is given.
    """
    digest = hashlib.sha256()
    with reading(path, SourceError) as source:
        size = source.size
        with Target(target, source.attributes, force, (path,), one_of_many=True) as copy:
            at = 0
            for piece in source.blocks(0, size):
                copy.write(piece, at)
                digest.update(piece)
                at += len(piece)
            sha256 = digest.hexdigest()
            if expected is not None and sha256 != expected:
                raise ArchiveError(f"{path} is not the file that was stored", "fetch it again")
            if verify and copy.sha256(at) != sha256:
                raise OutputError(
                    f"cannot write {target}: what was read back is not what was written",
                    "check the disk and the memory",
                )
            copy.commit()
    return size, sha256


def mark_config(path: Path, target: Path) -> tuple[int, str]:
    """Copy a config with the mark for transformers; returns size and SHA-256 of the copy."""
    return _write_config(path, target, marked(_config(path)))


def unmark_config(path: Path, target: Path) -> tuple[int, str]:
    """Copy a marked config as it was before."""
    return _write_config(path, target, unmarked(_config(path)))


def check_config(path: Path) -> None:
    """Raise `UsageError` for a config that cannot be marked."""
    marked(_config(path))


def _config(path: Path) -> bytes:
    with reading(path, SourceError) as source:
        if source.size > CONFIG_LIMIT:
            raise SourceError(f"{path} has more than {CONFIG_LIMIT} bytes, which no config has")
        return source.read(source.size, 0)


def _write_config(path: Path, target: Path, text: bytes) -> tuple[int, str]:
    with Target(target, path.stat(), True, (path,), one_of_many=True) as copy:
        copy.write(text, 0)
        copy.commit()
    return len(text), hashlib.sha256(text).hexdigest()


def check_stored(folder: Path, entry: Entry) -> Manifest | None:
    """Raise `ArchiveError` unless the stored form of a file is there, unchanged, and of the source that is named.

    Returns the manifest of an archive.
    """
    path = folder / entry.stored
    if path.is_symlink() or not path.is_file():
        raise ArchiveError(f"{path} is missing", "fetch it again")
    if path.stat().st_size != entry.stored_bytes or sha256_of(path) != entry.stored_sha256:
        raise ArchiveError(f"{path} is not the file that was stored", "fetch it again")
    found, manifest = (COPY, entry.stored_bytes, entry.stored_sha256), None
    if entry.is_marked:
        config = unmarked(_config(path))
        found = COPY, len(config), hashlib.sha256(config).hexdigest()
    if entry.kind != COPY:
        with open_archive(path) as archive:
            manifest = archive.manifest
            found = manifest.kind, manifest.source_bytes, manifest.source_sha256
    if found != (entry.kind, entry.source_bytes, entry.source_sha256):
        raise ArchiveError(f"{path} is not of the source that {RECORD} names", "fetch both again")
    return manifest


def sha256_of(path: Path) -> str:
    """The digest of a file."""
    with reading(path) as source:
        return source.sha256()


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a path is or lies in a folder, all links followed."""
    inner, outer = Path(os.path.realpath(path)), Path(os.path.realpath(folder))
    return outer in (inner, *inner.parents)
