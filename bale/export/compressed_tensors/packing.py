"""Integers of 4 and 8 bits in words of 32, and floats of 4 bits in bytes, as compressed-tensors packs them."""

from __future__ import annotations

import numpy as np

from bale.spec import Array


def packed(codes: Array, bits: int) -> Array:
    """Codes of two dimensions, modulo ``2^bits``, as int32 words.

    Each is stored as its distance from the least number, ``k + 2^(bits - 1)``; the first of a row in the lowest bits of
    a word, the last word filled with zeros.

    >>> packed(np.array([[0, 1, 15, 8]], np.uint8), 4).view(np.uint32)[0, 0] == 0x0798
    np.True_
    """
    each = 32 // bits
    unsigned: Array = (codes + np.uint8(1 << (bits - 1))) & np.uint8((1 << bits) - 1)
    rows, columns = unsigned.shape
    if bits == 4:
        if columns % 2:
            unsigned = np.pad(unsigned, ((0, 0), (0, 1)))
        unsigned = nibbles(unsigned)
    words = -(-columns // each)
    bytes_: Array = np.zeros((rows, 4 * words), np.uint8)
    bytes_[:, : unsigned.shape[1]] = unsigned
    return bytes_.view("<i4")


def nibbles(codes: Array) -> Array:
    """Codes of 4 bits two by two in bytes, the first in the lower half; their number in a row is even.

    >>> nibbles(np.array([1, 15, 0, 3], np.uint8)).tolist()
    [241, 48]
    """
    joined: Array = codes[..., ::2] | codes[..., 1::2] << 4
    return joined
