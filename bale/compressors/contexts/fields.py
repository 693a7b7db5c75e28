"""Codes the bits of floats as tokens, given the magnitudes of their row and column.

The bits that a token leaves open, the lower mantissa and mostly the sign, are written as they are. Tokens are coded by
rANS with one table for each *context*: the mean exponent of an element's row plus that of its column, in quarters of an
octave. So every element is coded as if it were divided by a scale that is a product of one number for the row and one
for the column.

All decisions are made in whole numbers, so that the bytes are the same on every machine.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bale.compressors.contexts.axes import (
    START,
    Axis,
    Scales,
    cut,
    lengths_along,
    pack_bytes,
    range_of,
    read_axis,
    unpack_bytes,
    write_axis,
)
from bale.compressors.contexts.tokens import ENTRY, Layout, Sample, Tokens, choose_tokens
from bale.compressors.entropy import rans
from bale.compressors.kernels.axes import axis_sums, count_tokens, flip, log2, translate
from bale.compressors.kernels.rans import BLOCK, get_fields, put_fields
from bale.spec import Array

_QUARTERS = 4
_CONTEXTS = 64
_HEAD = struct.Struct("<BHBhBBBI")
_RANGE = struct.Struct("<hBB")
_ON, _ZERO, _MIRRORED = 1, 2, 4


def encode(words: Array, layout: Layout, axes: Sequence[Axis] = (), sizes: Array | None = None) -> bytes:
    """Code a plane of words; see `plan`. The mirror image is `decode`."""
    return b"".join(plan(words, layout, axes, sizes).encode())


def plan(words: Array, layout: Layout, axes: Sequence[Axis] = (), sizes: Array | None = None) -> Plan:
    """Decide how to code a plane of words: contexts and tokens, by counts.

    Parameters
    ----------
    words : Array
        uint8 or uint16, shape ``(n,)``, n > 0.
    axes : sequence of Axis
        The axes of the tensor, those that are worth a look.
    sizes : Array or None
        Words of the same kind whose exponents may be averaged along axes in place of these: a logarithm of sizes.
    """
    sample = Sample.of(words if sizes is None else sizes)
    statistics = [AxisStatistics.along(axis, words, layout) for axis in axes]
    sets = [statistics]
    if sizes is not None:
        sets.append([AxisStatistics.along(axis, sizes, layout) for axis in axes])
    scales = _choose_scales(words.size, layout, sets, sample)
    mirror = _choose_mirror(words.size, statistics) if layout.signed else None
    if mirror is not None:
        words = words.copy()
        _flip(words, layout, *mirror)
    return Plan(words, mirror, *choose_tokens(words, layout, scales, sample))


@dataclass(frozen=True)
class Plan:
    """The way in which a plane of words is to be coded.

    Attributes
    ----------
    words : Array
        Those to be coded: signs that rows or columns share are gone.
    mirror : tuple or None
        The axis of these signs, and whether they are negative.
    contexts : Array
        uint8, the context of each word, or ``(1,)``.
    counts : Array
        uint32: counts of the finest tokens with each context, sign, exponent and upper mantissa.
    """

    words: Array
    mirror: tuple[Axis, Array] | None
    tokens: Tokens
    scales: Scales
    contexts: Array
    counts: Array

    @cached_property
    def tables(self) -> rans.Tables:
        """The tables of tokens that are words."""
        return rans.Tables.of(self.word_counts, self.words.size)

    @property
    def word_counts(self) -> Array:
        """Counts of tokens that are words, in each context."""
        return self.counts[: self.scales.contexts, 0, :, 0]

    @property
    def size(self) -> int:
        """Bytes that it takes, where tokens are words; see `bale.compressors.entropy.rans.Tables.size`."""
        return len(_write_head(self.tokens, self.scales, self.mirror, 0)) + self.tables.size(self.word_counts)

    def encode(self) -> list[bytes | memoryview]:
        """Pieces that follow each other."""
        words, tokens, contexts = self.words, self.tokens, self.contexts
        if tokens.are_words:
            head = _write_head(tokens, self.scales, self.mirror, 0)
            return [head, *self.tables.encode(words, contexts)]
        bases, widths = tokens.runs()
        values = _rotate(words, tokens.layout) if _is_rotated(tokens) else words
        found, counts = np.empty(words.size, np.uint8), np.zeros((self.scales.contexts, rans.TOKENS), np.uint32)
        translate(values, tokens.table(bases, widths), contexts, found, counts)
        data = np.empty(words.size * tokens.layout.bits // 32 + 2, np.uint32)
        size = put_fields(values, found, bases, widths, data)
        coded = rans.Tables.of(counts[:, : tokens.count], words.size).encode(found, contexts)
        fields = data[:size].astype("<u4", copy=False)
        return [_write_head(tokens, self.scales, self.mirror, size), *coded, fields.view(np.uint8).data]


def scales_of(words: Array, layout: Layout, axes: Sequence[Axis]) -> Scales:
    """Sizes of words for each row and column, in quarters of an octave, as `encode` would use them."""
    statistics = [AxisStatistics.along(axis, words, layout) for axis in axes]
    return replace(_choose_scales(words.size, layout, [statistics], Sample.of(words)), shift=0)


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
    contexts = scales.of(START, words.size)
    found = words if tokens.are_words else np.empty(words.size, np.uint8)
    rest = rans.decode(rest, contexts, scales.contexts, tokens.count, found)
    if len(rest) != 4 * size:
        raise ValueError(f"fields take {len(rest)} bytes, not {4 * size}")
    if tokens.are_words and not size:
        return
    fields = np.zeros(size + BLOCK + 2, np.uint32)
    fields[:size] = np.frombuffer(rest, "<u4")
    if not get_fields(fields, size, found, *tokens.runs(), words):
        raise ValueError("fields are damaged")
    if _is_rotated(tokens):
        _rotate_back(words, layout)
    if mirror is not None:
        _flip(words, layout, *mirror)


# Sizes of rows and columns.


def _choose_scales(size: int, layout: Layout, sets: Sequence[Sequence[AxisStatistics]], sample: Sample) -> Scales:
    """The one or two axes, of one set, whose mean exponents predict those of a sample best, if any pay."""
    best, exponents = Scales(), sample.exponents(layout)
    least = _cost(size, best, sample, exponents)
    for statistics in sets:
        found = sorted(((each.axis, each.quarters()) for each in statistics), key=_spread)
        for pair in [(item,) for item in found[:3]] + [(found[0], item) for item in found[1:3]]:
            if all(values.any() for _, values in pair):
                scales = _scales(pair, sample)
                cost = _cost(size, scales, sample, exponents)
                if cost < least:
                    best, least = scales, cost
    return best


def _spread(item: tuple[Axis, Array]) -> int:
    """A key that sorts axes by their numbers' mean square, the largest first."""
    return -int(np.square(item[1], dtype=np.int64).sum()) // item[1].size


