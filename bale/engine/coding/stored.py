"""Stored parts of a unit, wherever their bytes are: decoders read them here alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bale.compressors.base import Reference, Values
from bale.compressors.chunks import decode_chunk, flat_bytes, join_chunks
from bale.errors import UsageError
from bale.spec import Array, TensorSpec

WRONG = (ValueError, UsageError)
"""Exceptions that decoders raise on purpose, for parts that no encoder made."""

FORGED = (*WRONG, LookupError, ArithmeticError, TypeError, NotImplementedError, AssertionError)
"""Exceptions that decoders raise for parts that somebody has forged; the others can be faults of bale's own."""


class StoredPart(Protocol):
    """Layout of one part."""

    @property
    def name(self) -> str:
        """Its name within the unit."""

    @property
    def spec(self) -> TensorSpec:
        """Dtype and shape of its array."""

    @property
    def bits(self) -> int | None:
        """Bits of each element, where they are codes."""

    @property
    def chunk(self) -> int:
        """Elements of a chunk."""

    @property
    def chains(self) -> Sequence[str]:
        """The storage chain of each chunk."""


class Stored(Protocol):
    """A unit of an archive, or one that has just been written to a file that becomes one."""

    @property
    def parts(self) -> Sequence[StoredPart]:
        """Its parts, in the order in which they are stored."""

    def read(self, part: int, chunk: int) -> bytes:
        """Stored bytes of one chunk, checked against their digest."""


@dataclass(frozen=True)
class DecodeTask:
    """Consecutive elements of a unit that are decoded together, and the bytes in memory while they are."""

    start: int
    count: int
    cost: int
    load: Callable[[], Reference]


def bytes_of(task: DecodeTask) -> Array:
    """Decode the elements of a task; their bytes, little-endian."""
    return flat_bytes(np.ascontiguousarray(task.load().values))


def numbers_of(stored: Stored, prefix: str) -> dict[str, int]:
    """Numbers of the parts by their names less a prefix."""
    return {part.name.removeprefix(prefix): number for number, part in enumerate(stored.parts)}


def chunks_of(stored: Stored, number: int) -> list[tuple[str, bytes]]:
    """Chain and bytes of all chunks of a part."""
    return [(chain, stored.read(number, at)) for at, chain in enumerate(stored.parts[number].chains)]


def load_part(stored: Stored, number: int) -> Values:
    """The array of a part; `ValueError` or `UsageError` for bytes that no encoder has written."""
    part = stored.parts[number]
    return join_chunks(part.spec, part.bits, part.chunk, chunks_of(stored, number))


def load_chunk(stored: Stored, number: int, chunk: int, spec: TensorSpec, reference: Reference | None = None) -> Array:
    """The flat array of one chunk of this spec, in its storage bits."""
    part = stored.parts[number]
    return decode_chunk(stored.read(number, chunk), part.chains[chunk], spec, part.bits, known=reference)
