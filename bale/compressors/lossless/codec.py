"""The default codec: every bit comes back, at the speed of numpy and zstd."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np

from bale.compressors.base import Serializer, Values
from bale.compressors.entropy import huffman
from bale.compressors.lossless.planes import (
    BLOCK,
    PAIR,
    QUAD,
    SIGN,
    SIGNED,
    Scratch,
    Word,
    densest,
    fold,
    merge,
    split,
    unfold,
    word_of,
)
from bale.compressors.settings import setting
from bale.spec import Array, TensorSpec

RAW, CONSTANT, ZSTD, SPLIT, PAIRS, BITS = range(6)
CODED = (ZSTD, PAIRS, BITS)
COMPOSED = (SPLIT, PAIRS, BITS)
_PER_BYTE = {PAIRS: 2, BITS: 8}
_LENGTH = struct.Struct("<I")
_SHORTEST = 64
"""Bytes below which a chunk is left as it is: a frame and its place in the header alone take about 20."""

_LONG = 65_536
"""Bytes of a plane from which on pairs are tried: below, the larger Huffman table eats what they gain."""

_OUTSIDE = 1 / 256
"""Share of bytes that may lie outside of the pairs' 16 values, at 5 bytes each."""

_SIGN_ENTROPY = 6
"""Bits per byte above which a float's sign is stored apart: the codes of the rest are shorter, and zstd decodes two at
a time where they fit into 11 bits. F8_E4M3 takes 0.75 ms per million in place of 0.9. Below, they mostly fit anyway."""

_SIGN_LOSS = 0.01
"""Bits per byte that storing it apart may cost by the sample."""

_FEW = 256
"""Words from which on `max` is worth a try: below, its tables take more than they save."""

_CONSTANT = 32
"""Chunks that are this much smaller already hold next to nothing to look at."""

_FIELDS = 6
_RUNS, _RUN = 63, 64
"""A sample is this many runs of this many words. Not a power of two, else all runs could lie in the same columns."""

_BY_SIZE = {2: PAIR, 4: QUAD}
_scratch = Scratch()
_NOTHING = np.empty(0, np.uint8)


def _nothing() -> Array:
    return _NOTHING


@dataclass(slots=True)
class _Plane:
    """One plane of a chunk: stored in some mode, or split into the planes of its halves.

    `words` are what is stored of it: itself, its pairs or bits. `value` is the word that a constant plane consists of,
    the base of pairs, or what bits stand for: the byte without the bit that varies, and that bit. Pairs cannot express
    the bytes `outside`, at the positions `where` of each block. `length` is the size of a coded plane in the chunk.
    `work` is space for a block that is not stored as it is, `spare` for working.
    """

    word: Word
    mode: int
    halves: tuple[_Plane, ...] = ()
    words: Array = field(default_factory=_nothing)
    value: Array = field(default_factory=_nothing)
    where: list[Array] = field(default_factory=list)
    outside: list[Array] = field(default_factory=list)
    length: int = 0
    work: Array | None = None
    spare: Array = field(default_factory=_nothing)

    def nodes(self) -> Iterator[_Plane]:
        """Itself and the planes below, high before low: the order of the header."""
        yield self
        for half in self.halves:
            yield from half.nodes()

    def entry(self) -> bytes:
        """What the header says of this plane, in a size that depends on the mode alone. Read by `_read_header`."""
        length = _LENGTH.pack(self.length) if self.mode in CODED else b""
        return bytes([self.mode]) + length + self.value.tobytes()

    def block(self, at: int, count: int) -> Array:
        """The words of the block at `at`, or space for them."""
        return self.words[at : at + count] if self.work is None else self.work[:count]


