"""Decoding units of an archive, block by block, with every digest checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import xxhash

from bale.compressors import registry
from bale.compressors.base import Quantizer, Values
from bale.compressors.floats import from_float32
from bale.compressors.pipeline import Pipeline
from bale.engine.encode import QUANTIZED_COST, join_chunks
from bale.engine.run import Job, Run
from bale.engine.storage import chunk_length, flat_bytes, flat_spec, load, runs
from bale.errors import ArchiveError, UsageError
from bale.io.archive import ArchiveFile
from bale.io.manifest import CHUNK_LIMIT, DAMAGED, Manifest, StoredUnit
from bale.spec import Array, TensorSpec


@dataclass(frozen=True)
class Block:
    """Consecutive decoded bytes of a unit, little-endian: which unit, from which byte on."""

    index: int
    start: int
    data: Array


def check_codecs(manifest: Manifest) -> None:
    """Raise `ArchiveError` when the archive needs a codec, or a version of one, that is not here."""
    for name, version in manifest.codecs.items():
        if name not in registry.names():
            raise ArchiveError(f"the archive uses the codec {name!r}, which this bale does not know", "upgrade bale")
        if version > registry.get(name).version:
            raise ArchiveError(
                f"the archive uses version {version} of {name!r}, newer than this bale's", "upgrade bale"
            )


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
        keyed = ((index, job) for index in indices for job in self._jobs(index))
        current, at, digest = -1, 0, xxhash.xxh3_128()
        for index, future in self.run.ordered(keyed, self._budget()):
            if index != current:
                self._settle(current, digest)
                current, at, digest = index, 0, xxhash.xxh3_128()
            data = future.result()
            digest.update(data.data)
            yield Block(index, at, data)
            at += data.size
            self.run.progress(_name(manifest.units[index]), data.size)
        self._settle(current, digest)

    def array(self, index: int) -> Array:
        """The whole array of a unit, in its storage bits, with its dimensions in memory order."""
        spec = self.archive.manifest.units[index].unit.spec
        try:
            whole = np.empty(spec.nbytes, np.uint8)
        except MemoryError:
            raise ArchiveError(
                f"{_name(self.archive.manifest.units[index])} needs {spec.nbytes} bytes of memory"
            ) from None
        for block in self.blocks([index]):
            whole[block.start : block.start + block.data.size] = block.data
        return whole.view(spec.storage).reshape(spec.storage_shape)

    def _budget(self) -> int:
        largest = max((stored.unit.spec.nbytes for stored in self.archive.manifest.units), default=0)
        return max(largest, self.run.window * 8 * CHUNK_LIMIT)

    def _settle(self, index: int, digest: xxhash.xxh3_128) -> None:
        if index < 0:
            return
        stored = self.archive.manifest.units[index]
        if digest.hexdigest() != stored.digest:
            raise ArchiveError(f"{self.archive.path}: {_name(stored)} does not match its digest once decoded", DAMAGED)

    def _jobs(self, index: int) -> Iterator[Job[Array]]:
        stored = self.archive.manifest.units[index]
        if stored.same_as is not None:
            yield from self._jobs(stored.same_as)
            return
        spec = stored.unit.spec
        pipeline = parse_pipeline(stored.pipeline)
        self._check_parts(stored, pipeline)
        first = pipeline.transforms[0] if len(pipeline.transforms) == 1 else None
        if not pipeline.transforms:
            if not spec.elements:
                yield Job(lambda: np.empty(0, np.uint8), 0)
            for chunk, (_, count) in enumerate(runs(spec.elements)):
                piece = flat_spec(spec, count)
                yield Job(partial(self._exact, index, chunk, piece), 2 * piece.nbytes)
        elif isinstance(first, Quantizer) and spec.elements > CHUNK_LIMIT:
            yield from self._quantized(index, first)
        else:
            yield Job(partial(self._whole, index, pipeline), spec.nbytes)

    def _exact(self, index: int, chunk: int, spec: TensorSpec) -> Array:
        return flat_bytes(self._chunk(index, 0, chunk, spec))

    def _quantized(self, index: int, quantizer: Quantizer) -> Iterator[Job[Array]]:
        stored = self.archive.manifest.units[index]
        spec = stored.unit.spec
        code = next(number for number, part in enumerate(stored.parts) if part.name == quantizer.code)
        side = {part.name: self._part(index, number) for number, part in enumerate(stored.parts) if number != code}
        part = stored.parts[code]

        def decode(chunk: int, start: int, count: int) -> Array:
            codes = self._chunk(index, code, chunk, TensorSpec("U8", (count,)))
            values = quantizer.decode_block(codes, start, spec, side)
            return flat_bytes(from_float32(values, flat_spec(spec, count)))

        if part.chunk != chunk_length(quantizer.block_multiple(spec)):
            raise ArchiveError(f"{_name(stored)} has chunks of {part.chunk} elements", DAMAGED)
        for chunk, (start, count) in enumerate(runs(spec.elements, quantizer.block_multiple(spec))):
            yield Job(partial(_sound, decode, chunk, start, count), QUANTIZED_COST * count)

    def _whole(self, index: int, pipeline: Pipeline) -> Array:
        stored = self.archive.manifest.units[index]
        parts = {part.name: self._part(index, number) for number, part in enumerate(stored.parts)}
        return flat_bytes(_sound(pipeline.decode, parts, stored.unit.spec))

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

    def _check_parts(self, stored: StoredUnit, pipeline: Pipeline) -> None:
        """The parts are those that the pipeline can put out for this spec."""
        if not pipeline.transforms and stored.parts[0].spec != stored.unit.spec:
            raise ArchiveError(f"{_name(stored)}: the part is {stored.parts[0].spec}", DAMAGED)
        bounds = {bound.name: bound for bound in pipeline.leaves(stored.unit.spec)}
        for part in stored.parts:
            bound = bounds.pop(part.name, None)
            if (
                bound is None
                or part.spec.dtype not in _dtypes(bound.spec.dtype)
                or part.spec.nbytes > bound.spec.nbytes
            ):
                raise ArchiveError(f"{_name(stored)}: the part {part.name!r} does not fit {stored.pipeline}", DAMAGED)
        if bounds:
            raise ArchiveError(f"{_name(stored)}: {stored.pipeline} needs the part {min(bounds)!r}", DAMAGED)


@lru_cache(maxsize=1024)
def parse_pipeline(text: str) -> Pipeline:
    """The pipeline of a manifest."""
    try:
        return Pipeline.parse(text)
    except UsageError as problem:
        raise ArchiveError(
            f"the archive's pipeline {text!r} is not understood ({problem.message})", "upgrade bale"
        ) from None


def _dtypes(bound: str) -> tuple[str, ...]:
    """The dtypes that a part may have where its bound has one: scales are as narrow as they can be."""
    return ("F16", "F32") if bound == "F32" else (bound,)


def _sound(decode: Callable[..., Array], *arguments: object) -> Array:
    """Call a codec's decode; what a forged part makes it raise becomes an `ArchiveError`."""
    try:
        return decode(*arguments)
    except (ValueError, IndexError, KeyError, OverflowError) as problem:
        raise ArchiveError(f"a tensor cannot be decoded ({problem})", DAMAGED) from None


def _name(stored: StoredUnit) -> str:
    return stored.unit.views[0].name if stored.unit.views else "payload between tensors"
