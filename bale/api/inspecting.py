"""`inspect`: the contents of a checkpoint or an archive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bale.api.inputs import PathLike, checkpoints_of, open_archives, open_source
from bale.engine.entropy_floor import add_floors, archive_floors, checkpoint_floors
from bale.engine.reading.listing import SourceFolder
from bale.engine.reports import report_beside, stale
from bale.engine.run import Progress, Run
from bale.errors import UsageError
from bale.io.archive.archive import is_archive, open_archive
from bale.io.checkpoint import Checkpoint
from bale.io.folders.record import is_stored_folder
from bale.io.folders.selection import Selection
from bale.io.names import own_name
from bale.notes import notes_of_files
from bale.planning.decide import make_plan
from bale.planning.recipe import make_recipe
from bale.report.files import OPAQUE
from bale.report.model import Report


def inspect(
    path: PathLike,
    *,
    floor: bool = False,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Describe the contents of a checkpoint, an archive, or a folder of either, from headers and manifests alone.

    Parameters
    ----------
    floor : bool
        Whether all tensors are read, or decoded, for their order-0 floor: what each field of their elements takes,
        coded by itself, tables not counted. Adds ``floor_bytes`` and ``floor_bits_per_weight`` to every tensor and to
        ``totals``, and for checkpoints names in ``same_as`` a tensor with equal values.
    include, exclude : sequence of str
        Patterns on the paths of a source folder, as for `compress`.
    progress : callable or None
        Called with a tensor's name and a number of bytes whenever some have been counted.

    Returns
    -------
    dict
        For archives the report as far as the archives know it (no times, no digests of the archives), and ``bases``,
        the names of what they hold differences to, if they do; for checkpoints ``source``, ``totals``, ``tensors``
        (name, file, shape, dtype, original_bytes, same_as) and ``notes``, for folders also ``copied``.
    """
    path = Path(path)
    if is_archive(path) or is_stored_folder(path):
        if include or exclude:
            raise UsageError(f"{path} is compressed: --include and --exclude choose among the files of a source")
        with open_archives(path, 1) as opened:
            report: Report = opened.report
            archives = opened.paths
        document = report.to_json()
        if bases := _bases(archives):
            document["bases"] = bases
        if note := stale(report_beside(path, whole=False)):
            document["notes"].append(note.text)
            document["note_kinds"].append(note.kind)
        if floor:
            with Run(progress=progress) as run:
                run.expect(report.original_bytes - report.side_bytes)
                add_floors(document, [each for archive in archives for each in archive_floors(archive, run)])
        return document
    opened = open_source(path, Selection(tuple(include), tuple(exclude)))
    files = checkpoints_of(opened, path)
    document = _source_document(path, opened, files)
    if floor:
        plans = make_plan([checkpoint.units for checkpoint in files.values()], make_recipe(None, (), None, False)).files
        with Run(progress=progress) as run:
            run.expect(sum(checkpoint.size for checkpoint in files.values()))
            found = (checkpoint_floors(*pair, run) for pair in zip(files.values(), plans, strict=True))
            add_floors(document, [each for floors in found for each in floors])
    return document


def _bases(archives: Sequence[Path]) -> list[str]:
    """Names of the checkpoints that archives hold differences to."""
    names = []
    for path in archives:
        with open_archive(path) as archive:
            names += [] if archive.manifest.base is None else [archive.manifest.base]
    return list(dict.fromkeys(names))


def _source_document(path: Path, opened: SourceFolder | Checkpoint, files: Mapping[str, Checkpoint]) -> dict[str, Any]:
    weights = [each.size for each in files.values() if each.kind != OPAQUE] or [each.size for each in files.values()]
    kind, notes, more = "folder", opened.notes, {}
    if isinstance(opened, SourceFolder):
        of_files = ((name, note) for name, each in files.items() for note in each.notes)
        notes = (*notes, *notes_of_files(of_files, named=True))
        more = {"copied": opened.copied.to_json()}
    else:
        kind = opened.kind
    return {
        "source": {"name": own_name(path), "kind": kind, "bytes": opened.size},
        "totals": {"original_bytes": opened.size, "weights": {"original_bytes": sum(weights)}},
        "tensors": [row for name, checkpoint in files.items() for row in _listed(name, checkpoint)],
        "notes": [note.text for note in notes],
        "note_kinds": [note.kind for note in notes],
        **more,
    }


def _listed(file: str, checkpoint: Checkpoint) -> list[dict[str, Any]]:
    return [
        {
            "name": view.name,
            "file": file,
            "shape": list(view.spec.shape),
            "dtype": view.spec.dtype,
            "original_bytes": view.spec.nbytes,
            "same_as": unit.views[0].name if position else None,
        }
        for unit in checkpoint.units
        for position, view in enumerate(unit.views)
    ]
