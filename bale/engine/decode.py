"""Decoding units of an archive, block by block, with every digest checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Protocol, TypeVar

import numpy as np
import xxhash

from bale.compressors import registry
from bale.compressors.base import Quantizer, Reference, Values
from bale.compressors.pipeline import Pipeline
from bale.engine.layers import known_block, known_of, load_rest
from bale.engine.run import WHOLE_COST, Job, Run
from bale.engine.storage import (
    EXACT,
    QUANTIZED_COST,
    chunk_cost,
    chunk_length,
    flat_bytes,
    flat_spec,
    join_chunks,
    load,
    runs,
)
from bale.errors import ArchiveError, SourceError, UsageError
from bale.io.archive import ArchiveFile
from bale.io.manifest import CHUNK_LIMIT, DAMAGED, StoredUnit
from bale.spec import Array, TensorSpec

FORGED = (ValueError, LookupError, ArithmeticError, TypeError, NotImplementedError, AssertionError, UsageError)
"""What decoders raise for parts that no encoder made."""

T = TypeVar("T")
Load = Callable[[], Reference]


@dataclass(frozen=True)
class Piece:
    """Consecutive elements of a unit that are decoded together, and the bytes in memory while they are."""

    start: int
    count: int
    cost: int
    load: Load


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


class Near(Protocol):
    """The tensor of a base that a unit was coded given."""

    def known(self, start: int, count: int) -> Reference:
        """What it tells of some elements."""

    def add(self, array: Array, start: int) -> Array:
        """Elements whose difference to it is given."""


@dataclass(frozen=True)
class Decoder:
    """Decodes units of one open archive.

    Parameters
    ----------
    near : callable or None
        Finds the tensor of the base that a unit needs.
    first : bool
        Whether only the first layer of each unit is decoded.
    """

    archive: ArchiveFile
    run: Run
    near: Callable[[StoredUnit], Near] | None = None
    first: bool = False

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
        """The whole array of a unit, in its storage bits, flat."""
        spec = self.archive.manifest.units[index].unit.spec
        try:
            whole = np.empty(spec.nbytes, np.uint8)
        except MemoryError:
            raise ArchiveError(
                f"{self.archive.manifest.units[index].unit.label} needs {spec.nbytes} bytes of memory"
            ) from None
        for block in self.blocks([index]):
            whole[block.start : block.start + block.data.size] = block.data
        return whole.view(spec.storage)

    def _settle(self, index: int, digest: xxhash.xxh3_128) -> None:
        if index < 0:
            return
        stored = self.archive.manifest.units[index]
        expected = stored.first.digest if self.first and stored.first is not None else stored.digest
        if self.first and stored.base is not None:
            expected = digest.hexdigest()  # the base's tensor itself, which was checked when it was found
        if digest.hexdigest() != expected:
            raise _damaged(self.archive, stored, "does not match its digest once decoded")

    def parts(self, index: int) -> dict[str, Values]:
        """The parts of a unit that its pipeline's first codec put out, dequantized, but not put together.

        What is exact given other values, behind a first layer or a base, is not among them.

        Raises
        ------
        ArchiveError
            For bad parts.
        """
        stored = self.archive.manifest.units[index]
        if stored.same_as is not None:
            return self.parts(stored.same_as)
        return self._sound(stored, self._unpacked, index, stored)

    def _unpacked(self, index: int, stored: StoredUnit) -> dict[str, Values]:
        pipeline, prefix = _pipeline(self.archive, stored), ""
        if pipeline.on_base and pipeline.rest is not None:
            pipeline, prefix = pipeline.rest, _REST
        if pipeline.is_exact:
            return {}
        if self.first and not prefix:
            pipeline = pipeline.first
        leaves = {
            part.name.removeprefix(prefix): self._part(index, at)
            for at, part in enumerate(stored.parts)
            if part.name != _REST_DATA
        }
        found = pipeline.unpack(leaves, stored.unit.spec)
        return {prefix + name: values for name, values in found.items()}

    def _jobs(self, index: int) -> Iterator[Job[Array]]:
        for piece in self.pieces(index):
            yield Job(partial(_bytes_of, piece.load), piece.cost)

    def pieces(self, index: int) -> list[Piece]:
        """How a unit is decoded, in the order of its elements; `load` raises `ArchiveError` for bad parts."""
        stored = self.archive.manifest.units[index]
        if stored.same_as is not None:
            return self.pieces(stored.same_as)
        found = self._pieces(index, stored)
        return [replace(piece, load=partial(self._sound, stored, piece.load)) for piece in found]

    def _pieces(self, index: int, stored: StoredUnit) -> list[Piece]:
        spec, pipeline, near = stored.unit.spec, _pipeline(self.archive, stored), None
        if pipeline.on_base and pipeline.rest is not None:
            pipeline, near = pipeline.rest, self._near(stored)
            if self.first:
                return [Piece(at, n, 4 * n, partial(near.known, at, n)) for at, n in runs(spec.elements)]
        quantizer = pipeline.transforms[0] if len(pipeline.transforms) == 1 else None
        if not spec.elements:
            return [Piece(0, 0, 0, lambda: Reference(np.empty(0, spec.storage)))]
        if not pipeline.transforms:
            return [
                Piece(start, count, cost, partial(self._exact, index, chunk, start, near))
                for chunk, (start, count) in enumerate(runs(spec.elements, chunk=stored.parts[0].chunk))
                for cost in (chunk_cost(flat_spec(spec, count), near is not None),)
            ]
        if isinstance(quantizer, Quantizer) and spec.elements > CHUNK_LIMIT:
            return self._quantized(index, quantizer, near)
        load = partial(self._whole, index, pipeline, near)
        return [Piece(0, spec.elements, WHOLE_COST * spec.nbytes, load)]

    def _near(self, stored: StoredUnit) -> Near:
        if self.near is None:
            raise SourceError(f"{self.archive.path}: {stored.unit.label} is stored as a difference to a base", NO_BASE)
        return self.near(stored)

    def _exact(self, index: int, chunk: int, start: int, near: Near | None) -> Reference:
        part = self.archive.manifest.units[index].parts[0]
        count = part.elements_of(chunk)
        differs = near is not None and part.storage[part.chunks[chunk].chain] == EXACT
        known = near.known(start, count) if near is not None and differs else None
        return Reference(self._chunk(index, 0, chunk, flat_spec(part.spec, count), known))

    def _quantized(self, index: int, quantizer: Quantizer, near: Near | None) -> list[Piece]:
        stored = self.archive.manifest.units[index]
        spec = stored.unit.spec
        numbers = {part.name.removeprefix(_REST): at for at, part in enumerate(stored.parts) if part.name != _REST_DATA}
        rest = next((at for at, part in enumerate(stored.parts) if near is None and part.name == _REST_DATA), None)
        code, length = numbers.pop(quantizer.code), chunk_length(quantizer.block_multiple(spec))
        side = {name: self._sound(stored, self._part, index, at) for name, at in numbers.items()}
        if any(stored.parts[at].chunk != length for at in (code, rest) if at is not None):
            raise _damaged(self.archive, stored, f"has chunks of {stored.parts[code].chunk} elements")

        def load(chunk: int, start: int, count: int) -> Reference:
            codes = self._chunk(index, code, chunk, TensorSpec("U8", (count,)))
            known = known_block(quantizer, codes, start, spec, side)
            if near is not None:
                return Reference(near.add(known.values, start))
            if rest is None or self.first:
                return known
            return Reference(self._chunk(index, rest, chunk, flat_spec(spec, count), known))

        return [
            Piece(start, count, 2 * QUANTIZED_COST * count, partial(load, chunk, start, count))
            for chunk, (start, count) in enumerate(runs(spec.elements, quantizer.block_multiple(spec)))
        ]

    def _whole(self, index: int, pipeline: Pipeline, near: Near | None) -> Reference:
        stored = self.archive.manifest.units[index]
        spec = stored.unit.spec
        prefix = "" if near is None else _REST
        if self.first and near is None:
            pipeline = pipeline.first
        names = [part.name.removeprefix(prefix) for part in stored.parts]
        wanted = [at for at, name in enumerate(names) if pipeline.has_residual or not name.startswith(_REST)]
        parts = {names[at]: self._part(index, at) for at in wanted}
        decoded = pipeline.decode(parts, spec).reshape(-1)
        if near is not None:
            return Reference(near.add(decoded, 0))
        if pipeline.rest is None or pipeline.has_residual:
            return known_of(pipeline, parts, spec, decoded)
        at = next(at for at, part in enumerate(stored.parts) if part.name == _REST_DATA)
        if stored.parts[at].chunk != CHUNK_LIMIT:
            raise ValueError(f"chunks of {stored.parts[at].chunk} elements")
        exact = load_rest(self._chunks(index, at), spec, parts, pipeline, decoded)
        return Reference(exact.view(spec.storage))

    def _part(self, index: int, number: int) -> Values:
        part = self.archive.manifest.units[index].parts[number]
        return join_chunks(part.spec, part.bits, part.chunk, self._chunks(index, number))

    def _chunks(self, index: int, number: int) -> list[tuple[str, bytes]]:
        part = self.archive.manifest.units[index].parts[number]
        return [
            (part.storage[chunk.chain], self.archive.read_chunk(index, number, at))
            for at, chunk in enumerate(part.chunks)
        ]

    def _chunk(self, index: int, number: int, chunk: int, spec: TensorSpec, known: Reference | None = None) -> Array:
        part = self.archive.manifest.units[index].parts[number]
        data = self.archive.read_chunk(index, number, chunk)
        return load(data, part.storage[part.chunks[chunk].chain], spec, part.bits, known=known)

    def _sound(self, stored: StoredUnit, decode: Callable[..., T], *arguments: object) -> T:
        """Call a decoding function; what a forged part makes it raise becomes an `ArchiveError`."""
        try:
            return decode(*arguments)
        except FORGED as problem:
            raise _damaged(self.archive, stored, f"cannot be decoded ({problem})") from None


def _pipeline(archive: ArchiveFile, stored: StoredUnit) -> Pipeline:
    try:
        return _parse(stored.pipeline)
    except UsageError as problem:
        raise ArchiveError(
            f"{archive.path}: {stored.unit.label} has the pipeline {stored.pipeline!r} ({problem.message})",
            "upgrade bale",
        ) from None


def _bytes_of(load: Load) -> Array:
    return flat_bytes(np.ascontiguousarray(load().values))


def _check_parts(archive: ArchiveFile, stored: StoredUnit, pipeline: Pipeline) -> None:
    """The parts are those that the pipeline can put out for this spec."""
    exact = [_REST_DATA] if pipeline.rest is not None and pipeline.rest.is_exact else []
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


_parse = lru_cache(maxsize=1024)(Pipeline.parse)
_REST, _REST_DATA = "rest.", "rest.data"
NO_BASE = "name the base with --base"


def _dtypes(bound: str) -> tuple[str, ...]:
    """The dtypes that a part may have where its bound has one: scales are as narrow as they can be."""
    return ("F16", "F32") if bound == "F32" else (bound,)
