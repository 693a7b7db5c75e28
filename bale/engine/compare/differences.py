"""The results of a comparison."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bale.metrics import ErrorSums
from bale.notes import Note, many
from bale.report.figures import finite_or_none
from bale.spec import TensorSpec


@dataclass(frozen=True)
class Difference:
    """The difference of a tensor between A and B.

    `status` is ``equal`` (bit for bit), ``differs``, ``only in A``, ``only in B`` or ``other shape``; the errors take A
    for the original, and are None where they cannot be measured. Places where both have the same infinity, or both NaN,
    are equal and do not count; where any other values that are not finite differ, errors are infinite.

    Attributes
    ----------
    worst_row_error : float or None
        The largest relative error of a row, an index of the dimension that is outermost in memory; infinite where a row
        of zeros is anything else in B, None below two dimensions.
    non_finite_differences : int
        Values that are finite in one only, or infinite or NaN in different ways.
    finite_in_one : int
        Those of them that are finite in one.
    name_in_b : str or None
        The name in B, where it is another one.
    common_rows : int or None
        For another number of rows, those that both have: the errors are theirs.
    sums : ErrorSums or None
        What the errors were made of; None where they are not finite.
    """

    name: str
    status: str
    specs: tuple[TensorSpec | None, TensorSpec | None]
    relative_error: float | None = None
    snr_db: float | None = None
    max_abs_error: float | None = None
    cosine: float | None = None
    worst_row_error: float | None = None
    non_finite_differences: int = 0
    finite_in_one: int = 0
    name_in_b: str | None = None
    common_rows: int | None = None
    sums: ErrorSums | None = field(default=None, repr=False, compare=False)

    def exceeds(self, limit: float) -> bool:
        """Whether the tensor is further away than `limit` (relative error); 0 asks for equal bits."""
        return self.status != "equal" and (limit == 0 or not self.error <= limit)

    def exceeds_in_row(self, limit: float) -> bool:
        """Whether a row is further away than `limit`; a tensor of less than two dimensions counts as one row."""
        return self.status != "equal" and (limit == 0 or not self.row_error <= limit)

    @property
    def error(self) -> float:
        """Relative error, for ranking: infinite where it cannot be measured, which is beyond every limit."""
        relative = self.relative_error if self.status in ("equal", "differs") else None
        return math.inf if relative is None or math.isnan(relative) else relative

    @property
    def row_error(self) -> float:
        """The worst row's error, for ranking."""
        worst = self.worst_row_error
        return self.error if worst is None or math.isinf(self.error) else worst

    @property
    def nbytes(self) -> int:
        """Bytes of the plain tensor, in A if it is there."""
        return next(spec.nbytes for spec in self.specs if spec is not None)

    @property
    def remark(self) -> str:
        """Remarks on another name or shape, and on values that are not finite."""
        one, other = self.finite_in_one, self.non_finite_differences - self.finite_in_one
        said = [] if self.name_in_b is None else [f"B calls it {self.name_in_b}"]
        a, b = self.specs
        if a is not None and b is not None and a.shape != b.shape:
            rows = (
                "" if self.common_rows is None else f", errors are those of the {many(self.common_rows, 'common row')}"
            )
            said.append(f"{list(a.shape)} in A, {list(b.shape)} in B{rows}")
        said += [f"{many(one, 'value')} {'is' if one == 1 else 'are'} finite in one only"] if one else []
        if other:
            said.append(f"{many(other, 'value')} {'is' if other == 1 else 'are'} infinite or NaN in different ways")
        return "; ".join(said)

    def to_json(self) -> dict[str, Any]:
        """The row of `compare --json`."""
        a, b = self.specs
        return {
            "name": self.name,
            "name_in_b": self.name_in_b,
            "status": self.status,
            "dtypes": [a and a.dtype, b and b.dtype],
            "shapes": [a and list(a.shape), b and list(b.shape)],
            "relative_error": finite_or_none(self.relative_error),
            "snr_db": finite_or_none(self.snr_db),
            "max_abs_error": finite_or_none(self.max_abs_error),
            "cosine": finite_or_none(self.cosine),
            "worst_row_error": finite_or_none(self.worst_row_error),
            "non_finite_differences": self.non_finite_differences,
            "common_rows": self.common_rows,
        }


class Differences(list[Difference]):
    """The differences of two sets of tensors, and notes on them: files of a folder that hold the same tensors."""

    def __init__(self, rows: Iterable[Difference], notes: Sequence[Note]) -> None:
        super().__init__(rows)
        self.notes = tuple(dict.fromkeys(notes))

    @property
    def sums(self) -> ErrorSums | None:
        """The error sums of all tensors that differ, together; None where there are any that cannot be measured."""
        apart = [row for row in self if row.status != "equal"]
        found = [row.sums for row in apart if row.sums is not None and math.isfinite(row.error)]
        return ErrorSums.total(found) if len(found) == len(apart) else None

    def to_json(self) -> dict[str, Any]:
        """The document of `compare --json`, but for what the command knows."""
        worst = max((row for row in self if row.status != "equal"), key=lambda row: row.error, default=None)
        sums = self.sums
        return {
            "tensors": [row.to_json() for row in self],
            "notes": [note.text for note in self.notes],
            "note_kinds": [note.kind for note in self.notes],
            "summary": {
                "tensors": len(self),
                **{key.replace(" ", "_").lower(): sum(row.status == key for row in self) for key in _COUNTED},
                "renamed": sum(row.name_in_b is not None for row in self),
                "worst_tensor": None if worst is None else worst.name,
                "relative_error": None if sums is None else finite_or_none(sums.relative_error),
                "snr_db": None if sums is None else finite_or_none(sums.snr_db),
            },
        }


_COUNTED = ("equal", "only in A", "only in B")
