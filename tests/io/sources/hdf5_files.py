"""Writes HDF5 files of the old and of the new kind, after the specification: so that tests need no library."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

SIGNATURE = b"\x89HDF\r\n\x1a\n"
NONE = (1 << 64) - 1
DATASPACE, LINK_INFO, DATATYPE, LINK, LAYOUT, FILTERS, ATTRIBUTE, CONTINUATION, SYMBOL_TABLE = (
    *(0x01, 0x02, 0x03, 0x06, 0x08, 0x0B, 0x0C),
    *(0x10, 0x11),
)
Messages = list[tuple[int, bytes]]


def datatype(dtype: np.dtype[Any]) -> bytes:
    """A datatype message of numbers."""
    big = dtype.byteorder == ">"
    bits = 8 * dtype.itemsize
    if dtype.kind in "iu":
        return struct.pack("<BBBBIHH", 0x10, big | (8 if dtype.kind == "i" else 0), 0, 0, dtype.itemsize, 0, bits)
    mantissa, exponent = {16: (10, 5), 32: (23, 8), 64: (52, 11)}[bits]
    bias = (1 << (exponent - 1)) - 1
    head = struct.pack("<BBBBI", 0x11, 0x20 | big, bits - 1, 0, dtype.itemsize)
    return head + struct.pack("<HHBBBBI", 0, bits, mantissa, exponent, 0, mantissa, bias)


def dataspace(shape: tuple[int, ...]) -> bytes:
    return struct.pack(f"<BBB5x{len(shape)}Q", 1, len(shape), 0, *shape)


def layout(at: int, nbytes: int) -> bytes:
    return struct.pack("<BBQQ", 3, 1, at, nbytes)


class File:
    """Bytes that grow; `new` files have object headers of version 2."""

    def __init__(self, new: bool = False) -> None:
        self.new = new
        self.data = bytearray(96 if not new else 48)

    def put(self, block: bytes) -> int:
        """Add a block; its address."""
        self.data += bytes(-len(self.data) % 8)
        at = len(self.data)
        self.data += block
        return at

    def object(self, messages: Messages) -> int:
        """Add an object header."""
        if self.new:
            body = b"".join(struct.pack("<BHB", kind, len(data), 0) + data for kind, data in messages)
            return self.put(b"OHDR\2\2" + struct.pack("<I", len(body)) + body + bytes(4))
        padded = [(kind, data + bytes(-len(data) % 8)) for kind, data in messages]
        body = b"".join(struct.pack("<HHB3x", kind, len(data), 0) + data for kind, data in padded)
        return self.put(struct.pack("<BxHII4x", 1, len(messages), 1, len(body)) + body)

    def dataset(self, value: np.ndarray, more: Messages | None = None) -> int:
        data = value.tobytes()
        at = self.put(data) if data else NONE
        messages = [
            (DATASPACE, dataspace(value.shape)),
            (DATATYPE, datatype(value.dtype)),
            (LAYOUT, layout(at, len(data))),
        ]
        return self.object([*messages, *(more or [])])

    def group(self, links: Mapping[str, int]) -> int:
        """Add a group whose links lie in its header, or in a symbol table."""
        if self.new:
            return self.object([(LINK, link(name, at)) for name, at in links.items()])
        return self.object([(SYMBOL_TABLE, self.symbol_table(links))])

    def symbol_table(self, links: Mapping[str, int]) -> bytes:
        names, symbols = bytearray(8), b""
        for name, at in links.items():
            symbols += struct.pack("<QQI20x", len(names), at, 0)
            names += name.encode() + b"\0"
            names += bytes(-len(names) % 8)
        heap = self.put(b"HEAP" + struct.pack("<4xQQQ", len(names), NONE, self.put(bytes(names))))
        node = self.put(b"SNOD" + struct.pack("<BBH", 1, 0, len(links)) + symbols)
        tree = self.put(b"TREE" + struct.pack("<BBHQQ", 0, 0, 1, NONE, NONE) + struct.pack("<QQQ", 0, node, 8))
        return struct.pack("<QQ", tree, heap)

    def dense_group(self, links: Mapping[str, int]) -> int:
        """Add a group whose links lie in a fractal heap of two levels, listed by a B-tree of two levels."""
        blocks, records, offset = [bytearray(21)], [], 0
        for name, at in links.items():
            message = link(name, at)
            if len(blocks[-1]) + len(message) > 512:
                blocks[-1] += bytes(512 - len(blocks[-1]))
                blocks.append(bytearray(21))
            offset = 512 * (len(blocks) - 1) + len(blocks[-1])
            records.append(bytes(4) + struct.pack("<BIH", 0, offset, len(message)))
            blocks[-1] += message
        assert len(blocks) <= 6  # two rows of blocks of one size, the third of twice that
        blocks[-1] += bytes(512 - len(blocks[-1]))
        places = [self.put(bytes(block)) for block in blocks[:4]]
        if len(blocks) > 4:
            places.append(self.put(b"".join(blocks[4:])))
        places += [NONE] * (12 - len(places))
        root = self.put(b"FHIB" + struct.pack("<BQI", 0, 0, 0) + struct.pack("<12Q", *places) + bytes(4))
        sizes = struct.pack("<HQQHHQH", 4, 512, 1024, 32, 1, root, 3)
        heap = self.put(b"FRHP" + struct.pack("<BHHBI", 0, 7, 0, 0, 1000) + bytes(96) + sizes + bytes(4))
        half = len(records) // 2
        leaves = [
            self.put(b"BTLF\0\5" + b"".join(each).ljust(1018, b"\0")) for each in (records[:half], records[half + 1 :])
        ]
        children = [(leaves[0], half), (leaves[1], len(records) - half - 1)]
        node = b"BTIN\0\5" + records[half] + b"".join(struct.pack("<QB", *child) for child in children)
        tree = struct.pack(
            "<BBIHHBBQHQ", 0, 5, 1024, 11, 1, 100, 40, self.put(node.ljust(1024, b"\0")), 1, len(records)
        )
        return self.object([(LINK_INFO, struct.pack("<BBQQ", 0, 0, heap, self.put(b"BTHD" + tree + bytes(4))))])

    def finish(self, root: int) -> bytes:
        """The whole file."""
        end = len(self.data)
        if self.new:
            head = SIGNATURE + struct.pack("<BBBBQQQQI", 2, 8, 8, 0, 0, NONE, end, root, 0)
        else:
            head = SIGNATURE + struct.pack("<8BHHI", 0, 0, 0, 0, 0, 8, 8, 0, 4, 16, 0)
            head += struct.pack("<QQQQ", 0, NONE, end, NONE) + struct.pack("<QQI20x", 0, root, 0)
        self.data[: len(head)] = head
        return bytes(self.data)


def link(name: str, at: int) -> bytes:
    """A link message of a hard link."""
    return struct.pack("<BBB", 1, 0, len(name.encode())) + name.encode() + struct.pack("<Q", at)


def hdf5(values: Mapping[str, np.ndarray], new: bool = False) -> bytes:
    """A file with these datasets in its root group."""
    file = File(new)
    return file.finish(file.group({name: file.dataset(value) for name, value in values.items()}))