@dataclass(frozen=True)
class AxisStatistics:
    """Statistics along an axis: the length, the sum of exponents and the number of signs of each index."""

    axis: Axis
    lengths: Array
    exponents: Array
    negative: Array

    @classmethod
    def along(cls, axis: Axis, words: Array, layout: Layout) -> AxisStatistics:
        """Statistics of all words."""
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


def _scales(found: Sequence[tuple[Axis, Array]], sample: Sample) -> Scales:
    """Contexts from these axes, for the range of a sample."""
    axes, values = zip(*found, strict=True)
    low, last, shift = range_of(Scales(axes, values, -128, 255).of(sample.starts, sample.length), _CONTEXTS)
    return Scales(axes, values, low - 128, last, shift)


def _cost(size: int, scales: Scales, sample: Sample, exponents: Array) -> int:
    """Cost of the exponents of a whole chunk with these contexts, in 2^-16 bits, by those of a sample."""
    counts = np.zeros((scales.contexts, rans.TOKENS), np.uint32)
    count_tokens(exponents, scales.of(sample.starts, sample.length), counts)
    tables = int(np.count_nonzero(counts)) * ENTRY + sum(axis.size for axis in scales.axes) * (3 << 16)
    return rans.cost(counts, 0) * size // exponents.size + tables


# Signs that rows or columns share.


def _choose_mirror(size: int, statistics: Sequence[AxisStatistics]) -> tuple[Axis, Array] | None:
    """An axis, and for each index whether most of its elements are negative, where that predicts enough signs."""
    best, least = None, size - size // 256
    for each in statistics:
        flags = 2 * each.negative > each.lengths
        fewer = max(1, int(np.where(flags, each.lengths - each.negative, each.negative).sum()))
        bits = sum(part * (log2(size) - log2(part)) for part in (fewer, size - fewer)) >> 16
        if flags.any() and bits + each.axis.size < least:
            best, least = (each.axis, flags), bits + each.axis.size
    return best


def mirror_of(signs: Array, axes: Sequence[Axis]) -> tuple[Axis, Array] | None:
    """The same for numbers with these signs, uint8: 0 for those without one, 1 for positive, 3 for negative."""
    statistics = []
    for axis in axes:
        sums = np.zeros(axis.size, np.int64)
        axis_sums(signs, 0, 1, 1, axis.inner, axis.at, sums)
        statistics.append(AxisStatistics(axis, sums & ((1 << 40) - 1), sums, sums >> 40))
    size = int(np.count_nonzero(signs))
    return _choose_mirror(size, statistics) if size else None


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


def _is_rotated(tokens: Tokens) -> bool:
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


# The head of a plane.


def _write_head(tokens: Tokens, scales: Scales, mirror: tuple[Axis, Array] | None, size: int) -> bytes:
    """All that is not tokens or fields. The mirror image is `_read_head`."""
    flags = _ON * tokens.sign | _ZERO * tokens.zero | _MIRRORED * (mirror is not None)
    sizes = (tokens.lowest, tokens.splits.size - 1, scales.low, scales.last, scales.shift, len(scales.axes), size)
    pieces = [_HEAD.pack(flags, *sizes), pack_bytes(tokens.splits)]
    for axis, values in zip(scales.axes, scales.values, strict=True):
        pieces.append(write_axis(axis) + pack_bytes(values.astype(np.int8)))
    if mirror is not None:
        pieces.append(write_mirror(mirror))
    return b"".join(pieces)


def _read_head(data: memoryview, layout: Layout) -> tuple[Tokens, Scales, tuple[Axis, Array] | None, int, memoryview]:
    flags, lowest, last_exponent, low, last, shift, many, size = _HEAD.unpack(cut(data, _HEAD.size))
    exponents = last_exponent + 1
    splits, data = unpack_bytes(data[_HEAD.size :], exponents)
    tokens = Tokens(layout, lowest, splits, bool(flags & _ON), bool(flags & _ZERO))
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
