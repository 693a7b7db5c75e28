"""Rows of a report from a manifest."""

from __future__ import annotations

from collections.abc import Sequence

from bale.io.archive.manifest import Manifest, StoredUnit
from bale.metrics import ErrorSums
from bale.report.files import FileRow
from bale.report.tensors import TensorRow


def tensor_rows(
    manifest: Manifest,
    file: str,
    seconds: Sequence[float] | None = None,
    output_errors: Sequence[float | None] | None = None,
) -> tuple[TensorRow, ...]:
    """One row for each tensor name, in file order."""
    rows = []
    for index, stored in enumerate(manifest.units):
        duplicate_of = None if stored.same_as is None else manifest.units[stored.same_as].unit.views[0].name
        for position, view in enumerate(stored.unit.views):
            same_as = stored.unit.views[0].name if position else duplicate_of
            rows.append(
                TensorRow(
                    name=view.name,
                    file=file,
                    spec=view.spec,
                    pipeline=stored.pipeline,
                    rule=stored.rule,
                    parts={} if same_as is not None else {part.name: part.size for part in stored.parts},
                    same_as=same_as,
                    exact=stored.errors is None,
                    sums=_sums(stored),
                    seconds=None if seconds is None else (0.0 if position else seconds[index]),
                    notes=stored.notes,
                    first=None if stored.first is None else ErrorSums(*stored.first.errors),
                    output_error=None if output_errors is None else output_errors[index],
                    worst_row_error=stored.worst_row,
                    digest=f"{stored.digest} {view.offset} {view.strides}",
                    unit_bytes=stored.unit.spec.nbytes,
                )
            )
    return tuple(rows)


def file_row(
    manifest: Manifest,
    source: str,
    archive: str,
    size: int,
    sha256: str | None,
    seconds: Sequence[float] | None = None,
    output_errors: Sequence[float | None] | None = None,
    digest: str | None = None,
) -> FileRow:
    """The report's account of one archive."""
    return FileRow(
        source=source,
        kind=manifest.kind,
        source_bytes=manifest.source_bytes,
        source_sha256=manifest.source_sha256,
        archive=archive,
        archive_bytes=size,
        archive_sha256=sha256,
        archive_manifest=digest,
        rows=tensor_rows(manifest, source, seconds, output_errors),
        notes=manifest.notes,
    )


def _sums(stored: StoredUnit) -> ErrorSums | None:
    if stored.errors is not None:
        return ErrorSums(*stored.errors)
    if stored.norm2 is not None:
        return ErrorSums(0.0, stored.norm2, stored.norm2, stored.norm2, 0.0)
    return None
