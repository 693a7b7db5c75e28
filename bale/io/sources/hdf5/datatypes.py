"""Datatypes of elements, as far as they are types of tensors."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import NamedTuple

_HEAD = struct.Struct("<BBBBI")
_INTEGER = struct.Struct("<HH")
_FLOAT = struct.Struct("<HHBBBBI")
_FIXED, _FLOATING, _OPAQUE, _ENUMERATION = 0, 1, 5, 8  # classes
_BIG, _SIGNED, _VAX = 0x01, 0x08, 0x40  # bits
_FLOATS = {
    (2, 0, 16, 10, 5, 0, 10, 15): "F16",
    (2, 0, 16, 7, 8, 0, 7, 127): "BF16",
    (4, 0, 32, 23, 8, 0, 23, 127): "F32",
    (8, 0, 64, 52, 11, 0, 52, 1023): "F64",
}
"""By size, offset and precision, place and size of exponent and mantissa, bias."""


class Datatype(NamedTuple):
    """A dtype, and whether its elements are big-endian."""

    dtype: str
    swapped: bool


BFLOAT16 = Datatype("BF16", False)


@lru_cache(256)
def datatype(data: bytes) -> Datatype | None:
    """The type that a datatype message describes; None for one that no tensor has."""
    if len(data) < _HEAD.size + _INTEGER.size:
        return None
    kind, bits, _, _, size = _HEAD.unpack_from(data)
    kind &= 0x0F
    if kind == _ENUMERATION:
        of = data[_HEAD.size] & 0x0F
        base = datatype(data[_HEAD.size :]) if of == _FIXED else None  # no other has names of its values
        return Datatype("BOOL", False) if base == ("I8", False) and b"FALSE\0" in data and b"TRUE\0" in data else base
    swapped = bool(bits & _BIG)
    if kind == _FIXED and size in (1, 2, 4, 8) and _INTEGER.unpack_from(data, _HEAD.size) == (0, 8 * size):
        return Datatype(f"{'I' if bits & _SIGNED else 'U'}{8 * size}", swapped and size > 1)
    if kind == _FLOATING and not bits & _VAX and len(data) >= _HEAD.size + _FLOAT.size:
        name = _FLOATS.get((size, *_FLOAT.unpack_from(data, _HEAD.size)))
        return None if name is None else Datatype(name, swapped)
    return None


def is_opaque_pair(data: bytes) -> bool:
    """Whether elements are two bytes of no type, as those of numpy types are that HDF5 does not know."""
    return len(data) >= _HEAD.size and data[0] & 0x0F == _OPAQUE and data[4 : _HEAD.size] == b"\2\0\0\0"
