"""Differences of floats to known ones, counted in floats."""

from __future__ import annotations

import numpy as np

from bale.compressors.kernels import compiled
from bale.spec import Array


@compiled
def differences(
    words: Array, known: Array, sign: int, mantissa: int, shrink: int, sizes: Array, negative: Array
) -> None:
    """How many floats lie between a word and a known one, away from zero or (`negative`) towards it.

    Parameters
    ----------
    words, known : Array
        Unsigned, shape ``(n,)``.
    sign : int
        The bit of the sign.
    mantissa : int
        Bits of the mantissa.
    shrink : int
        Not negative: 2^32 times the share that known values are first made smaller by.
    sizes : Array
        uint32, written.
    negative : Array
        uint8, written.
    """
    low, fraction = sign - 1, (1 << mantissa) - 1
    for i in range(words.size):
        word, near = np.int64(words[i]), np.int64(known[i])
        size = near & low
        at, to = size, word & low
        if (word ^ near) & sign:
            to = -1 - to
        if shrink:
            whole = (size & fraction) + ((1 << mantissa) if size > fraction else 0)
            at -= (shrink * whole + (1 << 31)) >> 32
        difference = to - at
        negative[i] = difference < 0
        sizes[i] = abs(difference)


@compiled
def apply_differences(
    sizes: Array, tokens: Array, known: Array, sign: int, mantissa: int, shrink: int, words: Array
) -> None:
    """Words from their `differences`, which are negative where tokens are even; the mirror image."""
    low, fraction = sign - 1, (1 << mantissa) - 1
    for i in range(words.size):
        near = np.int64(known[i])
        size = near & low
        at = size
        if shrink:
            whole = (size & fraction) + ((1 << mantissa) if size > fraction else 0)
            at -= (shrink * whole + (1 << 31)) >> 32
        to = at - np.int64(sizes[i]) if tokens[i] & 1 == 0 else at + np.int64(sizes[i])
        word = near & sign
        if to < 0:
            word ^= sign
            to = -1 - to
        words[i] = word | (to & low)


@compiled
def add_sizes(
    sizes: Array, known: Array, low: int, mantissa: int, spacings: Array, inner: int, at: int, sums: Array
) -> None:
    """Add the sizes of differences as values for each index along an axis; see `axis_sums`.

    Sizes, not squares: rounding leaves their mean as it is, however coarse floats are.

    Parameters
    ----------
    low : int
        Bits of a known word without its sign.
    spacings : Array
        float64: for each exponent the spacing of floats there.
    sums : Array
        float64, added to in the order of the words, so that they are the same on every machine.
    """
    index, left, i = at // inner, inner - at % inner, 0
    while i < sizes.size:
        run = min(sums.size - index if inner == 1 else left, sizes.size - i)
        part, near = sizes[i : i + run], known[i : i + run]
        if inner == 1:
            added = sums[index : index + run]
            for j in range(run):
                added[j] += np.float64(np.int64(part[j])) * spacings[(np.int64(near[j]) & low) >> mantissa]
            i, index = i + run, 0
            continue
        total = 0.0
        for j in range(run):
            total += np.float64(np.int64(part[j])) * spacings[(np.int64(near[j]) & low) >> mantissa]
        sums[index] += total
        i, left = i + run, inner
        index = index + 1 if index + 1 < sums.size else 0


@compiled
def less_exponents(contexts: Array, known: Array, low: int, mantissa: int, least: int, last: int, shift: int) -> None:
    """Change contexts by how coarse floats are there: ``min(max(c - 4 exponent - least, 0), last) >> shift``."""
    for i in range(known.size):
        exponent = max((np.int64(known[i]) & low) >> mantissa, 1)
        contexts[i] = min(max(np.int64(contexts[i]) - 4 * exponent - least, 0), last) >> shift


@compiled
def size_tokens(sizes: Array, negative: Array, table: Array, contexts: Array, tokens: Array, counts: Array) -> None:
    """Token of each difference, and how often each comes in each context (uint32, ``(contexts, 256)``).

    `table` has, for each number below 2^18, what its length and its upper bits say.
    """
    many = contexts.size > 1
    context = contexts[0]
    for i in range(sizes.size):
        if many:
            context = contexts[i]
        size = np.int64(sizes[i])
        place = np.int64(table[size]) if size < 1 << 18 else np.int64(table[size >> 14]) + 4 * 14
        token = 2 * place - 1 + np.int64(negative[i]) if size else np.int64(0)
        tokens[i] = token
        counts[context, token] += np.uint32(1)
