"""The bytes of a tensor: its model, then chunks of tokens, each of which can be decoded by itself."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from bale.compressors.entropy import rans
from bale.compressors.kernels.rans import BLOCK, LANES, get_fields, put_fields, rans_encode
from bale.compressors.kernels.trellis import EXACT, UNIT, tokens_of, trellis_decode, values_of
from bale.compressors.trellis import tables
from bale.compressors.trellis.context_classes import Classes, Scaled
from bale.compressors.trellis.scaling import Scaling
from bale.compressors.trellis.viterbi import Code, paths_of
from bale.spec import Array, TensorSpec

CHUNK = 1 << 20
_HEAD = struct.Struct("<fhBBBB")
_CLASSES = struct.Struct("<hBB")
_PAIR = struct.Struct("<II")
_BALANCE, _EXPLICIT = 4, 8
_STEPS, _LONG = (5, 8), 1 << 18  # steps of explicit tables, and tokens from which on more of them pay
MOST_SHIFT = 12  # so that no field has more than 32 bits
_START = np.zeros(1, np.int64)


@dataclass(frozen=True)
class Model:
    """Turns levels into tokens and values.

    Attributes
    ----------
    shift : int
        See `bale.compressors.kernels.trellis.tokens_of`.
    centroids : int8 array
        For levels 1, 2 and so on: 128ths of a step that values lie away from them, outwards.
    """

    code: Code
    step: np.float32
    shift: int = 0
    centroids: Array = field(default_factory=lambda: np.zeros(0, np.int8))
    classes: Classes = field(default_factory=Classes)

    @property
    def contexts(self) -> int:
        """Number of tables."""
        return 2 * self.classes.count

    def values(self, levels: Array) -> Array:
        """Float32 values of levels: one multiplication each."""
        found: Array = levels.astype(np.float32) * self.step
        if count := self.centroids.size:
            small = np.abs(levels) <= count
            found[small] = self._near[levels[small] + count]
        return found

    @property
    def _near(self) -> Array:
        """The values of the levels that have centroids, on both sides of zero."""
        outwards = UNIT * np.arange(1, self.centroids.size + 1) + self.centroids
        return np.concatenate((-outwards[::-1], [0], outwards)).astype(np.float32) * (self.step / np.float32(UNIT))

    @property
    def table(self) -> Array:
        """The value of each token, of even levels, then of odd ones; the parity where a token leaves something open."""
        parity, token = np.divmod(np.arange(2 * tables.TOKENS), tables.TOKENS)
        size = self.runs[0][token].astype(np.int64)
        pair = np.where(token < tables.TOKENS // 2, -1 - size, size)
        found = self.values(4 * pair + 2 * (token & 1) + parity)
        is_open = self.runs[1][token] > 0
        found[is_open] = parity[is_open]
        return found

    @cached_property
    def runs(self) -> tuple[Array, Array]:
        """For each token, the least size of a pair that it stands for, and the bits that it leaves open."""
        widths = np.concatenate((np.zeros(EXACT, np.int64), np.arange(4, 20).repeat(2))) + self.shift
        both = [np.concatenate((half[::-1], half)).repeat(2) for half in (tables.STARTS[:-1] << self.shift, widths)]
        return both[0].astype(np.uint64), both[1].astype(np.uint64)


@dataclass
class Tokens:
    """The tokens of a whole tensor, chunk by chunk, and the bits that they leave open."""

    model: Model
    shape: tuple[int, ...]
    tokens: Array
    contexts: Array
    counts: Array
    fields: list[Array]

    @classmethod
    def empty(cls, model: Model, shape: tuple[int, ...]) -> Tokens:
        """No tokens yet."""
        n = math.prod(shape)
        counts = np.zeros((model.contexts, tables.TOKENS), np.uint32)
        return cls(model, shape, np.empty(n, np.uint8), np.empty(n, np.uint8), counts, [])

    def add(self, levels: Array, start: int) -> None:
        """Add the levels of the chunk that begins at element `start`."""
        model, at = self.model, slice(start, start + levels.size)
        tokens, sizes = self.tokens[at], np.empty(levels.size, np.uint32)
        classes = model.classes.of(self.shape, np.array([start]), levels.size)
        tokens_of(levels, model.shift, classes, tokens, self.contexts[at], sizes, self.counts)
        if model.shift == 0:
            far = _far(tokens)
            tokens, sizes = tokens[far], sizes[far]
        data = np.empty(24 * tokens.size // 32 + 2, np.uint32)
        self.fields.append(data[: put_fields(sizes, tokens, *model.runs, data)])


def _far(tokens: Array) -> Array:
    """Indices of tokens that leave bits open, without a shift."""
    return np.flatnonzero(tokens - np.uint8(128 - 2 * EXACT) >= np.uint8(4 * EXACT))


def write(found: Tokens, scaling: Scaling) -> bytes:
    """Bytes of a tensor. The mirror image is `Reader`."""
    model, classes, balance = found.model, found.model.classes, scaling.balance
    used = np.flatnonzero(found.counts.any(axis=0))
    reach = max(64 - int(used[0]) // 2, int(used[-1]) // 2 - 63)
    explicit, table, entries = _choose_tables(found.counts, model.shift, reach)
    flags = len(classes.axes) | (_BALANCE if balance else 0) | (_EXPLICIT if explicit else 0)
    parts = [
        bytes([model.code.states.bit_length()]) + _pack_shape(found.shape),
        _HEAD.pack(float(model.step), scaling.exponent, model.shift, reach, model.centroids.size, flags),
        model.centroids.astype(np.int8).tobytes(),
    ]
    if classes.axes:
        parts.append(_CLASSES.pack(classes.low, classes.last, classes.shift))
    parts += [each.pack() for each in (*classes.axes, *([balance] if balance else []))]
    parts.append(table)
    sizes, streams = [], []
    for start, fields in zip(range(0, found.tokens.size, CHUNK), found.fields, strict=True):
        at = slice(start, start + CHUNK)
        words = np.empty(found.tokens[at].size + 1, np.uint16)
        states = np.empty(LANES, np.uint64)
        begin = rans_encode(found.tokens[at], found.contexts[at], entries, tables.BITS, words, states)
        sizes.append(_PAIR.pack(words.size - begin, fields.size))
        streams += [
            states.astype("<u4").tobytes(),
            words[begin:].astype("<u2", copy=False).tobytes(),
            fields.astype("<u4", copy=False).tobytes(),
        ]
    return b"".join((*parts, *sizes, *streams))


def _choose_tables(counts: Array, shift: int, reach: int) -> tuple[bool, bytes, Array]:
    """Whether tables are explicit, their bytes, and their entries: those that take less, tokens included."""
    shapes, scales, _ = tables.fit(counts, shift)
    steps = _STEPS[1] if counts.sum() >= _LONG else _STEPS[0]
    levels = rans.levels_of(counts, steps)
    packed = rans.pack(levels)
    options = [
        (False, np.stack((shapes, scales), axis=1).tobytes(), _generated(shapes, scales, shift, reach)),
        (True, bytes([steps]) + len(packed).to_bytes(4, "little") + packed, rans.entries(levels, steps, tables.BITS)),
    ]
    return min(options, key=lambda option: tables.price(counts, option[2]) + (8 * len(option[1]) << 16))


def _generated(shapes: Array, scales: Array, shift: int, reach: int) -> Array:
    """Table entries of the contexts; tokens of more than `reach` buckets on a side are left out."""
    weights = np.empty((shapes.size, tables.TOKENS), np.int64)
    for parity in range(2):
        weights[parity::2] = tables.weights(shapes[parity::2], scales[parity::2], parity, shift)
    weights[:, : 128 - 2 * reach] = 0
    weights[:, 128 + 2 * reach :] = 0
    return rans.entries_of(weights, tables.BITS)


def _pack_shape(shape: Sequence[int]) -> bytes:
    data = bytearray([len(shape)])
    for size in shape:
        while size >= 128:
            data.append(size & 127 | 128)
            size >>= 7
        data.append(size)
    return bytes(data)


def is_plain(data: memoryview) -> bool:
    """Whether these are the bytes of a plain stream."""
    return len(data) > 0 and data[0] == 0


def read_shape(data: memoryview) -> tuple[tuple[int, ...], memoryview]:
    """The shape behind the first byte, and the bytes behind it. Raises `ValueError` on bad bytes."""
    shape, at = [], 2
    try:
        for _ in range(data[1]):
            size, place = 0, 0
            while data[at] >= 128:
                if place > 56:
                    raise ValueError("a shape beyond 2^63")
                size |= (data[at] & 127) << place
                at, place = at + 1, place + 7
            shape.append(size | data[at] << place)
            at += 1
    except IndexError:
        raise ValueError("a shape is truncated") from None
    return tuple(shape), data[at:]


def _cut(data: memoryview, size: int) -> tuple[memoryview, memoryview]:
    if len(data) < size:
        raise ValueError("a trellis stream is truncated")
    return data[:size], data[size:]


@dataclass(frozen=True)
class Reader:
    """The bytes of a tensor, opened. The mirror image of `write`."""

    model: Model
    scaling: Scaling
    entries: Array
    chunks: tuple[tuple[memoryview, memoryview, memoryview], ...]

    @classmethod
    def open(cls, data: memoryview, spec: TensorSpec) -> Reader:
        """Read all but the tokens. Raises `ValueError` on bad bytes."""
        shape, data_ = read_shape(data)
        if shape != spec.shape or not data[0]:
            raise ValueError(f"a trellis stream of the shape {shape}, not {spec.shape}")
        code = Code(1 << (data[0] - 1))
        head, data_ = _cut(data_, _HEAD.size)
        step, exponent, shift, reach, near, flags = _HEAD.unpack(head)
        if not (
            0 < step < math.inf and 0 < reach <= 64 and shift <= MOST_SHIFT and abs(exponent) <= 160 and flags < 16
        ):
            raise ValueError("a trellis stream begins with what makes no sense")
        part, data_ = _cut(data_, near)
        centroids = np.frombuffer(part, np.int8)
        low = last = cut = 0
        if flags & 3:
            part, data_ = _cut(data_, _CLASSES.size)
            low, last, cut = _CLASSES.unpack(part)
        axes = []
        for _ in range((flags & 3) + (flags >> 2 & 1)):
            axis, data_ = Scaled.unpack(data_, shape)
            axes.append(axis)
        balance = axes.pop() if flags & _BALANCE else None
        classes = Classes(tuple(axes), low, last, cut)
        if len(axes) > 2 or cut > 7 or classes.count > 128:
            raise ValueError("classes make no sense")
        model = Model(code, np.float32(step), shift, centroids, classes)
        if flags & _EXPLICIT:
            part, data_ = _cut(data_, 5)
            table, data_ = _cut(data_, int.from_bytes(part[1:], "little"))
            if not 1 <= part[0] <= 12:
                raise ValueError("tables make no sense")
            entries = rans.entries(rans.unpack(table, model.contexts, tables.TOKENS), part[0], tables.BITS)
        else:
            part, data_ = _cut(data_, 2 * model.contexts)
            shapes, scales = np.frombuffer(part, np.uint8).reshape(-1, 2).T
            if shapes.max() >= tables.SHAPES:
                raise ValueError("tables make no sense")
            entries = _generated(shapes, scales, shift, reach)
        return cls(model, Scaling(spec, exponent, balance), entries, _chunks(data_, spec.elements))

    def blocks(self) -> Iterator[tuple[int, Array]]:
        """Start and float32 values of each chunk. Raises `ValueError` on bad bytes."""
        spec, model = self.scaling.spec, self.model
        follow, table = model.code.follow, model.table
        path = np.empty(paths_of(spec.elements), np.uint64)
        slots = rans.slots_of(self.entries, tables.BITS)
        for number, (states, words, fields) in enumerate(self.chunks):
            start = number * CHUNK
            count = min(CHUNK, spec.elements - start)
            classes = model.classes.of(spec.shape, np.array([start]), count)
            padded = np.zeros(len(words) // 2 + BLOCK + LANES, np.uint16)
            padded[: len(words) // 2] = np.frombuffer(words, "<u2")
            tokens, out = np.empty(count, np.uint8), np.empty(count, np.float32)
            lanes = np.frombuffer(states, "<u4").astype(np.uint64)
            if not trellis_decode(
                padded,
                len(words) // 2,
                lanes,
                classes,
                slots,
                self.entries,
                tables.BITS,
                follow,
                path,
                table,
                tokens,
                out,
            ):
                raise ValueError("tokens are damaged")
            self._put_open(tokens, fields, out)
            yield start, out

    def _put_open(self, tokens: Array, fields: memoryview, values: Array) -> None:
        """Complete the values of tokens that leave something open."""
        model, used = self.model, len(fields) // 4
        far = slice(None) if model.shift else _far(tokens)
        tokens, found = tokens[far], values[far]
        data = np.zeros(used + BLOCK + 2, np.uint32)
        data[:used] = np.frombuffer(fields, "<u4")
        sizes = np.empty(tokens.size, np.uint32)
        if not get_fields(data, used, tokens, *model.runs, sizes):
            raise ValueError("fields are damaged")
        values_of(tokens, sizes, model.step, found)
        values[far] = found


def _chunks(data: memoryview, elements: int) -> tuple[tuple[memoryview, memoryview, memoryview], ...]:
    """States, words and fields of each chunk."""
    count = -(-elements // CHUNK)
    sizes, data = _cut(data, _PAIR.size * count)
    found = []
    for words, fields in _PAIR.iter_unpack(sizes):
        states, data = _cut(data, 4 * LANES)
        first, data = _cut(data, 2 * words)
        second, data = _cut(data, 4 * fields)
        found.append((states, first, second))
    if len(data):
        raise ValueError(f"{len(data)} bytes too many")
    return tuple(found)


_PLAIN = struct.Struct("<fhBi")
_AT_ONCE = 1 << 16  # elements of a plain stream, a multiple of 8: few bytes may claim that there are very many


def write_plain(indices: Array, step: np.float32, scaling: Scaling) -> bytes:
    """Bytes of a small tensor without a model: whole numbers of steps, in as many bits as they need."""
    base = int(indices.min())
    codes = (indices - base).astype(np.uint32)
    width = int(codes.max()).bit_length()
    bits = (codes[:, None] >> np.arange(width, dtype=np.uint32)) & 1
    head = bytes([0]) + _pack_shape(scaling.spec.shape) + _PLAIN.pack(float(step), scaling.exponent, width, base)
    return head + np.packbits(bits.astype(np.uint8), axis=None, bitorder="little").tobytes()


def read_plain(data: memoryview, spec: TensorSpec) -> Array:
    """Storage bits; the mirror image of `write_plain`. Raises `ValueError` on bad bytes."""
    shape, data = read_shape(data)
    head, data = _cut(data, _PLAIN.size)
    step, exponent, width, base = _PLAIN.unpack(head)
    sound = 0 < step < math.inf and abs(exponent) <= 160 and width <= 24 and abs(base) <= 1 << 22
    if shape != spec.shape or not sound or len(data) != -(-spec.elements * width // 8):
        raise ValueError("a plain stream makes no sense")
    scaling, found = Scaling(spec, exponent), np.empty(spec.elements, spec.storage)
    stored, weights = np.frombuffer(data, np.uint8), np.int32(1) << np.arange(width, dtype=np.int32)
    for start in range(0, spec.elements, _AT_ONCE):
        count = min(_AT_ONCE, spec.elements - start)
        piece = stored[start * width // 8 : (start + count) * width // 8 + 1]
        bits = np.unpackbits(piece, count=count * width, bitorder="little").reshape(count, width)
        codes = bits @ weights if width else np.zeros(count, np.int32)
        found[start : start + count] = scaling.up((codes + base).astype(np.float32) * np.float32(step), start)
    return found