@dataclass(frozen=True)
class Lossless(Serializer):
    """The fields of all words as separate planes, each of them raw, constant or Huffman-coded by zstd.

    For every dtype. Saves a third of BF16, about a sixth of F16, F32 and 8-bit floats, and next to nothing of packed
    low-bit codes. Integers are offered to zstd as a whole too. Not for the last per cent: coders with contexts store
    BF16 in one per cent less, at a quarter of the speed.

    Works on one chunk at a time, about 2^20 elements, from any thread; buffers are kept per thread and are about as
    large as the largest chunk. The same chunk and version of zstd give the same bytes.

    The layout of a chunk is in ``docs/format.md``. That exponents are worth coding apart is from ZipNN
    (Hershcovitch et al. 2024, arXiv:2411.05239).
    """

    name: ClassVar[str] = "lossless"

    effort: Literal["fast", "max"] = setting(
        "fast", help="max codes floats given the sizes of their rows and columns: smaller, at a third of the speed"
    )

    def validate(self, spec: TensorSpec) -> None:
        """Accept every tensor."""

    def encode(self, values: Values) -> memoryview:
        """Bytes of one chunk: at most one more than the chunk has.

        Parameters
        ----------
        values : Values
            Storage bits, in any shape. An array that is not contiguous is copied first.

        Returns
        -------
        memoryview
            Bytes that belong to the caller.

        Raises
        ------
        ValueError
            When the array has not the size that its spec says.
        """
        if values.array.nbytes != values.spec.nbytes:
            raise ValueError(f"{values.array.nbytes} bytes are not {values.spec}")
        word = _root_of(values.spec)
        words = np.ascontiguousarray(values.array).reshape(-1).view(word.dtype)
        chunk = _encode_planes(_choose_modes(word, words), words)
        if values.spec.info.kind in ("int", "bool") and _general_pays(word, words):
            chunk = min(chunk, _encode_general(word, words), key=len)
        if self.effort == "max" and words.size >= _FEW and len(chunk) > words.nbytes // _CONSTANT:
            chunk = _encode_max(values, words, chunk)
        return chunk

    def decode(
        self, data: bytes | bytearray | memoryview, spec: TensorSpec, bits: int | None = None, out: Array | None = None
    ) -> Array:
        """Storage bits of one chunk.

        Parameters
        ----------
        data : bytes-like
            What `encode` returned.
        spec : TensorSpec
            Spec of the chunk.
        bits : int, optional
            Not used.
        out : Array, optional
            Contiguous array of ``spec.storage``, as long as the chunk, that is written into and returned.

        Returns
        -------
        Array
            `out`, or a fresh array of ``spec.storage_shape``.

        Raises
        ------
        ValueError
            When these cannot be the bytes of a chunk of this spec, or `out` does not fit. `out` is undefined then.
            Not all damage can be told: that is what the archive's digests are for.
        """
        if out is None:
            out = np.empty(spec.storage_shape, spec.storage)
        elif out.dtype != spec.storage or out.nbytes != spec.nbytes or not out.flags.c_contiguous:
            raise ValueError(f"the array to decode into is not a contiguous {spec}")
        word = _root_of(spec)
        words = out.reshape(-1).view(word.dtype)
        if len(data) and data[0] == _FIELDS:
            _decode_max(memoryview(data), spec, words)
        else:
            _decode_planes(memoryview(data), word, words)
        return out


def _root_of(spec: TensorSpec) -> Word:
    """Kind of word that a chunk consists of: `word_of`, but for floats of one byte."""
    return SIGNED if spec.info.kind == "float" and spec.info.bits == 8 else word_of(spec)


def _encode_max(values: Values, words: Array, chunk: memoryview) -> memoryview:
    """Chunk with fields, if there are any and it is shorter than the one at hand."""
    from bale.compressors.lossless import max_effort

    dtype = values.spec.dtype
    layout = max_effort.layout_of(dtype)
    if layout is None:
        return chunk
    return min(chunk, max_effort.encode(words, dtype, layout, values.place, encode_plane), key=len)


def _decode_max(data: memoryview, spec: TensorSpec, words: Array) -> None:
    """Write the words of a chunk with fields; raise `ValueError` on bad bytes."""
    from bale.compressors.lossless import max_effort

    layout = max_effort.layout_of(spec.dtype)
    if layout is None:
        raise ValueError(f"{spec.dtype} has no fields")
    max_effort.decode(data, layout, words, decode_plane)


