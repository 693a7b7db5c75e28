"""The bytes of a tensor: its model, then chunks of tokens, each of which can be decoded by itself."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from bale.compressors.entropy import rans
from bale.compressors.kernels.axes import logs
from bale.compressors.kernels.rans import BLOCK, LANES, get_fields, put_fields, rans_encode
from bale.compressors.kernels.trellis import (
    EXACT,
    UNIT,
    contexts_of,
    look_up,
    tokens_of,
    trellis_decode,
    values_of,
)
from bale.compressors.parallel import in_order
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


@dataclass(frozen=True)
class Dequantizer:
    """Turns tokens into the storage bits of a tensor: by one table where that can be."""

    model: Model
    scaling: Scaling

    @property
    def _is_direct(self) -> bool:
        """Whether the bits of each token are the same everywhere."""
        return self.model.shift == 0 and self.scaling.balance is None

    @cached_property
    def table(self) -> Array:
        """The bits of each token, of even levels, then of odd ones, as whole numbers.

        Those of float32 where columns are balanced; the parity where a token leaves something open.
        """
        found = self.model.table
        if not self._is_direct:
            return found.view(np.uint32)
        is_open = np.tile(self.model.runs[1] > 0, 2)
        bits = _as_words(self.scaling.up(found.copy(), 0))
        bits[is_open] = found[is_open]
        return bits

    def room(self, out: Array) -> Array:
        """Where the bits of the tokens of a chunk may be put, of which the values shall come into `out`."""
        return _as_words(out) if self._is_direct else np.empty(out.size, np.uint32)

    def complete(self, tokens: Array, fields: Array, bits: Array, start: int, out: Array) -> None:
        """Complete the values of tokens that leave something open, and scale all.

        Parameters
        ----------
        fields : Array
            uint32: what the tokens leave open, and behind it `BLOCK` + 2 words more.
        bits : Array
            What the table has for the tokens, in the place that `room` gave.
        start : int
            The first element of the chunk.
        out : Array
            Storage bits of the chunk, written.

        Raises
        ------
        ValueError
            For damaged fields.
        """
        model, used = self.model, fields.size - BLOCK - 2
        far = slice(None) if model.shift else _far(tokens)
        tokens = tokens[far]
        sizes = np.empty(tokens.size, np.uint32)
        if not get_fields(fields, used, tokens, *model.runs, sizes):
            raise ValueError("fields are damaged")
        if self._is_direct:
            values = bits[far].astype(np.float32)
            values_of(tokens, sizes, model.step, values)
            bits[far] = _as_words(self.scaling.up(values, 0))
        else:
            values = bits.view(np.float32)
            found = values[far]
            values_of(tokens, sizes, model.step, found)
            values[far] = found
            out[:] = self.scaling.up(values, start)


def _as_words(array: Array) -> Array:
    return array.view(f"u{array.itemsize}")


@dataclass(frozen=True)
class Chunk:
    """The tokens of a chunk, their contexts, how often each comes in each, and the bits that they leave open."""

    tokens: Array
    contexts: Array
    counts: Array
    fields: Array

    @classmethod
    def of(cls, levels: Iterable[Array], at: slice, model: Model, shape: tuple[int, ...], room: Array) -> Chunk:
        """The chunk of some elements, whose levels (int32) come piece by piece; `room` is two bytes for each."""
        tokens, contexts = room.reshape(2, -1)
        counts = np.zeros((model.contexts, tables.TOKENS), np.uint32)
        end, far = 0, []
        for piece in levels:
            here = slice(end, end := end + piece.size)
            tokens_of(piece, model.shift, tokens[here])
            classes = model.classes.of(shape, np.array([at.start + here.start]), piece.size)
            contexts_of(piece, classes, tokens[here], contexts[here], counts)
            far.append(_open_ones(piece, tokens[here], model))
        levels_, tokens_ = (np.concatenate(each) for each in zip(*far, strict=True))
        return cls(tokens, contexts, counts, _fields(levels_, tokens_, model))

    def decode(self, dequantizer: Dequantizer, start: int, out: Array | None = None) -> Array:
        """The storage bits that the chunk, which begins at element `start`, comes back as."""
        out = np.empty(self.tokens.size, dequantizer.scaling.spec.storage) if out is None else out
        bits = dequantizer.room(out)
        look_up(self.tokens, self.contexts, dequantizer.table, bits)
        padded = np.concatenate((self.fields, np.zeros(BLOCK + 2, np.uint32)))
        dequantizer.complete(self.tokens, padded, bits, start, out)
        return out


def fields_of(levels: Array, tokens: Array, model: Model) -> Array:
    """The bits (uint32) that tokens leave open."""
    return _fields(*_open_ones(levels, tokens, model), model)


def _open_ones(levels: Array, tokens: Array, model: Model) -> tuple[Array, Array]:
    """The levels whose tokens leave bits open, and these tokens."""
    far = slice(None) if model.shift else _far(tokens)
    return levels[far], tokens[far]


def _fields(levels: Array, tokens: Array, model: Model) -> Array:
    pairs = levels >> 2
    sizes = (pairs ^ (pairs >> 31)).view(np.uint32)
    data = np.empty(24 * tokens.size // 32 + 2, np.uint32)
    return data[: put_fields(sizes, tokens, *model.runs, data)]


def _far(tokens: Array) -> Array:
    """Indices of tokens that leave bits open, without a shift."""
    return np.flatnonzero(tokens - np.uint8(128 - 2 * EXACT) >= np.uint8(4 * EXACT))


def write(chunks: Sequence[Chunk], model: Model, scaling: Scaling) -> bytes:
    """Bytes of a tensor. The mirror image is `Reader`."""
    classes, balance = model.classes, scaling.balance
    counts = np.asarray(sum(chunk.counts for chunk in chunks))
    used = np.flatnonzero(counts.any(axis=0))
    reach = max(64 - int(used[0]) // 2, int(used[-1]) // 2 - 63)
    explicit, table, entries = _choose_tables(counts, model.shift, reach)
    flags = len(classes.axes) | (_BALANCE if balance else 0) | (_EXPLICIT if explicit else 0)
    parts = [
        bytes([model.code.states.bit_length()]) + _pack_shape(scaling.spec.shape),
        _HEAD.pack(float(model.step), scaling.exponent, model.shift, reach, model.centroids.size, flags),
        model.centroids.astype(np.int8).tobytes(),
    ]
    if classes.axes:
        parts.append(_CLASSES.pack(classes.low, classes.last, classes.shift))
    parts += [each.packed for each in (*classes.axes, *([balance] if balance else []))]
    parts.append(table)

    def stream(chunk: Chunk) -> tuple[bytes, bytes, bytes]:
        words, states = np.empty(chunk.tokens.size + 1, np.uint16), np.empty(LANES, np.uint64)
        begin = rans_encode(chunk.tokens, chunk.contexts, entries, tables.BITS, words, states)
        return (
            states.astype("<u4").tobytes(),
            words[begin:].astype("<u2", copy=False).tobytes(),
            chunk.fields.astype("<u4", copy=False).tobytes(),
        )

    streams = in_order(stream, chunks)
    sizes = [_PAIR.pack(len(words) // 2, len(fields) // 4) for _, words, fields in streams]
    return b"".join((*parts, *sizes, *(part for each in streams for part in each)))


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


def explicit_bytes(counts: Array, times: float, enough: float) -> float:
    """Bytes of explicit tables and of the tokens that they code, by the counts of a sample.

    Parameters
    ----------
    counts : Array
        uint32, shape ``(contexts, 256)``.
    times : float
        Tokens in all for each of the sample.
    enough : float
        More bytes than that need not be known exactly.
    """
    whole, rows = counts.astype(np.int64), counts.sum(axis=1, dtype=np.int64)
    bits = (int((rows * logs(np.maximum(rows, 1))).sum()) - int((whole * logs(np.maximum(whole, 1))).sum())) / 65536
    cells = int((whole > 0).sum()) - int((rows > 0).sum())
    tokens = (bits + cells / (2 * math.log(2))) / 8 * times  # Miller and Madow 1955: a sample looks too regular
    if tokens > enough:
        return tokens
    steps = _STEPS[1] if rows.sum() * times >= _LONG else _STEPS[0]
    return tokens + len(rans.pack(rans.levels_of(np.rint(times * whole).astype(np.int64), steps)))


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

    def decode(self) -> Array:
        """Storage bits, flat. Raises `ValueError` on bad bytes."""
        spec = self.scaling.spec
        out = np.empty(spec.elements, spec.storage)
        slots, dequantizer = rans.slots_of(self.entries, tables.BITS), Dequantizer(self.model, self.scaling)
        in_order(lambda number: self._decode(number, slots, dequantizer, out), range(len(self.chunks)))
        return out

    def _decode(self, number: int, slots: Array, dequantizer: Dequantizer, out: Array) -> None:
        """Decode one chunk."""
        model, spec = self.model, self.scaling.spec
        states, words, fields = self.chunks[number]
        start = number * CHUNK
        out = out[start : start + CHUNK]
        tokens, bits = np.empty(out.size, np.uint8), dequantizer.room(out)
        if not trellis_decode(
            _padded(words, "<u2", BLOCK + LANES),
            len(words) // 2,
            np.frombuffer(states, "<u4").astype(np.uint64),
            model.classes.of(spec.shape, np.array([start]), out.size),
            slots,
            self.entries,
            tables.BITS,
            model.code.follow,
            np.empty(paths_of(spec.elements), np.uint8),
            dequantizer.table,
            tokens,
            bits,
        ):
            raise ValueError("tokens are damaged")
        dequantizer.complete(tokens, _padded(fields, "<u4", BLOCK + 2), bits, start, out)


def _padded(data: memoryview, kind: str, more: int) -> Array:
    """Words, and zeros behind them."""
    words = np.frombuffer(data, kind)
    found: Array = np.zeros(words.size + more, words.dtype.newbyteorder("="))
    found[: words.size] = words
    return found


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
