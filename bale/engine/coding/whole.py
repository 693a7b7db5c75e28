"""Coding of a tensor that is held in memory as a whole: decompositions, and quantized tensors of one chunk."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import xxhash

from bale.compressors.base import Place, Reference, Values
from bale.compressors.chunks import chunk_ranges, decode_chunk, encode_chunk, flat_bytes, flat_spec, forced_chain
from bale.engine.coding.distortion import Distortion, check_all_finite, exact_sums
from bale.engine.coding.encoded import Check, Encoded, EncodedPart, Measures, encode_part
from bale.engine.coding.first_layer import baseline_note, reference_of
from bale.engine.coding.stored import DecodeTask, Stored, chunks_of, load_part, numbers_of
from bale.engine.coding.task import SECOND, SECOND_EXACT, Task, Work
from bale.engine.run import WHOLE_COST, Job
from bale.spec import Array


@dataclass(frozen=True)
class WholeCoding:
    """A unit as the parts of its pipeline, and, of two layers, the exact one."""

    task: Task

    def jobs(self, work: Work) -> Iterator[Job[Encoded]]:
        """One job."""
        yield Job(partial(self._encode, work), WHOLE_COST * self.task.spec.nbytes + work.importance_bytes)

    def decode_tasks(self, stored: Stored) -> list[DecodeTask]:
        """One task."""
        spec = self.task.spec
        return [DecodeTask(0, spec.elements, WHOLE_COST * spec.nbytes, partial(self._decode, stored))]

    def _decode(self, stored: Stored) -> Reference:
        task, pipeline = self.task, self.task.pipeline
        numbers = numbers_of(stored, task.prefix)
        wanted = {name: at for name, at in numbers.items() if pipeline.has_residual or not name.startswith(SECOND)}
        parts = {name: load_part(stored, at) for name, at in wanted.items()}
        decoded = self._values(parts)
        if task.reference is not None:
            return Reference(decoded)
        first = reference_of(pipeline, parts, task.spec, decoded)
        return self._decode_exact(stored, numbers[SECOND_EXACT], first) if task.has_exact_layer else first

    def _decode_exact(self, stored: Stored, number: int, first: Reference) -> Reference:
        spec, limit = self.task.spec, stored.parts[number].chunk
        if limit != self.task.limit:
            raise ValueError(f"chunks of {limit} elements")
        exact = np.empty(spec.nbytes, np.uint8)
        for (start, count), (chain, data) in zip(
            chunk_ranges(spec.elements, limit), chunks_of(stored, number), strict=True
        ):
            block = flat_spec(spec, count)
            at = start * spec.info.bits // 8
            decode_chunk(data, chain, block, None, exact[at : at + block.nbytes], first.cut(start, start + count))
        return Reference(exact.view(spec.storage))

    def _values(self, parts: Mapping[str, Values]) -> Array:
        """Flat elements, in their storage bits, from the parts of all lossy layers."""
        return self._on_reference(self.task.pipeline.decode(parts, self.task.spec))

    def _on_reference(self, decoded: Array) -> Array:
        """Flat elements, in their storage bits, from what the pipeline has decoded."""
        return self.task.with_reference(decoded.reshape(-1), 0)

    def _encode(self, work: Work) -> Encoded:
        began = time.perf_counter()
        task, pipeline, spec = self.task, self.task.pipeline, self.task.spec
        buffer = work.run.buffers.lease(spec.nbytes)
        source = work.source.read(0, spec.elements, buffer)
        seen = xxhash.xxh3_128_hexdigest(buffer.data)
        array = task.less_reference(source, 0)
        check_all_finite(array, spec)
        importance = work.importance()
        values = Values(spec, array.reshape(spec.shape), importance=importance)
        leaves, decoded = pipeline.encode_and_decode(values)
        parts = tuple(
            encode_part(f"{task.prefix}{name}", values, forced_chain(pipeline.layer_of(name)), task.has_exact_layer)
            for name, values in leaves.items()
        )
        decoded = self._on_reference(decoded)
        distortion = Distortion.of_whole(source, decoded, spec, importance)
        if task.has_exact_layer:
            exact = self._encode_exact(source, reference_of(pipeline, leaves, spec, decoded))
            errors = exact_sums(source, spec) if work.measure else None
            return Encoded(
                (*parts, exact),
                Check(buffer, flat_bytes(decoded), leased=(buffer,)),
                Measures(time.perf_counter() - began, errors, spec.nbytes, first_errors=distortion.errors),
            )
        stored = sum(part.size for part in parts)
        lossless_bytes = self._lossless_bytes(source) if 2 * stored > spec.nbytes else spec.nbytes
        first = first_errors = None
        if pipeline.has_residual and task.reference is None:
            one = pipeline.first.decode(leaves, spec).reshape(-1)
            first, first_errors = flat_bytes(one), Distortion.between(source, one, spec, None).errors
        note = baseline_note(pipeline, leaves, Values(spec, array), distortion.errors.error2, stored)
        work.run.buffers.release(buffer)
        return Encoded(
            parts,
            Check(flat_bytes(decoded), first, seen),
            Measures(
                time.perf_counter() - began,
                distortion.errors,
                lossless_bytes,
                first_errors,
                distortion.harm,
                distortion.outputs,
                (note,) if note else (),
            ),
        )

    def _encode_exact(self, source: Array, first: Reference) -> EncodedPart:
        """The chunks of the exact layer, each given the first one."""
        spec, chunks = self.task.spec, []
        for start, count in chunk_ranges(spec.elements, self.task.limit):
            place = Place(spec.shape, start)
            block = Values(flat_spec(spec, count), source[start : start + count], place=place)
            chunks.append(encode_chunk(block, None, first.cut(start, start + count)))
        return EncodedPart(SECOND_EXACT, spec, None, self.task.limit, tuple(chunks))

    def _lossless_bytes(self, source: Array) -> int:
        """Bytes that exact coding takes."""
        spec = self.task.spec
        return sum(
            len(encode_chunk(Values(flat_spec(spec, count), source[start : start + count]))[1])
            for start, count in chunk_ranges(spec.elements)
        )
