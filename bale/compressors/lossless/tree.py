"""A chunk as a tree of planes, each stored in one of six ways: to bytes, and back.

The layout is in ``docs/format.md``. Modes are chosen elsewhere (`bale.compressors.lossless.modes`).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bale.compressors.entropy import huffman
from bale.compressors.lossless.planes import Scratch, Word, fold, merge, split, unfold
from bale.spec import Array

RAW, CONSTANT, ZSTD, SPLIT, PAIRS, BITS = range(6)
CODED = (ZSTD, PAIRS, BITS)
FIELDS = 6
"""First byte of a chunk that is no tree: see `bale.compressors.lossless.max_effort`."""

_LENGTH = struct.Struct("<I")
_scratch = Scratch()


@dataclass(slots=True)
class Plane:
    """One plane of a chunk: stored in some mode, or split into the planes of its halves, the high one first.

    `value` is the word that a constant plane consists of, the base of pairs, or what bits stand for: the byte without
    the bit that varies, and that bit. `words` are those of the plane, and `length` what it takes if it is coded.
    """

    word: Word
    mode: int
    value: bytes = b""
    halves: Sequence[Plane] = ()
    words: Array = field(init=False)
    length: int = field(init=False)

    def nodes(self) -> list[Plane]:
        """Itself and the planes below, in the order of the header: each before its halves."""
        found = [self]
        for half in self.halves:
            found += half.nodes()
        return found


def encode_planes(root: Plane, words: Array) -> memoryview:
    """Chunk of these words with these modes, or plainly if that is shorter. The mirror image is `decode_planes`."""
    nodes, count = root.nodes(), words.size
    at = sum(1 + len(node.value) + (_LENGTH.size if node.mode in CODED else 0) for node in nodes)
    chunk = np.empty(at + words.nbytes, np.uint8)  # What coding saves at its end is never touched.
    root.words = words
    for number, node in enumerate(nodes):
        if node.mode == RAW:
            size = count * node.word.size
            node.words = chunk[at : at + size].view(node.word.dtype)
            at += size
        elif number:
            node.words = _scratch.take(number, count, node.word.dtype)
    if root.mode == RAW:
        root.words[:] = words
    for node in nodes:
        if node.mode == SPLIT:
            high, low = node.halves
            split(node.word, node.words, high.words, low.words, _spare(node.word.dtype, count))
    for node in nodes:
        if node.mode in CODED:
            pieces = _coded(node)
            node.length = sum(map(len, pieces))
            if at + node.length > words.nbytes:
                return encode_planes(Plane(root.word, RAW), words)
            for piece in pieces:
                chunk.data[at : at + len(piece)] = piece
                at += len(piece)
    header = b"".join(map(_entry, nodes))
    chunk.data[: len(header)] = header
    return chunk.data[:at]


def decode_planes(data: memoryview, word: Word, words: Array) -> None:
    """Write the words of a chunk; raise `ValueError` on bad bytes. The mirror image of `encode_planes`."""
    nodes: list[Plane] = []
    at, count = _read_header(data, 0, word, nodes), words.size
    for number, node in enumerate(nodes):
        if node.mode == RAW:
            size = count * node.word.size
            node.words = np.frombuffer(_cut(data, at, size), node.word.dtype)
            at += size
        elif node.mode == CONSTANT:
            node.words = np.broadcast_to(np.frombuffer(node.value, node.word.dtype), words.shape)
        else:
            node.words = _scratch.take(number, count, node.word.dtype) if number else words
    for node in nodes:
        if node.mode in CODED:
            _decode(node, _cut(data, at, node.length))
            at += node.length
    if at != len(data):
        raise ValueError(f"chunk has {len(data)} bytes, its planes take {at}")
    for node in reversed(nodes):
        if node.mode == SPLIT:
            high, low = node.halves
            merge(node.word, high.words, low.words, node.words, _spare(node.word.dtype, count))
    if nodes[0].mode in (RAW, CONSTANT):
        words[:] = nodes[0].words


def encode_general(word: Word, words: Array) -> memoryview:
    """Chunk whose words are one zstd frame that repetitions were looked for in."""
    frame = huffman.compress_general(words)
    plane = Plane(word, ZSTD)
    plane.length = len(frame)
    return memoryview(_entry(plane) + frame)


def _entry(plane: Plane) -> bytes:
    """The header's entry for a plane. Read by `_read_header`."""
    length = _LENGTH.pack(plane.length) if plane.mode in CODED else b""
    return bytes((plane.mode,)) + length + plane.value


