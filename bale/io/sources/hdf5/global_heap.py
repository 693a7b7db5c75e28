"""Texts in global heaps: Keras marks bfloat16, which HDF5 does not know, by an attribute ``dtype``."""

from __future__ import annotations

import struct

from bale.io.sources.hdf5.blocks import Blocks

_COLLECTION = struct.Struct("<4x4xQ")
_OBJECT = struct.Struct("<HHIQ")
_REFERENCE = struct.Struct("<IQI")  # the length of a text, and its place: a collection, and a number in it
_LIMIT = 1 << 20  # bytes of a collection, which has 4 KiB unless one object takes more
_NAME, _TEXT = b"dtype\0", b"bfloat16"


class GlobalHeaps:
    """Collections of objects by their addresses; the last one is kept."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._at, self._objects = -1, dict[int, bytes]()

    def object(self, at: int, number: int) -> bytes:
        """The beginning of an object of a collection; nothing where there is none."""
        if at != self._at:
            self._at, self._objects = at, self._parse(at)
        return self._objects.get(number, b"")

    def _parse(self, at: int) -> dict[int, bytes]:
        (size,) = _COLLECTION.unpack(self._blocks.signed(at, _COLLECTION.size, b"GCOL"))
        if size > _LIMIT:
            return {}
        block, place, found = self._blocks.read(at, size), _COLLECTION.size, dict[int, bytes]()
        while place + _OBJECT.size <= len(block):
            self._blocks.work()
            number, _, _, length = _OBJECT.unpack_from(block, place)
            if number == 0:  # the free rest
                break
            place += _OBJECT.size
            found[number] = block[place : place + min(length, len(_TEXT))]
            place += (length + 7) // 8 * 8
        return found


def is_bfloat16(heaps: GlobalHeaps, attribute: bytes) -> bool:
    """Whether an attribute message says that the values of its dataset are bfloat16."""
    if _NAME not in attribute[:16] or len(attribute) < _REFERENCE.size:
        return False
    length, at, number = _REFERENCE.unpack(attribute[-_REFERENCE.size :])
    return length == len(_TEXT) and heaps.object(at, number) == _TEXT
