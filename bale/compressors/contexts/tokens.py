"""Tokens: what of each word is coded, and what is written as it is.

A *token* stands for consecutive words: an exponent with up to three bits of the mantissa, as many as pay.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bale.compressors.contexts.axes import START, Scales
from bale.compressors.entropy import rans
from bale.compressors.kernels.axes import count_groups, count_tokens, log2, split_costs
from bale.spec import Array

_FINE = 3
"""Mantissa bits that a token holds at most; a fourth gains less than its tables take."""

_EXPONENTS = 40
"""Exponents, downwards from the largest, that get tokens; lower ones are one in 2^35 of a normal distribution."""

_RUNS, _RUN = 63, 256
ENTRY = 13 << 15
"""Size of a token's entry in a table, in 2^-16 bits, about."""

_OUTSIDE = 0


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
        """Mantissa bits that tokens can hold."""
        return min(_FINE, self.mantissa)


BYTE = Layout(8, 0, signed=False)
"""Bytes that are no floats."""


@dataclass(frozen=True)
class Tokens:
    """Words that each token stands for: `splits` has the mantissa bits in the tokens of each exponent from `lowest` on.

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
    def are_words(self) -> bool:
        """Whether each word is its own token, which leaves nothing open."""
        layout = self.layout
        return not (layout.signed or layout.mantissa or self.zero) and self.splits.size == layout.exponents

    @property
    def count(self) -> int:
        """Number of tokens."""
        return self.first + int((1 << self.splits.astype(np.int64)).sum()) * (2 if self.sign else 1)

    def runs(self) -> tuple[Array, Array]:
        """First word and width of each token, over words whose sign stands at the bottom unless tokens hold it."""
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


@dataclass(frozen=True)
class Sample:
    """Runs of words from all over a chunk, or all of a short one."""

    words: Array
    starts: Array
    length: int

    @classmethod
    def of(cls, words: Array) -> Sample:
        """Take a sample."""
        if words.size <= _RUNS * _RUN:
            return cls(words, START, words.size)
        stride = words.size // _RUNS
        runs = words[: stride * _RUNS].reshape(_RUNS, stride)[:, :_RUN]
        return cls(runs.reshape(-1), np.arange(_RUNS, dtype=np.int64) * stride, _RUN)

    def exponents(self, layout: Layout) -> Array:
        """Exponents of the words, uint8."""
        return ((self.words >> layout.mantissa) & (layout.exponents - 1)).astype(np.uint8)


def choose_tokens(words: Array, layout: Layout, scales: Scales, sample: Sample) -> tuple[Tokens, Scales, Array, Array]:
    """Tokens, scales with as many contexts as pay, the contexts, and counts of the finest tokens in each."""
    contexts = scales.of(START, words.size)
    fine, lowest, exponents = layout.fine, *_exponents(layout, sample)
    groups = _count(words, contexts, scales.contexts, layout, lowest, exponents)
    zero = layout.signed and lowest > 0 and int(np.count_nonzero(words)) < words.size - words.size // 512
    best, chosen, shift = _split(groups, fine, layout), groups, scales.shift
    while scales.contexts > 1:
        if groups.shape[0] % 2:
            groups = np.concatenate((groups, np.zeros_like(groups[:1])))
        groups = groups[0::2] + groups[1::2]
        coarser = _split(groups, fine, layout)
        if coarser[0] >= best[0]:
            break
        best, scales, chosen = coarser, replace(scales, shift=scales.shift + 1), groups
    _, splits, sign = best
    if scales.contexts == 1:
        scales, contexts = Scales(), np.zeros(1, np.uint8)
    elif scales.shift > shift:
        contexts >>= scales.shift - shift
    return Tokens(layout, lowest, splits, sign, zero), scales, contexts, chosen


def _count(words: Array, contexts: Array, many: int, layout: Layout, lowest: int, exponents: int) -> Array:
    """Counts of words with each context, sign, exponent and upper mantissa, uint32."""
    if layout.bits == 8 and not (layout.signed or layout.mantissa):
        plain = np.zeros((many, 256), np.uint32)
        count_tokens(words, contexts, plain)
        return plain.reshape(many, 1, exponents, 1)
    fine = layout.fine
    counts = np.zeros((many, 2, (exponents << fine) + 1), np.uint32)
    count_groups(words, contexts, layout.mantissa - fine, lowest << fine, layout.sign, counts)
    return counts[:, :, 1:].reshape(-1, 2, exponents, 1 << fine)


def _exponents(layout: Layout, sample: Sample) -> tuple[int, int]:
    """First exponent that gets tokens, and their number: up to the largest that is common in a sample."""
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
    """Cost, mantissa bits in tokens and whether tokens hold the sign."""
    if counts.shape[1] == counts.shape[3] == 1:
        return rans.cost(counts[:, 0, :, 0], ENTRY), np.zeros(counts.shape[2], np.uint8), False
    best: tuple[int, Array, bool] | None = None
    for sign in (False, True) if layout.signed else (False,):
        grouped = counts if sign else counts.sum(axis=1, keepdims=True, dtype=np.uint32)
        cost, splits = entropy(grouped, fine, ENTRY)
        cost += 0 if sign else int(grouped.sum(dtype=np.int64)) << 16
        limit = fine
        while (1 << splits.astype(np.int64)).sum() * (1 + sign) > rans.TOKENS - 2 and layout.signed:
            limit -= 1
            splits = np.minimum(splits, limit)
        if best is None or cost < best[0]:
            best = (cost, splits, sign)
    assert best is not None
    return best


def entropy(counts: Array, fine: int, entry: int) -> tuple[int, Array]:
    """Least cost of tokens, 2^-16 bits, and the mantissa bits in those of each exponent that reach it."""
    costs = np.zeros((counts.shape[2], fine + 1), np.int64)
    split_costs(np.ascontiguousarray(counts), fine, entry, costs)
    totals = counts.sum(axis=(1, 2, 3), dtype=np.int64)
    whole = int(totals.sum())
    shared = whole * log2(whole) - rans.cost(totals[None], 0) if whole else 0  # n log2 n of each context
    return int(costs.min(axis=1).sum()) + shared, costs.argmin(axis=1).astype(np.uint8)
