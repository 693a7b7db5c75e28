"""Differences of floats to those of a reference, counted in floats."""

from __future__ import annotations

import numpy as np

from bale.compressors.kernels import compiled
from bale.compressors.kernels.axes import log2
from bale.spec import Array


@compiled
def differences(
    words: Array, reference: Array, sign: int, mantissa: int, curve: Array, sizes: Array, negative: Array
) -> None:
    """Number of floats between a word and its reference, away from zero or (`negative`) towards it.

    Parameters
    ----------
    words, reference : Array
        Unsigned, shape ``(n,)``.
    sign : int
        The bit of the sign.
    mantissa : int
        Bits of the mantissa.
    curve : Array
        int64, shape ``(2**k + 1,)``, k at most `mantissa`: floats by which the reference is moved towards zero first
        whose mantissa has the upper k bits i and no others; straight between. None for shape ``(1,)``.
    sizes : Array
        uint32, written.
    negative : Array
        uint8, written.
    """
    low, fraction, decays = sign - 1, (1 << mantissa) - 1, curve.size > 1
    cell = (1 << mantissa) // max(curve.size - 1, 1)
    open_bits = 0
    while cell >> open_bits > 1:
        open_bits += 1
    for i in range(words.size):
        word, near = np.int64(words[i]), np.int64(reference[i])
        at, to = near & low, word & low
        if (word ^ near) & sign:
            to = -1 - to
        if decays and at > fraction:
            knot, beyond = (at & fraction) >> open_bits, at & (cell - 1)
            less = curve[knot] * (cell - beyond) + curve[knot + 1] * beyond
            at -= (less + (cell >> 1)) >> open_bits
        difference = to - at
        negative[i] = difference < 0
        sizes[i] = abs(difference)


@compiled
def apply_differences(
    sizes: Array, tokens: Array, reference: Array, sign: int, mantissa: int, curve: Array, words: Array
) -> None:
    """Words from their `differences`, which are negative where tokens are even; the mirror image."""
    low, fraction, decays = sign - 1, (1 << mantissa) - 1, curve.size > 1
    cell = (1 << mantissa) // max(curve.size - 1, 1)
    open_bits = 0
    while cell >> open_bits > 1:
        open_bits += 1
    for i in range(words.size):
        near = np.int64(reference[i])
        at = near & low
        if decays and at > fraction:
            knot, beyond = (at & fraction) >> open_bits, at & (cell - 1)
            less = curve[knot] * (cell - beyond) + curve[knot + 1] * beyond
            at -= (less + (cell >> 1)) >> open_bits
        to = at - np.int64(sizes[i]) if tokens[i] & 1 == 0 else at + np.int64(sizes[i])
        word = near & sign
        if to < 0:
            word ^= sign
            to = -1 - to
        words[i] = word | (to & low)


@compiled
def add_sizes(
    sizes: Array,
    reference: Array,
    low: int,
    mantissa: int,
    spacings: Array,
    inner: int,
    at: int,
    most: int,
    skip: int,
    sums: Array,
    counts: Array,
) -> None:
    """Add the sizes of differences as values for each index along an axis; for `inner` and `at` see `axis_sums`.

    Sizes, not squares: rounding leaves their mean as it is, however coarse floats are.

    Parameters
    ----------
    low : int
        Bits of a reference word without its sign.
    spacings : Array
        float64: for each exponent the spacing of floats there.
    most : int
        Elements looked at in a run of the same index.
    skip : int
        Number of times that the axis is passed over after each one.
    sums : Array
        float64, added to in the order of the words, so that they are the same on every machine.
    counts : Array
        int64, the number of elements added.
    """
    index, left, i = at // inner, inner - at % inner, 0
    while i < sizes.size:
        run = min(sums.size - index if inner == 1 else left, sizes.size - i)
        part, near = sizes[i : i + run], reference[i : i + run]
        if inner == 1:
            added, met = sums[index : index + run], counts[index : index + run]
            for j in range(run):
                added[j] += np.float64(part[j]) * spacings[(np.int64(near[j]) & low) >> mantissa]
                met[j] += 1
            index += run
        else:
            some = min(run, most)
            a = b = c = d = 0.0  # four sums at a time, as each waits for the one before
            for j in range(0, some - 3, 4):
                a += np.float64(part[j]) * spacings[(np.int64(near[j]) & low) >> mantissa]
                b += np.float64(part[j + 1]) * spacings[(np.int64(near[j + 1]) & low) >> mantissa]
                c += np.float64(part[j + 2]) * spacings[(np.int64(near[j + 2]) & low) >> mantissa]
                d += np.float64(part[j + 3]) * spacings[(np.int64(near[j + 3]) & low) >> mantissa]
            for j in range(some - some % 4, some):
                a += np.float64(part[j]) * spacings[(np.int64(near[j]) & low) >> mantissa]
            sums[index] += (a + b) + (c + d)
            counts[index] += some
            index, left = index + 1, inner
        i += run
        if index == sums.size:
            index = 0
            i += skip * sums.size * inner


