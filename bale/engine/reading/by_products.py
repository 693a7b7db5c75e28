"""Results of bale that lie in a source folder beside what they were made of: they are passed over."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from bale.io.archive.archive import begins_as_archive
from bale.io.folder import RECORD
from bale.io.storage.files import reading
from bale.notes import Note, many, size

_REPORT = ".report.json"
_LOSSY = re.compile(r"\.lossy(?=(\.[^./]+)?$)")


def pass_over(folder: Path, names: list[str]) -> tuple[list[str], list[Note]]:
    """The names without those of archives, compressed folders and reports of what is there too; and a note of them."""
    files = set(names)
    inner = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    compressed = {
        parent
        for name in names
        if name.endswith(f"/{RECORD}")
        and (parent := name.removesuffix(f"/{RECORD}"))
        and any(source in inner for source in sources_of(parent))
    }

    def is_made(name: str) -> bool:
        if name in compressed:
            return True
        return any(source in files for source in sources_of(name)) and (name not in files or _is_archive(folder / name))

    passed = {
        name
        for name in names
        if (name.endswith(".bale") and is_made(name))
        or (name.endswith(f".bale{_REPORT}") and is_made(name.removesuffix(_REPORT)))
        or any(str(parent) in compressed for parent in PurePosixPath(name).parents)
    }
    if not passed:
        return names, []
    first = min(compressed or passed)
    whole = size(sum((folder / name).stat().st_size for name in passed))
    example = first if len(passed) == 1 else f"such as {first}"
    text = f"{many(len(passed), 'file')} of bale's own, {whole}, passed over: the source is there too ({example})"
    return [name for name in names if name not in passed], [Note("by-product", text)]


def _is_archive(path: Path) -> bool:
    """Whether a file is an archive by its content: the name alone is somebody's choice."""
    with reading(path) as source:
        return begins_as_archive(source.read(min(source.size, 128), 0))


def sources_of(archive: str) -> Iterator[str]:
    """The names that a source may have whose archive has this one by default."""
    if archive.endswith(".bale"):
        yield from dict.fromkeys((archive.removesuffix(".bale"), source_of(archive)))


def source_of(archive: str) -> str:
    """The name of the source that an archive of this name has by default."""
    return _LOSSY.sub("", archive.removesuffix(".bale"))
