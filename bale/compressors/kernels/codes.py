"""Codes of quantizers, in the order of their sizes and back."""

from __future__ import annotations

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
