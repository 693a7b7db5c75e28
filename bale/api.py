"""The functions behind the verbs: paths in, files and reports out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from bale.engine.compare import Difference, compare_tensors
from bale.engine.estimate.predict import Predicted, Prediction, predict_file
from bale.engine.estimate.resolve import resolve_plan
from bale.engine.extract import extract_tensors
from bale.engine.floor import add_floors, archive_floors, checkpoint_floors
from bale.engine.folder import compress_folder, restore_folder, verify_folder
from bale.engine.guards import bases_apart, guard_bases
from bale.engine.inputs import Inputs, Options
from bale.engine.reading.listing import SourceFolder, archives_of, check_whole, is_stored_folder, open_folder
from bale.engine.reading.reference import open_base
from bale.engine.reading.statistics import open_statistics
from bale.engine.reading.tensors import Archives, open_tensors
from bale.engine.reports import OTHER, STALE, ReportBeside, report_beside, same_archive
from bale.engine.restore import Restored, restore_file, stream_file
from bale.engine.run import Progress, Run
from bale.engine.targets import Targets, default_archive
from bale.engine.verify import LossyTensor, Verified, told_apart, verify_file
from bale.engine.writing.archive import Compressed, compress_file
from bale.errors import ArchiveError, SourceError, UsageError
from bale.io.archive import is_archive
from bale.io.checkpoint import Checkpoint
from bale.io.commit import Target, check_target, staged
from bale.io.files import check_readable
from bale.io.sources import open_checkpoint
from bale.metrics import ErrorSums
from bale.notes import Note, Noted, summed_up
from bale.plan import FilePlan, make_plan, saved_choices
from bale.recipe import Recipe, make_recipe
from bale.report import Report, number, stats_json
from bale.saved import plan_text

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
    """What `verify` found sound.

    `lossy` has a row for each tensor that is lossy, in file order, with its errors: those that were measured, if there
    was a source to measure against, and otherwise those that the archive records.
    `report` tells of the report beside it: ``matches``, ``of another archive``, or None where there is none.
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
                "relative_error": number(self.errors.relative_error),
                "snr_db": number(self.errors.snr_db),
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


