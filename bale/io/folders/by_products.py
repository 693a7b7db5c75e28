"""Results of bale that lie beside what they were made of: they are passed over where sources are wanted."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path, PurePosixPath

from bale.errors import SourceError
from bale.io.archive.archive import begins_as_archive
from bale.io.folders.file_list import Avoidable
from bale.io.folders.record import RECORD, is_stored_folder
from bale.io.names import ARCHIVE, REPORT, sources_of
from bale.io.reports import is_report
from bale.io.storage.files import reading
from bale.io.storage.leftovers import is_temporary
from bale.io.storage.placing import is_empty
from bale.io.storage.tree import is_incomplete
from bale.notes import Note, many, size


def is_by_product(path: Path) -> bool:
    """Whether a path is that of a result of earlier work, or a temporary file; of an archive the name suffices."""
    return path.name.endswith(ARCHIVE) or is_no_archive(path) or (os.path.isdir(path) and is_compressed_folder(path))


def is_no_archive(path: Path) -> bool:
    """Whether a path is that of a by-product which can be no archive: a report, or a temporary file."""
    return is_temporary(path.name) or is_report(path)


def is_compressed_folder(folder: Path) -> bool:
    """Whether a folder is one that `compress` has made, or has begun to make."""
    try:
        with os.scandir(folder) as found:
            has_begun = next(found, None) is not None and is_empty(folder)  # with temporary files alone in it
        return has_begun or is_stored_folder(folder) or is_incomplete(folder)
    except OSError:
        return False


def pass_over(folder: Path, names: list[str]) -> tuple[list[str], list[Note]]:
    """The names without those of archives, compressed folders and reports of what is there too; and a note of them.

    An archive is one by its content here: what is passed over is lost, and its name alone is somebody's choice.

    Raises
    ------
    SourceError
        When a file that may be an archive cannot be read.
    """
    files = set(names)
    compressed = _compressed_folders(names)

    def is_made(archive: str) -> bool:
        return archive in compressed or any(source in files for source in sources_of(archive))

    def is_result(name: str) -> bool:
        if name.endswith(ARCHIVE):
            return is_made(name) and _is_archive(folder, name)
        if name.endswith(ARCHIVE + REPORT):
            return is_made(name.removesuffix(REPORT)) and is_report(folder / name)
        return False

    passed = {name for name in names if is_result(name)}
    if compressed:
        passed.update(
            name for name in names if any(str(parent) in compressed for parent in PurePosixPath(name).parents)
        )
    if not passed:
        return names, []
    first = min(compressed or passed)
    whole = size(sum(_size(folder / name) for name in passed))
    example = first if len(passed) == 1 else f"such as {first}"
    text = f"{many(len(passed), 'file')} of bale's own, {whole}, passed over: the source is there too ({example})"
    return [name for name in names if name not in passed], [Note("by-product", text)]


def _compressed_folders(names: list[str]) -> set[str]:
    """The compressed folders among these files that lie beside their source."""
    found = {name.removesuffix(f"/{RECORD}") for name in names if name.endswith(f"/{RECORD}")}
    if not found:
        return found
    inner = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    return {each for each in found if any(source in inner for source in sources_of(each))}


def _is_archive(folder: Path, name: str) -> bool:
    try:
        with reading(folder / name) as source:
            return begins_as_archive(source.read(min(source.size, 128), 0))
    except SourceError as problem:
        raise Avoidable(problem.message, problem.hint, name) from None


def _size(path: Path) -> int:
    with suppress(OSError):  # it is passed over, there or not
        return path.stat().st_size
    return 0
