"""The floats within the cells of a quantizer."""

from __future__ import annotations

from typing import Any

import numpy as np

from bale.compressors.kernels import compiled
from bale.spec import Array


@compiled
def _bucket(bits: Any, mantissa: int, top: int, up: bool) -> Any:
    """Number of the bucket of a float32 (its magnitude as an integer), counted in floats of the binade `top`.

    With `up` it is the next one, if the float lies within one that holds a single float of the type.
    """
    exponent = max(bits >> 23, 1)
    whole = (bits & 0x7FFFFF) | (0x800000 if bits >> 23 else 0)
    shift = 23 - mantissa + top - exponent
    if shift > 31:
        return np.int64(0)
    bucket = whole >> shift
    if up and bucket >> mantissa and bucket << shift != whole:
        bucket += 1
    return bucket


@compiled
def cell_ranges(low: Array, high: Array, mantissa: int, least: int, tops: Array, firsts: Array, counts: Array) -> None:
    """The buckets of each cell: the binade they are counted in, the first one, and how many there are.

    Parameters
    ----------
    low, high : Array
        int32 views of float32, shape ``(n,)``: the ends of the cells.
    mantissa, least : int
        Bits of the type's mantissa, and its least exponent, as float32 counts them.
    tops : Array
        uint8, written.
    firsts : Array
        int32, written; buckets of negative floats are -1, -2 and so on.
    counts : Array
        uint32, written: 1 for what is no cell.
    """
    for i in range(low.size):
        a, b = np.int64(low[i]), np.int64(high[i])
        small, large = a & 0x7FFFFFFF, b & 0x7FFFFFFF
        top = max(max(small, large) >> 23, least)
        tops[i] = top
        first = -1 - _bucket(small, mantissa, top, False) if a < 0 else _bucket(small, mantissa, top, True)
        last = -1 - _bucket(large, mantissa, top, True) if b < 0 else _bucket(large, mantissa, top, False)
        sound = top < 255 and first <= last
        firsts[i] = first if sound else 0
        counts[i] = last - first + 1 if sound else 1


@compiled
def cell_places(
    words: Array,
    mantissa: int,
    exponents: int,
    offset: int,
    tops: Array,
    firsts: Array,
    counts: Array,
    places: Array,
    below: Array,
    widths: Array,
    outside: Array,
) -> None:
    """Where in its cell each word lies: its bucket, and what of it the bucket leaves open.

    Parameters
    ----------
    exponents : int
        Bits of the exponent; the sign stands above it.
    offset : int
        What is added to an exponent to count it as float32 does.
    places, below : Array
        uint32, written.
    widths : Array
        uint8, written: bits of `below`.
    outside : Array
        uint8, written: 1 for words that lie in no bucket of their cell.
    """
    sign, least = 1 << (mantissa + exponents), offset + 1
    for i in range(words.size):
        word = np.int64(words[i])
        size = word & (sign - 1)
        raised = size >> mantissa
        whole = (size & ((1 << mantissa) - 1)) | ((1 << mantissa) if raised else 0)
        drop = np.int64(tops[i]) - max(raised + offset, least)
        bucket = whole >> min(max(drop, 0), 31)
        place = (-1 - bucket if word & sign else bucket) - np.int64(firsts[i])
        wrong = drop < 0 or raised == (1 << exponents) - 1 or place < 0 or place >= np.int64(counts[i])
        outside[i] = wrong
        places[i] = 0 if wrong else place
        width = drop if bucket else mantissa + exponents
        widths[i] = 0 if wrong else width
        below[i] = 0 if wrong else (whole & ((1 << drop) - 1) if bucket else size)


@compiled
def cell_widths(
    places: Array, mantissa: int, exponents: int, least: int, tops: Array, firsts: Array, widths: Array
) -> None:
    """How many bits each bucket leaves open; see `cell_places`."""
    for i in range(places.size):
        bucket = np.int64(firsts[i]) + np.int64(places[i])
        bucket = -1 - bucket if bucket < 0 else bucket
        length = 0
        while bucket >> length:
            length += 1
        drop = min(mantissa + 1 - length, np.int64(tops[i]) - least)
        widths[i] = min(max(drop, 0), 31) if bucket else mantissa + exponents


@compiled
def cell_words(
    places: Array,
    below: Array,
    mantissa: int,
    exponents: int,
    offset: int,
    tops: Array,
    firsts: Array,
    widths: Array,
    words: Array,
) -> None:
    """Words from their places; the mirror image of `cell_places`."""
    sign = 1 << (mantissa + exponents)
    for i in range(words.size):
        bucket = np.int64(firsts[i]) + np.int64(places[i])
        negative = bucket < 0
        bucket = -1 - bucket if negative else bucket
        size = np.int64(below[i])
        if bucket:
            whole = (bucket << np.int64(widths[i])) | size
            exponent = np.int64(tops[i]) - np.int64(widths[i]) - offset
            size = (exponent << mantissa) + whole - (1 << mantissa)
        words[i] = (size & (sign - 1)) | (sign if negative else 0)
