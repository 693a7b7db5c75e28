"""The rows of files, and of a folder beside its archives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bale.notes import Note
from bale.report.tensors import TensorRow

OPAQUE = "opaque"  # the kind of a file that no reader follows


@dataclass(frozen=True)
class FileRow:
    """One weights file: source and archive."""

    source: str
    kind: str
    source_bytes: int
    source_sha256: str
    archive: str
    archive_bytes: int
    archive_sha256: str | None
    rows: tuple[TensorRow, ...] = ()
    notes: tuple[Note, ...] = ()
    archive_manifest: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Source and archive, as they stand in `files`."""
        return {
            "source": {
                "name": self.source,
                "kind": self.kind,
                "bytes": self.source_bytes,
                "sha256": self.source_sha256,
            },
            "archive": {
                "name": self.archive,
                "bytes": self.archive_bytes,
                "sha256": self.archive_sha256,
                "manifest": self.archive_manifest,
            },
            "notes": [note.text for note in self.notes],
        }


@dataclass(frozen=True)
class Copied:
    """The files of a folder that are copied as they are: how many, their bytes, and the largest.

    `marked` is the config that names bale, if there is one; it comes back as it was.
    """

    files: int = 0
    bytes: int = 0
    largest: str | None = None
    largest_bytes: int = 0
    marked: str | None = None

    @classmethod
    def of(cls, sizes: Mapping[str, int], marked: str | None = None) -> Copied:
        """The sums of files by name."""
        largest = max(sizes, key=lambda name: sizes[name], default=None)
        return cls(len(sizes), sum(sizes.values()), largest, 0 if largest is None else sizes[largest], marked)

    def to_json(self) -> dict[str, Any]:
        """The object that stands under `copied`."""
        return {
            "files": self.files,
            "bytes": self.bytes,
            "largest": self.largest,
            "largest_bytes": self.largest_bytes,
            "marked": self.marked,
        }


@dataclass(frozen=True)
class FolderRow:
    """A folder beside its archives: names of source and target, copies, and the bytes of its record."""

    source: str
    archive: str
    copied: Copied = field(default_factory=Copied)
    record_bytes: int = 0
