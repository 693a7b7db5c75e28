"""Exact coding: each chunk by itself, or given the same elements of a reference."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from bale.compressors.base import Place, Reference, Values
from bale.compressors.chunks import EXACT, chunk_ranges, encode_chunk, flat_spec
from bale.compressors.floats import all_finite, numbers
from bale.engine.coding.encoded import Check, Encoded, EncodedPart, Measures
from bale.engine.coding.stored import DecodeTask, Stored, load_chunk
from bale.engine.coding.task import Task, Work
from bale.engine.run import Job
from bale.metrics import ErrorSums
from bale.spec import TensorSpec


@dataclass(frozen=True)
class ExactCoding:
    """A unit as one part, ``data``, chunk by chunk."""

    task: Task

    def jobs(self, work: Work) -> Iterator[Job[Encoded]]:
        """One job a chunk."""
        spec = self.task.spec
        for start, count in list(chunk_ranges(spec.elements, self.task.limit)) or [(0, 0)]:
            yield Job(partial(self._encode, work, start, count), self._cost(flat_spec(spec, count)))

    def decode_tasks(self, stored: Stored) -> list[DecodeTask]:
        """One task a chunk."""
        spec = self.task.spec
        return [
            DecodeTask(start, count, self._cost(flat_spec(spec, count)), partial(self._decode, stored, at, start))
            for at, (start, count) in enumerate(chunk_ranges(spec.elements, stored.parts[0].chunk))
        ]

    def _encode(self, work: Work, start: int, count: int) -> Encoded:
        began = time.perf_counter()
        task, spec = self.task, flat_spec(self.task.spec, count)
        buffer = work.run.buffers.lease(spec.nbytes)
        array = work.source.read(start, count, buffer)
        reference = None if task.reference is None or not count else task.reference.elements(start, count)
        values = Values(spec, array, place=Place(task.spec.shape, start))
        chunks = (encode_chunk(values, work.chain(task), reference),) if count else ()
        measured = numbers(array, spec) if work.measure else None
        errors = ErrorSums.exact(measured) if measured is not None and all_finite(measured) else None
        return Encoded(
            (EncodedPart(f"{task.prefix}data", task.spec, None, task.limit, chunks),),
            Check(buffer, leased=(buffer,)),
            Measures(time.perf_counter() - began, errors, spec.nbytes),
        )

    def _decode(self, stored: Stored, chunk: int, start: int) -> Reference:
        part = stored.parts[0]
        count = min(part.chunk, part.spec.elements - start)
        reference = self.task.reference if part.chains[chunk] == EXACT else None
        given = None if reference is None else reference.elements(start, count)
        return Reference(load_chunk(stored, 0, chunk, flat_spec(part.spec, count), given))

    def _cost(self, spec: TensorSpec) -> int:
        """Bytes in memory while a chunk is coded or decoded: source, result, and temporary arrays of differences."""
        return 2 * spec.nbytes if self.task.reference is None else 4 * spec.nbytes + 16 * spec.elements


def empty(spec: TensorSpec) -> DecodeTask:
    """The only task of a unit without elements."""
    return DecodeTask(0, 0, 0, lambda: Reference(np.empty(0, spec.storage)))
