"""The result of one encoding job: parts to be stored, the values that must come back, and measures of both."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bale.compressors.base import Place, Values
from bale.compressors.chunks import chunk_ranges, encode_chunk, flat_spec
from bale.engine.coding.harm import Harm
from bale.metrics import ErrorSums
from bale.notes import Note
from bale.spec import CHUNK_LIMIT, Array, TensorSpec


@dataclass(frozen=True)
class EncodedPart:
    """Stored bytes of consecutive chunks of one part, each with its storage chain."""

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
class Check:
    """Bytes of the values that decoders must give back, little-endian, and of the source that they came from.

    Attributes
    ----------
    final : uint8 array or None
        Of all layers together; None where a later job codes the last one.
    first : uint8 array or None
        Of the first of two layers alone, where it has values of its own.
    source : uint8 array, str or None
        Of the source where `final` is not that: the bytes of a block, or XXH3-128 of those of a whole unit.
    leased : tuple of uint8 array
        The buffers among them, to be given back once they are digested.
    """

    final: Array | None = None
    first: Array | None = None
    source: Array | str | None = None
    leased: tuple[Array, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of the values, of both layers."""
        return sum(values.size for values in (self.final, self.first) if values is not None)


@dataclass(frozen=True)
class Measures:
    """Sums over the values of one job, which add up over a unit.

    Attributes
    ----------
    errors : ErrorSums or None
        Of all layers; None for exact coding whose norm is not wanted, and for values that are not numbers.
    lossless_bytes : int
        Bytes that exact coding would take where that may be fewer; else the plain bytes.
    first_errors : ErrorSums or None
        Of the first of two layers.
    harm : Harm or None
        Values that became zero or are no longer zero, and the errors of rows, where anything is lost.
    outputs : ErrorSums or None
        Errors by the importance of the elements, where that is known.
    notes : tuple of Note
        For the user.
    """

    seconds: float = 0.0
    errors: ErrorSums | None = None
    lossless_bytes: int = 0
    first_errors: ErrorSums | None = None
    harm: Harm | None = None
    outputs: ErrorSums | None = None
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class Encoded:
    """The result of one job: of a block, or of a whole unit."""

    parts: tuple[EncodedPart, ...]
    check: Check = field(default_factory=Check)
    measures: Measures = field(default_factory=Measures)


def encode_part(name: str, values: Values, forced: str | None, compiled: bool = False) -> EncodedPart:
    """Store an array that is held in memory as a part."""
    flat = np.ascontiguousarray(values.array).reshape(-1)
    chunks = []
    for start, count in chunk_ranges(values.spec.elements):
        place = Place(values.place.shape if values.place else values.spec.shape, start)
        block = Values(flat_spec(values.spec, count), flat[start : start + count], values.bits, place)
        chunks.append(encode_chunk(block, forced, compiled=compiled))
    return EncodedPart(name, values.spec, values.bits, CHUNK_LIMIT, tuple(chunks))
