"""The bits of floats as tokens, given how large the numbers of their row and column are.

A *token* stands for consecutive words: an exponent with up to three bits of the mantissa, as many as pay. What a
token leaves open, the lower mantissa and mostly the sign, is written as it is. Tokens are coded by rANS with one table
for each *context*: the mean exponent of an element's row plus that of its column, in quarters of an octave. So every
element is coded as if it were divided by a scale that is a product of one number for the row and one for the column.

All decisions are made in whole numbers, so that the bytes are the same on every machine.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bale.compressors.entropy import rans
from bale.compressors.entropy.huffman import compress_general, decompress
from bale.compressors.kernels.axes import add_contexts, axis_sums, count_groups, flip, log2, split_costs, translate
from bale.compressors.kernels.rans import BLOCK, get_fields, put_fields
from bale.spec import Array

_FINE = 3
"""Mantissa bits that a token tells at most; a fourth gains less than its tables take."""

_EXPONENTS = 40
"""Exponents, downwards from the largest, that get tokens; lower ones are one in 2^35 of a normal distribution."""

_QUARTERS = 4
_CONTEXTS = 64
_LONGEST = 1 << 20
_RUNS, _RUN = 63, 256
_ENTRY = 9 << 15
"""What a token adds to a table, in 2^-16 bits, about."""

_OUTSIDE = 0
_HEAD = struct.Struct("<BHBhBBBI")
_AXIS = struct.Struct("<III")
_SIZE = struct.Struct("<I")
_RANGE = struct.Struct("<hBB")
_ON, _ZERO, _MIRRORED = 1, 2, 4
_NO_AXIS = (np.zeros(1, np.int16), 1 << 40, 0)
_START = np.zeros(1, np.int64)


@dataclass(frozen=True)
class Layout:
    """Where the fields of a word are: from above the sign (if there is one), the exponent, the mantissa."""

    bits: int
    mantissa: int
    signed: bool = True

    @property
    def sign(self) -> int:
        """The bit of the sign, or 0."""
        return 1 << (self.bits - 1) if self.signed else 0

    @property
    def exponents(self) -> int:
        """Number of exponents."""
        return 1 << (self.bits - self.signed - self.mantissa)

    @property
    def fine(self) -> int:
        """Mantissa bits that tokens can tell."""
        return min(_FINE, self.mantissa)


@dataclass(frozen=True)
class Axis:
    """An axis of the tensor, as a chunk meets it: element i has the index ``(at + i) // inner`` modulo `size`."""

    inner: int
    at: int
    size: int


BYTE = Layout(8, 0, signed=False)
"""Bytes that are no floats."""


