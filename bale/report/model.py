"""The report of a compression, as JSON: its keys are described in docs/report.md and held by report.schema.json."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from bale.notes import Note, Noted, notes_of_files, summed_up
from bale.report.figures import ratio
from bale.report.files import OPAQUE, FileRow, FolderRow
from bale.report.sums import coverage, lossy_sums, output_error, pooled
from bale.report.tensors import TensorRow

SCHEMA = 2


@dataclass(frozen=True)
class Report:
    """The report of one compression: of one file, or of the weight files of a folder.

    Attributes
    ----------
    verified : bool
        Whether everything was read back and compared.
    folder : FolderRow or None
        The folder, when the source was one.
    stats : tuple of (str, str), or None
        Name and SHA-256 of the statistics by which it was done.
    path : Path or None
        Where the archive was written; not a part of the document.
    skipped : bool
        Whether the archive was there already, and was left as it is; not a part of the document.
    """

    tool: str
    format_version: str
    verified: bool
    files: tuple[FileRow, ...]
    folder: FolderRow | None = None
    notes: tuple[Note, ...] = field(default=())
    stats: tuple[str, str] | None = None
    path: Path | None = None
    skipped: bool = False

    @cached_property
    def rows(self) -> tuple[TensorRow, ...]:
        """All tensors of all files."""
        return tuple(row for file in self.files for row in file.rows)

    @property
    def side_bytes(self) -> int:
        """Bytes of the files of a folder that are copied as they are."""
        return 0 if self.folder is None else self.folder.copied.bytes

    @property
    def original_bytes(self) -> int:
        """Bytes of the file, or of all files of the folder."""
        return sum(file.source_bytes for file in self.files) + self.side_bytes

    @property
    def stored_bytes(self) -> int:
        """Bytes on disk of the archive, or of all files of the compressed folder."""
        record = 0 if self.folder is None else self.folder.record_bytes
        return sum(file.archive_bytes for file in self.files) + self.side_bytes + record

    @cached_property
    def weights(self) -> tuple[FileRow, ...]:
        """The files of weights; those that no reader follows where there are no others."""
        return tuple(file for file in self.files if file.kind != OPAQUE) or self.files

    @property
    def is_weights(self) -> bool:
        """Whether most of what was stored is in tensors, so that bits a weight mean something."""
        held = sum(row.held_bytes for file in self.weights for row in file.rows if row.same_as is None)
        return self.weights[0].kind != OPAQUE and 2 * held >= sum(file.source_bytes for file in self.weights)

    @property
    def exact(self) -> bool:
        """Whether every bit comes back."""
        return all(row.exact for row in self.rows)

    @cached_property
    def lossy_rows(self) -> tuple[TensorRow, ...]:
        """The tensors that do not come back bit for bit, each stored one once."""
        return tuple(row for row in self.rows if not row.exact and row.same_as is None)

    def to_json(self) -> dict[str, Any]:
        """The report, strictly JSON, with its keys in the fixed order."""
        if self.folder is None:
            (file,) = self.files
            source, archive = file.to_json()["source"], file.to_json()["archive"]
        else:
            source = {"name": self.folder.source, "kind": "folder", "bytes": self.original_bytes, "sha256": None}
            archive = {"name": self.folder.archive, "bytes": self.stored_bytes, "sha256": None, "manifest": None}
        data = {
            "schema": SCHEMA,
            "verified": self.verified,
            "tool": {"name": "bale", "version": self.tool, "format_version": self.format_version},
            "source": source,
            "archive": archive,
            "stats": stats_json(self.stats),
            "totals": self.totals,
            "tensors": [row.to_json() for row in self.rows],
            "notes": [note.text for note in self.all_notes],
            "note_kinds": [note.kind for note in self.all_notes],
        }
        if self.folder is not None:
            data["files"] = [file.to_json() for file in self.files]
            data["side_bytes"] = self.side_bytes
            data["copied"] = self.folder.copied.to_json()
        return data

    def text(self) -> str:
        """The JSON text, a line for each tensor; file names that are not UTF-8 stand in it as escapes."""
        data = self.to_json()
        rows = ",\n".join("  " + json.dumps(row, ensure_ascii=False, allow_nan=False) for row in data["tensors"])
        text = json.dumps({**data, "tensors": []}, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
        if rows:
            text = text.replace('\n "tensors": []', f'\n "tensors": [\n{rows}\n ]', 1)
        return text.encode("utf-8", "backslashreplace").decode()

    @cached_property
    def all_notes(self) -> tuple[Note, ...]:
        """Notes on the whole and on its files, and those on its tensors summed up by kind."""
        tensors = (Noted(row.name, row.held_bytes, row.error, row.notes) for row in self.rows if row.same_as is None)
        files = ((file.source, note) for file in self.files for note in file.notes)
        return (*self.notes, *notes_of_files(files, self.folder is not None), *summed_up(tensors))

    @cached_property
    def totals(self) -> dict[str, Any]:
        """The row of all tensors together."""
        lossy = lossy_sums(self.lossy_rows)
        rows = (row for file in self.weights for row in file.rows)
        elements = sum(row.spec.elements for row in rows if row.same_as is None)
        before = sum(file.source_bytes for file in self.weights)
        after = sum(file.archive_bytes for file in self.weights)
        return {
            "original_bytes": self.original_bytes,
            "stored_bytes": self.stored_bytes,
            "overhead_bytes": self.stored_bytes - self.side_bytes - sum(row.stored_bytes for row in self.rows),
            "ratio": ratio(self.original_bytes, self.stored_bytes),
            "weights": {"original_bytes": before, "stored_bytes": after, "ratio": ratio(before, after)},
            "bits_per_weight": ratio(8 * after, elements),
            "relative_error": 0.0 if lossy is None else lossy["relative_error"],
            "snr_db": None if lossy is None else lossy["snr_db"],
            "lossy": lossy,
            "all_weights": None if lossy is None else pooled(self.rows),
            "output_error": output_error(self.lossy_rows),
            "coverage": coverage(self.rows),
        }


def stats_json(stats: tuple[str, str] | None) -> dict[str, str] | None:
    """The statistics that were used, as reports and plans record them."""
    return None if stats is None else {"name": stats[0], "sha256": stats[1]}
