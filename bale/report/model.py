"""The report of a compression, as JSON: its keys are described in docs/report.md and held by report.schema.json."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from bale.metrics import ErrorSums
from bale.notes import Note, Noted, notes_of_files, summed_up
from bale.spec import TensorSpec

SCHEMA = 2
OPAQUE = "opaque"  # the kind of a file that no reader follows


@dataclass(frozen=True)
class TensorRow:
    """One tensor name: its coding, its stored size and its errors.

    `sums` is None for what was not measured: all but floating-point tensors, and everything in a lossless archive.
    `first` has those of a lossy first layer behind which a second one is exact. `output_error` is the relative error
    weighted by importance, where that is known, `worst_row_error` the largest relative error of a row, `unit_bytes`
    the length of what the tensor is, or is a view of. `digest` is equal for tensors with the same decoded bytes.
    """

    name: str
    file: str
    spec: TensorSpec
    pipeline: str
    rule: str
    parts: dict[str, int]
    same_as: str | None
    exact: bool
    sums: ErrorSums | None
    seconds: float | None
    notes: tuple[Note, ...] = ()
    first: ErrorSums | None = None
    output_error: float | None = None
    worst_row_error: float | None = None
    digest: str = ""
    unit_bytes: int | None = None

    @property
    def held_bytes(self) -> int:
        """Bytes that the source has of it: fewer than its shape says where it is expanded."""
        return self.spec.nbytes if self.unit_bytes is None else min(self.spec.nbytes, self.unit_bytes)

    @property
    def stored_bytes(self) -> int:
        """Bytes of all parts."""
        return sum(self.parts.values())

    @property
    def error(self) -> float:
        """Relative error, for ranking: infinite where values were lost and there is nothing to be relative to."""
        relative = self._lost.relative_error
        return math.inf if relative is None else relative

    @property
    def _lost(self) -> ErrorSums:
        return ErrorSums() if self.exact or self.sums is None else self.sums

    def to_json(self) -> dict[str, Any]:
        """The row with its keys in the fixed order."""
        sums = self._lost
        row = {
            "name": self.name,
            "file": self.file,
            "shape": list(self.spec.shape),
            "dtype": self.spec.dtype,
            "pipeline": self.pipeline,
            "rule": self.rule,
            "original_bytes": self.spec.nbytes,
            "stored_bytes": self.stored_bytes,
            "parts": self.parts,
            "same_as": self.same_as,
            "bits_per_weight": ratio(8 * self.stored_bytes, self.spec.elements),
            "relative_error": finite_or_none(sums.relative_error),
            "snr_db": finite_or_none(sums.snr_db),
            "max_abs_error": finite_or_none(sums.largest),
            "cosine": 1.0 if self.exact else finite_or_none(sums.cosine),
            "worst_row_error": 0.0 if self.exact else finite_or_none(self.worst_row_error),
            "output_error": finite_or_none(self.output_error),
            "seconds": None if self.seconds is None else round(self.seconds, 6),
            "notes": [note.text for note in self.notes],
            "note_kinds": [note.kind for note in self.notes],
        }
        if self.first is not None:
            stored = 0 if self.same_as else sum(n for part, n in self.parts.items() if not part.startswith("rest."))
            row["first_layer"] = {
                "stored_bytes": stored,
                "relative_error": finite_or_none(self.first.relative_error),
                "snr_db": finite_or_none(self.first.snr_db),
                "max_abs_error": finite_or_none(self.first.largest),
            }
        return row


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
    """The files of a folder that are copied as they are: how many, their bytes, and the largest."""

    files: int = 0
    bytes: int = 0
    largest: str | None = None
    largest_bytes: int = 0

    @classmethod
    def of(cls, sizes: Mapping[str, int]) -> Copied:
        """The sums of files by name."""
        largest = max(sizes, key=lambda name: sizes[name], default=None)
        return cls(len(sizes), sum(sizes.values()), largest, 0 if largest is None else sizes[largest])

    def to_json(self) -> dict[str, Any]:
        """The object that stands under `copied`."""
        return {
            "files": self.files,
            "bytes": self.bytes,
            "largest": self.largest,
            "largest_bytes": self.largest_bytes,
        }


@dataclass(frozen=True)
class FolderRow:
    """A folder beside its archives: names of source and target, copies, and the bytes of its record."""

    source: str
    archive: str
    copied: Copied = field(default_factory=Copied)
    record_bytes: int = 0


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

    def _output_error(self) -> dict[str, Any] | None:
        """Mean and worst of the lossy tensors that have one."""
        found = [
            (error, row.name) for row in self.lossy_rows if (error := finite_or_none(row.output_error)) is not None
        ]
        if not found:
            return None
        worst, name = max(found, key=lambda pair: pair[0])
        mean = sum(error for error, _ in found) / len(found)
        return {"tensors": len(found), "mean": mean, "worst": worst, "worst_tensor": name}

    def _lossy(self) -> dict[str, Any] | None:
        """The row of all tensors that are lossy; None where every bit comes back."""
        rows = self.lossy_rows
        if not rows:
            return None
        worst = max(rows, key=lambda row: row.error)
        return {
            "tensors": len(rows),
            "original_bytes": sum(row.held_bytes for row in rows),
            "stored_bytes": sum(row.stored_bytes for row in rows),
            **_pooled(rows),
            "worst_tensor": worst.name,
            "worst_relative_error": finite_or_none(worst.error),
            "worst_row_error": _worst_row(rows),
        }

    @cached_property
    def totals(self) -> dict[str, Any]:
        """The row of all tensors together."""
        lossy = self._lossy()
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
            "all_weights": None if lossy is None else _pooled(self.rows),
            "output_error": self._output_error(),
            "coverage": coverage(self.rows),
        }


def _worst_row(rows: Iterable[TensorRow]) -> float | None:
    """The largest error of any row; None as soon as one tensor with rows has none, lest a limit pass it."""
    found = [finite_or_none(row.worst_row_error) for row in rows if len(row.spec.shape) > 1]
    known = [error for error in found if error is not None]
    return max(known, default=None) if len(known) == len(found) else None


def _pooled(rows: Iterable[TensorRow]) -> dict[str, float | None]:
    """The error of all measured tensors together, each stored one counted once."""
    sums = ErrorSums.total(row.sums for row in rows if row.sums is not None and row.same_as is None)
    return {"relative_error": finite_or_none(sums.relative_error), "snr_db": finite_or_none(sums.snr_db)}


def coverage(rows: Iterable[TensorRow]) -> dict[str, dict[str, int]]:
    """Tensors and bytes by pipeline, each stored tensor counted once, most bytes first."""
    table: dict[str, dict[str, int]] = {}
    for row in rows:
        if row.same_as is None:
            entry = table.setdefault(row.pipeline, {"tensors": 0, "original_bytes": 0, "stored_bytes": 0})
            entry["tensors"] += 1
            entry["original_bytes"] += row.held_bytes
            entry["stored_bytes"] += row.stored_bytes
    return dict(sorted(table.items(), key=lambda item: (-item[1]["original_bytes"], item[0])))


def stats_json(stats: tuple[str, str] | None) -> dict[str, str] | None:
    """The statistics that were used, as reports and plans record them."""
    return None if stats is None else {"name": stats[0], "sha256": stats[1]}


def finite_or_none(value: float | None) -> float | None:
    """A finite number, or None."""
    return value if value is not None and math.isfinite(value) else None


def ratio(numerator: float, denominator: float) -> float | None:
    """A quotient, or None where there is nothing to divide by."""
    return numerator / denominator if denominator else None
