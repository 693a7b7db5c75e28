"""Coding units: in several ways, each of which leaves behind how to check what it stored."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import xxhash

from bale.compressors.base import Place, Quantizer, Reference, Values
from bale.compressors.floats import from_float32, to_float32
from bale.compressors.importance import Importance
from bale.compressors.pipeline import Pipeline
from bale.engine.base import BaseTensor
from bale.engine.coded import Coded, CodedPart, coded_part, coded_rest
from bale.engine.layers import compared, known_block, known_of, load_rest
from bale.engine.measured import Measured, check_finite, exact_sums
from bale.engine.run import WHOLE_COST, Job, Run
from bale.engine.source import SourceFile, all_finite, numbers
from bale.engine.statistics import Statistics
from bale.engine.storage import (
    EXACT,
    QUANTIZED_COST,
    chunk_cost,
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


@dataclass(frozen=True)
class Encoder:
    """Codes the units of one source file.

    `measure` tells whether the norms of exactly coded tensors are wanted, for the pooled error of a plan with loss.
    `statistics` tell the encoders with loss, where there are any, which errors matter.
    """

    source: SourceFile
    run: Run
    measure: bool
    statistics: Statistics | None = None

    def jobs(self, unit: Unit, decision: Decision, base: BaseTensor | None = None) -> Iterator[Job[Coded]]:
        """The jobs that code a unit, in the order of its elements; a long quantized tensor is measured first.

        Raises
        ------
        Refused
            When the data does not suit the pipeline; raised here or by a job.
        """
        whole = decision.pipeline
        pipeline = whole.rest if whole.on_base and whole.rest is not None else whole
        subject = _Subject(unit, whole, base if whole.on_base else None)
        if whole.on_base and base is None:
            raise Refused("there is no tensor of this name and shape in a base", note="no-reference")
        if base is not None and not base.is_near(partial(self._sample, unit)):
            raise Refused("the base's tensor has nothing in common with it", note="reference-unused")
        quantizer = pipeline.transforms[0] if len(pipeline.transforms) == 1 else None
        if not pipeline.transforms:
            yield from self._exact_jobs(subject, forced_chain(decision.otherwise if pipeline.is_exact else pipeline))
        elif isinstance(quantizer, Quantizer) and unit.spec.elements > CHUNK_LIMIT:
            yield from self._quantizer_jobs(subject, quantizer, forced_chain(pipeline))
        else:
            told = 0 if self.statistics is None else self.statistics.size(unit, pipeline)
            yield Job(partial(self._whole, subject, pipeline), WHOLE_COST * unit.spec.nbytes + told)

    def _sample(self, unit: Unit, start: int, count: int) -> Array:
        return self.source.read(unit, start, count, np.empty(flat_spec(unit.spec, count).nbytes, np.uint8))

    def _exact_jobs(self, subject: _Subject, forced: str | None) -> Iterator[Job[Coded]]:
        spec = subject.unit.spec
        for start, count in runs(spec.elements) if spec.elements else [(0, 0)]:
            cost = chunk_cost(flat_spec(spec, count), subject.base is not None)
            yield Job(partial(self._exact, subject, start, count, forced), cost)

    def _exact(self, subject: _Subject, start: int, count: int, forced: str | None) -> Coded:
        began = time.perf_counter()
        unit, base = subject.unit, subject.base
        spec = flat_spec(unit.spec, count)
        buffer = self.run.buffers.lease(spec.nbytes)
        array = self.source.read(unit, start, count, buffer)
        known = None if base is None or not count else base.known(start, count)
        chunks = (store(Values(spec, array, place=Place(unit.spec.shape, start)), forced, known),) if count else ()
        values = numbers(array, spec) if self.measure else None
        errors = ErrorSums.exact(values) if values is not None and all_finite(values) else None

        def decode(stored: Sequence[bytes]) -> Array:
            if not chunks:
                return np.empty(0, np.uint8)
            known = None if base is None or chunks[0][0] != EXACT else base.known(start, count)
            return flat_bytes(load(stored[0], chunks[0][0], spec, None, known=known))

        return Coded(
            parts=(CodedPart(subject.part("data"), unit.spec, None, CHUNK_LIMIT, chunks),),
            decoded=buffer,
            decode=decode,
            errors=errors,
            exact_size=spec.nbytes,
            seconds=time.perf_counter() - began,
            cost=chunk_cost(spec, known is not None),
            leased=True,
        )

    def _whole(self, subject: _Subject, pipeline: Pipeline) -> Coded:
        """Code a tensor that is held in memory as a whole."""
        began = time.perf_counter()
        unit, spec = subject.unit, subject.unit.spec
        buffer = self.run.buffers.lease(spec.nbytes)
        source = self.source.read(unit, 0, spec.elements, buffer)
        seen = xxhash.xxh3_128_hexdigest(buffer.data)
        array = subject.less_base(source, 0)
        for start, count in runs(spec.elements):
            check_finite(to_float32(array[start : start + count], spec))
        use = self._use(unit, pipeline)
        leaves = pipeline.encode(Values(spec, array.reshape(spec.shape), importance=use))
        compiled = pipeline.rest is not None and pipeline.rest.is_exact
        parts = tuple(
            coded_part(subject.part(name), values, forced_chain(pipeline.layer_of(name)), compiled)
            for name, values in leaves.items()
        )
        lossy = subject.with_base(pipeline.decode(leaves, spec).reshape(-1), 0)
        measured = Measured.of_whole(source, lossy, spec, use)
        shapes = [(part.name, part.spec, part.bits, part.chunk, [chain for chain, _ in part.chunks]) for part in parts]

        def decode_first(stored: Iterator[bytes]) -> tuple[Array, dict[str, Values]]:
            loaded = {
                name.removeprefix(subject.prefix): join_chunks(part, bits, chunk, [(c, next(stored)) for c in chains])
                for name, part, bits, chunk, chains in shapes
            }
            return subject.with_base(pipeline.decode(loaded, spec).reshape(-1), 0), loaded

        if pipeline.rest is not None and pipeline.rest.is_exact:
            known = known_of(pipeline, leaves, spec, lossy)
            rest = coded_rest(Values(spec, source), known)

            def decode(stored: Sequence[bytes]) -> Array:
                chunks = iter(stored)
                again, loaded = decode_first(chunks)
                return load_rest([(chain, next(chunks)) for chain, _ in rest.chunks], spec, loaded, pipeline, again)

            seconds, cost = time.perf_counter() - began, WHOLE_COST * spec.nbytes
            exact = exact_sums(source, spec) if self.measure else None
            first = flat_bytes(lossy), measured.errors
            return Coded((*parts, rest), buffer, decode, exact, spec.nbytes, seconds, cost, True, *first)
        exact_size = spec.nbytes
        if 2 * sum(part.size for part in parts) > spec.nbytes:
            exact_size = sum(
                len(store(Values(flat_spec(spec, count), source[start : start + count]))[1])
                for start, count in runs(spec.elements)
            )
        one = None
        if pipeline.has_residual and subject.base is None:
            one = pipeline.first.decode(leaves, spec).reshape(-1)
        sums = None if one is None else Measured.between(source, one, spec, None).errors
        stored = sum(part.size for part in parts)
        note = compared(pipeline, leaves, Values(spec, array), measured.errors.error2, stored)
        self.run.buffers.release(buffer)
        return Coded(
            parts,
            flat_bytes(lossy),
            lambda stored: flat_bytes(decode_first(iter(stored))[0]),
            measured.errors,
            exact_size,
            time.perf_counter() - began,
            WHOLE_COST * spec.nbytes,
            first=None if one is None else flat_bytes(one),
            first_errors=sums,
            notes=(note,) if note else (),
            harm=measured.harm,
            outputs=measured.outputs,
            source=seen,
        )

    def _quantizer_jobs(self, subject: _Subject, quantizer: Quantizer, forced: str | None) -> Iterator[Job[Coded]]:
        """Measure a long tensor block by block, then code it block by block; the side parts come last.

        The second layer is coded in a second pass, as the chunks of a part stand one behind the other.
        """
        spec = subject.unit.spec
        bits = next(part.bits for part in quantizer.parts(spec) if part.name == quantizer.code)
        use = self._use(subject.unit, subject.pipeline)
        block = _Block(subject, quantizer, bits, self._side(subject, quantizer, use), forced, use)
        blocks = list(runs(spec.elements, quantizer.block_multiple(spec)))
        for start, count in blocks:
            yield Job(partial(self._quantized, block, start, count), QUANTIZED_COST * count)
        yield Job(partial(_side_parts, block), sum(values.array.nbytes for values in block.side.values()))
        if subject.has_rest:
            for start, count in blocks:
                yield Job(partial(self._rest, block, start, count), 2 * QUANTIZED_COST * count)

    def _use(self, unit: Unit, pipeline: Pipeline) -> Importance | None:
        return None if self.statistics is None else self.statistics.use(unit, pipeline)

    def _side(self, subject: _Subject, quantizer: Quantizer, use: Importance | None) -> Mapping[str, Values]:
        """The side parts of a long tensor, measured in the quantizer's rounds."""
        known: Mapping[str, Array] = {}
        spec = subject.unit.spec
        for _ in range(quantizer.passes(spec)):
            jobs = (
                (
                    start,
                    Job(partial(self._measure, subject, quantizer, start, count, known, use), QUANTIZED_COST * count),
                )
                for start, count in runs(spec.elements, quantizer.block_multiple(spec))
            )
            measured = self.run.ordered(jobs)
            known = quantizer.fit([future.result() for _, future in measured], spec, known)
        return quantizer.side_info(known, spec)

    def _read(self, subject: _Subject, start: int, count: int) -> tuple[Array, Array, Array]:
        """A leased buffer, the source's elements in it, and the float32 values that the quantizer is to code."""
        spec = flat_spec(subject.unit.spec, count)
        buffer = self.run.buffers.lease(spec.nbytes)
        source = self.source.read(subject.unit, start, count, buffer)
        digest = xxhash.xxh3_64_intdigest(buffer.data)
        if subject.seen.setdefault(start, digest) != digest:  # what a pass has measured is not what the next one codes
            raise self.source.differs(subject.unit.label)
        return buffer, source, to_float32(subject.less_base(source, start), spec)

    def _measure(
        self,
        subject: _Subject,
        quantizer: Quantizer,
        start: int,
        count: int,
        known: Mapping[str, Array],
        use: Importance | None,
    ) -> dict[str, Array]:
        buffer, _, values = self._read(subject, start, count)
        check_finite(values)
        measured = quantizer.observe(values, start, subject.unit.spec, known, use)
        self.run.buffers.release(buffer)
        return measured

    def _quantized(self, block: _Block, start: int, count: int) -> Coded:
        began = time.perf_counter()
        subject, quantizer = block.subject, block.quantizer
        unit, spec = subject.unit, flat_spec(subject.unit.spec, count)
        buffer, source, values = self._read(subject, start, count)
        codes = quantizer.encode_block(values, start, unit.spec, block.side)
        place = Place(unit.spec.shape, start)
        chunk = store(
            Values(TensorSpec("U8", (count,)), codes, block.bits, place), block.forced, compiled=subject.has_rest
        )
        exact_size = spec.nbytes
        if 2 * len(chunk[1]) > spec.nbytes and not subject.has_rest:
            exact_size = len(store(Values(spec, source))[1])
        decoded = block.decoded(codes, start)
        measured = Measured.between(source, decoded, spec, block.weights(start), place)
        length = chunk_length(quantizer.block_multiple(unit.spec))

        def decode(stored: Sequence[bytes]) -> Array:
            again = load(stored[0], chunk[0], TensorSpec("U8", (count,)), block.bits)
            return flat_bytes(block.decoded(again, start))

        name = subject.part(quantizer.code)
        part = CodedPart(name, TensorSpec("U8", unit.spec.shape), block.bits, length, (chunk,))
        seconds, cost = time.perf_counter() - began, QUANTIZED_COST * count
        if subject.has_rest:
            self.run.buffers.release(buffer)
            first, nothing = flat_bytes(decoded), np.empty(0, np.uint8)
            return Coded((part,), nothing, decode, None, 0, seconds, cost, first=first, first_errors=measured.errors)
        return Coded(
            (part,),
            flat_bytes(decoded),
            decode,
            measured.errors,
            exact_size,
            seconds,
            cost,
            harm=measured.harm,
            outputs=measured.outputs,
            source=buffer,
        )

    def _rest(self, block: _Block, start: int, count: int) -> Coded:
        """What the first layer of a block leaves over; its codes are made again, which is quicker than keeping them."""
        began = time.perf_counter()
        unit, spec = block.subject.unit, flat_spec(block.subject.unit.spec, count)
        buffer, source, values = self._read(block.subject, start, count)
        codes = block.quantizer.encode_block(values, start, unit.spec, block.side)
        known = block.known(codes, start)
        chunk = store(Values(spec, source, place=Place(unit.spec.shape, start)), None, known)

        def decode(stored: Sequence[bytes]) -> Array:
            return flat_bytes(load(stored[0], chunk[0], spec, None, known=block.known(codes, start)))

        length = chunk_length(block.quantizer.block_multiple(unit.spec))
        part = CodedPart(block.subject.part("rest.data"), unit.spec, None, length, (chunk,))
        errors = exact_sums(source, spec) if self.measure else None
        seconds, cost = time.perf_counter() - began, QUANTIZED_COST * count
        return Coded((part,), buffer, decode, errors, spec.nbytes, seconds, cost, leased=True)


