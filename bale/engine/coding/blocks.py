"""Coding of a long quantized tensor in blocks: observed block by block, then coded block by block."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial

import xxhash

from bale.compressors.base import Place, Quantizer, Reference, Values
from bale.compressors.chunks import chunk_ranges, encode_chunk, flat_bytes, flat_spec
from bale.compressors.floats import to_float32
from bale.compressors.importance import Importance
from bale.engine.coding.distortion import Distortion, check_finite, exact_sums
from bale.engine.coding.encoded import Check, Encoded, EncodedPart, Measures, encode_part
from bale.engine.coding.first_layer import reference_of_block
from bale.engine.coding.stored import DecodeTask, Stored, load_chunk, load_part, numbers_of
from bale.engine.coding.task import QUANTIZED_COST, SECOND_EXACT, Task, Work
from bale.engine.run import Job
from bale.spec import Array, TensorSpec


@dataclass(frozen=True)
class BlockCoding:
    """A unit as codes in blocks, then side information, then, of two layers, the exact one.

    Each kind stands in a pass of its own, as the chunks of a part lie back to back.
    """

    task: Task
    quantizer: Quantizer

    @property
    def length(self) -> int:
        """Elements of a block, which are those of a chunk."""
        multiple = self.quantizer.block_multiple(self.task.spec)
        return self.task.limit // multiple * multiple

    def jobs(self, work: Work) -> Iterator[Job[Encoded]]:
        """One job a block and pass; the blocks are observed before the first one is handed out."""
        importance, seen = work.importance(), _Seen(work)
        side = self._observe(work, seen, importance)
        encoder = _BlockEncoder(self, work, side, seen, importance)
        blocks = list(self.blocks())
        for start, count in blocks:
            yield Job(partial(encoder.codes, start, count), QUANTIZED_COST * count)
        yield Job(encoder.side_parts, sum(values.array.nbytes for values in side.values()))
        if self.task.has_exact_layer:
            for start, count in blocks:
                yield Job(partial(encoder.exact_layer, start, count), 2 * QUANTIZED_COST * count)

    def decode_tasks(self, stored: Stored) -> list[DecodeTask]:
        """One task a block; the first one that is run decodes the side information for all."""
        numbers = numbers_of(stored, self.task.prefix)
        code, exact = numbers.pop(self.quantizer.code), numbers.pop(SECOND_EXACT, None)
        exact = exact if self.task.has_exact_layer else None
        for number in (code, exact):
            if number is not None and stored.parts[number].chunk != self.length:
                raise ValueError(f"chunks of {stored.parts[number].chunk} elements")
        side = _Side(stored, numbers)
        return [
            DecodeTask(
                start,
                count,
                2 * QUANTIZED_COST * count,
                partial(self._decode, stored, (code, exact), side, chunk, start, count),
            )
            for chunk, (start, count) in enumerate(self.blocks())
        ]

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Start and length of each block."""
        return chunk_ranges(self.task.spec.elements, self.length)

    def _decode(
        self,
        stored: Stored,
        numbers: tuple[int, int | None],
        side: _Side,
        chunk: int,
        start: int,
        count: int,
    ) -> Reference:
        code, exact = numbers
        codes = load_chunk(stored, code, chunk, TensorSpec("U8", (count,)))
        first = self.first_layer(codes, start, side.parts)
        if exact is None:
            return first
        return Reference(load_chunk(stored, exact, chunk, flat_spec(self.task.spec, count), first))

    def first_layer(self, codes: Array, start: int, side: Mapping[str, Values]) -> Reference:
        """Elements that codes stand for, and the ends of their cells, unless a reference has been added."""
        reference = reference_of_block(self.quantizer, codes, start, self.task.spec, side)
        if self.task.reference is None:
            return reference
        return Reference(self.task.with_reference(reference.values, start))

    def _observe(self, work: Work, seen: _Seen, importance: Importance | None) -> Mapping[str, Values]:
        """The side information of a tensor, found in the quantizer's passes."""
        state: Mapping[str, Array] = {}
        spec = self.task.spec
        for _ in range(self.quantizer.passes(spec)):
            jobs = (
                (
                    start,
                    Job(partial(self._observe_block, seen, start, count, state, importance), QUANTIZED_COST * count),
                )
                for start, count in self.blocks()
            )
            observed = work.run.ordered(jobs)
            state = self.quantizer.fit([future.result() for _, future in observed], spec, state)
        return self.quantizer.side_info(state, spec)

    def _observe_block(
        self, seen: _Seen, start: int, count: int, state: Mapping[str, Array], importance: Importance | None
    ) -> dict[str, Array]:
        buffer, _, values = seen.read(self.task, start, count)
        check_finite(values)
        observed = self.quantizer.observe(values, start, self.task.spec, state, importance)
        seen.work.run.buffers.release(buffer)
        return observed


