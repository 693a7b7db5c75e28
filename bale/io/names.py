"""Names of sources, and of what is made of them: archives, and the reports beside these."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

ARCHIVE = ".bale"
REPORT = ".report.json"
_LOSSY = ".lossy"
_LOSSY_PART = re.compile(rf"{re.escape(_LOSSY)}(?=(\.[^./]+)?$)")


def own_name(path: Path) -> str:
    """The last part of a path, also of ``.`` and ``..``; that of a link, and not of what it leads to."""
    return os.path.basename(os.path.abspath(path)) or str(path)


def archive_name(source: str, lossy: bool = False, is_folder: bool = False) -> str:
    """The name that the archive of a source has by default.

    That of a lossy one says so: ``model.lossy.safetensors.bale``, of a folder ``model.lossy.bale``.
    """
    if not lossy:
        return f"{source}{ARCHIVE}"
    stem, suffix = (source, "") if is_folder else (Path(source).stem, Path(source).suffix)
    return f"{stem}{_LOSSY}{suffix}{ARCHIVE}"


def source_of(archive: str) -> str:
    """The name of the source that an archive of this name has by default."""
    return _LOSSY_PART.sub("", archive.removesuffix(ARCHIVE))


def sources_of(archive: str) -> Iterator[str]:
    """The names that a source may have whose archive has this one by default; none of what is not called so."""
    if archive.endswith(ARCHIVE):
        yield from dict.fromkeys((archive.removesuffix(ARCHIVE), source_of(archive)))


def report_path(archive: Path) -> Path:
    """The path of the report of an archive, unless another was chosen."""
    return archive.with_name(archive.name + REPORT)
