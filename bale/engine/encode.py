"""Coding units: three ways, each of which leaves behind how to check what it stored."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import xxhash

from bale.compressors.base import Quantizer, Values
from bale.compressors.floats import from_float32, to_float32
from bale.compressors.pipeline import Pipeline
from bale.engine.run import WHOLE_COST, Job, Run
from bale.engine.source import SourceFile, all_finite, numbers
from bale.engine.storage import (
    QUANTIZED_COST,
    chunk_length,
    flat_bytes,
    flat_spec,
    forced_chain,
    join_chunks,
    load,
    runs,
    store,
)
from bale.errors import Refused
from bale.io.manifest import CHUNK_LIMIT
from bale.metrics import ErrorSums
from bale.plan import Decision
from bale.spec import Array, TensorSpec, Unit

Decode = Callable[[Sequence[bytes]], Array]  # the stored bytes of a block's chunks -> the bytes of its values


@dataclass(frozen=True)
class CodedPart:
    """Stored bytes of consecutive chunks of one part."""

    name: str
    spec: TensorSpec
    bits: int | None
    chunk: int
    chunks: tuple[tuple[str, bytes | bytearray | memoryview], ...]

    @property
    def size(self) -> int:
        """Stored bytes."""
        return sum(len(data) for _, data in self.chunks)


@dataclass(frozen=True)
class Coded:
    """What one job made of a block.

    Attributes
    ----------
    parts : tuple of CodedPart
        To be stored.
    decoded : uint8 array
        The bytes of the values that will be read back, little-endian; a leased buffer when `leased`.
    decode : callable
        Maps the stored bytes of all chunks, in order, to the bytes of the decoded values.
    errors : ErrorSums or None
        None for exact coding in a plan without loss, and for what are not numbers.
    cost : int
        Bytes in memory while the stored bytes are decoded again.
    exact_size : int
        Bytes that exact coding would take where that may be fewer; else the plain bytes.
    """

    parts: tuple[CodedPart, ...]
    decoded: Array
    decode: Decode
    errors: ErrorSums | None
    exact_size: int
    seconds: float
    cost: int
    leased: bool = False


@dataclass(frozen=True)
class Encoder:
    """Codes the units of one source file.

    `measure` tells whether the norms of exactly coded tensors are wanted, for the pooled error of a plan with loss.
    """

    source: SourceFile
    run: Run
    measure: bool

    def jobs(self, unit: Unit, decision: Decision) -> Iterator[Job[Coded]]:
        """The jobs that code a unit, in the order of its elements; a long quantized tensor is measured first.

        Raises
        ------
        Refused
            When the data does not suit the pipeline; raised here or by a job.
        """
        pipeline = decision.pipeline
        quantizer = pipeline.transforms[0] if len(pipeline.transforms) == 1 else None
        if not pipeline.transforms:
            yield from self._exact_jobs(unit, forced_chain(pipeline))
        elif isinstance(quantizer, Quantizer) and unit.spec.elements > CHUNK_LIMIT:
            yield from self._quantizer_jobs(unit, quantizer, forced_chain(pipeline))
        else:
            yield Job(partial(self._whole, unit, pipeline), WHOLE_COST * unit.spec.nbytes)

    def _exact_jobs(self, unit: Unit, forced: str | None) -> Iterator[Job[Coded]]:
        for start, count in runs(unit.spec.elements) if unit.spec.elements else [(0, 0)]:
            size = flat_spec(unit.spec, count).nbytes
            yield Job(partial(self._exact, unit, start, count, forced), 2 * size)

    def _exact(self, unit: Unit, start: int, count: int, forced: str | None) -> Coded:
        began = time.perf_counter()
        spec = flat_spec(unit.spec, count)
        buffer = self.run.buffers.lease(spec.nbytes)
        array = self.source.read(unit, start, count, buffer)
        chunks = (store(Values(spec, array), forced),) if count else ()
        values = numbers(array, spec) if self.measure else None
        errors = ErrorSums.exact(values) if values is not None and all_finite(values) else None
        return Coded(
            parts=(CodedPart("data", unit.spec, None, CHUNK_LIMIT, chunks),),
            decoded=buffer,
            decode=lambda stored: self._load(stored, chunks, spec),
            errors=errors,
            exact_size=spec.nbytes,
            seconds=time.perf_counter() - began,
            cost=2 * spec.nbytes,
            leased=True,
        )

    def _load(self, stored: Sequence[bytes], chunks: Sequence[tuple[str, object]], spec: TensorSpec) -> Array:
        if not chunks:
            return np.empty(0, np.uint8)
        return flat_bytes(load(stored[0], chunks[0][0], spec, None))

    def _whole(self, unit: Unit, pipeline: Pipeline) -> Coded:
        """Code a tensor that is held in memory as a whole."""
        began = time.perf_counter()
        spec = unit.spec
        buffer = self.run.buffers.lease(spec.nbytes)
        array = self.source.read(unit, 0, spec.elements, buffer).reshape(spec.shape)
        _check_finite(to_float32(array, spec))
        leaves = pipeline.encode(Values(spec, array))
        forced = forced_chain(pipeline)
        parts = tuple(_coded_part(name, values, forced) for name, values in leaves.items())
        size = sum(part.size for part in parts)
        exact_size = spec.nbytes
        if 2 * size > spec.nbytes:
            flat = array.reshape(-1)
            exact = (
                store(Values(flat_spec(spec, count), flat[start : start + count])) for start, count in runs(flat.size)
            )
            exact_size = sum(len(data) for _, data in exact)
        decoded = pipeline.decode(leaves, spec)
        errors = ErrorSums.between(_numbers(array, spec), _numbers(decoded, spec))
        self.run.buffers.release(buffer)
        shapes = [(part.name, part.spec, part.bits, part.chunk, [chain for chain, _ in part.chunks]) for part in parts]

        def decode(stored: Sequence[bytes]) -> Array:
            rest = iter(stored)
            return flat_bytes(
                pipeline.decode(
                    {
                        name: join_chunks(part, bits, chunk, [(chain, next(rest)) for chain in chains])
                        for name, part, bits, chunk, chains in shapes
                    },
                    spec,
                )
            )

        seconds, cost = time.perf_counter() - began, WHOLE_COST * spec.nbytes
        return Coded(parts, flat_bytes(decoded), decode, errors, exact_size, seconds, cost)

    def _quantizer_jobs(self, unit: Unit, quantizer: Quantizer, forced: str | None) -> Iterator[Job[Coded]]:
        """Measure a long tensor block by block, then code it block by block; the side parts come last."""
        bits = next(part.bits for part in quantizer.parts(unit.spec) if part.name == quantizer.code)
        block = _Block(unit, quantizer, bits, self._side(unit, quantizer), forced)
        for start, count in runs(unit.spec.elements, quantizer.block_multiple(unit.spec)):
            yield Job(partial(self._quantized, block, start, count), QUANTIZED_COST * count)
        yield Job(partial(_side_parts, block), sum(values.array.nbytes for values in block.side.values()))

    def _side(self, unit: Unit, quantizer: Quantizer) -> Mapping[str, Values]:
        """The side parts of a long tensor, measured in the quantizer's rounds."""
        known: Mapping[str, Array] = {}
        for _ in range(quantizer.rounds(unit.spec)):
            jobs = (
                (start, Job(partial(self._measure, unit, quantizer, start, count, known), QUANTIZED_COST * count))
                for start, count in runs(unit.spec.elements, quantizer.block_multiple(unit.spec))
            )
            measured = self.run.ordered(jobs)
            known = quantizer.settle([future.result() for _, future in measured], unit.spec, known)
        return quantizer.side(known, unit.spec)

    def _values(self, unit: Unit, start: int, count: int) -> tuple[Array, Array]:
        """A leased block of a unit, and its values as float32."""
        spec = flat_spec(unit.spec, count)
        buffer = self.run.buffers.lease(spec.nbytes)
        return buffer, to_float32(self.source.read(unit, start, count, buffer), spec)

    def _measure(
        self, unit: Unit, quantizer: Quantizer, start: int, count: int, known: Mapping[str, Array]
    ) -> dict[str, Array]:
        buffer, values = self._values(unit, start, count)
        _check_finite(values)
        measured = quantizer.measure(values, start, unit.spec, known)
        self.run.buffers.release(buffer)
        return measured

    def _quantized(self, block: _Block, start: int, count: int) -> Coded:
        began = time.perf_counter()
        unit, quantizer, side = block.unit, block.quantizer, block.side
        spec = flat_spec(unit.spec, count)
        buffer, values = self._values(unit, start, count)
        codes = quantizer.encode_block(values, start, unit.spec, side)
        chunk = store(Values(TensorSpec("U8", (count,)), codes, block.bits), block.forced)
        exact_size = spec.nbytes
        source = buffer.view(unit.spec.storage)
        if 2 * len(chunk[1]) > spec.nbytes:
            exact_size = len(store(Values(spec, source))[1])
        decoded = from_float32(quantizer.decode_block(codes, start, unit.spec, side), spec)
        errors = ErrorSums.between(_numbers(source, spec), _numbers(decoded, spec))
        self.run.buffers.release(buffer)
        length = chunk_length(quantizer.block_multiple(unit.spec))

        def decode(stored: Sequence[bytes]) -> Array:
            again = load(stored[0], chunk[0], TensorSpec("U8", (count,)), block.bits)
            return flat_bytes(from_float32(quantizer.decode_block(again, start, unit.spec, side), spec))

        part = CodedPart(quantizer.code, TensorSpec("U8", unit.spec.shape), block.bits, length, (chunk,))
        seconds, cost = time.perf_counter() - began, QUANTIZED_COST * count
        return Coded((part,), flat_bytes(decoded), decode, errors, exact_size, seconds, cost)


