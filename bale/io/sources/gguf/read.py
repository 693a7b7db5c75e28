"""GGUF files, as llama.cpp and its kin write them, versions 2 and 3.

A file is ``GGUF``, the version (u32), the numbers of tensors and of keys (u64 each); the keys, each a text, a type and
a value, which may be an array; for each tensor its name, its dimensions, innermost first, its type and its offset; and
the data, each tensor at a multiple of ``general.alignment`` (32 where that key is missing). A text is its length (u64)
and its bytes. Version 3 may be big-endian, which shows in the version.

Elements of plain types are units with their dtypes and shapes. Quantized ones are units of bytes, whose last dimension
is a block and the last but one the blocks of a row, and are never lossy. Keys are kept and not looked at, but for the
alignment. Not followed: version 1, arrays of arrays, tensors that overlap. A tensor of a type that is not known here
is left between the units.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from operator import attrgetter
from pathlib import Path

from bale.io.checkpoint import QUANTIZED, Checkpoint
from bale.io.faults import Malformed, Unsupported, printable
from bale.io.sources.cursor import Cursor
from bale.io.sources.gguf.types import TYPES, GgmlType
from bale.io.sources.storages import BIG_ENDIAN, Names
from bale.io.sources.unnamed import Unnamed, listed, unnamed_notes
from bale.io.storage.bytes import ByteSource
from bale.spec import TensorSpec, Unit, View, shared_spec

MAGIC = b"GGUF"
_ENTRIES, _TEXTS, _DIMENSIONS, _LENGTH = 250_000, 1 << 21, 4, 1 << 62
"""Tensors or keys, and texts in arrays, that are read; the dimensions that tensors have, and the length of one."""

_ALIGNMENT, _DEFAULT_ALIGNMENT = "general.alignment", 32
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of the values of each type but texts and arrays."""
_U32, _TEXT, _ARRAY = 4, 8, 9


@dataclass
class _Keys:
    """The alignment, and the bytes that each key takes."""

    alignment: int = _DEFAULT_ALIGNMENT
    sizes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Entry:
    """A tensor in the directory; `offset` is within the data."""

    name: str
    kind: GgmlType | None
    shape: tuple[int, ...]
    offset: int


def begins_as_gguf(head: bytes) -> bool:
    """Whether a file that begins with these bytes is a GGUF file."""
    return head.startswith(MAGIC)


def read_gguf(path: Path, source: ByteSource) -> Checkpoint:
    """Each tensor is a unit; the keys, the directory and filling are the skeleton."""
    cursor = _begin(source)
    tensors, keys_count = cursor.numbers("QQ")
    if max(tensors, keys_count) > _ENTRIES:
        raise Unsupported(f"a GGUF file with {tensors} tensors and {keys_count} keys, more than are looked at")
    keys = _read_keys(cursor, keys_count)
    names = Names()
    entries = [_read_entry(cursor, names) for _ in range(tensors)]
    data = -(-cursor.at // keys.alignment) * keys.alignment
    units = _units(entries, data, source.size, cursor.order == ">")
    notes = unnamed_notes(source.size, _unnamed(entries, units, keys, max(0, source.size - data)))
    return Checkpoint(path, "gguf", source.size, units, notes)


def _begin(source: ByteSource) -> Cursor:
    """A cursor behind the version, which tells the byte order."""
    cursor = Cursor(source, at=len(MAGIC))
    version = cursor.number("I")
    if version and not version & 0xFFFF:
        cursor = Cursor(source, ">", len(MAGIC))
        version = cursor.number("I")
    if version not in (2, 3):
        raise Unsupported(f"a GGUF file of version {version}, which is not followed")
    return cursor


def _read_keys(cursor: Cursor, count: int) -> _Keys:
    keys, names, texts = _Keys(), Names(), 0
    for _ in range(count):
        start, name = cursor.at, _text(cursor)
        names.count(len(name))
        kind = cursor.number("I")
        if kind == _TEXT:
            cursor.skip(cursor.number("Q"))
        elif kind == _ARRAY:
            of, length = cursor.numbers("IQ")
            if of == _TEXT:
                texts += length
                _skip_texts(cursor, length, texts)
            else:
                cursor.skip(length * _size(of, name))
        elif name == _ALIGNMENT and kind == _U32:
            keys.alignment = cursor.number("I")
        else:
            cursor.skip(_size(kind, name))
        keys.sizes[name] = cursor.at - start
    if keys.alignment & (keys.alignment - 1) or not keys.alignment:
        raise Malformed(f"its alignment is {keys.alignment}, no power of two")
    return keys


def _skip_texts(cursor: Cursor, count: int, all_texts: int) -> None:
    if 8 * count > cursor.left:
        raise Malformed(f"it announces {count} texts at byte {cursor.at} and ends at byte {cursor.end}")
    if all_texts > _TEXTS:
        raise Unsupported(f"a GGUF file with more than {_TEXTS} texts in arrays")
    for _ in range(count):
        cursor.skip(cursor.number("Q"))


def _size(kind: int, name: str) -> int:
    if kind == _ARRAY:
        raise Unsupported(f"a GGUF file with arrays of arrays ({printable(name)}), which are not followed")
    if kind not in _SIZES:
        raise Unsupported(f"a GGUF file whose key {printable(name)!r} has the type {kind}, which is not known")
    return _SIZES[kind]


def _text(cursor: Cursor) -> str:
    return cursor.text(cursor.number("Q")).decode("utf-8", "backslashreplace")


def _read_entry(cursor: Cursor, names: Names) -> _Entry:
    name = names.unique(_text(cursor))
    dimensions = cursor.number("I")
    if dimensions > _DIMENSIONS:
        raise Malformed(f"{printable(name)!r} has {dimensions} dimensions, the limit is {_DIMENSIONS}")
    *shape, kind, offset = cursor.numbers(f"{dimensions}QIQ")
    return _Entry(name, TYPES.get(kind), tuple(reversed(shape)), offset)


def _units(entries: list[_Entry], data: int, size: int, swapped: bool) -> tuple[Unit, ...]:
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


def _checked(entry: _Entry, room: int) -> TensorSpec | None:
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


def _unit(entry: _Entry, spec: TensorSpec, start: int, swapped: bool) -> Unit:
    assert entry.kind is not None
    exact = QUANTIZED + entry.kind.name if entry.kind.is_quantized else BIG_ENDIAN if swapped else None
    return Unit(start, spec, (View(entry.name, spec),), exact, swapped and not entry.kind.is_quantized)


def _unnamed(entries: list[_Entry], units: tuple[Unit, ...], keys: _Keys, payload: int) -> Iterator[Unnamed]:
    """The keys, by their sizes, and data in no unit, of `payload` bytes in all."""
    names = sorted(keys.sizes, key=lambda key: -keys.sizes[key])
    yield Unnamed(sum(keys.sizes.values()), f"metadata{listed([printable(name) for name in names])}")
    unknown = listed([printable(entry.name) for entry in entries if entry.kind is None])
    left = payload - sum(unit.spec.nbytes for unit in units)
    yield Unnamed(left, f"tensors of types that are not known{unknown}" if unknown else "filling and rests of its data")