@dataclass(frozen=True)
class _Subject:
    """A unit, how it is coded, and the tensor of the base if that is the first layer.

    `seen` has digests of the blocks that are read more than once.
    """

    unit: Unit
    pipeline: Pipeline
    base: BaseTensor | None
    seen: dict[int, int] = field(default_factory=dict)

    @property
    def prefix(self) -> str:
        """What stands before the names of its parts."""
        return "" if self.base is None else "rest."

    def part(self, name: str) -> str:
        """Name of a part."""
        return self.prefix + name

    @property
    def has_rest(self) -> bool:
        """Whether a lossy layer is followed by the exact rest."""
        return self.pipeline.rest is not None and not self.pipeline.on_base

    def less_base(self, array: Array, start: int) -> Array:
        """What a lossy layer is to code of some elements."""
        return array if self.base is None else self.base.subtract(array, start)

    def with_base(self, array: Array, start: int) -> Array:
        """Elements again, from what was decoded; the mirror image of `less_base`."""
        return array if self.base is None else self.base.add(array, start)


@dataclass(frozen=True)
class _Block:
    """What the jobs of a long quantized tensor share."""

    subject: _Subject
    quantizer: Quantizer
    bits: int | None
    side: Mapping[str, Values]
    forced: str | None
    use: Importance | None

    def weights(self, start: int) -> Callable[[int, int], Array] | None:
        """How much errors of elements count, that are numbered from `start` on."""
        use, shape = self.use, self.subject.unit.spec.shape
        return None if use is None else lambda at, count: use.weights(shape, start + at, count)

    def decoded(self, codes: Array, start: int) -> Array:
        """Storage bits of the elements that codes stand for."""
        spec = self.subject.unit.spec
        values = self.quantizer.decode_block(codes, start, spec, self.side)
        return self.subject.with_base(from_float32(values, flat_spec(spec, codes.size)), start)

    def known(self, codes: Array, start: int) -> Reference:
        """What codes tell of the elements."""
        return known_block(self.quantizer, codes, start, self.subject.unit.spec, self.side)


def _side_parts(block: _Block) -> Coded:
    """Code the side parts; they have no values of their own, and are checked as they are."""
    parts = tuple(
        coded_part(block.subject.part(name), values, block.forced, block.subject.has_rest)
        for name, values in block.side.items()
    )
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

    nothing, cost = np.empty(0, np.uint8), sum(part.spec.nbytes for part in parts)
    if block.subject.has_rest:
        return Coded(parts, nothing, decode, None, 0, 0.0, cost, first=nothing, first_errors=ErrorSums())
    return Coded(parts, nothing, decode, ErrorSums(), 0, 0.0, cost)


def _digest_of(items: Iterable[Values]) -> bytes:
    digest = xxhash.xxh3_128()
    for values in items:
        digest.update(flat_bytes(np.ascontiguousarray(values.array)).data)
    return digest.digest()