def encode_plane(words: Array) -> memoryview:
    """Chunk of whole numbers."""
    return _encode_planes(_choose_modes(_BY_SIZE[words.itemsize], words), words)


def decode_plane(data: memoryview, words: Array) -> None:
    """Write the words of a chunk of whole numbers. The mirror image of `encode_plane`."""
    _decode_planes(data, _BY_SIZE[words.itemsize], words)


def _encode_planes(root: _Plane, words: Array) -> memoryview:
    """Chunk of these words with these modes, or plainly if that is shorter. The mirror image is `_decode_planes`."""
    nodes = list(root.nodes())
    at = sum(len(node.entry()) for node in nodes)
    chunk = np.empty(at + words.nbytes, np.uint8)  # What coding saves at its end is never touched.
    for number, node in enumerate(nodes):
        if node.mode == RAW:
            size = words.size * node.word.size
            node.words = chunk[at : at + size].view(node.word.dtype)
            at += size
        elif node.mode in CODED:
            node.words = words if root.mode == ZSTD else _coded_plane(node, number, words.size)
    if root.mode != ZSTD:
        _add_space(nodes)
        for start in range(0, words.size, BLOCK):
            _scatter(root, start, words[start : start + BLOCK])
    for node in nodes:
        if node.mode in CODED:
            pieces = (_write_outside(node), huffman.compress(node.words))
            node.length = sum(map(len, pieces))
            if at + node.length > words.nbytes:
                return _encode_planes(_Plane(root.word, RAW), words)
            for piece in pieces:
                chunk.data[at : at + len(piece)] = piece
                at += len(piece)
    header = b"".join(node.entry() for node in nodes)
    chunk.data[: len(header)] = header
    return chunk.data[:at]


def _decode_planes(data: memoryview, word: Word, words: Array) -> None:
    """Write the words of a chunk; raise `ValueError` on bad bytes. The mirror image of `_encode_planes`."""
    root, at = _read_header(data, 0, word)
    nodes = list(root.nodes())
    for node in nodes:
        if node.mode == RAW:
            size = words.size * node.word.size
            node.words = np.frombuffer(_cut(data, at, size), node.word.dtype)
            at += size
        elif node.mode == CONSTANT:
            node.words = np.broadcast_to(node.value, words.shape)
    for number, node in enumerate(nodes):
        if node.mode in CODED:
            node.words = words if root.mode == ZSTD else _coded_plane(node, number, words.size)
            frame = _read_outside(_cut(data, at, node.length), node, words.size)
            huffman.decompress(frame, node.words)
            at += node.length
    if at != len(data):
        raise ValueError(f"chunk has {len(data)} bytes, its planes take {at}")
    if root.mode != ZSTD:
        _add_space(nodes)
        for start in range(0, words.size, BLOCK):
            _gather(root, start, words[start : start + BLOCK])


