"""The directory at the end of a ZIP file, ZIP64 or not, as APPNOTE.TXT describes it.

The standard library's reader takes 30 us a member, most of it for what nobody here asks.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from bale.io.faults import Malformed, Unsupported
from bale.io.storage.bytes import ByteSource

DIRECTORY_LIMIT = 24_000_000  # bytes: room for the members of 250,000 tensors
UTF8 = 0x800  # a flag bit
_END = struct.Struct("<4s4H2IH")  # signature, ..., entries, size and offset of the directory, length of a comment
_END_MAGIC = b"PK\x05\x06"
_COMMENT = 1 << 16  # bytes, at most
_LOCATOR = struct.Struct("<4sIQI")
_LOCATOR_MAGIC = b"PK\x06\x07"
_END64 = struct.Struct("<4sQ2H2I4Q")
_END64_MAGIC = b"PK\x06\x06"
_ENTRY = struct.Struct("<4s4xHH4xIIIHHH8xI")
_ENTRY_MAGIC = b"PK\x01\x02"
_VERSION_PLACE, _VERSION = 6, 63  # where the version is that an entry needs, and the latest that is known
_EXTRA = struct.Struct("<HH")
_ZIP64, _FULL = 1, 0xFFFFFFFF  # kind of the extra field with long numbers, and what stands in their place


class Entry(NamedTuple):
    """What the directory says of a member; `at` and `nbytes` are those of the entry itself."""

    name: str
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    header: int
    at: int
    nbytes: int


def read_directory(source: ByteSource) -> tuple[list[Entry], int]:
    """The entries in their order, and the offset of the directory.

    Offsets are moved where other bytes were put before the file.
    """
    end, size, offset = _end(source)
    start = end - size
    if size > DIRECTORY_LIMIT:
        raise Unsupported(f"a ZIP file with a directory of {size} bytes")
    if start < 0:
        raise _broken("it would begin before the file")
    return list(_entries(source.read(size, start), start, start - offset)), start


def _end(source: ByteSource) -> tuple[int, int, int]:
    """Where the directory ends, its size, and the offset that is told of it."""
    nbytes = min(source.size, _END.size)
    tail = source.read(nbytes, source.size - nbytes)
    if not (len(tail) == _END.size and tail.startswith(_END_MAGIC) and tail.endswith(b"\0\0")):  # with a comment
        nbytes = min(source.size, _END.size + _COMMENT)
        tail = source.read(nbytes, source.size - nbytes)
    place = tail.rfind(_END_MAGIC)
    if place < 0 or place + _END.size > len(tail):
        raise _broken("its end is not there")
    at = source.size - len(tail) + place
    *_, size, offset, _ = _END.unpack_from(tail, place)
    if at < _LOCATOR.size + _END64.size:
        return at, size, offset
    before = source.read(_END64.size + _LOCATOR.size, at - _END64.size - _LOCATOR.size)
    magic, _, _, disks = _LOCATOR.unpack_from(before, _END64.size)
    if magic != _LOCATOR_MAGIC:
        return at, size, offset
    if disks > 1:
        raise _broken("it spans several disks")
    magic, *_, long_size, long_offset = _END64.unpack_from(before)
    if magic != _END64_MAGIC:
        return at, size, offset
    return at - len(before), long_size, long_offset


def _entries(data: bytes, start: int, moved: int) -> Iterator[Entry]:
    at = 0
    while at < len(data):
        if at + _ENTRY.size > len(data):
            raise _broken("it is cut")
        magic, flags, method, crc, packed, size, named, extra, comment, header = _ENTRY.unpack_from(data, at)
        if magic != _ENTRY_MAGIC:
            raise _broken(f"no entry is at byte {start + at}")
        if data[at + _VERSION_PLACE] > _VERSION:
            raise Unsupported(f"a ZIP file of a later kind (version {data[at + _VERSION_PLACE] / 10})")
        behind = at + _ENTRY.size + named
        name = data[at + _ENTRY.size : behind]
        if extra and _FULL in (size, packed, header):
            size, packed, header = _long(data[behind : behind + extra], size, packed, header)
        nbytes = _ENTRY.size + named + extra + comment
        if at + nbytes > len(data):
            raise _broken("it is cut")
        yield Entry(_text(name, flags), flags, method, crc, packed, size, header + moved, start + at, nbytes)
        at += nbytes


def _text(name: bytes, flags: int) -> str:
    if flags & UTF8 or name.isascii():
        try:
            return name.decode()
        except UnicodeDecodeError:
            raise _broken("a name is no UTF-8") from None
    return name.decode("cp437")


def _long(extra: bytes, *numbers: int) -> list[int]:
    """The numbers, with those that do not fit taken from the extra field."""
    at, found = 0, list(numbers)
    while at + _EXTRA.size <= len(extra):
        kind, nbytes = _EXTRA.unpack_from(extra, at)
        at += _EXTRA.size
        if kind == _ZIP64:  # which has them in this order, and only those
            full = [place for place, number in enumerate(numbers) if number == _FULL]
            if at + 8 * len(full) > min(at + nbytes, len(extra)):
                raise _broken("the extra field of an entry is cut")
            for place, number in zip(full, struct.unpack_from(f"<{len(full)}Q", extra, at), strict=True):
                found[place] = number
            break
        at += nbytes
    return found


def _broken(reason: str) -> Malformed:
    return Malformed(f"it begins as a ZIP file, but its directory cannot be read ({reason})")
