"""Compressing one checkpoint file into one archive."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from bale.compressors import registry
from bale.compressors.chunks import codecs_of
from bale.engine.inputs import Inputs, Options
from bale.engine.reading.decode import check_codecs
from bale.engine.reading.source import Digest, SourceFile
from bale.engine.resolved import ResolvedFile
from bale.engine.rows import file_row
from bale.engine.run import Run, one_blas_thread
from bale.engine.writing.read_back import NOT_AS_WRITTEN, OURS
from bale.engine.writing.units import UnitWriter
from bale.errors import ArchiveError, OutOfRoom, OutputError, SourceError
from bale.io.archive.archive import ArchiveWriter, header_room, manifest_digest, read_archive
from bale.io.archive.manifest import Manifest, StoredUnit
from bale.io.checkpoint import Checkpoint, Checksum
from bale.io.sources.open import open_checkpoint
from bale.io.sources.tensorflow.data import with_index
from bale.io.storage.commit import Target, commit_together
from bale.io.storage.files import reading
from bale.notes import Note, many
from bale.notes import size as in_words
from bale.planning.decide import Decision, FilePlan
from bale.report.files import FileRow
from bale.spec import TensorSpec, Unit


@dataclass(frozen=True)
class Compressed:
    """An archive that has been written.

    Attributes
    ----------
    size : int
        Bytes on disk.
    sha256 : str or None
        Of the archive; None when it was not read back.
    seconds : tuple of float
        Time spent by workers on each unit.
    output_errors : tuple of float or None
        Relative error of each unit by its importance; None where that is not known.
    digest : str
        XXH3-128 of the stored manifest, which holds digests of all else.
    """

    manifest: Manifest
    size: int
    sha256: str | None
    seconds: tuple[float, ...]
    output_errors: tuple[float | None, ...]
    digest: str

    def row(self, source: str, archive: str) -> FileRow:
        """The report's account of it, with the names that source and archive have there."""
        errors = self.output_errors
        return file_row(self.manifest, source, archive, self.size, self.sha256, self.seconds, errors, self.digest)


def compress_file(
    resolved: ResolvedFile,
    out: Path,
    run: Run,
    inputs: Inputs,
    options: Options,
    *,
    report: Callable[[Compressed], AbstractContextManager[Target]] | None = None,
    one_of_many: bool = False,
) -> Compressed:
    """Write the archive of one checkpoint; it appears under `out` whole or not at all.

    `report` gives a file that takes its name together with the archive. With `one_of_many` the caller brings the folder
    to the disk.

    Raises
    ------
    SourceError
        When the source cannot be read to its end or has changed since its choices were made.
    OutputError
        When the archive cannot be written, or what was read back is not what was written.
    """
    checkpoint, plan, verify = resolved.checkpoint, resolved.plan, options.verify
    with reading(checkpoint.path, SourceError) as opened, one_blas_thread(plan.pipelines):
        source = SourceFile.of(checkpoint, opened)
        source.check_version(resolved.version)
        if verify and _again(checkpoint) != checkpoint:
            raise source.differs("its header")
        with Target(out, opened.attributes, options.force, (checkpoint.path,), one_of_many) as target:
            digest = Digest(source)
            try:
                room = header_room(header_entries(plan), checkpoint.size)
                writer = ArchiveWriter(target, room)
                unit_writer = UnitWriter(source, resolved, writer, run, inputs, verify)
                with _naming_the_whole(unit_writer):
                    units = unit_writer.write()
                base = inputs.base if any(stored.base for stored in units) else None
                skeleton = source.skeleton()
                digest.check(unit_writer.source_digests, skeleton)
                manifest = writer.finish(
                    _manifest(checkpoint, units, digest.result(), None if base is None else base.name), skeleton
                )
                source.check_unchanged()
            finally:
                digest.cancel()
            sha256 = _read_back(target, out, manifest, writer.position) if verify else None
            done = Compressed(
                manifest,
                writer.position,
                sha256,
                tuple(unit_writer.seconds),
                tuple(unit_writer.output_errors),
                manifest_digest(target),
            )
            with nullcontext() if report is None else report(done) as beside:
                commit_together(*([] if beside is None else [beside]), target)
    return done