@compiled
def less_exponents(
    contexts: Array, reference: Array, low: int, mantissa: int, least: int, last: int, shift: int
) -> None:
    """Change contexts by the exponents of floats: ``min(max(c - 4 exponent - least, 0), last) >> shift``."""
    for i in range(reference.size):
        exponent = max((np.int64(reference[i]) & low) >> mantissa, 1)
        contexts[i] = min(max(np.int64(contexts[i]) - 4 * exponent - least, 0), last) >> shift


@compiled
def size_tokens(sizes: Array, negative: Array, tokens: Array) -> None:
    """Token of each difference: 0, and then two for each place, away from zero and towards it.

    Places are 1, 2, 3, and then four for each length, by the upper three bits: as a float has them.
    """
    for i in range(sizes.size):
        size = sizes[i]
        place = (np.float64(size).view(np.int64) >> 50) - 4 * 1024
        if size < 4:
            place = np.int64(size)
        tokens[i] = 2 * place - 1 + np.int64(negative[i]) if size else 0


@compiled
def add_product(left: Array, right: Array, out: Array) -> None:
    """Add a product of two float64 matrices, the terms of each sum in their order: the same on every machine."""
    for i in range(left.shape[0]):
        row = out[i]
        for k in range(left.shape[1]):
            factor, added = left[i, k], right[k]
            for j in range(row.size):
                row[j] += factor * added[j]


@compiled
def eliminate(matrix: Array, least: Array, rows: Array, bits: Array) -> None:
    """Gaussian elimination of a square float64 matrix, which is changed, up to a rank that `bits` has room for.

    Parameters
    ----------
    least : Array
        float64, for each row: mean squares below are noise. Brought into the order of `rows`.
    rows : Array
        int64, the numbers of the rows: brought into the order in which they were taken.
    bits : Array
        int64, fewer than the rows: for each rank the mean logarithm of the sizes of all rows not taken, in 2^-16 bits.
    """
    size = matrix.shape[0]
    for rank in range(bits.size):
        row, column, total = rank, rank, 0
        for i in range(rank, size):
            squares = 0.0
            for j in range(rank, size):
                squares += matrix[i, j] * matrix[i, j]
                if abs(matrix[i, j]) > abs(matrix[row, column]):
                    row, column = i, j
            mean = min(squares / (size - rank) + least[i], 1024.0)
            total += log2(np.int64(mean * 1099511627776.0) + 1) - (40 << 16)
        bits[rank] = total // (2 * (size - rank))
        if matrix[row, column] == 0.0:
            for later in range(rank + 1, bits.size):
                bits[later] = bits[rank]
            return
        rows[rank], rows[row] = rows[row], rows[rank]
        least[rank], least[row] = least[row], least[rank]
        for j in range(rank, size):
            matrix[rank, j], matrix[row, j] = matrix[row, j], matrix[rank, j]
        for i in range(rank, size):
            matrix[i, rank], matrix[i, column] = matrix[i, column], matrix[i, rank]
        for i in range(rank + 1, size):
            factor = matrix[i, rank] / matrix[rank, rank]
            for j in range(rank + 1, size):
                matrix[i, j] -= factor * matrix[rank, j]