def axes_of(shape: Sequence[int], start: int, count: int) -> list[Axis]:
    """The axes of a tensor for `count` of its elements from `start` on, those that can tell something."""
    axes, inner = [], 1
    for size in reversed(shape):
        at = start % (inner * size) if inner * size else 0
        if size > 1:
            if at + count <= inner * size:  # each index once: count from the first that is met
                axis = Axis(inner, at % inner, -(-(at % inner + count) // inner))
            else:
                axis = Axis(inner, at, size)
            if 2 <= axis.size <= count // 16:
                axes.append(axis)
        inner *= size
    return axes


@dataclass(frozen=True)
class Scales:
    """What axes say of each element; contexts are ``min(max(sum - low, 0), last) >> shift``."""

    axes: tuple[Axis, ...] = ()
    values: tuple[Array, ...] = ()
    low: int = 0
    last: int = 0
    shift: int = 0

    @property
    def contexts(self) -> int:
        """How many there are."""
        return (self.last >> self.shift) + 1

    def of(self, starts: Array, length: int) -> Array:
        """The contexts of some runs of elements, one behind the other."""
        if not self.last:
            return np.zeros(1, np.uint8)
        contexts = np.empty((starts.size, length), np.uint8)
        first, second = (
            *((values, axis.inner, axis.at) for axis, values in zip(self.axes, self.values, strict=True)),
            _NO_AXIS,
        )[:2]
        if first[1] == 1:
            first, second = second, first
        add_contexts(*first, *second, self.low, self.last, starts, contexts)
        if self.shift:
            contexts >>= self.shift
        return contexts.reshape(-1)


@dataclass(frozen=True)
class _Tokens:
    """Which words each token stands for: `splits` has the told mantissa bits of each exponent from `lowest` on.

    Token 0 is any other word, unless there is none; then, if `zero`, comes that of the word 0.
    """

    layout: Layout
    lowest: int
    splits: Array
    sign: bool
    zero: bool

    @property
    def first(self) -> int:
        """The first token of an exponent."""
        return (self.splits.size < self.layout.exponents) + self.zero

    @property
    def count(self) -> int:
        """Number of tokens."""
        return self.first + int((1 << self.splits.astype(np.int64)).sum()) * (2 if self.sign else 1)

    def runs(self) -> tuple[Array, Array]:
        """First word and width of each token, over words whose sign stands at the bottom unless tokens tell it."""
        layout = self.layout
        parts = 1 << self.splits.astype(np.int64)
        sizes = np.repeat(layout.mantissa - self.splits.astype(np.int64), parts)
        starts = (1 << sizes).cumsum() - (1 << sizes) + (self.lowest << layout.mantissa)
        if self.sign:
            starts, sizes = np.concatenate((starts, starts + layout.sign)), np.tile(sizes, 2)
        elif layout.signed:
            starts, sizes = 2 * starts, sizes + 1
        bases, widths = np.zeros((2, rans.TOKENS), np.uint64)
        bases[self.first : self.count], widths[self.first : self.count] = starts, sizes
        if self.splits.size < layout.exponents:
            widths[_OUTSIDE] = layout.bits
        return bases, widths

    def table(self, bases: Array, widths: Array) -> Array:
        """Token of each word."""
        table = np.zeros(1 << self.layout.bits, np.uint8)
        for half in np.array_split(np.arange(self.first, self.count), 2 if self.sign else 1):
            start = int(bases[half[0]])
            lengths = 1 << widths[half].astype(np.int64)
            table[start : start + int(lengths.sum())] = np.repeat(half.astype(np.uint8), lengths)
        if self.zero:
            table[0] = self.first - 1
        return table


def encode(words: Array, layout: Layout, axes: Sequence[Axis] = (), sizes: Array | None = None) -> bytes:
    """Code a plane of words. The mirror image is `decode`.

    Parameters
    ----------
    words : Array
        uint8 or uint16, shape ``(n,)``, n > 0.
    axes : sequence of Axis
        The axes of the tensor, those that are worth a look.
    sizes : Array or None
        Words of the same kind whose exponents may be averaged along axes in place of these: a logarithm of sizes.
    """
    sample = _Sample.of(words if sizes is None else sizes)
    met = [_Met.along(axis, words, layout) for axis in axes]
    cost, scales = _choose_scales(words.size, layout, met, sample)
    if sizes is not None:
        other = _choose_scales(words.size, layout, [_Met.along(axis, sizes, layout) for axis in axes], sample)
        scales = other[1] if other[0] < cost else scales
    mirror = _choose_mirror(words.size, met) if layout.signed else None
    if mirror is not None:
        words = words.copy()
        _flip(words, layout, *mirror)
    tokens, scales, contexts = _choose_tokens(words, layout, scales, sample)
    bases, widths = tokens.runs()
    values = _rotate(words, layout) if _is_rotated(tokens) else words
    found, counts = np.empty(words.size, np.uint8), np.zeros((scales.contexts, rans.TOKENS), np.uint32)
    translate(values, tokens.table(bases, widths), contexts, found, counts)
    data = np.empty(words.size * layout.bits // 32 + 2, np.uint32)
    size = put_fields(values, found, bases, widths, data)
    return b"".join(
        (
            _write_head(tokens, scales, mirror, size),
            rans.encode(found, contexts, counts[:, : tokens.count]),
            data[:size].astype("<u4", copy=False).tobytes(),
        )
    )


def scales_of(words: Array, layout: Layout, axes: Sequence[Axis]) -> Scales:
    """How large words are for each row and column, in quarters of an octave: what `encode` would use."""
    met = [_Met.along(axis, words, layout) for axis in axes]
    return replace(_choose_scales(words.size, layout, met, _Sample.of(words))[1], shift=0)


def write_scales(scales: Scales) -> bytes:
    """Axes and the numbers of their indices. The mirror image is `read_scales`."""
    pieces = [_RANGE.pack(scales.low, scales.last, len(scales.axes))]
    for axis, values in zip(scales.axes, scales.values, strict=True):
        pieces.append(write_axis(axis) + pack_bytes(values.astype(np.int8)))
    return b"".join(pieces)


def read_scales(data: memoryview) -> tuple[Scales, memoryview]:
    """Scales, and the bytes behind them. Raises `ValueError` on bad bytes."""
    low, last, many = _RANGE.unpack(cut(data, _RANGE.size))
    if many > 2:
        raise ValueError(f"scales along {many} axes")
    axes, values, data = [], [], data[_RANGE.size :]
    for _ in range(many):
        axis, data = read_axis(data)
        found, data = unpack_bytes(data, axis.size)
        axes.append(axis)
        values.append(found.view(np.int8).astype(np.int16))
    return Scales(tuple(axes), tuple(values), low, last), data


def decode(data: memoryview, layout: Layout, words: Array) -> None:
    """Write the words of a plane. Raises `ValueError` on bad bytes. The mirror image of `encode`."""
    tokens, scales, mirror, size, rest = _read_head(data, layout)
    contexts = scales.of(_START, words.size)
    found = np.empty(words.size, np.uint8)
    rest = rans.decode(rest, contexts, scales.contexts, tokens.count, found)
    if len(rest) != 4 * size:
        raise ValueError(f"fields take {len(rest)} bytes, not {4 * size}")
    fields = np.zeros(size + BLOCK + 2, np.uint32)
    fields[:size] = np.frombuffer(rest, "<u4")
    if not get_fields(fields, size, found, *tokens.runs(), words):
        raise ValueError("fields are damaged")
    if _is_rotated(tokens):
        _rotate_back(words, layout)
    if mirror is not None:
        _flip(words, layout, *mirror)


# How large rows and columns are.


def _choose_scales(size: int, layout: Layout, met: Sequence[_Met], sample: _Sample) -> tuple[int, Scales]:
    """The one or two axes whose mean exponents tell most of the exponents of a sample, if any tell enough."""
    found = sorted(((each.axis, each.quarters()) for each in met), key=_spread)
    best = Scales()
    least = _cost(size, layout, best, sample)
    for pair in [(item,) for item in found[:3]] + [(found[0], item) for item in found[1:3]]:
        if all(values.any() for _, values in pair):
            scales = _scales(pair, sample)
            cost = _cost(size, layout, scales, sample)
            if cost < least:
                best, least = scales, cost
    return least, best


def _spread(item: tuple[Axis, Array]) -> int:
    """How little the numbers of an axis differ."""
    return -int(np.square(item[1], dtype=np.int64).sum()) // item[1].size


@dataclass(frozen=True)
class _Met:
    """What was found along an axis: the length, the sum of exponents and the number of signs of each index."""

    axis: Axis
    lengths: Array
    exponents: Array
    negative: Array

    @classmethod
    def along(cls, axis: Axis, words: Array, layout: Layout) -> _Met:
        """Go through all words."""
        sums = np.zeros(axis.size, np.int64)
        sign = layout.bits - layout.signed
        axis_sums(words, layout.mantissa, layout.exponents - 1, sign, axis.inner, axis.at, sums)
        return cls(axis, lengths_along(axis, words.size), sums & ((1 << 40) - 1), sums >> 40)

    def quarters(self) -> Array:
        """Mean exponent of each index, less the mean of all, in quarters."""
        total, n = int(self.exponents.sum()), int(self.lengths.sum())
        scaled = 2 * _QUARTERS * (self.exponents * n - total * self.lengths) + self.lengths * n
        quarters: Array = np.clip(scaled // (2 * np.maximum(self.lengths, 1) * n), -127, 127).astype(np.int16)
        return quarters


def lengths_along(axis: Axis, count: int) -> Array:
    """How many elements have each index."""
    period = axis.inner * axis.size
    whole, rest = divmod(count, period)
    starts = np.arange(axis.size, dtype=np.int64) * axis.inner
    # The rest covers [at, at + rest) on a circle of one period.
    lengths = np.full(axis.size, whole * axis.inner, np.int64)
    for shifted in (starts, starts + period):
        low, high = np.maximum(shifted, axis.at), np.minimum(shifted + axis.inner, axis.at + rest)
        lengths += np.maximum(high - low, 0)
    return lengths


def _scales(found: Sequence[tuple[Axis, Array]], sample: _Sample) -> Scales:
    """Contexts from these axes: where 0.1 % of a sample lie outside on each side the range ends."""
    axes, values = zip(*found, strict=True)
    below = np.bincount(Scales(axes, values, -128, 255).of(sample.starts, sample.length), minlength=256).cumsum()
    limit = int(below[-1]) // 1000
    low, high = int((below <= limit).sum()), int((below < below[-1] - limit).sum())
    shift = 0
    while (high - low) >> shift >= _CONTEXTS:
        shift += 1
    return Scales(axes, values, low - 128, high - low, shift)


@dataclass(frozen=True)
class _Sample:
    """Runs of words from all over a chunk, or all of a short one."""

    words: Array
    starts: Array
    length: int

    @classmethod
    def of(cls, words: Array) -> _Sample:
        """Take a sample."""
        if words.size <= _RUNS * _RUN:
            return cls(words, _START, words.size)
        stride = words.size // _RUNS
        runs = words[: stride * _RUNS].reshape(_RUNS, stride)[:, :_RUN]
        return cls(runs.reshape(-1), np.arange(_RUNS, dtype=np.int64) * stride, _RUN)


def _cost(size: int, layout: Layout, scales: Scales, sample: _Sample) -> int:
    """What the exponents of a whole chunk take with these contexts, in 2^-16 bits, by a sample."""
    counts = np.zeros((scales.contexts, 2, layout.exponents + 1), np.uint32)
    contexts = scales.of(sample.starts, sample.length)
    count_groups(sample.words, contexts, layout.mantissa, 0, layout.sign, counts)
    exponents = counts[:, :, 1:].sum(axis=1, dtype=np.uint32)[:, None, :, None]
    tables = int((exponents > 0).sum()) * _ENTRY + sum(axis.size for axis in scales.axes) * (3 << 16)
    return _entropy(exponents, 0, 0)[0] * size // sample.words.size + tables


def _entropy(counts: Array, fine: int, entry: int) -> tuple[int, Array]:
    """Least cost of tokens, 2^-16 bits, and the told mantissa bits of each exponent that reach it."""
    costs = np.zeros((counts.shape[2], fine + 1), np.int64)
    split_costs(np.ascontiguousarray(counts), fine, entry, costs)
    totals = counts.sum(axis=(1, 2, 3), dtype=np.int64).tolist()
    shared = sum(total * log2(total) for total in totals if total)
    return int(costs.min(axis=1).sum()) + shared, costs.argmin(axis=1).astype(np.uint8)


# Signs that rows or columns share.


def _choose_mirror(size: int, met: Sequence[_Met]) -> tuple[Axis, Array] | None:
    """An axis, and for each index whether most of its elements are negative, where that tells enough of the signs."""
    best, least = None, size - size // 256
    for each in met:
        flags = 2 * each.negative > each.lengths
        fewer = max(1, int(np.where(flags, each.lengths - each.negative, each.negative).sum()))
        bits = sum(part * (log2(size) - log2(part)) for part in (fewer, size - fewer)) >> 16
        if flags.any() and bits + each.axis.size < least:
            best, least = (each.axis, flags), bits + each.axis.size
    return best


def mirror_of(signs: Array, axes: Sequence[Axis]) -> tuple[Axis, Array] | None:
    """The same for numbers of which `signs` tells, uint8: 0 for those without one, 1 for positive, 3 for negative."""
    met = []
    for axis in axes:
        sums = np.zeros(axis.size, np.int64)
        axis_sums(signs, 0, 1, 1, axis.inner, axis.at, sums)
        met.append(_Met(axis, sums & ((1 << 40) - 1), sums, sums >> 40))
    size = int(np.count_nonzero(signs))
    return _choose_mirror(size, met) if size else None


def write_mirror(mirror: tuple[Axis, Array]) -> bytes:
    """An axis and a flag for each index. The mirror image is `read_mirror`."""
    axis, flags = mirror
    return write_axis(axis) + pack_bytes(np.packbits(flags))


def read_mirror(data: memoryview) -> tuple[tuple[Axis, Array], memoryview]:
    """Axis and flags, and the bytes behind them."""
    axis, data = read_axis(data)
    found, data = unpack_bytes(data, -(-axis.size // 8))
    return (axis, np.unpackbits(found, count=axis.size)), data


def _flip(words: Array, layout: Layout, axis: Axis, flags: Array) -> None:
    flip(words, axis.inner, axis.at, flags.astype(words.dtype) << (layout.bits - 1))


def _is_rotated(tokens: _Tokens) -> bool:
    return tokens.layout.signed and not tokens.sign


def _rotate(words: Array, layout: Layout) -> Array:
    """Words with the sign at the bottom, so that those of either sign follow each other."""
    rotated = words << 1
    rotated |= words >> (layout.bits - 1)
    return rotated


def _rotate_back(words: Array, layout: Layout) -> None:
    signs = words << (layout.bits - 1)
    words >>= 1
    words |= signs


# Tokens.


def _choose_tokens(words: Array, layout: Layout, scales: Scales, sample: _Sample) -> tuple[_Tokens, Scales, Array]:
    """Tokens, scales with as many contexts as pay, and the contexts."""
    contexts = scales.of(_START, words.size)
    fine, lowest, exponents = layout.fine, *_exponents(layout, sample)
    counts = np.zeros((scales.contexts, 2, (exponents << fine) + 1), np.uint32)
    count_groups(words, contexts, layout.mantissa - fine, lowest << fine, layout.sign, counts)
    groups: Array = counts[:, :, 1:].reshape(-1, 2, exponents, 1 << fine)
    zero = layout.signed and lowest > 0 and int(np.count_nonzero(words)) < words.size - words.size // 512
    best = _split(groups, fine, layout)
    while scales.contexts > 1:
        if groups.shape[0] % 2:
            groups = np.concatenate((groups, np.zeros_like(groups[:1])))
        groups = groups[0::2] + groups[1::2]
        coarser = _split(groups, fine, layout)
        if coarser[0] >= best[0]:
            break
        best, scales = coarser, replace(scales, shift=scales.shift + 1)
        contexts = contexts >> 1
    _, splits, sign = best
    if scales.contexts == 1:
        scales, contexts = Scales(), np.zeros(1, np.uint8)
    return _Tokens(layout, lowest, splits, sign, zero), scales, contexts


def _exponents(layout: Layout, sample: _Sample) -> tuple[int, int]:
    """First exponent that gets tokens, and how many do: up to the largest that is common in a sample."""
    if layout.exponents <= _EXPONENTS or not layout.signed:
        return 0, layout.exponents
    counts = np.zeros((1, 2, layout.exponents + 1), np.uint32)
    count_groups(sample.words, np.zeros(1, np.uint8), layout.mantissa, 0, layout.sign, counts)
    plain = counts[0, :, 1:].sum(axis=0, dtype=np.int64)
    windows = np.concatenate(([0], plain.cumsum()))
    inside = windows[_EXPONENTS:] - windows[:-_EXPONENTS]
    most = np.flatnonzero(inside == inside.max())
    return int(most[(most.size - 1) // 2]), _EXPONENTS


def _split(counts: Array, fine: int, layout: Layout) -> tuple[int, Array, bool]:
    """Cost, told mantissa bits and whether tokens tell the sign."""
    best: tuple[int, Array, bool] | None = None
    for sign in (False, True) if layout.signed else (False,):
        grouped = counts if sign else counts.sum(axis=1, keepdims=True, dtype=np.uint32)
        cost, splits = _entropy(grouped, fine, _ENTRY)
        cost += 0 if sign else int(grouped.sum(dtype=np.int64)) << 16
        limit = fine
        while (1 << splits.astype(np.int64)).sum() * (1 + sign) > rans.TOKENS - 2 and layout.signed:
            limit -= 1
            splits = np.minimum(splits, limit)
        if best is None or cost < best[0]:
            best = (cost, splits, sign)
    assert best is not None
    return best


# The head of a plane.


def _write_head(tokens: _Tokens, scales: Scales, mirror: tuple[Axis, Array] | None, size: int) -> bytes:
    """All that is not tokens or fields. The mirror image is `_read_head`."""
    flags = _ON * tokens.sign | _ZERO * tokens.zero | _MIRRORED * (mirror is not None)
    sizes = (tokens.lowest, tokens.splits.size - 1, scales.low, scales.last, scales.shift, len(scales.axes), size)
    pieces = [_HEAD.pack(flags, *sizes), pack_bytes(tokens.splits)]
    for axis, values in zip(scales.axes, scales.values, strict=True):
        pieces.append(write_axis(axis) + pack_bytes(values.astype(np.int8)))
    if mirror is not None:
        pieces.append(write_mirror(mirror))
    return b"".join(pieces)


def _read_head(data: memoryview, layout: Layout) -> tuple[_Tokens, Scales, tuple[Axis, Array] | None, int, memoryview]:
    flags, lowest, last_exponent, low, last, shift, many, size = _HEAD.unpack(cut(data, _HEAD.size))
    exponents = last_exponent + 1
    splits, data = unpack_bytes(data[_HEAD.size :], exponents)
    tokens = _Tokens(layout, lowest, splits, bool(flags & _ON), bool(flags & _ZERO))
    wrong = flags > 7 or lowest + exponents > layout.exponents or int(splits.max()) > layout.fine or tokens.count > 256
    if wrong or many > 2 or shift > 7 or (flags and not layout.signed):
        raise ValueError("the head of a plane makes no sense")
    axes: list[Axis] = []
    values: list[Array] = []
    for _ in range(many):
        axis, data = read_axis(data)
        found, data = unpack_bytes(data, axis.size)
        axes.append(axis)
        values.append(found.view(np.int8).astype(np.int16))
    mirror = None
    if flags & _MIRRORED:
        mirror, data = read_mirror(data)
    return tokens, Scales(tuple(axes), tuple(values), low, last, shift), mirror, size, data


def write_axis(axis: Axis) -> bytes:
    """Axis as bytes. The mirror image is `read_axis`."""
    return _AXIS.pack(axis.inner, axis.at, axis.size)


def read_axis(data: memoryview) -> tuple[Axis, memoryview]:
    """Axis, and the bytes behind it."""
    axis = Axis(*_AXIS.unpack(cut(data, _AXIS.size)))
    if not axis.inner or not 0 < axis.size <= _LONGEST or axis.at >= axis.inner * axis.size:
        raise ValueError("an axis makes no sense")
    return axis, data[_AXIS.size :]


def pack_bytes(values: Array) -> bytes:
    """Small numbers, uint8 or int8. The mirror image is `unpack_bytes`."""
    frame = bytes(compress_general(values))
    return _SIZE.pack(len(frame)) + frame


def unpack_bytes(data: memoryview, count: int) -> tuple[Array, memoryview]:
    """The numbers as uint8, and the bytes behind them."""
    (size,) = _SIZE.unpack(cut(data, _SIZE.size))
    values = np.empty(count, np.uint8)
    decompress(cut(data[_SIZE.size :], size), values)
    return values, data[_SIZE.size + size :]


def cut(data: memoryview, size: int) -> memoryview:
    """The first bytes; raise `ValueError` when there are fewer."""
    if len(data) < size:
        raise ValueError("a plane is truncated")
    return data[:size]
