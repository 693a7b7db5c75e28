"""The structure of a source file: units of payload at their offsets, and the rest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bale.notes import Note
from bale.spec import Unit, View

__all__ = ["QUANTIZED", "Checkpoint", "Checksum", "Unit", "View"]

QUANTIZED = "quantized already: "
"""Begins the reason of a unit that is exact because its elements are the codes of a quantizer, which is named then."""


class Checksum(NamedTuple):
    """A CRC-32 that a file format keeps of a range, and the offsets of the four-byte fields that hold it."""

    start: int
    length: int
    fields: tuple[int, ...]


@dataclass(frozen=True)
class Checkpoint:
    """A source file, read as far as its structure goes; no payload has been touched.

    Attributes
    ----------
    kind : str
        The format, such as ``safetensors``, ``torch``, ``gguf`` or ``opaque``.
    size : int
        Bytes of the file.
    units : tuple of Unit
        Disjoint, by ascending offset. What lies between them is the skeleton.
    notes : tuple of Note
        Remarks for the user on how the file was read.
    checksums : tuple of Checksum
        To be computed again where a unit within their range comes back changed.
    checked_by : str or None
        Name of a file beside it that has a checksum of each unit that may be lossy, and gets others where it is
        restored together with this one.
    """

    path: Path
    kind: str
    size: int
    units: tuple[Unit, ...]
    notes: tuple[Note, ...] = ()
    checksums: tuple[Checksum, ...] = ()
    checked_by: str | None = None

    def skeleton_ranges(self) -> Iterator[tuple[int, int]]:
        """Offset and length of each range between the units."""
        at = 0
        for unit in self.units:
            if unit.start > at:
                yield at, unit.start - at
            at = max(at, unit.end)
        if self.size > at:
            yield at, self.size - at
