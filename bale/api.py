"""The functions behind the verbs: paths in, files and reports out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

from bale.engine.base import Base, open_base
from bale.engine.compare import Difference, compare_tensors
from bale.engine.compress import compress_file
from bale.engine.extract import extract_tensors
from bale.engine.floor import add_floors, archive_floors, checkpoint_floors
from bale.engine.folder import compress_folder, restore_folder, verify_folder
from bale.engine.listing import SourceFolder, archives_of, is_stored_folder, open_folder
from bale.engine.pooling import settle_pools
from bale.engine.predict import Prediction, predict_file
from bale.engine.restore import Restored, restore_file, stream_file
from bale.engine.rows import file_row
from bale.engine.run import Progress, Run
from bale.engine.statistics import Statistics, open_statistics
from bale.engine.tensors import Archives, open_tensors
from bale.engine.verify import verify_file
from bale.errors import OutputError, SourceError, UsageError
from bale.io.archive import is_archive
from bale.io.checkpoint import Checkpoint
from bale.io.commit import check_target, write_file
from bale.io.files import check_readable
from bale.io.manifest import FORMAT
from bale.io.sources import open_checkpoint
from bale.plan import FilePlan, Plan, make_plan
from bale.recipe import Recipe, make_recipe
from bale.report import FileRow, Report, stats_json

PathLike = str | Path


@dataclass(frozen=True)
class Decompressed:
    """What `decompress` wrote: the target, the files in it, and whether every bit of them is the source's."""

    path: Path
    files: tuple[Path, ...]
    size: int
    sha256: str | None
    exact: bool


@dataclass(frozen=True)
class Checked:
    """What `verify` found sound."""

    path: Path
    size: int
    files: int
    tensors: int
    exact: bool


@dataclass(frozen=True)
class Planned:
    """A plan with predicted sizes, one entry for each weights file."""

    source: Path
    files: tuple[Prediction, ...]
    notes: tuple[str, ...]
    stats: tuple[str, str] | None = None

    @property
    def original_bytes(self) -> int:
        """Bytes of all weight files."""
        return sum(file.original_bytes for file in self.files)

    @property
    def predicted_bytes(self) -> int:
        """Expected bytes of all archives."""
        return sum(file.predicted_bytes for file in self.files)

    def to_json(self) -> dict[str, Any]:
        """The document of `plan --json`."""
        coverage: dict[str, dict[str, int]] = {}
        for row in (row for file in self.files for row in file.tensors if row.same_as is None):
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
                "coverage": coverage,
            },
            "tensors": [row.to_json() for file in self.files for row in file.tensors],
            "notes": [*self.notes, *(note for file in self.files for note in file.notes)],
        }


def compress(
    source: PathLike,
    out: PathLike | None = None,
    *,
    pipeline: str | None = None,
    rules: Sequence[str] = (),
    recipe: PathLike | None = None,
    base: PathLike | None = None,
    stats: PathLike | None = None,
    allow_unmatched: bool = False,
    report: PathLike | None = None,
    threads: int | None = None,
    force: bool = False,
    verify: bool = True,
    progress: Progress | None = None,
) -> Report:
    """Compress a checkpoint into an archive and write the report beside it.

    Parameters
    ----------
    source : path
        A weights file, or a folder of them.
    out : path or None
        The archive; a folder when the source is one. None: the source's name with ``.bale`` behind.
    pipeline : str or None
        What is done with floating-point tensors of at least two dimensions and 4,096 elements, like ``int4``.
    rules : sequence of str
        ``GLOB=PIPELINE`` each; the first that matches a tensor's whole name wins.
    recipe : path or None
        A TOML file of rules, which come after `rules`.
    base : path or None
        A checkpoint, an archive (lossy ones included) or a folder: tensors that it has too are stored as differences to
        it, and it is needed to decompress.
    stats : path or None
        Statistics of the inputs of tensors, as ``bale stats`` collects them, which tell encoders with loss what errors
        matter. They are not needed to decompress.
    allow_unmatched : bool
        Whether a rule may match nothing.
    report : path or None
        Where the JSON report goes; None: the archive's name with ``.report.json`` behind.
    threads : int or None
        Workers; None for one a core. The archive's bytes do not depend on it.
    force : bool
        Whether existing files are overwritten.
    verify : bool
        Whether everything is read back, decoded and compared before the archive takes its name.
    progress : callable or None
        Called with a tensor's name and a number of source bytes whenever some have been done.

    Returns
    -------
    Report
        What stands in the JSON report.

    Raises
    ------
    UsageError, SourceError, OutputError
        See `bale.errors`; nothing is left behind.
    """
    source = Path(source)
    out = Path(out) if out is not None else default_archive(source)
    report = Path(report) if report is not None else out.with_name(out.name + ".report.json")
    choices = _choices(pipeline, rules, recipe, base, allow_unmatched)
    _check_apart(base, source)
    if out.resolve() == report.resolve():
        raise UsageError(f"the report cannot be written to {report}: that is the archive", "name another file")
    opened = open_folder(source) if os.path.isdir(source) else open_checkpoint(source)
    inputs = (source, *([] if stats is None else [Path(stats)]))
    if isinstance(opened, Checkpoint) or not os.path.isdir(out):
        check_target(out, force, inputs)
    check_target(report, force, inputs)
    _check_base(base, (out, report))
    with Run(threads, progress=progress) as run, _open_base(base, run) as known, _open_statistics(stats) as told:
        checkpoints = opened.checkpoints if isinstance(opened, SourceFolder) else {source.name: opened}
        plan = _plan(list(checkpoints.values()), choices, run, known, told)
        if isinstance(opened, SourceFolder):
            plans: dict[str, FilePlan] = dict(zip(checkpoints, plan.files, strict=True))
            rows, side_bytes = compress_folder(
                opened, plans, out, run, base=known, statistics=told, verify=verify, force=force
            )
            result = _report(verify, rows, plan, told, (source.resolve().name, out.resolve().name), side_bytes)
        else:
            done = compress_file(
                opened, plan.files[0], out, run, base=known, statistics=told, verify=verify, force=force
            )
            row = file_row(
                done.manifest, source.name, out.name, done.size, done.sha256, done.seconds, done.output_errors
            )
            result = _report(verify, (row,), plan, told)
    write_file(report, result.text().encode(), force)
    return result