def _coded_plane(plane: _Plane, number: int, count: int) -> Array:
    """Space for what zstd codes of a plane: its words, its pairs or its bits."""
    size = -(-count // _PER_BYTE.get(plane.mode, 1))
    return _scratch.take(f"plane {number}", size, plane.word.dtype)


def _coded_block(plane: _Plane, at: int, count: int) -> Array:
    """The pairs or bits of the block at `at`."""
    per_byte = _PER_BYTE[plane.mode]
    return plane.words[at // per_byte : -(-(at + count) // per_byte)]


def _add_space(nodes: list[_Plane]) -> None:
    """Give every plane the space that it needs to take a block apart or put it together."""
    for node in nodes:
        if node.mode in COMPOSED:
            word = PAIR if node.mode == PAIRS else node.word
            node.spare = _scratch.take(f"spare {word.size}", BLOCK, word.dtype)
        for side, half in enumerate(node.halves):
            if half.mode in COMPOSED or not half.words.size:
                half.work = _scratch.take(f"half {side} of {node.word.size}", BLOCK, half.word.dtype)


def _write_outside(plane: _Plane) -> bytes:
    """What precedes the frame of a plane; nothing but for pairs. The mirror image is `_read_outside`."""
    if plane.mode != PAIRS:
        return b""
    where = np.concatenate([block + BLOCK * number for number, block in enumerate(plane.where)])
    return _LENGTH.pack(where.size) + where.astype("<u4").tobytes() + np.concatenate(plane.outside).tobytes()


def _read_outside(data: memoryview, plane: _Plane, count: int) -> memoryview:
    """Take what precedes the frame of a plane of `count` words and return the frame; see `_write_outside`."""
    if plane.mode != PAIRS:
        return data
    (size,) = _LENGTH.unpack(_cut(data, 0, 4))
    where = np.frombuffer(_cut(data, 4, 4 * size), "<u4").astype(np.int64)
    outside = np.frombuffer(_cut(data, 4 + 4 * size, size), np.uint8)
    if np.any(where[1:] <= where[:-1]) or np.any(where[-1:] >= count):
        raise ValueError("positions of bytes outside of pairs do not ascend, or lie behind the end")
    ends = np.searchsorted(where, np.arange(BLOCK, count + BLOCK, BLOCK)).tolist()
    where %= BLOCK
    for start, end in pairwise((0, *ends)):
        plane.where.append(where[start:end])
        plane.outside.append(outside[start:end])
    return data[4 + 5 * size :]


def _read_header(data: memoryview, at: int, word: Word) -> tuple[_Plane, int]:
    """Plane that the entry at `at` describes, and where the next entry is."""
    plane = _Plane(word, _cut(data, at, 1)[0])
    at += 1
    if plane.mode in CODED:
        (plane.length,) = _LENGTH.unpack(_cut(data, at, _LENGTH.size))
        at += _LENGTH.size
    if plane.mode == CONSTANT or (plane.mode in (PAIRS, BITS) and word.size == 1):
        size = 2 if plane.mode == BITS else word.size
        plane.value = np.frombuffer(_cut(data, at, size), word.dtype)
        at += size
    elif plane.mode == SPLIT and word.halves:
        high, at = _read_header(data, at, word.halves[0])
        low, at = _read_header(data, at, word.halves[1])
        plane.halves = (high, low)
    elif plane.mode not in (RAW, ZSTD):
        raise ValueError(f"a plane of {word.size}-byte words cannot have mode {plane.mode}")
    return plane, at


def _cut(data: memoryview, at: int, size: int) -> memoryview:
    """Exactly `size` bytes of a chunk."""
    if len(data) - at < size:
        raise ValueError(f"chunk is truncated: {size} bytes wanted at {at} of {len(data)}")
    return data[at : at + size]


def _scatter(plane: _Plane, at: int, words: Array) -> None:
    """Write a block of words, which begins at `at`, to the planes that store it. The mirror image is `_gather`."""
    if plane.mode == SPLIT:
        high, low = (half.block(at, words.size) for half in plane.halves)
        split(plane.word, words, high, low, plane.spare)
        for half, block in zip(plane.halves, (high, low), strict=True):
            if half.mode in COMPOSED:
                _scatter(half, at, block)
    elif plane.mode == PAIRS:
        where = fold(words, plane.value, _coded_block(plane, at, words.size), plane.spare)
        plane.where.append(where)
        plane.outside.append(words[where])
    elif plane.mode == BITS:
        bits = np.bitwise_and(words, plane.value[1], out=plane.spare[: words.size])
        _coded_block(plane, at, words.size)[:] = np.packbits(bits)
    elif plane.mode == RAW:
        plane.words[at : at + words.size] = words


def _gather(plane: _Plane, at: int, words: Array) -> None:
    """Write a block of words, which begins at `at`, from the planes that store it. The mirror image of `_scatter`."""
    if plane.mode == SPLIT:
        high, low = (half.block(at, words.size) for half in plane.halves)
        for half, block in zip(plane.halves, (high, low), strict=True):
            if half.mode in COMPOSED:
                _gather(half, at, block)
        merge(plane.word, high, low, words, plane.spare)
    elif plane.mode == PAIRS:
        unfold(_coded_block(plane, at, words.size), plane.value, words, plane.spare)
        words[plane.where[at // BLOCK]] = plane.outside[at // BLOCK]
    elif plane.mode == BITS:
        bits = np.unpackbits(_coded_block(plane, at, words.size), count=words.size)
        np.multiply(bits, plane.value[1], out=words)
        if plane.value[0]:
            np.bitwise_or(words, plane.value[0], out=words)
    else:
        words[:] = plane.words[at : at + words.size]


def _encode_general(word: Word, words: Array) -> memoryview:
    """Chunk whose words are one zstd frame that repetitions were looked for in."""
    frame = huffman.compress_general(words)
    return memoryview(_Plane(word, ZSTD, length=len(frame)).entry() + frame)


def _general_pays(word: Word, words: Array) -> bool:
    """Whether `_encode_general` is worth a try, by a sample."""
    sample = _sample(words)
    return len(_encode_general(word, sample)) < len(_encode_planes(_choose_modes(word, sample), sample))


def _choose_modes(word: Word, words: Array) -> _Plane:
    """Planes to store these words in. Modes come from a sample, but the bits that never vary from all words."""
    if words.nbytes < _SHORTEST:
        return _Plane(word, RAW)
    sample = _sample(words)
    long = words.size >= _LONG
    root = _choose(word, np.concatenate((words[:1], _differing(sample), sample)), long)
    if sample.size < words.size and any(_doubtful(node) for node in root.nodes()):
        root = _choose(word, np.concatenate((words[:1], _differing(words), sample)), long)
    return root


def _doubtful(plane: _Plane) -> bool:
    """Whether words that the sample lacks could be at odds with the mode of a plane."""
    return plane.mode == CONSTANT or (plane.mode == BITS and plane.word is not SIGN)


def _choose(word: Word, probe: Array, long: bool) -> _Plane:
    """Modes by a word, the bits in which any other differs from it, and a sample, one after the other in `probe`."""
    if not probe[1]:
        return _Plane(word, CONSTANT, value=probe[:1])
    if word.halves and (word is not SIGNED or _sign_apart(probe, long)):
        high, low = (np.empty(probe.size, half.dtype) for half in word.halves)
        split(word, probe, high, low, np.empty_like(probe))
        halves = (_choose(word.halves[0], high, long), _choose(word.halves[1], low, long))
        return _Plane(word, RAW) if halves[0].mode == halves[1].mode == RAW else _Plane(word, SPLIT, halves)
    first, differing = int(probe[0]), int(probe[1])
    if differing.bit_count() == 1:
        return _Plane(word, BITS, value=np.array([first & ~differing, differing], word.dtype))
    counts = np.bincount(probe[2:], minlength=256)
    if long:
        base, outside = densest(counts)
        if outside <= _OUTSIDE * (probe.size - 2):
            return _Plane(word, PAIRS, value=np.array([base], word.dtype))
    return _Plane(word, ZSTD if huffman.pays(counts) else RAW)


def _sign_apart(probe: Array, long: bool) -> bool:
    """Whether the sign of a `SIGNED` probe is worth a plane of its own, which it is if the rest does not tell it."""
    if not long or not probe[1] & 0x80:
        return False
    counts = np.bincount(probe[2:], minlength=256)
    whole = huffman.entropy(counts)
    return whole > _SIGN_ENTROPY and huffman.entropy(counts[:128] + counts[128:]) + 1 < whole + _SIGN_LOSS


def _differing(words: Array) -> Array:
    """Bits in which any word differs from another, as an array of one word."""
    return np.array([np.bitwise_or.reduce(words) & ~np.bitwise_and.reduce(words)], words.dtype)


def _sample(words: Array) -> Array:
    """Words from all over the chunk, or all of a short one."""
    if words.size <= _RUNS * _RUN:
        return words
    return words[: words.size // _RUNS * _RUNS].reshape(_RUNS, -1)[:, :_RUN].reshape(-1)
