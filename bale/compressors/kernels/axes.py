"""Sums over rows and columns of a tensor, contexts from them, and the cost of tokens."""

from __future__ import annotations

import numpy as np

from bale.compressors.kernels import compiled
from bale.spec import Array


def _log2_table() -> Array:
    """The first 16 fractional bits of log2(1 + i / 4096), by squaring: whole numbers, the same on every machine."""
    x = (np.arange(4096, dtype=np.uint64) + 4096) << np.uint64(18)  # 1 is 2^30
    table = np.zeros(4096, np.int64)
    for _ in range(16):
        x = (x * x) >> np.uint64(30)
        two = (x >> np.uint64(31)).astype(np.int64)
        x >>= two.astype(np.uint64)
        table = 2 * table + two
    return table


_LOG2 = _log2_table()
_U0, _U1 = np.uint64(0), np.uint64(1)


@compiled
def log2(number: int) -> int:
    """2^16 times the binary logarithm of a number from 1 to 2^52, rounded down; off by 2^-11 at most."""
    bits = np.float64(number).view(np.int64)
    return (((bits >> 52) - 1023) << 16) + _LOG2[(bits >> 40) & 4095]


def logs(numbers: Array) -> Array:
    """The same of many numbers, int64."""
    bits = numbers.astype(np.float64).view(np.int64)
    found: Array = (((bits >> 52) - 1023) << 16) + _LOG2[(bits >> 40) & 4095]
    return found


@compiled
def axis_sums(words: Array, shift: int, mask: int, sign: int, inner: int, at: int, sums: Array) -> None:
    """Add a field of the words, and 2^40 times their sign, for each index along an axis.

    Word number i has the index ``(at + i) // inner`` modulo the size of the axis.

    Parameters
    ----------
    shift, mask : int
        The field: ``(word >> shift) & mask``.
    sign : int
        The sign is ``word >> sign``.
    inner : int
        Words that follow each other with the same index.
    sums : Array
        int64, shape ``(size,)``, added to.
    """
    index, left, i = at // inner, inner - at % inner, 0
    while i < words.size:
        if inner == 1:
            run = min(sums.size - index, words.size - i)
            part, added = words[i : i + run], sums[index : index + run]
            for j in range(run):
                word = np.int64(part[j])
                added[j] += ((word >> shift) & mask) + ((word >> sign) << 40)
            i, index = i + run, 0
            continue
        run = min(left, words.size - i)
        part, total = words[i : i + run], 0
        for j in range(run):
            word = np.int64(part[j])
            total += ((word >> shift) & mask) + ((word >> sign) << 40)
        sums[index] += total
        i, left = i + run, inner
        index = index + 1 if index + 1 < sums.size else 0


@compiled
def add_contexts(
    first: Array,
    inner: int,
    at: int,
    second: Array,
    inner2: int,
    at2: int,
    low: int,
    last: int,
    shift: int,
    starts: Array,
    contexts: Array,
) -> None:
    """Write ``min(max(a + b - low, 0), last) >> shift`` for what two axes say of each element.

    Parameters
    ----------
    first, second : Array
        int16, a number for each index along an axis; for `inner` and `at` see `axis_sums`. If one has `inner` 1, it is
        the second.
    starts : Array
        int64: where the runs of elements begin that contexts are wanted of.
    contexts : Array
        uint8, shape ``(runs, length)``, written.
    """
    for run in range(starts.size):
        row = contexts[run]
        here, here2 = (at + starts[run]) % (inner * first.size), (at2 + starts[run]) % (inner2 * second.size)
        index, left, index2, left2 = here // inner, inner - here % inner, here2 // inner2, inner2 - here2 % inner2
        i = 0
        while i < row.size:
            base = first[index] - low
            if inner2 == 1:  # the usual case: rows and columns
                count = min(left, second.size - index2, row.size - i)
                part, numbers = row[i : i + count], second[index2 : index2 + count]
                for j in range(count):
                    part[j] = min(max(base + numbers[j], 0), last) >> shift
                index2 += count
            else:
                count = min(left, left2, row.size - i)
                row[i : i + count] = min(max(base + second[index2], 0), last) >> shift
                left2 -= count
                if left2 == 0:
                    index2, left2 = index2 + 1, inner2
            i, left = i + count, left - count
            if left == 0:
                index, left = index + 1 if index + 1 < first.size else 0, inner
            if index2 == second.size:
                index2 = 0


