"""GGUF files, as llama.cpp and its kin write them, versions 2 and 3.

Elements of plain types are units with their dtypes and shapes. Quantized ones are units of bytes, whose last dimension
is a block and the last but one the blocks of a row, and are never lossy. Keys are kept and not looked at, but for the
alignment. Not followed: version 1, arrays of arrays, tensors that overlap. A tensor of a type that is not known here
is left between the units.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from operator import attrgetter
from pathlib import Path

from bale.io.checkpoint import QUANTIZED, Checkpoint
from bale.io.faults import Malformed, Unsupported, printable
from bale.io.sources.gguf.header import MAGIC, Entry, Header, read_header
from bale.io.sources.gguf.types import GgmlType
from bale.io.sources.storages import BIG_ENDIAN
from bale.io.sources.unnamed import Unnamed, listed, unnamed_notes
from bale.io.storage.bytes import ByteSource
from bale.spec import TensorSpec, Unit, View, shared_spec

_LENGTH = 1 << 62
"""Of a dimension, the longest."""


def begins_as_gguf(head: bytes) -> bool:
    """Whether a file that begins with these bytes is a GGUF file."""
    return head.startswith(MAGIC)


def read_gguf(path: Path, source: ByteSource) -> Checkpoint:
    """Each tensor is a unit; the keys, the directory and filling are the skeleton."""
    header = read_header(source)
    units = _units(header.entries, header.data, source.size, header.order == ">")
    notes = unnamed_notes(source.size, _unnamed(header, units, max(0, source.size - header.data)))
    return Checkpoint(path, "gguf", source.size, units, notes)


def _units(entries: list[Entry], data: int, size: int, swapped: bool) -> tuple[Unit, ...]:
    units = list[Unit]()
    for entry in entries:
        spec = _checked(entry, max(0, size - data))
        if spec is not None:
            units.append(_unit(entry, spec, data + entry.offset, swapped))
    units.sort(key=attrgetter("start", "end"))
    at = 0
    for unit in units:
        if unit.start < at:
            raise Unsupported(f"a GGUF file whose tensors overlap ({printable(unit.label)})")
        at = unit.end
    return tuple(units)


def _checked(entry: Entry, room: int) -> TensorSpec | None:
    """The spec of an entry whose data lie within as many bytes."""
    if entry.offset > room:
        raise Malformed(f"{printable(entry.name)!r} lies {entry.offset} bytes into data of {room}")
    if math.prod(entry.shape) > 64 * room or max(entry.shape, default=0) >= _LENGTH:  # no type is so dense
        raise Malformed(f"{printable(entry.name)!r} has more elements than the file has room for")
    spec = None if entry.kind is None else _spec(entry.kind, entry.shape)
    if spec is not None and entry.offset + spec.nbytes > room:
        raise Malformed(
            f"{printable(entry.name)!r} takes {spec.nbytes} bytes from {entry.offset} on and its data are {room}, "
            "as in a file that was cut"
        )
    return spec


@lru_cache(maxsize=1024)
def _spec(kind: GgmlType, shape: tuple[int, ...]) -> TensorSpec:
    """The spec of a unit. Most tensors of a model have one of few."""
    if not kind.is_quantized:
        return shared_spec(kind.dtype, shape)
    *outer, row = (1, *shape) if len(shape) < 2 else shape
    if row % kind.elements:
        raise Malformed(f"it has rows of {row} elements, which are no whole blocks of {kind.name}")
    return TensorSpec("U8", (*outer, row // kind.elements, kind.width))


def _unit(entry: Entry, spec: TensorSpec, start: int, swapped: bool) -> Unit:
    assert entry.kind is not None
    exact = QUANTIZED + entry.kind.name if entry.kind.is_quantized else BIG_ENDIAN if swapped else None
    return Unit(start, spec, (View(entry.name, spec),), exact, swapped and not entry.kind.is_quantized)


def _unnamed(header: Header, units: tuple[Unit, ...], payload: int) -> Iterator[Unnamed]:
    """The keys, by their sizes, and data in no unit, of `payload` bytes in all."""
    sizes = header.keys.sizes
    names = sorted(sizes, key=lambda key: -sizes[key])
    yield Unnamed(sum(sizes.values()), f"metadata{listed([printable(name) for name in names])}")
    unknown = listed([printable(entry.name) for entry in header.entries if entry.kind is None])
    left = payload - sum(unit.spec.nbytes for unit in units)
    yield Unnamed(left, f"tensors of types that are not known{unknown}" if unknown else "filling and rests of its data")
