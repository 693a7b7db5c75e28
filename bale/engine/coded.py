"""What jobs make of blocks: stored bytes, and how to check them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bale.compressors.base import Place, Reference, Values
from bale.engine.harm import Harm
from bale.engine.storage import flat_spec, runs, store
from bale.io.manifest import CHUNK_LIMIT
from bale.metrics import ErrorSums
from bale.notes import Note
from bale.spec import Array, TensorSpec

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
    first : uint8 array or None
        Of a pipeline with two layers: the bytes of the values that the first layer alone gives back.
    first_errors : ErrorSums or None
        Those of the first layer.
    notes : tuple of Note
        For the user.
    harm : Harm or None
        Of what comes back with loss: what became zero, or is zero no more, and the errors of rows.
    outputs : ErrorSums or None
        Of what comes back with loss, by the use of the elements where that is known.
    source : uint8 array, str or None
        What was read of the source where `decoded` is not that: the bytes of a block in a leased buffer, or XXH3-128
        of those of a whole unit.
    """

    parts: tuple[CodedPart, ...]
    decoded: Array
    decode: Decode
    errors: ErrorSums | None
    exact_size: int
    seconds: float
    cost: int
    leased: bool = False
    first: Array | None = None
    first_errors: ErrorSums | None = None
    notes: tuple[Note, ...] = ()
    harm: Harm | None = None
    outputs: ErrorSums | None = None
    source: Array | str | None = None

    @property
    def only_first(self) -> bool:
        """Whether it is of the first layer of two alone."""
        return self.first is not None and not self.decoded.size


def coded_part(name: str, values: Values, forced: str | None, compiled: bool = False) -> CodedPart:
    """Store an array that is held in memory as a part."""
    flat = np.ascontiguousarray(values.array).reshape(-1)
    chunks = []
    for start, count in runs(values.spec.elements):
        place = Place(values.place.shape if values.place else values.spec.shape, start)
        piece = Values(flat_spec(values.spec, count), flat[start : start + count], values.bits, place)
        chunks.append(store(piece, forced, compiled=compiled))
    return CodedPart(name, values.spec, values.bits, CHUNK_LIMIT, tuple(chunks))


def coded_rest(values: Values, known: Reference) -> CodedPart:
    """The exact rest of a whole tensor."""
    spec, chunks = values.spec, []
    for start, count in runs(spec.elements):
        piece = Values(flat_spec(spec, count), values.array[start : start + count], place=Place(spec.shape, start))
        chunks.append(store(piece, None, known.cut(start, start + count)))
    return CodedPart("rest.data", spec, None, CHUNK_LIMIT, tuple(chunks))