@compiled
def flip(words: Array, inner: int, at: int, flags: Array) -> None:
    """Exclusive-or each word with what its index along an axis has; for `inner` and `at` see `axis_sums`."""
    index, left, i = at // inner, inner - at % inner, 0
    while i < words.size:
        if inner == 1:
            run = min(flags.size - index, words.size - i)
            part, turned = words[i : i + run], flags[index : index + run]
            for j in range(run):
                part[j] ^= turned[j]
            i, index = i + run, 0
            continue
        run = min(left, words.size - i)
        part = words[i : i + run]
        for j in range(run):
            part[j] ^= flags[index]
        i, left = i + run, inner
        index = index + 1 if index + 1 < flags.size else 0


@compiled
def count_groups(words: Array, contexts: Array, shift: int, lowest: int, sign: int, counts: Array) -> None:
    """Count, for each context, the words of each group; words of a group are equal from bit `shift` on.

    Parameters
    ----------
    lowest : int
        The group that has place 1; what has no place is counted in place 0.
    sign : int
        Bit that is looked at apart, or 0: words that have it go into the upper half.
    counts : Array
        uint32, shape ``(contexts, 2, places)``, added to.
    """
    many, places = contexts.size > 1, np.uint64(counts.shape[2])
    right, before, bit = np.uint64(shift), np.uint64(lowest) - _U1, np.uint64(sign)
    context, rest = np.uint64(contexts[0]), ~np.uint64(sign)
    for i in range(words.size):
        if many:
            context = np.uint64(contexts[i])
        word = np.uint64(words[i])
        place = ((word & rest) >> right) - before  # wraps around where it lies below
        place = place if place < places else _U0
        counts[context, np.uint64((word & bit) != _U0), place] += np.uint32(1)


@compiled
def count_tokens(tokens: Array, contexts: Array, counts: Array) -> None:
    """Counts of each token in each context: adds to uint32, shape ``(contexts, 256)``."""
    many = contexts.size > 1
    context = contexts[0]
    for i in range(tokens.size):
        if many:
            context = contexts[i]
        counts[context, tokens[i]] += np.uint32(1)


@compiled
def split_costs(counts: Array, fine: int, entry: int, costs: Array) -> None:
    """Cost of the tokens of each exponent for each number of mantissa bits in them, in 2^-16 bits.

    Without what all tokens of a context share: n log2 n for n tokens.

    Parameters
    ----------
    counts : Array
        uint32, shape ``(contexts, signs, exponents, 2**fine)``.
    entry : int
        What a token adds to a table.
    costs : Array
        int64, shape ``(exponents, fine + 1)``, added to.
    """
    for context in range(counts.shape[0]):
        for sign in range(counts.shape[1]):
            for exponent in range(counts.shape[2]):
                for kept in range(fine + 1):
                    size = 1 << (fine - kept)
                    for start in range(0, 1 << fine, size):
                        found = np.int64(0)
                        for j in range(start, start + size):
                            found += np.int64(counts[context, sign, exponent, j])
                        if found:
                            costs[exponent, kept] += entry + found * (((fine - kept) << 16) - log2(found))


@compiled
def token_cost(counts: Array, entry: int) -> int:
    """Size of tokens in 2^-16 bits, if each that comes in a context adds an entry to its table."""
    cost = 0
    for context in range(counts.shape[0]):
        total = 0
        for token in range(counts.shape[1]):
            found = np.int64(counts[context, token])
            if found:
                cost += entry - found * log2(found)
                total += found
        if total:
            cost += total * log2(total)
    return cost


@compiled
def translate(values: Array, table: Array, contexts: Array, tokens: Array, counts: Array) -> None:
    """Look up the token of each value, and count the tokens of each context (uint32, ``(contexts, 256)``)."""
    many = contexts.size > 1
    context = contexts[0]
    for i in range(values.size):
        if many:
            context = contexts[i]
        token = table[values[i]]
        tokens[i] = token
        counts[context, token] += np.uint32(1)
