"""Compressing one checkpoint file into one archive."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import astuple, dataclass, field, replace
from functools import partial
from importlib.metadata import version
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import xxhash

from bale.compressors import registry
from bale.compressors.pipeline import Pipeline
from bale.engine.duplicates import find_duplicates
from bale.engine.encode import Coded, Decode, Encoder
from bale.engine.run import Job, Run, one_blas_thread
from bale.engine.source import Digest, SourceFile
from bale.engine.storage import PLAIN, codecs_of
from bale.errors import OutputError, Refused, SourceError, UsageError
from bale.io.archive import ArchiveWriter, file_sha256, header_room
from bale.io.checkpoint import Checkpoint
from bale.io.commit import Target
from bale.io.files import reading
from bale.io.manifest import CHUNK_LIMIT, Chunk, Manifest, Part, StoredUnit
from bale.metrics import ErrorSums
from bale.plan import LOSSLESS, Decision, FilePlan
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
    """

    manifest: Manifest
    size: int
    sha256: str | None
    seconds: tuple[float, ...]


def compress_file(
    checkpoint: Checkpoint, plan: FilePlan, out: Path, run: Run, *, verify: bool = True, force: bool = False
) -> Compressed:
    """Write the archive of one checkpoint; it appears under `out` whole or not at all.

    Raises
    ------
    SourceError
        When the source cannot be read to its end or changes meanwhile.
    OutputError
        When the archive cannot be written, or what was read back is not what was written.
    """
    with reading(checkpoint.path, SourceError) as descriptor, one_blas_thread(plan.pipelines):
        source = SourceFile.of(checkpoint, descriptor)
        with Target(out, source.stat, force, (checkpoint.path,)) as target:
            digest = Digest(source)
            try:
                room = header_room(header_entries(plan), checkpoint.size)
                writer = ArchiveWriter(target.descriptor, out, room)
                packer = _Packer(source, plan, writer, run, verify)
                units = packer.pack()
                manifest = writer.finish(_manifest(checkpoint, units, digest.result()), source.skeleton())
                source.check_unchanged()
            finally:
                digest.cancel()
            sha256 = file_sha256(target.descriptor, writer.position, out) if verify else None
            target.commit()
    return Compressed(manifest, writer.position, sha256, tuple(packer.seconds))


@dataclass
class _Growing:
    """A part while its chunks arrive."""

    spec: TensorSpec
    bits: int | None
    chunk: int
    storage: list[str] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)

    def add(self, chain: str, size: int, digest: str) -> None:
        if chain not in self.storage:
            self.storage.append(chain)
        self.chunks.append(Chunk(self.storage.index(chain), size, digest))

    def finished(self, name: str) -> Part:
        storage = tuple(self.storage) or (PLAIN,)
        return Part(name, self.spec, self.bits, storage, self.chunk, tuple(self.chunks))


class _Stored:
    """What has been stored of a unit so far."""

    def __init__(self) -> None:
        self.parts: dict[str, _Growing] = {}
        self.digest = xxhash.xxh3_128()
        self.errors: list[ErrorSums] = []
        self.exact_size = 0
        self.seconds = 0.0

    @property
    def size(self) -> int:
        return sum(chunk.size for part in self.parts.values() for chunk in part.chunks)


