"""Rows of reports: those of a folder and its archives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from bale.engine.reading.listing import SourceFolder, copied_of
from bale.io.folders.record import COPY, Entry, Record
from bale.io.names import own_name
from bale.report.files import FileRow, FolderRow


def report_contents(
    source: SourceFolder, out: Path, record: Record, rows: Iterable[FileRow | None]
) -> tuple[tuple[FileRow, ...], FolderRow]:
    """The contents of a report: the rows of the archives, and what the folder is beside them."""
    copied, size = copied_of(record.entries), len(record.encode())
    return tuple(row for row in rows if row is not None), FolderRow(own_name(source.path), own_name(out), copied, size)


def planned_folder_row(source: SourceFolder, sizes: Mapping[str, int]) -> FolderRow:
    """The row of a folder that is yet to be compressed, from expected sizes of its archives."""
    digest = "0" * 64
    entries = {name: Entry(COPY, name, size, digest, size, digest) for name, size in source.side.items()}
    for name, checkpoint in source.checkpoints.items():
        entries[name] = Entry(checkpoint.kind, f"{name}.bale", checkpoint.size, digest, sizes[name], digest, digest)
    size = len(Record(True, entries, source.selection, source.folders).encode())
    name = own_name(source.path)
    return FolderRow(name, f"{name}.bale", source.copied, size)