def _read_header(data: memoryview, at: int, word: Word, nodes: list[Plane]) -> int:
    """Append the plane whose entry is at `at`, and those below; returns where the next entry is."""
    plane = Plane(word, _cut(data, at, 1)[0])
    nodes.append(plane)
    at += 1
    if plane.mode in CODED:
        (plane.length,) = _LENGTH.unpack(_cut(data, at, _LENGTH.size))
        at += _LENGTH.size
    if plane.mode == SPLIT and word.halves:
        first = len(nodes)
        at = _read_header(data, at, word.halves[0], nodes)
        second = len(nodes)
        at = _read_header(data, at, word.halves[1], nodes)
        plane.halves = nodes[first], nodes[second]
    elif plane.mode == CONSTANT or (plane.mode in (PAIRS, BITS) and word.size == 1):
        size = 2 if plane.mode == BITS else word.size
        plane.value = bytes(_cut(data, at, size))
        at += size
    elif plane.mode not in (RAW, ZSTD):
        raise ValueError(f"a plane of {word.size}-byte words cannot have mode {plane.mode}")
    return at


def _coded(plane: Plane) -> tuple[bytes, ...]:
    """The stored bytes of a coded plane, in one piece or two. The mirror image is `_decode`."""
    words = plane.words
    if plane.mode == ZSTD:
        return (huffman.compress(words),)
    if plane.mode == BITS:
        return (huffman.compress(np.packbits(np.bitwise_and(words, plane.value[1], out=_packed(words.size)))),)
    folded = _packed(-(-words.size // 2))
    where = fold(words, plane.value[0], folded, _spare(np.dtype("<u2"), words.size + 7))
    return _LENGTH.pack(where.size) + where.astype("<u4").tobytes() + words[where].tobytes(), huffman.compress(folded)


def _decode(plane: Plane, data: memoryview) -> None:
    """Write the words of a coded plane. The mirror image of `_coded`."""
    words = plane.words
    if plane.mode == ZSTD:
        huffman.decompress(data, words)
    elif plane.mode == BITS:
        packed = _packed(-(-words.size // 8))
        huffman.decompress(data, packed)
        np.multiply(np.unpackbits(packed, count=words.size), plane.value[1], out=words)
        if plane.value[0]:
            np.bitwise_or(words, plane.value[0], out=words)
    else:
        (size,) = _LENGTH.unpack(_cut(data, 0, 4))
        where = np.frombuffer(_cut(data, 4, 4 * size), "<u4")
        outside = np.frombuffer(_cut(data, 4 + 4 * size, size), np.uint8)
        if size and (np.any(where[1:] <= where[:-1]) or where[-1] >= words.size):
            raise ValueError("positions of bytes outside of pairs do not ascend, or lie behind the end")
        folded = _packed(-(-words.size // 2))
        huffman.decompress(data[4 + 5 * size :], folded)
        unfold(folded, plane.value[0], words, _spare(np.dtype("<u2"), words.size + 7))
        words[where] = outside


def _packed(count: int) -> Array:
    """Space for the pairs or bits of a plane."""
    return _scratch.take("packed", count, np.dtype(np.uint8))


def _spare(dtype: np.dtype, count: int) -> Array:
    """Space for working on words of some type."""
    return _scratch.take("spare", count, dtype)


def _cut(data: memoryview, at: int, size: int) -> memoryview:
    """Exactly `size` bytes of a chunk."""
    if len(data) - at < size:
        raise ValueError(f"chunk is truncated: {size} bytes wanted at {at} of {len(data)}")
    return data[at : at + size]