class _Side:
    """The side information of a stored tensor, decoded once."""

    def __init__(self, stored: Stored, numbers: Mapping[str, int]) -> None:
        self._stored, self._numbers, self._lock = stored, numbers, threading.Lock()

    @property
    def parts(self) -> Mapping[str, Values]:
        """Its parts by name; any thread may ask."""
        with self._lock:
            return self._parts

    @cached_property
    def _parts(self) -> Mapping[str, Values]:
        return {name: load_part(self._stored, number) for name, number in self._numbers.items()}


@dataclass(frozen=True)
class _Seen:
    """The blocks of a source, of which every pass must read the same bytes."""

    work: Work
    digests: dict[int, int] = field(default_factory=dict)

    def read(self, task: Task, start: int, count: int) -> tuple[Array, Array, Array]:
        """A leased buffer, the source's elements in it, and the float32 values that the quantizer is to code."""
        spec = flat_spec(task.spec, count)
        buffer = self.work.run.buffers.lease(spec.nbytes)
        source = self.work.source.read(start, count, buffer)
        digest = xxhash.xxh3_64_intdigest(buffer.data)
        if self.digests.setdefault(start, digest) != digest:
            raise self.work.source.differs()
        return buffer, source, to_float32(task.less_reference(source, start), spec)


@dataclass(frozen=True)
class _BlockEncoder:
    """The jobs of one tensor, once its side information is known."""

    coding: BlockCoding
    work: Work
    side: Mapping[str, Values]
    seen: _Seen
    importance: Importance | None

    def codes(self, start: int, count: int) -> Encoded:
        """Quantize a block."""
        began = time.perf_counter()
        task, spec = self.coding.task, flat_spec(self.coding.task.spec, count)
        buffer, source, codes = self._quantize(start, count)
        place = Place(task.spec.shape, start)
        chain, data = encode_chunk(
            Values(TensorSpec("U8", (count,)), codes, self._bits, place),
            self.work.chain(task),
            compiled=task.has_exact_layer,
        )
        decoded = self.coding.first_layer(codes, start, self.side).values
        distortion = Distortion.between(source, decoded, spec, self._weights(start), place)
        part = EncodedPart(
            f"{task.prefix}{self.coding.quantizer.code}",
            TensorSpec("U8", task.spec.shape),
            self._bits,
            self.coding.length,
            ((chain, data),),
        )
        if task.has_exact_layer:
            self.work.run.buffers.release(buffer)
            seconds = time.perf_counter() - began
            return Encoded((part,), Check(first=flat_bytes(decoded)), Measures(seconds, first_errors=distortion.errors))
        lossless_bytes = spec.nbytes
        if 2 * len(data) > spec.nbytes:
            lossless_bytes = len(encode_chunk(Values(spec, source))[1])
        return Encoded(
            (part,),
            Check(flat_bytes(decoded), source=buffer, leased=(buffer,)),
            Measures(
                time.perf_counter() - began,
                distortion.errors,
                lossless_bytes,
                harm=distortion.harm,
                outputs=distortion.outputs,
            ),
        )

    def side_parts(self) -> Encoded:
        """Code the side information, which has no values of its own."""
        task, chain = self.coding.task, self.work.chain(self.coding.task)
        return Encoded(
            tuple(
                encode_part(f"{task.prefix}{name}", values, chain, task.has_exact_layer)
                for name, values in self.side.items()
            ),
        )

    def exact_layer(self, start: int, count: int) -> Encoded:
        """Code a block given its first layer; its codes are made again, which is quicker than keeping them."""
        began = time.perf_counter()
        task, spec = self.coding.task, flat_spec(self.coding.task.spec, count)
        buffer, source, codes = self._quantize(start, count)
        values = Values(spec, source, place=Place(task.spec.shape, start))
        chunk = encode_chunk(values, None, self.coding.first_layer(codes, start, self.side))
        errors = exact_sums(source, spec) if self.work.measure else None
        return Encoded(
            (EncodedPart(SECOND_EXACT, task.spec, None, self.coding.length, (chunk,)),),
            Check(buffer, leased=(buffer,)),
            Measures(time.perf_counter() - began, errors, spec.nbytes),
        )

    def _quantize(self, start: int, count: int) -> tuple[Array, Array, Array]:
        """A leased buffer, the source's elements in it, and their codes."""
        buffer, source, values = self.seen.read(self.coding.task, start, count)
        return buffer, source, self.coding.quantizer.encode_block(values, start, self.coding.task.spec, self.side)

    @property
    def _bits(self) -> int | None:
        quantizer = self.coding.quantizer
        return next(part.bits for part in quantizer.parts(self.coding.task.spec) if part.name == quantizer.code)

    def _weights(self, start: int) -> Callable[[int, int], Array] | None:
        """Importance of the elements from `start` on."""
        importance, shape = self.importance, self.coding.task.spec.shape
        return None if importance is None else lambda at, count: importance.weights(shape, start + at, count)