@contextmanager
def _naming_the_whole(writer: UnitWriter) -> Iterator[None]:
    """Errors for lack of room name the size of the whole archive, beside what there was up to here."""
    try:
        yield
    except OutOfRoom as problem:
        raise OutOfRoom(problem.message, problem.needed, in_words(writer.expected_bytes)) from None


def _read_back(target: Target, out: Path, manifest: Manifest, size: int) -> str:
    """Read header, manifest and skeleton as a reader does, then all bytes; returns their SHA-256."""
    try:
        archive = read_archive(out, target.raising(ArchiveError))
        if archive.manifest != manifest or archive.size != size:
            raise OutputError(*NOT_AS_WRITTEN)
        archive.skeleton()
        sha256 = target.sha256(size)
    except ArchiveError:
        raise OutputError(*NOT_AS_WRITTEN) from None
    try:
        check_codecs(archive)
    except ArchiveError as problem:
        raise OutputError(f"no reader would take the archive: {problem.message}", OURS) from None
    return sha256


def _again(checkpoint: Checkpoint) -> Checkpoint:
    """The structure of a source, read once more."""
    found = open_checkpoint(checkpoint.path)
    return found if checkpoint.checked_by is None else with_index(found)


def _covers(checksum: Checksum, starts: Sequence[int]) -> bool:
    """Whether a unit that begins at one of these offsets, ascending, lies in the range of the checksum."""
    at = bisect_right(starts, checksum.start + checksum.length - 1)
    return at > 0 and starts[at - 1] >= checksum.start


def header_entries(plan: FilePlan) -> list[tuple[str, tuple[TensorSpec, ...]]]:
    """Name and possible specs of every part that the archive may have."""
    entries: list[tuple[str, tuple[TensorSpec, ...]]] = []
    for unit, decision in zip(plan.units, plan.decisions, strict=True):
        entries += unit_entries(unit, decision) if unit.views else [(f":gap.{len(entries)}", (unit.spec,))]
    return entries


def unit_entries(unit: Unit, decision: Decision) -> list[tuple[str, tuple[TensorSpec, ...]]]:
    """Name and possible specs of every part that a unit with names may have."""
    # One part under one name is the smallest result, and any pipeline may fall back to it.
    bounds = decision.pipeline.leaves(unit.spec)
    names = [bound.name for bound in bounds]
    names[0] = max("data", names[0], key=len)
    return [
        (f"{unit.views[0].name}:{name}", (bound.spec, unit.spec)) for name, bound in zip(names, bounds, strict=True)
    ]


def renewed_notes(checkpoint: Checkpoint, changed: int) -> tuple[Note, ...]:
    """The note on checksums that another file has of this many tensors that come back with losses."""
    if checkpoint.checked_by is None or not changed:
        return ()
    text = f"{checkpoint.checked_by} will come back with other checksums of {many(changed, 'lossy tensor')}"
    return (Note("renewed", text),)


def _manifest(checkpoint: Checkpoint, units: list[StoredUnit], sha256: str, base: str | None) -> Manifest:
    """The manifest, except for the fields of the skeleton, which the writer fills in."""
    chains = {chain for stored in units for part in stored.parts for chain in part.storage}
    names = codecs_of(sorted(chains | {stored.pipeline for stored in units}))
    changed = [stored.unit.start for stored in units if stored.errors is not None or stored.first is not None]
    return Manifest(
        tool=version("bale"),
        codecs={name: registry.get(name).version for name in sorted(names)},
        kind=checkpoint.kind,
        source_bytes=checkpoint.size,
        source_sha256=sha256,
        skeleton_bytes=0,
        skeleton_stored=0,
        skeleton_digest="",
        units=tuple(units),
        notes=(*checkpoint.notes, *renewed_notes(checkpoint, sum(stored.errors is not None for stored in units))),
        checksums=tuple(checksum for checksum in checkpoint.checksums if _covers(checksum, changed)),
        base=base,
        checked_by=checkpoint.checked_by if changed else None,
    )
