"""Sums over the rows of tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from bale.metrics import ErrorSums
from bale.report.figures import finite_or_none
from bale.report.tensors import TensorRow


def lossy_sums(rows: Sequence[TensorRow]) -> dict[str, Any] | None:
    """The row of all tensors that are lossy; None where there are none."""
    if not rows:
        return None
    worst = max(rows, key=lambda row: row.error)
    return {
        "tensors": len(rows),
        "original_bytes": sum(row.held_bytes for row in rows),
        "stored_bytes": sum(row.stored_bytes for row in rows),
        **pooled(rows),
        "worst_tensor": _named(worst, rows),
        "worst_relative_error": finite_or_none(worst.error),
        "worst_row_error": _worst_row(rows),
    }


def output_error(lossy: Sequence[TensorRow]) -> dict[str, Any] | None:
    """Mean and worst of the lossy tensors that have one."""
    found = [(error, row) for row in lossy if (error := finite_or_none(row.output_error)) is not None]
    if not found:
        return None
    worst, row = max(found, key=lambda pair: pair[0])
    mean = sum(error for error, _ in found) / len(found)
    return {"tensors": len(found), "mean": mean, "worst": worst, "worst_tensor": _named(row, lossy)}


def pooled(rows: Iterable[TensorRow]) -> dict[str, float | None]:
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


def _named(row: TensorRow, rows: Sequence[TensorRow]) -> str:
    """The name of a tensor, qualified by its file where another one has it too."""
    is_alone = all(each.file == row.file for each in rows if each.name == row.name)
    return row.name if is_alone else f"{row.file}:{row.name}"


def _worst_row(rows: Iterable[TensorRow]) -> float | None:
    """The largest error of any row; None as soon as one tensor with rows has none, lest a limit pass it."""
    found = [finite_or_none(row.worst_row_error) for row in rows if len(row.spec.shape) > 1]
    known = [error for error in found if error is not None]
    return max(known, default=None) if len(known) == len(found) else None