class _Packer:
    """Codes the units of a plan in order and appends what comes out."""

    def __init__(self, source: SourceFile, plan: FilePlan, writer: ArchiveWriter, run: Run, verify: bool) -> None:
        self._plan, self._writer, self._run, self._verify = plan, writer, run, verify
        self._encoder = Encoder(source, run, measure=not plan.lossless)
        self._twins = find_duplicates(source, plan)
        self._checks: deque[Future[None]] = deque()
        self.seconds: list[float] = []

    def pack(self) -> list[StoredUnit]:
        """Store every unit; returns them as they stand in the manifest."""
        units: list[StoredUnit] = []
        for index, group in groupby(self._run.ordered(self._jobs(), self._budget()), key=itemgetter(0)):
            unit, decision = self._plan.units[index], self._plan.decisions[index]
            if index in self._twins:
                twin = self._twins[index]
                notes = tuple(dict.fromkeys((*decision.notes, *units[twin].notes)))
                stored = replace(units[twin], unit=unit, rule=decision.rule, parts=(), same_as=twin, notes=notes)
                self.seconds.append(0.0)
            else:
                stored = self._store(unit, decision, (future for _, future in group))
            units.append(stored)
            self._run.progress(_name(unit), unit.spec.nbytes)
        self._settle(0)
        return units

    def _jobs(self) -> Iterator[tuple[int, Job[Any]]]:
        """The jobs of all units in order, keyed by unit; one that does nothing for a unit that repeats another."""
        for index, (unit, decision) in enumerate(zip(self._plan.units, self._plan.decisions, strict=True)):
            if index in self._twins:
                yield index, Job(lambda: None, 0)
                continue
            try:
                yield from ((index, job) for job in self._encoder.jobs(unit, decision))
            except Refused as refusal:
                yield index, Job(partial(_refuse, refusal), 0)

    def _budget(self) -> int:
        """Bytes under way: the largest tensor that is coded as a whole, and at least the chunks of a window."""
        whole = (
            unit.spec.nbytes
            for unit, decision in zip(self._plan.units, self._plan.decisions, strict=True)
            if decision.pipeline.transforms
        )
        return max([*whole, self._run.window * 8 * CHUNK_LIMIT])

    def _store(self, unit: Unit, decision: Decision, futures: Iterator[Future[Coded]]) -> StoredUnit:
        position = self._writer.position
        pipeline, notes = decision.pipeline, decision.notes
        try:
            stored = self._append_all(futures)
            if not (pipeline.lossless or pipeline.forced) and stored.size >= stored.exact_size:
                raise Refused(
                    f"{pipeline} would take {stored.size} bytes, exact coding takes at most {stored.exact_size}"
                )
        except Refused as refusal:
            for _ in futures:
                pass  # what is still under way for this unit
            self._settle(0)
            self._writer.rewind(position)
            pipeline, notes = LOSSLESS, (*notes, refusal.message)
            jobs = self._encoder.jobs(unit, Decision(LOSSLESS, decision.rule))
            again = self._run.ordered(((0, job) for job in jobs), self._budget())
            stored = self._append_all(future for _, future in again)
        self.seconds.append(stored.seconds)
        return self._finished(unit, pipeline, decision.rule, notes, stored)

    def _append_all(self, futures: Iterator[Future[Coded]]) -> _Stored:
        stored = _Stored()
        for future in futures:
            self._append(stored, future.result())
        return stored

    def _append(self, stored: _Stored, coded: Coded) -> None:
        """Append the chunks of one block, and have them checked."""
        places: list[tuple[int, int, int]] = []
        for part in coded.parts:
            growing = stored.parts.setdefault(part.name, _Growing(part.spec, part.bits, part.chunk))
            for chain, data in part.chunks:
                digest = xxhash.xxh3_64_intdigest(data)
                places.append((self._writer.append(data), len(data), digest))
                growing.add(chain, len(data), f"{digest:016x}")
        stored.digest.update(coded.decoded.data)
        stored.exact_size += coded.exact_size
        stored.seconds += coded.seconds
        if coded.errors is not None:
            stored.errors.append(coded.errors)
        if self._verify and places:
            expected = xxhash.xxh3_64_intdigest(coded.decoded.data)
            self._checks.append(self._run.executor.submit(self._check, places, coded.decode, expected))
            self._settle(self._run.window)
        if coded.leased:
            self._run.buffers.release(coded.decoded)

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
        raise OutputError(
            "what was read back from the archive is not what was written", "check the disk and the memory"
        )

    def _settle(self, most: int) -> None:
        """Wait until at most `most` checks are under way."""
        while len(self._checks) > most:
            self._checks.popleft().result()

    def _finished(
        self, unit: Unit, pipeline: Pipeline, rule: str, notes: tuple[str, ...], stored: _Stored
    ) -> StoredUnit:
        sums = ErrorSums.total(stored.errors) if stored.errors else None
        return StoredUnit(
            unit=unit,
            pipeline=str(pipeline),
            rule=rule,
            digest=stored.digest.hexdigest(),
            parts=tuple(part.finished(name) for name, part in stored.parts.items()),
            errors=astuple(sums) if sums is not None and not pipeline.lossless else None,
            norm2=sums.norm2 if sums is not None and pipeline.lossless and math.isfinite(sums.norm2) else None,
            notes=notes,
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
        bounds = {bound.name: bound.spec for bound in decision.pipeline.leaves(unit.spec)}
        bounds["data"] = unit.spec  # what any pipeline may come back to
        entries += [(f"{unit.views[0].name}:{name}", (spec,)) for name, spec in bounds.items()]
    return entries


def _manifest(checkpoint: Checkpoint, units: list[StoredUnit], sha256: str) -> Manifest:
    """All but what the writer knows of the skeleton."""
    names: set[str] = set()
    for stored in units:
        names |= codecs_of([stored.pipeline, *(chain for part in stored.parts for chain in part.storage)])
    changed = [stored.unit for stored in units if stored.errors is not None]
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
        checksums=tuple(
            checksum
            for checksum in checkpoint.checksums
            if any(unit.start < checksum.start + checksum.length and checksum.start < unit.end for unit in changed)
        ),
    )


def _name(unit: Unit) -> str:
    return unit.views[0].name if unit.views else "payload between tensors"
