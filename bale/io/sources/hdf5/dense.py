"""Fractal heaps, and the B-trees of version 2 that list what is in them."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from bale.io.faults import Malformed, Unsupported
from bale.io.sources.hdf5.blocks import Blocks

_TREE = struct.Struct("<4xBBIHH2xQH8x4x")
_NAMES = 5  # the type of a tree of link names: a hash, then an identifier in the heap
_HASH = 4
_NODE_HEAD, _CHECKSUM = 6, 4
_HEAP = struct.Struct("<4xBHHBIQQQQQQQQQQQQHQQHHQH")
_DEPTH_LIMIT = 32


def dense_objects(blocks: Blocks, heap_at: int, tree_at: int) -> Iterator[bytes]:
    """Objects of the heap, in the order of the tree."""
    heap = _Heap(blocks, heap_at)
    for record in _records(blocks, tree_at):
        yield heap.object(record[_HASH:])


def _records(blocks: Blocks, at: int) -> Iterator[bytes]:
    head = blocks.signed(at, _TREE.size, b"BTHD")
    _, kind, node_size, record_size, depth, root, count = _TREE.unpack(head)
    if kind != _NAMES or depth > _DEPTH_LIMIT or not _HASH < record_size < node_size:
        raise Unsupported("an HDF5 file with a B-tree of another kind")
    pointers, first_width = _pointers(node_size, record_size, depth)
    seen = {root}
    pending = [(root, count, depth)] if count else []
    while pending:
        at, count, level = pending.pop()
        blocks.work(count)
        node = blocks.signed(at, node_size, b"BTIN" if level else b"BTLF")
        end = _NODE_HEAD + count * record_size
        width = pointers[level]
        if end + (count + 1) * width + _CHECKSUM > node_size:
            raise Malformed(f"the B-tree node at byte {at} has more records than room")
        yield from (node[place : place + record_size] for place in range(_NODE_HEAD, end, record_size))
        for place in range(end, end + (count + 1) * width, width) if level else ():
            child = int.from_bytes(node[place : place + 8], "little")
            if child in seen:
                raise Malformed(f"the B-tree node at byte {at} leads back")
            seen.add(child)
            pending.append((child, int.from_bytes(node[place + 8 : place + 8 + first_width], "little"), level - 1))


def _pointers(node_size: int, record_size: int, depth: int) -> tuple[list[int], int]:
    """Bytes of a pointer to a child by level of the node, and of the count of records in it.

    Widths follow from what a whole subtree can hold, as no field says them.
    """
    most = total = (node_size - _NODE_HEAD - _CHECKSUM) // record_size
    first_width, widths = _width(most), [0]
    for level in range(1, depth + 1):
        width = 8 + first_width + (_width(total) if level > 1 else 0)
        most = (node_size - _NODE_HEAD - _CHECKSUM - width) // (record_size + width)
        total = (most + 1) * total + most
        widths.append(width)
    return widths, first_width


def _width(number: int) -> int:
    return max(1, (number.bit_length() + 7) // 8)


class _Heap:
    """A fractal heap: blocks that double in size, row by row, in a table of tables."""

    def __init__(self, blocks: Blocks, at: int) -> None:
        self._blocks = blocks
        fields = _HEAP.unpack(blocks.signed(at, _HEAP.size, b"FRHP"))
        version, _, filters, _, _, *_ = fields
        self._columns: int
        self._first: int
        self._root: int
        self._rows: int
        self._columns, self._first, largest, bits, _, self._root, self._rows = fields[-7:]
        if version != 0 or filters:
            raise Unsupported("an HDF5 file with links in a filtered heap")
        powers = (self._columns, self._first, largest)
        if any(not power or power & (power - 1) for power in powers) or largest < self._first or bits > 64:
            raise Malformed(f"the heap at byte {at} has sizes that make no sense")
        self._offset_width = (bits + 7) // 8
        self._length_width = min(_width(largest - 1), _width(fields[4]))
        self._direct_rows = (largest // self._first).bit_length() + 1

    def object(self, identifier: bytes) -> bytes:
        """The bytes of a managed object."""
        if identifier[0] & 0xF0:  # version 0 and type 0
            raise Unsupported("an HDF5 file with links of extraordinary length")
        end = 1 + self._offset_width
        offset = int.from_bytes(identifier[1:end], "little")
        return self._blocks.read(
            self._address(offset), int.from_bytes(identifier[end : end + self._length_width], "little")
        )

    def _address(self, offset: int) -> int:
        at, rows = self._root, self._rows
        while rows:  # an indirect block: the blocks of each row have one size, twice that of the row before
            row = (offset // (self._columns * self._first)).bit_length()
            size = self._first << max(0, row - 1)
            place = offset - (self._columns * size if row else 0)
            column, offset = divmod(place, size)
            if row >= rows:
                raise Malformed(f"the heap block at byte {at} has no row {row}")
            at = self._child(at, row, column)
            if row < self._direct_rows:
                return at + offset
            rows = (size // self._first).bit_length() - self._columns.bit_length() + 1
        return at + offset

    def _child(self, at: int, row: int, column: int) -> int:
        head = 4 + 1 + 8 + self._offset_width
        self._blocks.work()
        self._blocks.signed(at, 4, b"FHIB")
        place = at + head + 8 * (row * self._columns + column)
        return int.from_bytes(self._blocks.read(place, 8), "little")
