"""A unit in the archive while its chunks arrive."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass, field

import xxhash

from bale.engine.coded import Coded, CodedPart
from bale.engine.harm import Harm, joined, recorded
from bale.engine.storage import PLAIN
from bale.io.manifest import Chunk, First, Part, StoredUnit
from bale.metrics import ErrorSums
from bale.notes import DENSE, Note
from bale.plan import Decision
from bale.spec import TensorSpec, Unit

WORTH_A_NOTE = 1 << 12  # bytes


@dataclass
class GrowingPart:
    """A part while its chunks arrive."""

    spec: TensorSpec
    bits: int | None
    chunk: int
    storage: list[str] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)

    def add(self, chain: str, size: int, digest: str) -> None:
        """Take the next chunk."""
        if chain not in self.storage:
            self.storage.append(chain)
        self.chunks.append(Chunk(self.storage.index(chain), size, digest))

    def finished(self, name: str) -> Part:
        """The part with all its chunks."""
        storage = tuple(self.storage) or (PLAIN,)
        return Part(name, self.spec, self.bits, storage, self.chunk, tuple(self.chunks))


class GrowingUnit:
    """What has been stored of a unit so far."""

    def __init__(self) -> None:
        self.parts: dict[str, GrowingPart] = {}
        self.notes: tuple[Note, ...] = ()
        self.exact_size = 0
        self.seconds = 0.0
        self._harms: list[Harm] = []
        self._digest, self._first_digest, self._source = xxhash.xxh3_128(), xxhash.xxh3_128(), xxhash.xxh3_128()
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
        """The sums by use, where that is known."""
        return ErrorSums.total(self._outputs) if self._outputs else None

    @property
    def source_digest(self) -> str:
        """XXH3-128 of the bytes of the source that were coded, little-endian."""
        return self._source_digest or self._digest.hexdigest()

    def part(self, coded: CodedPart) -> GrowingPart:
        """The part that these chunks belong to."""
        return self.parts.setdefault(coded.name, GrowingPart(coded.spec, coded.bits, coded.chunk))

    def add(self, coded: Coded) -> None:
        """Take the values of the next block, whose chunks stand in the parts."""
        self._digest.update(coded.decoded.data)
        if isinstance(coded.source, str):
            self._source_digest = coded.source
        elif coded.source is not None:
            self._source.update(coded.source.data)
            self._source_digest = self._source.hexdigest()
        if coded.first is not None and coded.first_errors is not None:
            self._first_digest.update(coded.first.data)
            self._first_errors.append(coded.first_errors)
        if not coded.only_first:
            self._errors.append(coded.errors)
        if coded.outputs is not None:
            self._outputs.append(coded.outputs)
        self.notes += coded.notes
        if coded.harm is not None:
            self._harms.append(coded.harm)
        self.exact_size += coded.exact_size
        self.seconds += coded.seconds

    def finished(self, unit: Unit, decision: Decision, base: str | None) -> StoredUnit:
        """The unit as it stands in the manifest; `base` is the digest of the tensor that it is a difference to."""
        pipeline, notes, sums = decision.pipeline, (*decision.notes, *self.notes), self.errors
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
            first = First(self._first_digest.hexdigest(), astuple(ErrorSums.total(self._first_errors)))
        return StoredUnit(
            unit=unit,
            pipeline=str(pipeline),
            rule=decision.rule,
            digest=self._digest.hexdigest(),
            parts=parts,
            errors=astuple(sums) if sums is not None and not pipeline.lossless else None,
            norm2=sums.norm2 if sums is not None and pipeline.lossless and math.isfinite(sums.norm2) else None,
            notes=notes,
            base=base,
            first=first,
            worst_row=worst_row,
        )
