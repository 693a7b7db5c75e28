"""Hard links of a group, in the three ways in which groups hold them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from bale.io.faults import Malformed, Unsupported
from bale.io.sources.hdf5.blocks import UNDEFINED, Blocks
from bale.io.sources.hdf5.dense import dense_objects

LABEL_LIMIT = 1 << 16  # bytes of one name
_HEAP = struct.Struct("<8xQ8xQ")
_NODE = struct.Struct("<4xBBH16x")
_NODE_ENTRY = struct.Struct("<8xQ")  # a key, and the child behind it
_SYMBOLS = struct.Struct("<4xB1xH")
_SYMBOL = struct.Struct("<QQI20x")
_SOFT = 2  # a symbol that leads to a path


class Link(NamedTuple):
    """A name within a group, and the address of the object header that it leads to."""

    name: str
    at: int


def in_symbol_table(blocks: Blocks, data: bytes) -> Iterator[Link]:
    """Links of a group of the old kind: a B-tree of symbol nodes, and a heap of names."""
    if len(data) < 16:
        raise Malformed("a symbol table is cut")
    tree, heap = struct.unpack_from("<QQ", data)
    size, segment = _HEAP.unpack(blocks.signed(heap, _HEAP.size, b"HEAP"))
    names = blocks.read(segment, size)
    pending, seen = [(tree, -1)], {tree}
    while pending:
        at, expected = pending.pop()
        kind, level, count = _NODE.unpack(blocks.signed(at, _NODE.size, b"TREE"))
        if kind != 0 or expected not in (-1, level):
            raise Malformed(f"the B-tree node at byte {at} is none of a group")
        blocks.work(count)
        entries = blocks.read(at + _NODE.size, count * _NODE_ENTRY.size)
        children = [child for (child,) in _NODE_ENTRY.iter_unpack(entries)]
        if level == 0:
            for child in children:
                yield from _symbols(blocks, child, names)
        elif seen.isdisjoint(children):
            seen.update(children)
            pending += [(child, level - 1) for child in reversed(children)]
        else:
            raise Malformed(f"the B-tree node at byte {at} leads back")


def _symbols(blocks: Blocks, at: int, names: bytes) -> Iterator[Link]:
    _, count = _SYMBOLS.unpack(blocks.signed(at, _SYMBOLS.size, b"SNOD"))
    blocks.work(count)
    for place, header, cached in _SYMBOL.iter_unpack(blocks.read(at + _SYMBOLS.size, count * _SYMBOL.size)):
        if cached == _SOFT or header == UNDEFINED:
            continue
        end = names.find(b"\0", place, place + LABEL_LIMIT)
        if end < 0:
            raise Malformed(f"the symbol node at byte {at} has a name that never ends")
        yield Link(_text(names[place:end]), header)


def in_message(data: bytes) -> Iterator[Link]:
    """The link of a link message, if it is a hard one."""
    if len(data) < 2 or data[0] != 1:
        raise Unsupported("an HDF5 file with a link of an unknown version")
    flags, at = data[1], 2
    kind = data[2] if flags & 0x08 and len(data) > 2 else 0
    at += (1 if flags & 0x08 else 0) + (8 if flags & 0x04 else 0) + (1 if flags & 0x10 else 0)
    width = 1 << (flags & 3)
    length = int.from_bytes(data[at : at + width], "little")
    at += width
    if kind != 0:
        return
    if length > LABEL_LIMIT or at + length + 8 > len(data):
        raise Malformed("a link is cut")
    (header,) = struct.unpack_from("<Q", data, at + length)
    yield Link(_text(data[at : at + length]), header)


def in_dense_group(blocks: Blocks, data: bytes) -> Iterator[Link]:
    """Links of a group that has many: messages in a fractal heap, by a B-tree of their names."""
    if len(data) < 18:
        raise Malformed("a link info message is cut")
    at = 2 + (8 if data[1] & 1 else 0)
    if at + 16 > len(data):
        raise Malformed("a link info message is cut")
    heap, tree = struct.unpack_from("<QQ", data, at)
    if heap != UNDEFINED:
        for message in dense_objects(blocks, heap, tree):
            yield from in_message(message)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
