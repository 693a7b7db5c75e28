"""The row of a tensor."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from bale.metrics import ErrorSums
from bale.notes import Note
from bale.report.figures import finite_or_none, ratio
from bale.spec import TensorSpec


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
