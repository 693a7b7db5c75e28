"""Decoding units of an archive, block by block, with every digest checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TypeVar

import numpy as np
import xxhash

from bale.compressors import registry
from bale.compressors.base import Values
from bale.compressors.chunks import chunk_ranges, flat_spec
from bale.compressors.pipeline import Pipeline
from bale.engine.coding.choose import decode_tasks
from bale.engine.coding.stored import FORGED, WRONG, DecodeTask, bytes_of, load_chunk, load_part, numbers_of
from bale.engine.coding.task import SECOND, SECOND_EXACT, ReferenceTensor, Task
from bale.engine.run import WHOLE_COST, Job, Run
from bale.errors import ArchiveError, SourceError, UsageError
from bale.io.archive.archive import ArchiveFile
from bale.io.archive.manifest import DAMAGED, Part, StoredUnit
from bale.spec import Array, TensorSpec

T = TypeVar("T")

_SMALL = 1 << 15  # bytes of a unit that is decoded at once: to ask a worker would take longer


@dataclass(frozen=True)
class Block:
    """Consecutive decoded bytes of a unit, little-endian: which unit, from which byte on."""

    index: int
    start: int
    data: Array


def check_codecs(archive: ArchiveFile) -> None:
    """Raise `ArchiveError` when a codec, or a version of one, is not here, or when parts do not fit their pipeline.

    To be called before anything is decoded.
    """
    for name, version in archive.manifest.codecs.items():
        if not registry.is_known(name):
            raise ArchiveError(
                f"{archive.path} uses the codec {name!r}, which is not installed",
                "install the package that it comes from, or upgrade bale",
            )
        try:
            known = registry.get(name).version
        except UsageError as problem:
            raise ArchiveError(f"{archive.path}: {problem.message}", problem.hint) from None
        if version > known:
            package = registry.package(name) or "bale"
            raise ArchiveError(
                f"{archive.path} uses version {version} of the codec {name!r}, newer than that of {package}",
                f"upgrade {package.partition(' ')[0]}",
            )
    for stored in archive.manifest.units:
        if stored.same_as is None:
            _check_parts(archive, stored, _pipeline(archive, stored))


@dataclass(frozen=True)
class ArchivedUnit:
    """The stored parts of one unit of an archive."""

    archive: ArchiveFile
    index: int

    @property
    def parts(self) -> tuple[Part, ...]:
        """Its parts, in the order in which they are stored."""
        return self.archive.manifest.units[self.index].parts

    def read(self, part: int, chunk: int) -> bytes:
        """Stored bytes of one chunk; `ArchiveError` when they do not match their digest."""
        return self.archive.read_chunk(self.index, part, chunk)


@dataclass(frozen=True)
class Decoder:
    """Decodes units of one open archive.

    Parameters
    ----------
    references : callable or None
        Finds the tensor of the base that a unit needs.
    first : bool
        Whether only the first layer of each unit is decoded.
    """

    archive: ArchiveFile
    run: Run
    references: Callable[[StoredUnit], ReferenceTensor] | None = None
    first: bool = False

    def blocks(self, indices: Iterable[int]) -> Iterator[Block]:
        """Decode units in order; each block is read, checked and decoded by a worker.

        Raises
        ------
        ArchiveError
            For a chunk or a unit that does not match its digest, at the latest behind the unit's last block.
        """
        manifest, indices = self.archive.manifest, list(indices)
        largest = max((manifest.units[index].unit.spec.nbytes for index in indices), default=0)
        self.run.raise_memory_budget(WHOLE_COST * largest)
        keyed = ((index, job) for index in indices for job in self._jobs(index))
        current, at, digest = -1, 0, xxhash.xxh3_128()
        for index, future in self.run.ordered(keyed):
            if index != current:
                self._check_digest(current, digest)
                current, at, digest = index, 0, xxhash.xxh3_128()
            data = future.result()
            digest.update(data.data)
            yield Block(index, at, data)
            at += data.size
        self._check_digest(current, digest)

    def array(self, index: int) -> Array:
        """The whole array of a unit, in its storage bits, flat."""
        stored = self.archive.manifest.units[index]
        spec = stored.unit.spec
        if spec.nbytes <= _SMALL:
            small = np.concatenate([bytes_of(task) for task in self.tasks(index)])
            self._check_digest(index, xxhash.xxh3_128(small.data))
            return small.view(spec.storage)
        try:
            whole = np.empty(spec.nbytes, np.uint8)
        except MemoryError:
            raise ArchiveError(f"{stored.unit.label} needs {spec.nbytes} bytes of memory") from None
        for block in self.blocks([index]):
            whole[block.start : block.start + block.data.size] = block.data
        return whole.view(spec.storage)

    def _check_digest(self, index: int, digest: xxhash.xxh3_128) -> None:
        if index < 0:
            return
        stored = self.archive.manifest.units[index]
        expected = stored.first.digest if self.first and stored.first is not None else stored.digest
        if self.first and stored.base is not None:
            expected = digest.hexdigest()  # the base's tensor itself, which was checked when it was found
        if digest.hexdigest() != expected:
            raise _damaged(self.archive, stored, "does not match its digest once decoded")

    def pipeline(self, index: int) -> Pipeline:
        """What a unit was coded with."""
        stored = self.archive.manifest.units[index]
        return _pipeline(self.archive, stored) if stored.same_as is None else self.pipeline(stored.same_as)

    def parts(self, index: int) -> dict[str, Values]:
        """The parts of a unit that its pipeline's first codec put out, dequantized, but not put together.

        Parts that are exact given a reference, behind a first layer or a base, are not among them.

        Raises
        ------
        ArchiveError
            For bad parts.
        """
        stored = self.archive.manifest.units[index]
        if stored.same_as is not None:
            return self.parts(stored.same_as)
        return self._sound(stored, self._unpacked, index, stored)

    def part_blocks(self, index: int, name: str) -> Iterator[Values]:
        """A part of a unit as it is stored, chunk by chunk, flat.

        Raises
        ------
        ArchiveError
            For bad chunks.
        """
        stored = self.archive.manifest.units[index]
        if stored.same_as is not None:
            yield from self.part_blocks(stored.same_as, name)
            return
        unit = ArchivedUnit(self.archive, index)
        number = numbers_of(unit, "")[name]
        part = unit.parts[number]
        for chunk in range(len(part.chunks)):
            spec = flat_spec(part.spec, part.elements_of(chunk))
            yield Values(spec, self._sound(stored, load_chunk, unit, number, chunk, spec), part.bits)

    def _unpacked(self, index: int, stored: StoredUnit) -> dict[str, Values]:
        pipeline, prefix = _pipeline(self.archive, stored), ""
        if pipeline.on_base and pipeline.rest is not None:
            pipeline, prefix = pipeline.rest, SECOND
        if pipeline.is_exact:
            return {}
        if self.first and not prefix:
            pipeline = pipeline.first
        unit = ArchivedUnit(self.archive, index)
        leaves = {
            name: load_part(unit, at) for name, at in numbers_of(unit, prefix).items() if prefix + name != SECOND_EXACT
        }
        found = pipeline.unpack(leaves, stored.unit.spec)
        return {prefix + name: values for name, values in found.items()}

    def _jobs(self, index: int) -> Iterator[Job[Array]]:
        for task in self.tasks(index):
            yield Job(partial(bytes_of, task), task.cost)

    def tasks(self, index: int) -> list[DecodeTask]:
        """The tasks that decode a unit, in the order of its elements; `load` raises `ArchiveError` for bad parts."""
        stored = self.archive.manifest.units[index]
        if stored.same_as is not None:
            return self.tasks(stored.same_as)
        pipeline = _pipeline(self.archive, stored)
        reference = self._reference(stored) if pipeline.on_base else None
        if self.first and reference is not None:
            ranges = chunk_ranges(stored.unit.spec.elements)
            return [DecodeTask(at, n, 4 * n, partial(reference.elements, at, n)) for at, n in ranges]
        task = Task.of(stored.unit.spec, pipeline, reference)
        found = self._sound(stored, decode_tasks, task.first if self.first else task, ArchivedUnit(self.archive, index))
        return [replace(each, load=partial(self._sound, stored, each.load)) for each in found]

    def _reference(self, stored: StoredUnit) -> ReferenceTensor:
        if self.references is None:
            raise SourceError(f"{self.archive.path}: {stored.unit.label} is stored as a difference to a base", NO_BASE)
        return self.references(stored)

    def _sound(self, stored: StoredUnit, decode: Callable[..., T], *arguments: object) -> T:
        """Call a decoding function; exceptions caused by a forged part become an `ArchiveError`."""
        try:
            return decode(*arguments)
        except WRONG as problem:
            raise _damaged(self.archive, stored, f"cannot be decoded ({problem})") from None
        except FORGED as problem:  # kept as the cause: only the digests say that the bytes are those that were stored
            what = f"cannot be decoded ({type(problem).__name__}: {problem})"
            raise ArchiveError(f"{self.archive.path}: {stored.unit.label} {what}", DAMAGED_OR_OURS) from problem


def _pipeline(archive: ArchiveFile, stored: StoredUnit) -> Pipeline:
    try:
        return _parse(stored.pipeline)
    except UsageError as problem:
        raise ArchiveError(
            f"{archive.path}: {stored.unit.label} has the pipeline {stored.pipeline!r} ({problem.message})",
            "upgrade bale",
        ) from None


def _check_parts(archive: ArchiveFile, stored: StoredUnit, pipeline: Pipeline) -> None:
    """The parts are those that the pipeline can put out for this spec."""
    exact = [SECOND_EXACT] if pipeline.rest is not None and pipeline.rest.is_exact else []
    for part in stored.parts:
        if part.name in ("data", *exact) and part.spec != stored.unit.spec:
            raise _damaged(archive, stored, f"is stored as {part.spec}")
    has_first = pipeline.rest is not None and not pipeline.on_base
    if (stored.base is not None) != pipeline.on_base or (stored.first is not None) != has_first:
        raise _damaged(archive, stored, f"is {stored.pipeline}, and lacks what belongs to its layers")
    try:
        pipeline.validate(stored.unit.spec)  # what was refused when it was planned has no parts
        bounds = {bound.name: bound for bound in pipeline.leaves(stored.unit.spec)}
    except FORGED as problem:
        reason = problem.message if isinstance(problem, UsageError) else str(problem)
        raise _damaged(archive, stored, f"cannot be {stored.pipeline} ({reason})") from None
    for part in stored.parts:
        bound = bounds.pop(part.name, None)
        if bound is None or not _fits(part.spec, bound.spec):
            raise _damaged(archive, stored, f"has a part {part.name!r} that does not fit {stored.pipeline}")
    bounds = {name: bound for name, bound in bounds.items() if not bound.optional}
    if bounds:
        raise _damaged(archive, stored, f"lacks the part {min(bounds)!r} of {stored.pipeline}")


def _fits(spec: TensorSpec, bound: TensorSpec) -> bool:
    """Whether a part can have this spec: no dimension is longer than that of its bound."""
    return (
        spec.dtype in _dtypes(bound.dtype)
        and len(spec.shape) == len(bound.shape)
        and all(size <= most for size, most in zip(spec.shape, bound.shape, strict=True))
    )


def _damaged(archive: ArchiveFile, stored: StoredUnit, what: str) -> ArchiveError:
    return ArchiveError(f"{archive.path}: {stored.unit.label} {what}", DAMAGED)


DAMAGED_OR_OURS = f"{DAMAGED}; if it fails again, report it: that can be a fault of bale's own"
_parse = lru_cache(maxsize=1024)(Pipeline.parse)
NO_BASE = "name the base with --base"


def _dtypes(bound: str) -> tuple[str, ...]:
    """The dtypes that a part may have where its bound has one: scales are as narrow as they can be."""
    return ("F16", "F32") if bound == "F32" else (bound,)
