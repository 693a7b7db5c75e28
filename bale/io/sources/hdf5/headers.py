"""Object headers: the messages that describe a group or a dataset."""

from __future__ import annotations

import struct
from collections import deque
from typing import NamedTuple

from bale.io.faults import Malformed, Unsupported
from bale.io.sources.hdf5.blocks import Blocks

DATASPACE, LINK_INFO, DATATYPE, LINK, EXTERNAL = 0x01, 0x02, 0x03, 0x06, 0x07
LAYOUT, FILTERS, ATTRIBUTE, CONTINUATION, SYMBOL_TABLE = 0x08, 0x0B, 0x0C, 0x10, 0x11
_USED = frozenset(
    (DATASPACE, LINK_INFO, DATATYPE, LINK, EXTERNAL, LAYOUT, FILTERS, ATTRIBUTE, CONTINUATION, SYMBOL_TABLE)
)
_FIRST = 512  # bytes that hold most headers
_MESSAGE_LIMIT = 1 << 17  # of one object
_V1 = struct.Struct("<BxHII4x")
_V1_MESSAGE, _V2_MESSAGE = struct.Struct("<HHB3x"), struct.Struct("<BHB")
_PLACE = struct.Struct("<QQ")
_CHECKSUM = 4


class Message(NamedTuple):
    """A message: its type, its content, and whether that is only a reference to one that is shared."""

    type: int
    data: bytes
    is_shared: bool


def messages(blocks: Blocks, at: int) -> list[Message]:
    """The messages of use of the object whose header is at an address."""
    first = blocks.begin(at, _FIRST)
    if first.startswith(b"OHDR"):
        start, size, order = _second(first, at)
        form, signature, check = _V2_MESSAGE, b"OCHK", _CHECKSUM
    elif first[:1] == b"\x01" and len(first) >= _V1.size:
        start, size, order = _V1.size, _V1.unpack_from(first)[3], 0
        form, signature, check = _V1_MESSAGE, b"", 0
    else:
        raise Malformed(f"at byte {at} is no object header, to which its structure leads")
    if start + size <= len(first):
        whole = first
        blocks.taken.add(at, at + start + size)
    else:
        whole = blocks.read(at, start + size)
    found: list[Message] = []
    pending, seen = deque(_parse(blocks, form, order, whole[start : start + size], found)), {at}
    while pending:
        place, length = pending.popleft()
        blocks.work()  # as one may have no messages
        if place in seen:
            raise Malformed(f"the object header at byte {at} goes on in a circle")
        seen.add(place)
        block = blocks.signed(place, length, signature)
        pending += _parse(blocks, form, order, block[len(signature) : len(block) - check], found)
    return found


def _parse(
    blocks: Blocks, form: struct.Struct, order: int, block: bytes, found: list[Message]
) -> list[tuple[int, int]]:
    """Take the messages of a block, each behind `order` bytes more than its form has; where the header goes on."""
    continued = []
    at, head, steps = 0, form.size + order, 0
    last = len(block) - head
    while at <= last:
        kind, size, flags = form.unpack_from(block, at)
        at += head
        steps += 1
        if kind == CONTINUATION and at + _PLACE.size <= len(block):
            continued.append(_PLACE.unpack_from(block, at))
        elif kind in _USED:
            found.append(Message(kind, block[at : at + size], flags & 2 != 0))
            if len(found) > _MESSAGE_LIMIT:
                raise Unsupported("an HDF5 file with an object of very many messages")
        at += size
    blocks.work(steps)
    return continued


def _second(first: bytes, at: int) -> tuple[int, int, int]:
    """Of a header of version 2: where its messages start, their length, and the bytes that each has for its order."""
    if len(first) < 16:
        raise Malformed(f"the object header at byte {at} is cut")
    version, flags = first[4], first[5]
    if version != 2:
        raise Unsupported(f"an HDF5 file with an object header of version {version}")
    start = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
    width = 1 << (flags & 3)
    size = int.from_bytes(first[start : start + width], "little")
    return start + width, size, 2 if flags & 0x04 else 0