@dataclass(frozen=True)
class _Block:
    """What the jobs of a long quantized tensor share."""

    unit: Unit
    quantizer: Quantizer
    bits: int | None
    side: Mapping[str, Values]
    forced: str | None


def _side_parts(block: _Block) -> Coded:
    """Code the side parts; they have no values of their own, and are checked as they are."""
    parts = tuple(_coded_part(name, values, block.forced) for name, values in block.side.items())
    kept = np.frombuffer(_digest_of(block.side.values()), np.uint8)

    def decode(stored: Sequence[bytes]) -> Array:
        rest = iter(stored)
        loaded = [
            join_chunks(part.spec, part.bits, part.chunk, [(chain, next(rest)) for chain, _ in part.chunks])
            for part in parts
        ]
        if _digest_of(loaded) != kept.tobytes():
            raise ValueError("side parts differ")
        return np.empty(0, np.uint8)

    return Coded(parts, np.empty(0, np.uint8), decode, ErrorSums(), 0, 0.0, sum(part.spec.nbytes for part in parts))


def _digest_of(items: Iterable[Values]) -> bytes:
    digest = xxhash.xxh3_128()
    for values in items:
        digest.update(flat_bytes(np.ascontiguousarray(values.array)).data)
    return digest.digest()


def _coded_part(name: str, values: Values, forced: str | None) -> CodedPart:
    flat = np.ascontiguousarray(values.array).reshape(-1)
    chunks = tuple(
        store(Values(flat_spec(values.spec, count), flat[start : start + count], values.bits), forced)
        for start, count in runs(values.spec.elements)
    )
    return CodedPart(name, values.spec, values.bits, CHUNK_LIMIT, chunks)


def _numbers(array: Array, spec: TensorSpec) -> Array:
    values = numbers(array, spec)
    if values is None:
        raise TypeError(f"{spec} holds no numbers")  # a codec took what it should have refused
    return values


def _check_finite(values: Array) -> None:
    if not all_finite(values):
        raise Refused("holds NaN or infinity, or values beyond float32: kept lossless")
