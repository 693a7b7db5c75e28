"""Decoding units of an archive, block by block, with every digest checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TypeVar

import numpy as np
import xxhash

from bale.compressors import registry
from bale.compressors.base import Quantizer, Values
from bale.compressors.floats import from_float32
from bale.compressors.pipeline import Pipeline
from bale.engine.run import WHOLE_COST, Job, Run
from bale.engine.storage import QUANTIZED_COST, chunk_length, flat_bytes, flat_spec, join_chunks, load, runs
from bale.errors import ArchiveError, UsageError
from bale.io.archive import ArchiveFile
from bale.io.manifest import CHUNK_LIMIT, DAMAGED, StoredUnit
from bale.spec import Array, TensorSpec

T = TypeVar("T")


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
        if name not in registry.names():
            raise ArchiveError(f"{archive.path} uses the codec {name!r}, which this bale does not know", "upgrade bale")
        if version > registry.get(name).version:
            raise ArchiveError(
                f"{archive.path} uses version {version} of {name!r}, newer than this bale's", "upgrade bale"
            )
    for stored in archive.manifest.units:
        if stored.same_as is None:
            _check_parts(archive, stored, _pipeline(archive, stored))


@dataclass(frozen=True)
class Decoder:
    """Decodes units of one open archive."""

    archive: ArchiveFile
    run: Run

    def blocks(self, indices: Iterable[int]) -> Iterator[Block]:
        """Decode units one after the other; each block is read, checked and decoded by a worker.

        Raises
        ------
        ArchiveError
            For a chunk or a unit that does not match its digest, at the latest behind the unit's last block.
        """
        manifest = self.archive.manifest
        self.run.allow(WHOLE_COST * max((stored.unit.spec.nbytes for stored in manifest.units), default=0))
        keyed = ((index, job) for index in indices for job in self._jobs(index))
        current, at, digest = -1, 0, xxhash.xxh3_128()
        for index, future in self.run.ordered(keyed):
            if index != current:
                self._settle(current, digest)
                current, at, digest = index, 0, xxhash.xxh3_128()
            data = future.result()
            digest.update(data.data)
            yield Block(index, at, data)
            at += data.size
            self.run.progress(manifest.units[index].unit.label, data.size)
        self._settle(current, digest)

    def array(self, index: int) -> Array:
        """The whole array of a unit, in its storage bits, with its dimensions in memory order."""
        spec = self.archive.manifest.units[index].unit.spec
        try:
            whole = np.empty(spec.nbytes, np.uint8)
        except MemoryError:
            raise ArchiveError(
                f"{self.archive.manifest.units[index].unit.label} needs {spec.nbytes} bytes of memory"
            ) from None
        for block in self.blocks([index]):
            whole[block.start : block.start + block.data.size] = block.data
        return whole.view(spec.storage).reshape(spec.storage_shape)

    def _settle(self, index: int, digest: xxhash.xxh3_128) -> None:
        if index < 0:
            return
        stored = self.archive.manifest.units[index]
        if digest.hexdigest() != stored.digest:
            raise _damaged(self.archive, stored, "does not match its digest once decoded")

    def _jobs(self, index: int) -> Iterator[Job[Array]]:
        stored = self.archive.manifest.units[index]
        if stored.same_as is not None:
            yield from self._jobs(stored.same_as)
            return
        spec = stored.unit.spec
        pipeline = _pipeline(self.archive, stored)
        first = pipeline.transforms[0] if len(pipeline.transforms) == 1 else None
        if not pipeline.transforms:
            if not spec.elements:
                yield Job(lambda: np.empty(0, np.uint8), 0)
            part = stored.parts[0]
            for chunk in range(len(part.chunks)):
                piece = flat_spec(spec, part.elements_of(chunk))
                yield Job(partial(self._sound, stored, self._exact, index, chunk, piece), 2 * piece.nbytes)
        elif isinstance(first, Quantizer) and spec.elements > CHUNK_LIMIT:
            yield from self._quantized(index, first)
        else:
            yield Job(partial(self._sound, stored, self._whole, index, pipeline), WHOLE_COST * spec.nbytes)

    def _exact(self, index: int, chunk: int, spec: TensorSpec) -> Array:
        return flat_bytes(self._chunk(index, 0, chunk, spec))

    def _quantized(self, index: int, quantizer: Quantizer) -> Iterator[Job[Array]]:
        stored = self.archive.manifest.units[index]
        spec = stored.unit.spec
        code = next(number for number, part in enumerate(stored.parts) if part.name == quantizer.code)
        side = {
            part.name: self._sound(stored, self._part, index, number)
            for number, part in enumerate(stored.parts)
            if number != code
        }
        part = stored.parts[code]

        def decode(chunk: int, start: int, count: int) -> Array:
            codes = self._chunk(index, code, chunk, TensorSpec("U8", (count,)))
            values = quantizer.decode_block(codes, start, spec, side)
            return flat_bytes(from_float32(values, flat_spec(spec, count)))

        if part.chunk != chunk_length(quantizer.block_multiple(spec)):
            raise _damaged(self.archive, stored, f"has chunks of {part.chunk} elements")
        for chunk, (start, count) in enumerate(runs(spec.elements, quantizer.block_multiple(spec))):
            yield Job(partial(self._sound, stored, decode, chunk, start, count), QUANTIZED_COST * count)

    def _whole(self, index: int, pipeline: Pipeline) -> Array:
        stored = self.archive.manifest.units[index]
        parts = {part.name: self._part(index, number) for number, part in enumerate(stored.parts)}
        return flat_bytes(pipeline.decode(parts, stored.unit.spec))

    def _part(self, index: int, number: int) -> Values:
        part = self.archive.manifest.units[index].parts[number]
        chunks = [
            (part.storage[chunk.chain], self.archive.read_chunk(index, number, at))
            for at, chunk in enumerate(part.chunks)
        ]
        return join_chunks(part.spec, part.bits, part.chunk, chunks)

    def _chunk(self, index: int, number: int, chunk: int, spec: TensorSpec) -> Array:
        part = self.archive.manifest.units[index].parts[number]
        data = self.archive.read_chunk(index, number, chunk)
        return load(data, part.storage[part.chunks[chunk].chain], spec, part.bits)

    def _sound(self, stored: StoredUnit, decode: Callable[..., T], *arguments: object) -> T:
        """Call a decoding function; what a forged part makes it raise becomes an `ArchiveError`."""
        try:
            return decode(*arguments)
        except (ValueError, IndexError, KeyError, OverflowError, UsageError) as problem:
            raise _damaged(self.archive, stored, f"cannot be decoded ({problem})") from None


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
    if not pipeline.transforms and stored.parts[0].spec != stored.unit.spec:
        raise _damaged(archive, stored, f"is stored as {stored.parts[0].spec}")
    bounds = {bound.name: bound for bound in pipeline.leaves(stored.unit.spec)}
    for part in stored.parts:
        bound = bounds.pop(part.name, None)
        if bound is None or part.spec.dtype not in _dtypes(bound.spec.dtype) or part.spec.nbytes > bound.spec.nbytes:
            raise _damaged(archive, stored, f"has a part {part.name!r} that does not fit {stored.pipeline}")
    if bounds:
        raise _damaged(archive, stored, f"lacks the part {min(bounds)!r} of {stored.pipeline}")


def _damaged(archive: ArchiveFile, stored: StoredUnit, what: str) -> ArchiveError:
    return ArchiveError(f"{archive.path}: {stored.unit.label} {what}", DAMAGED)


_parse = lru_cache(maxsize=1024)(Pipeline.parse)


def _dtypes(bound: str) -> tuple[str, ...]:
    """The dtypes that a part may have where its bound has one: scales are as narrow as they can be."""
    return ("F16", "F32") if bound == "F32" else (bound,)