def compress(
    source: PathLike,
    out: PathLike | None = None,
    *,
    into: PathLike | None = None,
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
        The archive; a folder when the source is one. None: beside the source, under its name with ``.bale`` behind;
        where the plan is lossy, ``model.lossy.safetensors.bale``, so that nobody takes what comes back for the source.
    into : path or None
        In place of `out`: the folder that the archive goes into, under the name that it would have beside the source.
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
    if out is None:
        default_archive(source)  # which needs a name
    choices = _choices(pipeline, rules, recipe, base, allow_unmatched)
    opened = open_folder(source) if os.path.isdir(source) else open_checkpoint(source)
    checkpoints = opened.checkpoints if isinstance(opened, SourceFolder) else {source.name: opened}
    bases = bases_apart(None if base is None else Path(base), checkpoints.values())
    targets = Targets(
        source,
        None if out is None else Path(out),
        None if into is None else Path(into),
        None if report is None else Path(report),
        tuple(Path(each) for each in (source, stats, recipe) if each is not None),
        bases,
        force,
    )
    if out is not None:
        targets.of(opened, lossy=False)  # before any work
    options = Options(verify, force)
    with Run(threads, progress=progress) as run, _open_inputs(base, stats, run) as inputs:
        resolved = resolve_plan(list(checkpoints.values()), choices, run, inputs)
        to = targets.of(opened, lossy=not resolved.lossless)
        beside = ReportBeside(to.report, force, to.orphaned, to.out, verify, resolved.notes, inputs.statistics)
        if isinstance(opened, SourceFolder):
            beside.folder = source.resolve().name, to.out.resolve().name
            files = dict(zip(checkpoints, resolved.files, strict=True))
            compress_folder(opened, files, to.out, run, inputs, options, report=beside.made, only_report=to.lost)
            return beside.result
        (file,) = resolved.files
        row = None
        if to.lost and inputs.statistics is None:
            row = same_archive(file, to.out, run, inputs, options)
        if row is not None:
            with beside.made((row,), 0, again=True) as target:
                target.commit()
            return beside.result
        check_target(to.out, force, targets.inputs)

        def report_of(done: Compressed) -> AbstractContextManager[Target]:
            return beside.made((done.row(source.name, to.out.name),))

        compress_file(file, to.out, run, inputs, options, report=report_of)
    return beside.result


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
    guard_bases(archive, target, known, whole=not tensors)
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
    save: PathLike | None = None,
    threads: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Planned:
    """Say what `compress` would do with the same choices, tensor by tensor.

    Sizes, errors and times are predicted from a sample of each tensor, which is encoded as `compress` would.

    Parameters
    ----------
    save : path or None
        A TOML file that is written with all choices, for the `recipe` of `compress`, which then gives the same bytes
        for the same base and statistics. Nothing else is written.
    force : bool
        Whether that file may exist already.

    The others are those of `compress`.
    """
    source = Path(source)
    choices = _choices(pipeline, rules, recipe, base, allow_unmatched)
    checkpoints = open_folder(source).checkpoints if os.path.isdir(source) else {source.name: open_checkpoint(source)}
    bases_apart(None if base is None else Path(base), checkpoints.values())
    if save is not None:  # before any work
        inputs_of = (each for each in (source, recipe, base, stats) if each is not None)
        check_target(Path(save), force, tuple(map(Path, inputs_of)))
    with Run(threads, progress=progress) as run, _open_inputs(base, stats, run) as inputs:
        resolved = resolve_plan(list(checkpoints.values()), choices, run, inputs)
        pairs = zip(checkpoints, resolved.files, strict=True)
        files = tuple(predict_file(file, name, run, inputs) for name, file in pairs)
        statistics = inputs.statistics
        named = None if statistics is None else (statistics.name, statistics.sha256)
    if save is not None:
        _save(Path(save), source, [file.plan for file in resolved.files], base, stats, force)
    return Planned(source, files, resolved.notes, named)


def _save(
    path: Path, source: Path, files: Sequence[FilePlan], base: PathLike | None, stats: PathLike | None, force: bool
) -> None:
    """Write the choices of a plan, with the command that obeys them."""
    names = " ".join(
        f" --{option} {Path(each).name}" for option, each in (("base", base), ("stats", stats)) if each is not None
    )
    comment = f"The plan of {source.resolve().name}: bale compress SOURCE -r THIS{names} obeys it"
    with staged(path, plan_text(comment, saved_choices(files)).encode(), force) as target:
        target.commit()


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
            found: list[Verified] = []
            files = verify_folder(path, run, other, known, found.append)
            lossy = told_apart([(each.path.relative_to(path).as_posix(), each.lossy) for each in found])
            with _open_archives(path, threads) as opened:
                size = opened.report.stored_bytes
                return Checked(
                    path, size, len(files), len(opened), opened.exact, lossy, report_beside(path, whole=False)
                )
        done = verify_file(path, run, other, known)
        return Checked(path, done.size, 1, done.tensors, done.exact, done.lossy, report_beside(path, whole=False))


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
        if report_beside(path, whole=False) == OTHER:
            document["notes"].append(STALE)
            document["note_kinds"].append("stale-report")
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
        "notes": [note.text for checkpoint in files.values() for note in checkpoint.notes],
        "note_kinds": [note.kind for checkpoint in files.values() for note in checkpoint.notes],
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
    check_whole(path, ArchiveError)
    return Archives(archives_of(path), threads, path, base, first)


def _readable(base: PathLike | None) -> Path | None:
    """The base that was named for reading an archive; it must be there even where no tensor needs it."""
    if base is None:
        return None
    check_readable(Path(base))
    return Path(base)


@contextmanager
def _open_inputs(base: PathLike | None, stats: PathLike | None, run: Run) -> Iterator[Inputs]:
    with ExitStack() as stack:
        yield Inputs(
            None if base is None else stack.enter_context(open_base(Path(base), run)),
            None if stats is None else stack.enter_context(open_statistics(Path(stats))),
        )


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


def _decompressed(done: Restored) -> Decompressed:
    return Decompressed(done.path, (done.path,), done.size, done.sha256, done.exact)
