"""A unit of the archive while its chunks arrive."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass, field

import xxhash

from bale.compressors.chunks import PLAIN
from bale.engine.coding.encoded import Encoded, EncodedPart
from bale.engine.coding.harm import Harm, joined, recorded
from bale.io.archive.manifest import Chunk, First, Part, StoredUnit
from bale.metrics import ErrorSums
from bale.notes import DENSE, Note
from bale.planning.decide import Decision
from bale.spec import Array, TensorSpec, Unit

WORTH_A_NOTE = 1 << 12  # bytes


@dataclass
class PartBuilder:
    """A part while its chunks arrive; its first one is to lie at `offset`."""

    spec: TensorSpec
    bits: int | None
    chunk: int
    offset: int
    storage: list[str] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)

    def add(self, chain: str, data: bytes | bytearray | memoryview) -> None:
        """Take the next chunk."""
        if chain not in self.storage:
            self.storage.append(chain)
        digest = xxhash.xxh3_64_hexdigest(data)
        self.chunks.append(Chunk(self.storage.index(chain), memoryview(data).nbytes, digest))

    def finished(self, name: str) -> Part:
        """The part with all its chunks."""
        storage = tuple(self.storage) or (PLAIN,)
        return Part(name, self.spec, self.bits, storage, self.chunk, tuple(self.chunks))


class UnitBuilder:
    """A unit as far as it has been encoded.

    Attributes
    ----------
    final, first : Digests
        Of what all of its layers give back, and the first of two alone.
    """

    def __init__(self) -> None:
        self.parts: dict[str, PartBuilder] = {}
        self.final, self.first = Digests(), Digests()
        self.lossless_bytes = 0
        self.seconds = 0.0
        self._notes: tuple[Note, ...] = ()
        self._harms: list[Harm] = []
        self._source = Digests()
        self._source_digest: str | None = None
        self._errors: list[ErrorSums | None] = []
        self._first_errors: list[ErrorSums] = []
        self._outputs: list[ErrorSums] = []

    @property
    def size(self) -> int:
        """Stored bytes."""
        return sum(chunk.size for part in self.parts.values() for chunk in part.chunks)

    @property
    def errors(self) -> ErrorSums | None:
        """The sums of all its elements, where they were measured."""
        measured = [errors for errors in self._errors if errors is not None]
        return ErrorSums.total(measured) if measured and len(measured) == len(self._errors) else None

    @property
    def outputs(self) -> ErrorSums | None:
        """The sums by importance, where that is known."""
        return ErrorSums.total(self._outputs) if self._outputs else None

    @property
    def source_digest(self) -> str:
        """XXH3-128 of the bytes of the source that were coded, little-endian."""
        if self._source_digest is not None:
            return self._source_digest
        return (self._source if self._source.blocks else self.final).digest

    def part(self, encoded: EncodedPart, offset: int) -> PartBuilder:
        """The part that these chunks belong to, of which the first one lies at an offset."""
        found = PartBuilder(encoded.spec, encoded.bits, encoded.chunk, offset)
        return self.parts.setdefault(encoded.name, found)

    def add(self, encoded: Encoded) -> None:
        """Take values and measures of the next job, whose chunks stand in the parts."""
        check, measures = encoded.check, encoded.measures
        if check.final is not None:
            self.final.add(check.final)
        if check.first is not None:
            self.first.add(check.first)
        if isinstance(check.source, str):
            self._source_digest = check.source
        elif check.source is not None:
            self._source.add(check.source)
        if measures.first_errors is not None:
            self._first_errors.append(measures.first_errors)
        if check.final is not None:
            self._errors.append(measures.errors)
        if measures.outputs is not None:
            self._outputs.append(measures.outputs)
        if measures.harm is not None:
            self._harms.append(measures.harm)
        self._notes += measures.notes
        self.lossless_bytes += measures.lossless_bytes
        self.seconds += measures.seconds

    def finished(self, unit: Unit, decision: Decision, base: str | None) -> StoredUnit:
        """The unit as it stands in the manifest; `base` is the digest of the tensor that it is a difference to."""
        pipeline, notes, sums = decision.pipeline, (*decision.notes, *self._notes), self.errors
        worst_row = None
        if sums is not None and self._harms:
            harm = joined(self._harms)
            notes = (*notes, *harm.notes(sums, pipeline))
            worst_row = recorded(harm.rows.worst_error)
        parts = tuple(part.finished(name) for name, part in self.parts.items())
        if unit.views and self.size == unit.spec.nbytes >= WORTH_A_NOTE and all(part.plain for part in parts):
            notes = (*notes, DENSE)
        first = None
        if self._first_errors:
            first = First(self.first.digest, astuple(ErrorSums.total(self._first_errors)))
        return StoredUnit(
            unit=unit,
            pipeline=str(pipeline),
            rule=decision.rule,
            digest=self.final.digest,
            parts=parts,
            errors=astuple(sums) if sums is not None and not pipeline.lossless else None,
            norm2=sums.norm2 if sums is not None and pipeline.lossless and math.isfinite(sums.norm2) else None,
            notes=notes,
            base=base,
            first=first,
            worst_row=worst_row,
        )


class Digests:
    """Digests of the values of a unit: of each block by itself, and of all."""

    def __init__(self) -> None:
        self.blocks: list[int] = []
        self._whole = xxhash.xxh3_128()

    @property
    def digest(self) -> str:
        """XXH3-128 of all bytes."""
        return self._whole.hexdigest()

    def add(self, values: Array) -> None:
        """Take the bytes of the next block."""
        self.blocks.append(xxhash.xxh3_64_intdigest(values.data))
        self._whole.update(values.data)
