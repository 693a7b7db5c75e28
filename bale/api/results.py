"""Results of the verbs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bale.engine.estimate.predict import Predicted, Prediction
from bale.engine.verify import LossyTensor
from bale.metrics import ErrorSums
from bale.notes import Note, Noted, summed_up
from bale.report.model import finite_or_none, stats_json


@dataclass(frozen=True)
class Decompressed:
    """Result of `decompress`: the target, the files in it, and whether every bit of them is the source's.

    `skipped` says that it was there already, and was left as it is.
    """

    path: Path
    files: tuple[Path, ...]
    size: int
    sha256: str | None
    exact: bool
    skipped: bool = False


@dataclass(frozen=True)
class Checked:
    """Result of `verify` for a sound archive or folder.

    `lossy` has a row for each tensor that is lossy, in file order, with its errors: those that were measured, if there
    was a source to measure against, and otherwise those that the archive records.
    `report` describes the report beside it: ``matches``, ``of another archive``, or None where there is none.
    """

    path: Path
    size: int
    files: int
    tensors: int
    exact: bool
    lossy: tuple[LossyTensor, ...] = ()
    report: str | None = None


@dataclass(frozen=True)
class Planned:
    """A plan with predicted sizes, one entry for each weights file."""

    source: Path
    files: tuple[Prediction, ...]
    notes: tuple[Note, ...]
    stats: tuple[str, str] | None = None

    @property
    def original_bytes(self) -> int:
        """Bytes of all weight files."""
        return sum(file.original_bytes for file in self.files)

    @property
    def predicted_bytes(self) -> int:
        """Expected bytes of all archives."""
        return sum(file.predicted_bytes for file in self.files)

    @property
    def errors(self) -> ErrorSums:
        """Expected error sums of all tensors that are lossy, together."""
        return ErrorSums.total(row.estimate.errors for row in self._rows if row.estimate.errors is not None)

    @property
    def _rows(self) -> list[Predicted]:
        """All tensors that are stored by themselves."""
        return [row for file in self.files for row in file.tensors if row.same_as is None]

    def to_json(self) -> dict[str, Any]:
        """The document of `plan --json`."""
        coverage: dict[str, dict[str, int]] = {}
        for row in self._rows:
            entry = coverage.setdefault(
                str(row.decision.pipeline), {"tensors": 0, "original_bytes": 0, "predicted_bytes": 0}
            )
            entry["tensors"] += 1
            entry["original_bytes"] += row.spec.nbytes
            entry["predicted_bytes"] += row.predicted_bytes
        return {
            "source": {
                "name": self.source.name,
                "kind": "folder" if self.source.is_dir() else self.files[0].kind,
                "bytes": self.original_bytes,
            },
            "stats": stats_json(self.stats),
            "totals": {
                "original_bytes": self.original_bytes,
                "predicted_bytes": self.predicted_bytes,
                "overhead_bytes": sum(file.overhead_bytes for file in self.files),
                "ratio": self.original_bytes / self.predicted_bytes,
                "relative_error": finite_or_none(self.errors.relative_error),
                "snr_db": finite_or_none(self.errors.snr_db),
                "seconds": round(sum(row.estimate.seconds for row in self._rows), 6),
                "coverage": coverage,
            },
            "tensors": [row.to_json() for file in self.files for row in file.tensors],
            "notes": [note.text for note in self.all_notes],
            "note_kinds": [note.kind for note in self.all_notes],
        }

    @property
    def all_notes(self) -> tuple[Note, ...]:
        """Notes on the whole and on its files, and those on its tensors summed up by kind."""
        tensors = (Noted(row.name, row.spec.nbytes, None, row.decision.notes) for row in self._rows)
        return (*self.notes, *(note for file in self.files for note in file.notes), *summed_up(tensors))
