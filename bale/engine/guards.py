"""Guards of the files that a run reads: no input, and no file of a base, becomes a target or its own base."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bale.engine.reading.listing import archives_of, complete_record
from bale.engine.reading.open_base import base_path, files_of, refuse_depth
from bale.errors import ArchiveError, OutputError, SourceError, UsageError
from bale.io.archive.archive import is_archive, open_archive
from bale.io.checkpoint import Checkpoint
from bale.io.folders.record import is_stored_folder


def base_files(path: Path, depth: int = 0) -> Iterator[Path]:
    """Every file that a base, and the bases that it stands on, are read from; a folder stands for all that is in it.

    Raises
    ------
    SourceError
        When one of them is missing or damaged, or too many stand on each other.
    """
    refuse_depth(path, depth)
    yield path
    try:
        for each in files_of(path):
            yield each
            yield from bases_of(each, None, depth + 1)
    except ArchiveError as problem:
        raise SourceError(f"the base cannot be read: {problem.message}", problem.hint) from None


def bases_of(archive: Path, base: Path | None, depth: int = 0) -> Iterator[Path]:
    """The files of the base of an archive, found as for decoding; none where it has no base."""
    if is_archive(archive):
        with open_archive(archive) as opened:
            found = base_path(opened, base)
        if found is not None:
            yield from base_files(found, depth)


def check_targets(targets: Iterable[Path], inputs: Sequence[Path], what: str) -> None:
    """Raise `OutputError` when a target is one of the inputs, by whatever name or link, or lies in a folder of them.

    `what` names them in the message.
    """
    files = {_identity(each) for each in inputs if not os.path.isdir(each)} - {None}
    folders = {Path(os.path.realpath(each)) for each in inputs if os.path.isdir(each)}
    for target in targets:
        if os.path.lexists(target) and (_identity(target) in files or _is_inside(target, folders)):
            raise OutputError(f"cannot write {target}: it is {what}", "choose another name with -o")


def check_apart(sources: Iterable[Path], base: Path, files: Sequence[Path]) -> None:
    """Raise `UsageError` when a source is among the files of its base: no archive could be read once that is gone."""
    read = {_identity(each) for each in files if os.path.isfile(each)} - {None}
    for source in sources:
        if _identity(source) in read:
            where = "" if _identity(source) == _identity(base) else f": {base} is read from it too"
            raise UsageError(f"{source} is its own base{where}", "name the checkpoint that it was made from")


def bases_apart(base: Path | None, checkpoints: Iterable[Checkpoint]) -> tuple[Path, ...]:
    """The files that the base is read from, of which the source is none."""
    if base is None:
        return ()
    found = tuple(base_files(base))
    check_apart((checkpoint.path for checkpoint in checkpoints), base, found)
    return found


def guard_bases(archive: Path, target: Path, base: Path | None, whole: bool) -> None:
    """Raise `OutputError` when the decompressed file would take the place of a file that its base is read from."""
    if not os.path.lexists(target):
        return
    is_folder = os.path.isdir(archive) and is_stored_folder(archive)
    files = [] if base is None else [base]
    for each in archives_of(archive) if is_folder else [archive]:
        files += bases_of(each, base)
    targets = [target / name for name in complete_record(archive).entries] if is_folder and whole else [target]
    check_targets(targets, files, "the base, or a file of it")


def _is_inside(target: Path, folders: set[Path]) -> bool:
    return (
        bool(folders) and not os.path.isdir(target) and not folders.isdisjoint(Path(os.path.realpath(target)).parents)
    )


def _identity(path: Path) -> tuple[int, int] | None:
    """A key that is equal for all names and links of a file; None where none is there."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino
