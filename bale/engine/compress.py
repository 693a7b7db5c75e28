"""Compressing one checkpoint file into one archive."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import xxhash

from bale.compressors import registry
from bale.compressors.pipeline import Pipeline
from bale.engine.base import Base, BaseTensor
from bale.engine.coded import Coded, Decode
from bale.engine.duplicates import find_duplicates
from bale.engine.encode import Encoder
from bale.engine.growing import GrowingUnit
from bale.engine.rows import file_row
from bale.engine.run import WHOLE_COST, Job, Run, one_blas_thread
from bale.engine.source import Digest, SourceFile
from bale.engine.statistics import Statistics
from bale.engine.storage import codecs_of
from bale.errors import ArchiveError, OutputError, Refused, SourceError, UsageError
from bale.io.archive import ArchiveWriter, file_sha256, header_room, manifest_digest, read_archive
from bale.io.checkpoint import Checkpoint, Checksum
from bale.io.commit import Target, commit_together
from bale.io.files import reading
from bale.io.manifest import Manifest, StoredUnit
from bale.io.sources import open_checkpoint
from bale.notes import Note
from bale.plan import Decision, FilePlan, on_base
from bale.report import FileRow
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
        Relative error of each unit by its use; None where that is not known.
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
    checkpoint: Checkpoint,
    plan: FilePlan,
    out: Path,
    run: Run,
    *,
    base: Base | None = None,
    statistics: Statistics | None = None,
    verify: bool = True,
    force: bool = False,
    report: Callable[[Compressed], AbstractContextManager[Target]] | None = None,
    one_of_many: bool = False,
) -> Compressed:
    """Write the archive of one checkpoint; it appears under `out` whole or not at all.

    Given a base, tensors that it has too are stored as differences to it. Encoders with loss go by statistics.
    `report` gives a file that takes its name together with the archive. With `one_of_many` the caller brings the folder
    to the disk.

    Raises
    ------
    SourceError
        When the source cannot be read to its end or changes meanwhile.
    OutputError
        When the archive cannot be written, or what was read back is not what was written.
    """
    partners = [base.partner(unit) if base is not None and unit.views else None for unit in plan.units]
    if base is not None:
        plan = on_base(plan, [partner is not None for partner in partners])
    with reading(checkpoint.path, SourceError) as descriptor, one_blas_thread(plan.pipelines):
        source = SourceFile.of(checkpoint, descriptor)
        if verify and open_checkpoint(checkpoint.path) != checkpoint:
            raise source.differs("its header")
        with Target(out, source.stat, force, (checkpoint.path,), one_of_many) as target:
            digest = Digest(source)
            try:
                room = header_room(header_entries(plan), checkpoint.size)
                writer = ArchiveWriter(target.descriptor, out, room)
                packer = _Packer(source, plan, partners, writer, run, verify, statistics)
                units = packer.pack()
                name = base.name if base is not None and any(stored.base for stored in units) else None
                skeleton = source.skeleton()
                digest.check(packer.source_digests, skeleton)
                manifest = writer.finish(_manifest(checkpoint, units, digest.result(), name), skeleton)
                source.check_unchanged()
            finally:
                digest.cancel()
            sha256 = _read_back(target.descriptor, out, manifest, writer.position) if verify else None
            known = manifest_digest(target.descriptor, out)
            done = Compressed(
                manifest, writer.position, sha256, tuple(packer.seconds), tuple(packer.output_errors), known
            )
            with nullcontext() if report is None else report(done) as beside:
                commit_together(*([] if beside is None else [beside]), target)
    return done


def _read_back(descriptor: int, out: Path, manifest: Manifest, size: int) -> str:
    """Read header, manifest and skeleton as a reader does, then all bytes; returns their SHA-256."""
    try:
        archive = read_archive(out, descriptor)
        if archive.manifest == manifest and archive.size == size:
            archive.skeleton()
            return file_sha256(descriptor, size, out)
    except ArchiveError:
        pass
    raise OutputError(*NOT_AS_WRITTEN)


Result = Callable[[], Coded]  # raises what the job has raised
_SMALL = 1 << 16  # bytes that a job holds: the units of such jobs are coded together
_BATCH = 1 << 20
NOT_AS_WRITTEN = "what was read back from the archive is not what was written", "check the disk and the memory"


class _Packer:
    """Codes the units of a plan in order and appends what comes out."""

    def __init__(
        self,
        source: SourceFile,
        plan: FilePlan,
        partners: Sequence[BaseTensor | None],
        writer: ArchiveWriter,
        run: Run,
        verify: bool,
        statistics: Statistics | None,
    ) -> None:
        self._plan, self._partners, self._writer, self._run, self._verify = plan, partners, writer, run, verify
        self._encoder = Encoder(source, run, measure=not plan.lossless, statistics=statistics)
        self._twins = find_duplicates(source, plan)
        run.allow(WHOLE_COST * _largest_whole(plan))
        self.seconds: list[float] = []
        self.output_errors: list[float | None] = []
        self.source_digests: list[str] = []
        self._unchecked: list[Callable[[], None]] = []
        self._unchecked_cost = 0

    def pack(self) -> list[StoredUnit]:
        """Store every unit; returns them as they stand in the manifest."""
        units: list[StoredUnit] = []
        for index, group in groupby(self._results(), key=itemgetter(0)):
            unit, decision = self._plan.units[index], self._plan.decisions[index]
            if index in self._twins:
                twin = self._twins[index]
                notes = tuple(dict.fromkeys((*decision.notes, *units[twin].notes)))
                stored = replace(units[twin], unit=unit, rule=decision.rule, parts=(), same_as=twin, notes=notes)
                self.seconds.append(0.0)
                self.output_errors.append(self.output_errors[twin])
                self.source_digests.append(self.source_digests[twin])
            else:
                stored = self._store(index, unit, decision, (result for _, result in group))
            units.append(stored)
            self._run.progress(unit.label, unit.spec.nbytes)
        self._settle()
        return units

    def _results(self) -> Iterator[tuple[int, Result]]:
        """What each job of each unit made, in order; those of a batch of small units one by one."""
        for indices, future in self._run.ordered(self._batches()):
            if len(indices) == 1:
                held = [future]
                del future  # nothing but `held` keeps a large result, which is not needed while the next one is made
                yield indices[0], partial(_taken, held)
            else:
                yield from (
                    (index, partial(_same, coded)) for index, coded in zip(indices, future.result(), strict=True)
                )

    def _batches(self) -> Iterator[tuple[tuple[int, ...], Job[Any]]]:
        """The jobs of all units, those of small ones put together: handing over a job costs more than such a unit."""
        batch: list[tuple[int, Job[Any]]] = []
        held = 0
        for index, job in self._jobs():
            small = (
                index not in self._twins and job.cost <= _SMALL and not self._plan.decisions[index].pipeline.transforms
            )
            if batch and (not small or held >= _BATCH):
                yield _together(batch)
                batch, held = [], 0
            if small:
                batch.append((index, job))
                held += job.cost
            else:
                yield (index,), job
        if batch:
            yield _together(batch)

    def _jobs(self) -> Iterator[tuple[int, Job[Any]]]:
        """The jobs of all units in order, keyed by unit; one that does nothing for a unit that repeats another."""
        for index, (unit, decision) in enumerate(zip(self._plan.units, self._plan.decisions, strict=True)):
            if index in self._twins:
                yield index, Job(lambda: None, 0)
                continue
            try:
                yield from ((index, job) for job in self._encoder.jobs(unit, decision, self._partners[index]))
            except Refused as refusal:
                yield index, Job(partial(_refuse, refusal), 0)

    def _store(self, index: int, unit: Unit, decision: Decision, results: Iterator[Result]) -> StoredUnit:
        position = self._writer.position
        pipeline, notes = decision.pipeline, decision.notes
        try:
            stored = self._append_all(results)
            if _can_grow(pipeline) and stored.size >= stored.exact_size:
                sizes = f"{pipeline} would take {stored.size} bytes, exact coding takes at most {stored.exact_size}"
                raise Refused(sizes, note="grows")
        except Refused as refusal:
            for _ in results:
                pass  # what is still under way for this unit
            self._settle()
            self._writer.rewind(position)
            pipeline, notes = decision.otherwise, (*notes, Note(refusal.note, refusal.message))
            jobs = self._encoder.jobs(unit, Decision(pipeline, decision.rule))
            again = self._run.ordered((0, job) for job in jobs)
            stored = self._append_all(future.result for _, future in again)
        self.seconds.append(stored.seconds)
        told = self._encoder.statistics
        error = None if told is None else told.output_error(unit, pipeline, stored.errors, stored.outputs)
        self.output_errors.append(error)
        self.source_digests.append(stored.source_digest)
        base = self._partners[index] if pipeline.on_base else None
        decision = replace(decision, pipeline=pipeline, notes=notes)
        return stored.finished(unit, decision, None if base is None else base.digest)

    def _append_all(self, results: Iterator[Result]) -> GrowingUnit:
        stored = GrowingUnit()
        for result in results:
            self._append(stored, result())
        return stored

    def _append(self, stored: GrowingUnit, coded: Coded) -> None:
        """Append the chunks of one block, and have them checked."""
        places: list[tuple[int, int, int]] = []
        for part in coded.parts:
            growing = stored.part(part)
            for chain, data in part.chunks:
                digest = xxhash.xxh3_64_intdigest(data)
                places.append((self._writer.append(data), len(data), digest))
                growing.add(chain, len(data), f"{digest:016x}")
        stored.add(coded)
        if self._verify and places:
            values = coded.first if coded.only_first and coded.first is not None else coded.decoded
            expected = xxhash.xxh3_64_intdigest(values.data)
            self._unchecked.append(partial(self._check, places, coded.decode, expected))
            self._unchecked_cost += coded.cost
            if self._unchecked_cost > _BATCH:
                self._check_all()
        if coded.leased:
            self._run.buffers.release(coded.decoded)
        if coded.source is not None and not isinstance(coded.source, str):
            self._run.buffers.release(coded.source)

    def _check_all(self) -> None:
        """Have checked what has been appended since the last time."""
        if self._unchecked:
            self._writer.flush()
            self._run.check(Job(partial(_call_all, self._unchecked), self._unchecked_cost))
            self._unchecked, self._unchecked_cost = [], 0

    def _settle(self) -> None:
        """Wait until everything that has been appended is checked."""
        self._check_all()
        self._run.settle()

    def _check(self, places: Sequence[tuple[int, int, int]], decode: Decode, expected: int) -> None:
        """Read back what was stored and decode it; raise `OutputError` when it is not what was coded."""
        try:
            stored = [self._writer.read_back(size, at) for at, size, _ in places]
            same = all(
                xxhash.xxh3_64_intdigest(data) == digest for data, (_, _, digest) in zip(stored, places, strict=True)
            )
            if same and xxhash.xxh3_64_intdigest(decode(stored).data) == expected:
                return
        except (UsageError, ValueError):
            pass
        raise OutputError(*NOT_AS_WRITTEN)


def _together(batch: Sequence[tuple[int, Job[Any]]]) -> tuple[tuple[int, ...], Job[Any]]:
    """One job for several."""
    if len(batch) == 1:
        return (batch[0][0],), batch[0][1]
    runs = [job.run for _, job in batch]
    return tuple(index for index, _ in batch), Job(lambda: [run() for run in runs], sum(job.cost for _, job in batch))


def _taken(held: list[Future[Coded]]) -> Coded:
    return held.pop().result()


def _same(coded: Coded) -> Coded:
    return coded


def _call_all(calls: Sequence[Callable[[], None]]) -> None:
    for call in calls:
        call()


def _can_grow(pipeline: Pipeline) -> bool:
    """Whether what a pipeline stores has to be less than exact coding takes."""
    return bool(pipeline.transforms or (pipeline.rest and pipeline.rest.transforms)) and not pipeline.forced


def _covers(checksum: Checksum, starts: Sequence[int]) -> bool:
    """Whether a unit that begins at one of these offsets, ascending, lies in the range of the checksum."""
    at = bisect_right(starts, checksum.start + checksum.length - 1)
    return at > 0 and starts[at - 1] >= checksum.start


def _largest_whole(plan: FilePlan) -> int:
    """Bytes of the largest tensor that is coded as a whole."""
    pairs = zip(plan.units, plan.decisions, strict=True)
    return max(
        (unit.spec.nbytes for unit, decision in pairs if any(layer.transforms for layer in decision.pipeline.layers)),
        default=0,
    )


def _refuse(refusal: Refused) -> None:
    raise refusal


def header_entries(plan: FilePlan) -> list[tuple[str, tuple[TensorSpec, ...]]]:
    """Name and possible specs of every part that the archive may have."""
    entries: list[tuple[str, tuple[TensorSpec, ...]]] = []
    for unit, decision in zip(plan.units, plan.decisions, strict=True):
        if not unit.views:
            entries.append((f":gap.{len(entries)}", (unit.spec,)))
            continue
        # One part under one name is the least that can come out, and what any pipeline may come back to.
        bounds = decision.pipeline.leaves(unit.spec)
        names = [bound.name for bound in bounds]
        names[0] = max("data", names[0], key=len)
        entries += [
            (f"{unit.views[0].name}:{name}", (bound.spec, unit.spec)) for name, bound in zip(names, bounds, strict=True)
        ]
    return entries


def _manifest(checkpoint: Checkpoint, units: list[StoredUnit], sha256: str, base: str | None) -> Manifest:
    """All but what the writer knows of the skeleton."""
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
        notes=checkpoint.notes,
        checksums=tuple(checksum for checksum in checkpoint.checksums if _covers(checksum, changed)),
        base=base,
    )
