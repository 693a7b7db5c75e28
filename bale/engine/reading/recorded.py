"""A report rebuilt from what archives record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bale.engine.reading.listing import stored_folder_row
from bale.engine.reading.names import label
from bale.engine.reading.same_tensors import same_tensors_of_rows
from bale.engine.rows import file_row
from bale.io.archive.archive import ArchiveFile
from bale.io.names import source_of
from bale.report.model import Report


def report_of(archives: Sequence[ArchiveFile], folder: Path | None = None) -> Report:
    """A report rebuilt from archives alone: without times, and without digests that need a pass over the file."""
    source = source_of if folder is None else (lambda name: name.removesuffix(".bale"))
    stored = [(archive, label(archive.path, folder)) for archive in archives]
    files = tuple(
        file_row(
            archive.manifest,
            source(name),
            name,
            archive.size,
            None,
            digest=archive.digest,
        )
        for archive, name in stored
    )
    manifests = [archive.manifest for archive in archives]
    version = max(manifest.format for manifest in manifests)
    row, notes = (None, []) if folder is None else stored_folder_row(folder)
    notes += [] if folder is None else same_tensors_of_rows(files)
    return Report(manifests[0].tool, ".".join(map(str, version)), False, files, row, tuple(notes))
