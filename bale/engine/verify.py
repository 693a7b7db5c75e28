"""Checking an archive: every stored byte, every decoded tensor, and the source if it is at hand."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bale.compressors.chunks import flat_spec
from bale.compressors.floats import numbers
from bale.compressors.measured import Measured
from bale.engine.coding.harm import recorded
from bale.engine.reading.decode import Decoder
from bale.engine.reading.source import SourceFile
from bale.engine.restore import opened, restored
from bale.engine.run import Run
from bale.errors import ArchiveError, CheckFailed, SourceError
from bale.io.archive.manifest import DAMAGED, StoredUnit
from bale.io.sources.open import open_checkpoint
from bale.io.storage.files import reading
from bale.metrics import ErrorSums, RowSums, row_width
from bale.report.figures import finite_or_none
from bale.spec import View

_TOLERANCE = 1e-6  # of sums measured on another machine, whose BLAS may add in another order
_WITH_ROWS = 1, 1  # the first format that records errors of rows


@dataclass(frozen=True)
class LossyTensor:
    """Errors of a lossy tensor; the worst row is None where there are no rows, or where a row of zeros is lost."""

    name: str
    error: float
    snr_db: float | None
    worst_row_error: float | None
    nbytes: int

    def to_json(self) -> dict[str, Any]:
        """The row of `verify --json`."""
        return {
            "name": self.name,
            "relative_error": finite_or_none(self.error),
            "worst_row_error": finite_or_none(self.worst_row_error),
            "snr_db": finite_or_none(self.snr_db),
        }


@dataclass(frozen=True)
class Verified:
    """A sound archive.

    `lossy` has a row for each tensor name that is lossy, in file order, with the errors that were measured if there was
    something to measure against, and otherwise with those that the archive records.
    """

    path: Path
    size: int
    tensors: int
    lossy: tuple[LossyTensor, ...]

    @property
    def exact(self) -> bool:
        """Whether every bit comes back."""
        return not self.lossy


def verify_file(path: Path, run: Run, against: Path | None = None, base: Path | None = None) -> Verified:
    """Read and decode all of an archive.

    Parameters
    ----------
    against : Path or None
        A source whose values are compared too: equal where nothing was lost, with the errors of the manifest elsewhere.
    base : Path or None
        Where the base of its differences lies, if not beside it.

    Raises
    ------
    ArchiveError
        For any damage.
    CheckFailed
        When the archive is sound but is not one of `against`.
    """
    with opened(path, run, base) as (archive, decoder):
        manifest = archive.manifest
        lossy = [index for index, stored in enumerate(manifest.units) if stored.errors is not None]
        if against is not None:
            measured = _verify_against(decoder, against)
            found = {index: (errors, rows.worst_error) for index, (errors, rows) in measured.items()}
        else:
            found = {index: _recorded(manifest.units[index]) for index in lossy}
            digest = hashlib.sha256()
            for _, data in restored(decoder):
                digest.update(data.data)
            if manifest.exact and digest.hexdigest() != manifest.source_sha256:
                raise ArchiveError(f"{path}: what was decoded is not the source that went in", DAMAGED)
        tensors = sum(len(stored.unit.views) for stored in manifest.units)
        named = ((view, found[index]) for index in lossy for view in manifest.units[index].unit.views)
        rows = tuple(_row(view, errors, worst) for view, (errors, worst) in named)
        return Verified(path, archive.size, tensors, rows)


def qualify_names(files: Sequence[tuple[str, Sequence[LossyTensor]]]) -> tuple[LossyTensor, ...]:
    """The rows of several archives; a name that comes twice gets that of its file put before it."""
    taken = Counter(row.name for _, rows in files for row in rows)
    return tuple(
        row if taken[row.name] == 1 else replace(row, name=f"{file.removesuffix('.bale')}:{row.name}")
        for file, rows in files
        for row in rows
    )


def _row(view: View, errors: ErrorSums, worst: float | None) -> LossyTensor:
    relative = errors.relative_error
    error = math.inf if relative is None else relative
    return LossyTensor(view.name, error, errors.snr_db, worst, view.spec.nbytes)


def _recorded(stored: StoredUnit) -> tuple[ErrorSums, float | None]:
    return ErrorSums(*(stored.errors or ())), stored.worst_row


def _verify_against(decoder: Decoder, against: Path) -> dict[int, tuple[ErrorSums, RowSums]]:
    """Raise `CheckFailed` where a source is not as an archive records; returns the errors of its lossy units."""
    archive, manifest = decoder.archive, decoder.archive.manifest
    checkpoint = open_checkpoint(against)
    if checkpoint.size != manifest.source_bytes:
        raise CheckFailed(
            f"{against} has {checkpoint.size} bytes, the source of {archive.path} had {manifest.source_bytes}"
        )
    units = tuple(stored.unit for stored in manifest.units)
    with reading(against, SourceError) as opened:
        source = SourceFile.of(replace(checkpoint, units=units), opened)
        if source.skeleton() != archive.skeleton():
            what = "differs between its tensors" if checkpoint.units == units else "does not hold the same tensors"
            raise CheckFailed(f"{against} is not the source of {archive.path}: it {what}")
        found: dict[int, tuple[ErrorSums, RowSums]] = {}
        for block in decoder.blocks(range(len(manifest.units))):
            stored = manifest.units[block.index]
            spec = stored.unit.spec
            bits = spec.info.bits
            count = block.data.size * 8 // bits
            values = source.read(stored.unit, block.start * 8 // bits, count, np.empty(block.data.size, np.uint8))
            decoder.run.progress(stored.unit.label, block.data.size)
            if stored.errors is None:
                if not np.array_equal(values.view(np.uint8), block.data):
                    raise CheckFailed(f"{stored.unit.label} is not what {against} holds")
                continue
            piece = flat_spec(spec, count)
            x, y = numbers(values, piece), numbers(block.data.view(spec.storage), piece)
            if x is None or y is None:
                raise CheckFailed(f"{stored.unit.label} is {spec.dtype}, which is never lossy")
            width = row_width(stored.unit.spec.shape)
            one = Measured.between(x, y, width, block.start * 8 // bits)
            before = found.get(block.index, (ErrorSums(), RowSums(width)))
            found[block.index] = before[0] + one.errors, before[1] + one.rows
    for index, (measured, rows) in found.items():
        stored = manifest.units[index]
        said, worst = _recorded(stored)
        if not (_is_close(measured.error2, said.error2) and _is_close(measured.largest, said.largest)):
            raise CheckFailed(
                f"{stored.unit.label} has a relative error of {measured.relative_error} against {against}, "
                f"the archive says {said.relative_error}"
            )
        if manifest.format >= _WITH_ROWS and not _is_close(recorded(rows.worst_error), worst):
            raise CheckFailed(
                f"{stored.unit.label} has a row with an error of {rows.worst_error} against {against}, "
                f"the archive says {worst}"
            )
    return found


def _is_close(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return bool(np.isclose(one, other, rtol=_TOLERANCE, atol=0))
