"""Codes of quantizers, in the order of their sizes and back."""

from __future__ import annotations

import numpy as np

from bale.compressors.kernels import compiled
from bale.spec import Array


@compiled
def order_codes(codes: Array, bits: int, table: Array, ordered: Array, sizes: Array, signs: Array) -> None:
    """Signed numbers k modulo 2^bits as ``2 |k|``, and 1 more if negative.

    The least number, which has no counterpart, gets the number left over: 1.

    Parameters
    ----------
    codes : Array
        uint8, shape ``(n,)``.
    table : Array
        uint8, shape ``(256,)``: a logarithm of the size of each number in the new order.
    ordered, sizes, signs : Array
        uint8, written; the sign is 0 for a number without one, 1 for a positive and 3 for a negative number.
    """
    for i in range(codes.size):
        code = int(codes[i])
        negative = code >> (bits - 1)
        size = (code ^ -negative) + negative
        number = ((size << 1) | negative) & ((1 << bits) - 1)
        ordered[i] = number
        sizes[i] = table[number]
        signs[i] = 1 + 2 * (number & 1) if number > 1 else 0


@compiled
def codes_of(ordered: Array, bits: int, codes: Array) -> bool:
    """Codes of numbers in the order of their sizes, and whether all have at most so many bits: the mirror image.

    Both may be one array.
    """
    largest = 0
    for i in range(ordered.size):
        number = int(ordered[i])
        largest = max(largest, number)
        negative = number & 1
        size = number >> 1
        code = (size ^ -negative) + negative
        if number == 1:
            code |= 1 << (bits - 1)
        codes[i] = code & ((1 << bits) - 1)
    return largest >> bits == 0


@compiled
def turn(ordered: Array, inner: int, at: int, flags: Array) -> None:
    """Change the sign of numbers where the index along an axis has a flag (1, else 0); twice is not at all.

    For `inner` and `at` see `bale.compressors.kernels.axes.axis_sums`.
    """
    index, left = at // inner, inner - at % inner
    for i in range(ordered.size):
        if ordered[i] > 1:
            ordered[i] ^= flags[index]
        left -= 1
        if left == 0:
            index, left = index + 1 if index + 1 < flags.size else 0, inner


@compiled
def count_repeats(words: Array) -> int:
    """The number of words, uint64, that are equal to the three before."""
    found = 0
    for i in range(3, words.size):
        found += words[i] == words[i - 1] and words[i] == words[i - 2] and words[i] == words[i - 3]
    return found


@compiled
def huffman_bits(counts: Array, bits: int, total: int) -> int:
    """Length of `total` bytes in the best Huffman code, rounded down; each is several codes that are independent.

    Parameters
    ----------
    counts : Array
        uint32, shape ``(codes, 256)``: counts of the values of the codes that share a byte, from the lowest bits on,
        each of `bits` bits.
    """
    weights = np.zeros(512)
    count = 0
    for value in range(1 << (bits * counts.shape[0])):
        weight = np.float64(total)
        for number in range(counts.shape[0]):
            weight *= np.float64(counts[number, (value >> (number * bits)) & ((1 << bits) - 1)]) / total
        if weight > 0.0:
            at = count  # sorted by insertion, the largest first
            while at and weights[at - 1] < weight:
                weights[at] = weights[at - 1]
                at -= 1
            weights[at] = weight
            count += 1
    if count == 1:
        return 0
    length, merged, first = 0.0, 0, 256  # weights that were merged follow each other from 256 on, ascending
    while count + merged - (first - 256) > 1:
        pair = 0.0
        for _ in range(2):
            if count and (first == 256 + merged or weights[count - 1] <= weights[first]):
                count -= 1
                pair += weights[count]
            else:
                pair += weights[first]
                first += 1
        weights[256 + merged] = pair
        merged += 1
        length += pair
    return int(length)
