"""Results of the verbs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bale.engine.estimate.explain import Explained
from bale.engine.estimate.memory import most_memory
from bale.engine.estimate.predict import Predicted, Prediction
from bale.engine.estimate.warnings import warnings
from bale.engine.resolved import Met
from bale.engine.verify import LossyTensor
from bale.io.names import own_name
from bale.metrics import ErrorSums
from bale.notes import Note, Noted, notes_of_files, summed_up
from bale.report.figures import finite_or_none, ratio
from bale.report.files import OPAQUE, Copied, FolderRow
from bale.report.model import stats_json


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
    """A plan with predicted sizes, one entry for each file that is coded; `folder` is what a folder is beside them."""

    source: Path
    files: tuple[Prediction, ...]
    notes: tuple[Note, ...]
    stats: tuple[str, str] | None = None
    folder: FolderRow | None = None
    budgets: tuple[Met, ...] = ()
    explained: tuple[Explained, ...] = ()
    threads: int = 1

    @property
    def warnings(self) -> tuple[Note, ...]:
        """Choices that a user should look at."""
        return warnings([row for file in self.files for row in file.tensors])

    @property
    def temporary_bytes(self) -> int:
        """Bytes of the largest temporary file beside the target: an archive before it has its name."""
        return max((file.predicted_bytes for file in self.files), default=0)

    @property
    def memory_bytes(self) -> int:
        """Bytes in memory at most, about."""
        return most_memory(
            [row.decision.pipeline for row in self._rows], [row.spec for row in self._rows], self.threads
        )

    @property
    def original_bytes(self) -> int:
        """Bytes of the file, or of all files of the folder."""
        return sum(file.original_bytes for file in self.files) + self._copied.bytes

    @property
    def predicted_bytes(self) -> int:
        """Expected bytes of the archive, or of all files of the compressed folder."""
        return sum(file.predicted_bytes for file in self.files) + self._copied.bytes + self._record_bytes

    @property
    def _copied(self) -> Copied:
        return Copied() if self.folder is None else self.folder.copied

    @property
    def _record_bytes(self) -> int:
        return 0 if self.folder is None else self.folder.record_bytes

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
            entry["original_bytes"] += row.held_bytes
            entry["predicted_bytes"] += row.predicted_bytes
        weights = [file for file in self.files if file.kind != OPAQUE] or self.files
        before, after = (sum(getattr(file, f"{key}_bytes") for file in weights) for key in ("original", "predicted"))
        rows = [row for file in weights for row in file.tensors if row.same_as is None]
        lossy = [row for row in self._rows if not row.decision.pipeline.lossless]
        document = {
            "source": {
                "name": own_name(self.source),
                "kind": self.files[0].kind if self.folder is None else "folder",
                "bytes": self.original_bytes,
            },
            "stats": stats_json(self.stats),
            "totals": {
                "original_bytes": self.original_bytes,
                "predicted_bytes": self.predicted_bytes,
                "overhead_bytes": sum(file.overhead_bytes for file in self.files) + self._record_bytes,
                "ratio": self.original_bytes / self.predicted_bytes,
                "weights": {"original_bytes": before, "predicted_bytes": after, "ratio": ratio(before, after)},
                "bits_per_weight": ratio(8 * after, sum(row.spec.elements for row in rows)),
                "relative_error": finite_or_none(self.errors.relative_error),
                "snr_db": finite_or_none(self.errors.snr_db),
                "lossy": {
                    "tensors": len(lossy),
                    "original_bytes": sum(row.held_bytes for row in lossy),
                    "predicted_bytes": sum(row.predicted_bytes for row in lossy),
                },
                "seconds": round(sum(row.estimate.seconds for row in self._rows), 6),
                "memory_bytes": self.memory_bytes,
                "temporary_bytes": self.temporary_bytes,
                "coverage": coverage,
            },
            "tensors": [row.to_json() for file in self.files for row in file.tensors],
            "budgets": [
                {"budget": met.budget.origin, "weight": met.budget.weight, "gain_db": met.gain, "loss_db": met.loss}
                for met in self.budgets
            ],
            "explained": [each.to_json() for each in self.explained],
            "warnings": [note.text for note in self.warnings],
            "warning_kinds": [note.kind for note in self.warnings],
            "notes": [note.text for note in self.all_notes],
            "note_kinds": [note.kind for note in self.all_notes],
        }
        return document if self.folder is None else {**document, "copied": self._copied.to_json()}

    @property
    def all_notes(self) -> tuple[Note, ...]:
        """Notes on the whole and on its files, and those on its tensors summed up by kind."""
        tensors = (Noted(row.name, row.held_bytes, None, row.decision.notes) for row in self._rows)
        files = ((file.name, note) for file in self.files for note in file.notes)
        return (*self.notes, *notes_of_files(files, self.folder is not None), *summed_up(tensors))