def decompress(
    archive: PathLike,
    out: PathLike | None = None,
    *,
    tensors: Sequence[str] = (),
    base: PathLike | None = None,
    layers: int | None = None,
    threads: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Decompressed:
    """Give a checkpoint back; it appears only after every digest has been checked.

    Parameters
    ----------
    archive : path
        An archive, or a folder of them.
    out : path or None
        The target; None: the archive's name without ``.bale``.
    tensors : sequence of str
        Name patterns (`fnmatch`, or ``re:``): only these are decoded, into a safetensors file, which `out` must name.
    base : path or None
        The base that the archive holds differences to; None: the one of its name beside the archive.
    layers : int or None
        1: of tensors with a second layer (``int4/exact``) only the first, lossy one.

    Raises
    ------
    ArchiveError, OutputError, UsageError
        See `bale.errors`; nothing is left behind.
    """
    archive = Path(archive)
    if tensors and out is None:
        raise UsageError("--tensor writes a file of its own", "name it with -o, like -o out.safetensors")
    target = Path(out) if out is not None else default_checkpoint(archive)
    first, known = _is_first(layers), _readable(base)
    _check_base(base, (target,))
    with Run(threads, progress=progress) as run:
        if tensors:
            check_target(target, force, (archive,))
            with _open_archives(archive, threads, known, first) as opened:
                size, exact = extract_tensors(opened, tensors, target, force=force)
            return Decompressed(target, (target,), size, None, exact)
        if os.path.isdir(archive):
            files = restore_folder(archive, target, run, base=known, first=first, force=force)
            size = sum(path.stat().st_size for path in files)
            with _open_archives(archive, threads, first=first) as opened:
                exact = opened.exact
            return Decompressed(target, tuple(files), size, None, exact)
        return _decompressed(restore_file(archive, target, run, base=known, first=first, force=force))


def decompress_to(
    archive: PathLike,
    stream: BinaryIO,
    *,
    base: PathLike | None = None,
    layers: int | None = None,
    threads: int | None = None,
) -> Decompressed:
    """Write the checkpoint of an archive to a binary stream; the parameters are those of `decompress`."""
    path = Path(archive)
    if os.path.isdir(path):
        raise UsageError(f"{path} is a folder, and cannot be written to a stream", "name a folder with -o")
    known = _readable(base)
    with Run(threads) as run:
        return _decompressed(stream_file(path, stream, run, base=known, first=_is_first(layers)))


def plan(
    source: PathLike,
    *,
    pipeline: str | None = None,
    rules: Sequence[str] = (),
    recipe: PathLike | None = None,
    base: PathLike | None = None,
    stats: PathLike | None = None,
    allow_unmatched: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Planned:
    """Tell what `compress` would do with the same choices, tensor by tensor, with sizes predicted from a sample.

    The parameters are those of `compress`. Nothing is written.
    """
    source = Path(source)
    choices = _choices(pipeline, rules, recipe, base, allow_unmatched)
    _check_apart(base, source)
    checkpoints = open_folder(source).checkpoints if os.path.isdir(source) else {source.name: open_checkpoint(source)}
    with Run(threads, progress=progress) as run, _open_base(base, run) as known, _open_statistics(stats) as told:
        made = _plan(list(checkpoints.values()), choices, run, known, told)
        files = tuple(
            predict_file(checkpoint, file, name, run, known, told)
            for (name, checkpoint), file in zip(checkpoints.items(), made.files, strict=True)
        )
    return Planned(source, files, made.notes, _named(told))


def verify(
    archive: PathLike,
    against: PathLike | None = None,
    *,
    base: PathLike | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Checked:
    """Check every stored byte and every decoded tensor of an archive, or of a folder of them.

    Parameters
    ----------
    against : path or None
        The source: its values must be those of the archive, with the recorded errors where loss was chosen.
    base : path or None
        The base that the archive holds differences to; None: the one of its name beside the archive.

    Raises
    ------
    ArchiveError
        For any damage.
    CheckFailed
        Where the archive is sound but not one of `against`.
    """
    path = Path(archive)
    other = Path(against) if against is not None else None
    known = _readable(base)
    with Run(threads, progress=progress) as run:
        if os.path.isdir(path):
            if other is not None and not os.path.isdir(other):
                raise SourceError(f"{other} is not a folder, {path} is", "give the folder that was compressed")
            files = verify_folder(path, run, other, known)
            with _open_archives(path, threads) as opened:
                return Checked(path, opened.report.stored_bytes, len(files), len(opened), opened.exact)
        done = verify_file(path, run, other, known)
        return Checked(path, done.size, 1, done.tensors, done.exact)


def compare(a: PathLike, b: PathLike, *, threads: int | None = None) -> list[Difference]:
    """Measure how each tensor of B differs from that of A; either may be a checkpoint, an archive, or a folder."""
    with open_tensors(Path(a), threads) as first, open_tensors(Path(b), threads) as second:
        return compare_tensors(first, second)


def inspect(path: PathLike, *, floor: bool = False, progress: Progress | None = None) -> dict[str, Any]:
    """Tell what is inside a checkpoint, an archive, or a folder of either, from headers and manifests alone.

    Parameters
    ----------
    floor : bool
        Whether all tensors are read, or decoded, for their order-0 floor: what each field of their elements takes,
        coded by itself, tables not counted. Adds ``floor_bytes`` and ``floor_bits_per_weight`` to every tensor and to
        ``totals``, and for checkpoints tells in ``same_as`` which tensors have equal values.
    progress : callable or None
        Called with a tensor's name and a number of bytes whenever some have been counted.

    Returns
    -------
    dict
        For archives the report as far as the archives know it (no times, no digests of the archives); for checkpoints
        ``source``, ``tensors`` (name, file, shape, dtype, original_bytes, same_as) and ``notes``.
    """
    path = Path(path)
    if is_archive(path) or is_stored_folder(path):
        with _open_archives(path, 1) as opened:
            report: Report = opened.report
            archives = opened.paths
        document = report.to_json()
        if floor:
            with Run(progress=progress) as run:
                add_floors(document, [each for archive in archives for each in archive_floors(archive, run)])
        return document
    files = open_folder(path).checkpoints if os.path.isdir(path) else {path.name: open_checkpoint(path)}
    document = {
        "source": {
            "name": path.resolve().name,
            "kind": "folder" if path.is_dir() else files[path.name].kind,
            "bytes": sum(checkpoint.size for checkpoint in files.values()),
        },
        "tensors": [row for name, checkpoint in files.items() for row in _listed(name, checkpoint)],
        "notes": [note for checkpoint in files.values() for note in checkpoint.notes],
    }
    if floor:
        plans = make_plan([checkpoint.units for checkpoint in files.values()], make_recipe(None, (), None, False)).files
        with Run(progress=progress) as run:
            found = (checkpoint_floors(*pair, run) for pair in zip(files.values(), plans, strict=True))
            add_floors(document, [each for floors in found for each in floors])
    return document


def open(  # noqa: A001  (bale.open reads well)
    archive: PathLike, *, base: PathLike | None = None, layers: int | None = None, threads: int | None = None
) -> Archives:
    """Open an archive as a mapping of names to numpy arrays, each decoded when asked for.

    `base` and `layers` are as for `decompress`. Its method `parts` gives the factors of a tensor without multiplying
    them.

    Examples
    --------
    >>> with bale.open("model.safetensors.bale") as tensors:  # doctest: +SKIP
    ...     weight = tensors["encoder.layer.0.output.dense.weight"]
    ...     u, vh = tensors.parts("encoder.layer.0.output.dense.weight").values()  # compressed with svd
    """
    return _open_archives(Path(archive), threads, _readable(base), _is_first(layers))


def default_archive(source: Path) -> Path:
    """Where `compress` puts the archive of a source."""
    named = source if source.name not in ("", "..") else source.resolve()  # "." and ".." have no name of their own
    if not named.name:
        raise UsageError(f"{source} has no name of its own to give to the archive", "name it with -o")
    return named.with_name(named.name + ".bale")


def default_checkpoint(archive: Path) -> Path:
    """Where `decompress` puts the checkpoint of an archive."""
    if archive.suffix != ".bale" or not archive.stem:
        with _open_archives(archive, 1):  # what is no archive is worse than what has no name
            pass
        raise UsageError(f"{archive} does not end in .bale, so the target has no name", "name it with -o")
    return archive.with_suffix("")


def _open_archives(path: Path, threads: int | None, base: Path | None = None, first: bool = False) -> Archives:
    if not os.path.isdir(path):
        return Archives([path], threads, base=base, first=first)
    return Archives(archives_of(path), threads, path, base, first)


def _readable(base: PathLike | None) -> Path | None:
    """The base that was named for reading an archive; it must be there even where no tensor needs it."""
    if base is None:
        return None
    check_readable(Path(base))
    return Path(base)


def _open_base(base: PathLike | None, run: Run) -> AbstractContextManager[Base | None]:
    return nullcontext() if base is None else open_base(Path(base), run)


def _open_statistics(stats: PathLike | None) -> AbstractContextManager[Statistics | None]:
    return nullcontext() if stats is None else open_statistics(Path(stats))


def _named(statistics: Statistics | None) -> tuple[str, str] | None:
    return None if statistics is None else (statistics.name, statistics.sha256)


def _plan(
    checkpoints: Sequence[Checkpoint], choices: Recipe, run: Run, base: Base | None, statistics: Statistics | None
) -> Plan:
    """The plan for all files of a source, ready to be carried out."""
    plan = make_plan([checkpoint.units for checkpoint in checkpoints], choices)
    if statistics is not None:
        plan = replace(plan, notes=(*plan.notes, *statistics.check(plan.files)))
    return settle_pools(checkpoints, plan, run, has_base=base is not None, statistics=statistics)


def _check_base(base: PathLike | None, targets: Sequence[Path]) -> None:
    """Raise `OutputError` when a target is the base."""
    for target in targets:
        if base is not None and os.path.exists(target) and os.path.exists(base) and os.path.samefile(target, base):
            raise OutputError(f"cannot write {target}: it is the base", "choose another name with -o")


def _check_apart(base: PathLike | None, source: Path) -> None:
    """Raise `UsageError` when the base is the source: the archive could not be read once that is gone."""
    if base is not None and os.path.exists(base) and os.path.exists(source) and os.path.samefile(base, source):
        raise UsageError(f"{source} is its own base", "name the checkpoint that it was made from")


def _choices(
    pipeline: str | None, rules: Sequence[str], recipe: PathLike | None, base: PathLike | None, allow_unmatched: bool
) -> Recipe:
    made = make_recipe(pipeline, tuple(rules), Path(recipe) if recipe is not None else None, allow_unmatched)
    for chosen in made.pipelines if base is None else ():
        if chosen.on_base:
            raise UsageError(f"the pipeline {chosen} needs --base", "say which checkpoint is the base")
    return made


def _is_first(layers: int | None) -> bool:
    if layers not in (None, 1):
        raise UsageError(f"--layers {layers}: a tensor has two layers at most", "--layers 1 gives the first one alone")
    return layers == 1


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


def _report(
    verified: bool,
    rows: tuple[FileRow, ...],
    plan: Plan,
    statistics: Statistics | None,
    folder: tuple[str, str] | None = None,
    side_bytes: int = 0,
) -> Report:
    notes = list(plan.notes)
    before, after = sum(row.source_bytes for row in rows), sum(row.archive_bytes for row in rows)
    if after > before:
        notes.append(
            f"the archive is larger than its source ({after} bytes, {before} before): there is nothing to gain"
        )
    return Report(
        tool=version("bale"),
        format_version=".".join(map(str, FORMAT)),
        verified=verified,
        files=rows,
        folder=folder,
        side_bytes=side_bytes,
        notes=tuple(notes),
        stats=_named(statistics),
    )


def _decompressed(done: Restored) -> Decompressed:
    return Decompressed(done.path, (done.path,), done.size, done.sha256, done.exact)
