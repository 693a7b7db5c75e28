"""The floats within the cells of a quantizer."""

from __future__ import annotations

from typing import Any

import numpy as np

from bale.compressors.kernels import compiled, inlined
from bale.compressors.kernels.axes import log2
from bale.compressors.kernels.rans import BLOCK, LANES, LOW, first_slot, pull, push
from bale.spec import Array

CLASSES = 7
"""Classes of cells that can have parts: those 0, 1, 2 and 3 widths from zero, or overlapping ones by their number."""

LOG_PARTS, PARTS = 24, 16
"""Parts of either half of the cell around zero, four in each octave; of the other cells."""

_U1, _U5, _U16, _U32, _U31 = np.uint64(1), np.uint64(5), np.uint64(16), np.uint64(32), np.uint64(31)
_GRID = np.array([m / 8 * 0.5**octave for octave in range(5, -1, -1) for m in (5, 6, 7, 8)], np.float32)
_LIMITS = (np.float32(1), np.float32(3), np.float32(5), np.float32(7))
_SIXTEENTH = np.float32(1 / PARTS)


@compiled
def cell_classes(low: Array, high: Array, classes: Array) -> None:
    """Distance of each cell from zero, in widths, `CLASSES` from 4 on; float32 ends, uint8 classes."""
    for i in range(low.size):
        width, away = high[i] - low[i], abs(high[i] + low[i])  # away: twice the distance of the middle
        number = 0
        for limit in _LIMITS:
            number += not away < limit * width
        classes[i] = number if number < len(_LIMITS) else CLASSES


@compiled
def overlapping_classes(low: Array, high: Array, classes: Array) -> None:
    """Distance of each cell from zero, in quarters of a width, 1 for none and at most `CLASSES` - 1."""
    for i in range(low.size):
        width, away = high[i] - low[i], abs(high[i] + low[i])
        number = 1
        for limit in range(1, CLASSES - 1):
            number += not away < np.float32(limit * 0.5 - 0.25) * width
        classes[i] = number


@inlined
def _linear(low: Any, step: Any, part: int) -> Any:
    return low + np.float32(part) * step


@compiled
def find_parts(values: Array, low: Array, high: Array, classes: Array, parts: Array) -> None:
    """The part of its cell (of one of `CLASSES`) that each value lies in: float32, and uint8, written."""
    for i in range(values.size):
        value = values[i]
        if classes[i] == 0:
            negative = value < 0 or (value == 0 and np.signbit(value))
            size, reach = (-value, -low[i]) if negative else (value, high[i])
            part = 0
            for jump in (16, 8, 4, 2, 1):
                higher = min(part + jump, LOG_PARTS - 1)
                part = part if size < reach * _GRID[higher - 1] else higher
            parts[i] = part + LOG_PARTS if negative else part
            continue
        step, part = (high[i] - low[i]) * _SIXTEENTH, 0
        for jump in (8, 4, 2, 1):
            if value >= _linear(low[i], step, part + jump):
                part += jump
        parts[i] = PARTS - 1 - part if high[i] + low[i] < 0 else part


@compiled
def narrow(parts: Array, classes: Array, low: Array, high: Array) -> None:
    """Put the ends of parts in place of those of their cells."""
    for i in range(parts.size):
        part = np.int64(parts[i])
        if classes[i] == 0:
            negative = part >= LOG_PARTS
            part = min(part - LOG_PARTS if negative else part, LOG_PARTS - 1)
            reach = -low[i] if negative else high[i]
            begin = reach * _GRID[part - 1] if part else np.float32(0)
            end = reach * _GRID[part]
            low[i], high[i] = (-end, -begin) if negative else (begin, end)
            continue
        step, start = (high[i] - low[i]) * _SIXTEENTH, low[i]
        part = PARTS - 1 - part if high[i] + low[i] < 0 else part
        low[i], high[i] = _linear(start, step, part), _linear(start, step, part + 1)


@compiled
def find_ends(low: Array, high: Array, start: int, length: int, found: Array) -> int:
    """The first element of each whole run that alone is in the uppermost cell, above zero, or the lowest, below zero.

    Parameters
    ----------
    low, high : Array
        Float32: the ends of the cells.
    start, length : int
        The place of the first element in its run, and the elements of a run.
    found : Array
        int64, shape ``(runs,)``, written: the elements, ascending.

    Returns
    -------
    int
        The number found.
    """
    count = 0
    for begin in range(-start % length, low.size - length + 1, length):
        lows, highs = low[begin : begin + length], high[begin : begin + length]
        top, bottom, tops, bottoms = highs[0], lows[0], 0, 0
        for i in range(length):
            top = highs[i] if highs[i] > top else top
            bottom = lows[i] if lows[i] < bottom else bottom
        for i in range(length):
            tops += highs[i] == top
            bottoms += lows[i] == bottom
        for i in range(length):
            if (tops == 1 and highs[i] == top and lows[i] > 0) or (bottoms == 1 and lows[i] == bottom and highs[i] < 0):
                found[count] = begin + i
                count += 1
                break
    return count


@compiled
def narrow_ends(
    found: Array, values: Array, bounds: Array, start: int, length: int, low: Array, high: Array, ends: Array
) -> None:
    """Bounds of those elements by the values of all others of their run, and by the distance of both ends.

    Parameters
    ----------
    found, values : Array
        What `find_ends` found; float32.
    bounds : Array
        Float32, shape ``(runs, 2)``: the least and the largest distance.
    ends : Array
        Float32, shape ``(2, found)``, written.
    """
    for number in range(found.size):
        at = found[number]
        run = (start + at) // length
        begin = run * length - start
        upper, least, most = low[at] > 0, np.float32(0), np.float32(0)
        for i in range(begin, begin + length):
            value = np.float32(0) if i == at else values[i]
            least = value if value < least else least
            most = value if value > most else most
        other = least if upper else most
        near, far = bounds[run, 0], bounds[run, 1]
        ends[0, number] = max(low[at], other + near if upper else other - far)
        ends[1, number] = min(high[at], other + far if upper else other - near)


@inlined
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


@inlined
def cell_range(low: Any, high: Any, mantissa: int, least: int, fine: int) -> Any:
    """The binade that the buckets of a cell are counted in, its first place, and the number of places.

    Buckets of negative floats are -1, -2 and so on.

    Parameters
    ----------
    low, high : int
        The ends of the cell, float32 as int32.
    mantissa, least : int
        Bits of the type's mantissa, and its least exponent, as float32 counts them.
    fine : int
        A bucket has ``2**fine`` places; if that is one it is a float, else all floats above and below the ends count.
    """
    small, large = low & 0x7FFFFFFF, high & 0x7FFFFFFF
    top = max(max(small, large) >> 23, least)
    bits, up = mantissa + fine, fine == 0
    first = -1 - _bucket(small, bits, top, False) if low < 0 else _bucket(small, bits, top, up)
    last = -1 - _bucket(large, bits, top, up) if high < 0 else _bucket(large, bits, top, False)
    if top < 255 and first <= last:
        return top, first, last - first + 1
    return top, np.int64(0), np.int64(1)


@inlined
def _places(bucket: Any, first: Any, count: Any, fine: int) -> Any:
    """The first place of a bucket in a cell, and the one behind its last."""
    begin = bucket << fine
    return max(begin - first, 0), min(begin + (1 << fine) - first, count)


@inlined
def _open_bits(bucket: Any, mantissa: int, exponents: int, room: int) -> Any:
    """Number of bits of a word that its bucket leaves open: all but the sign in the one at zero."""
    if bucket == 0:
        return mantissa + exponents
    drop = 0
    while drop < room and not (bucket << drop) >> mantissa:
        drop += 1
    return drop


@inlined
def _entry(begin: Any, end: Any, count: Any) -> Any:
    """The slots of consecutive places among `count`, as a table entry."""
    slot = first_slot(np.uint64(begin), np.uint64(count))
    return ((first_slot(np.uint64(end), np.uint64(count)) - slot) << _U16) | slot


@compiled
def cell_costs(
    words: Array, low: Array, high: Array, mantissa: int, exponents: int, offset: int, fine: int, counts: Array
) -> None:
    """Places that are as likely as each word is, times two to the power of what its bucket leaves open (int64)."""
    sign = 1 << (mantissa + exponents)
    for i in range(words.size):
        top, _, count = cell_range(np.int64(low[i]), np.int64(high[i]), mantissa, offset + 1, fine)
        raised = (np.int64(words[i]) & (sign - 1)) >> mantissa
        drop = min(max(top - max(raised + offset, offset + 1), 0), mantissa + exponents)
        counts[i] = (count << drop) >> fine if count >> fine else 1 << drop


@compiled
def sum_logs(numbers: Array) -> int:
    """The sum of binary logarithms, times 2^16, of numbers from 1 to 2^52."""
    total = np.int64(0)
    for number in numbers:
        total += log2(number)
    return total


@compiled
def encode_cells(
    words: Array,
    low: Array,
    high: Array,
    mantissa: int,
    exponents: int,
    offset: int,
    fine: int,
    entries: Array,
    outside: Array,
    data: Array,
) -> int:
    """The slots of each word in its cell, and what its bucket leaves open, lowest bit first.

    Parameters
    ----------
    words : Array
        Unsigned, shape ``(n,)``.
    low, high : Array
        int32 views of float32, shape ``(n,)``: the ends of the cells.
    exponents : int
        Bits of the exponent; the sign stands above it.
    offset : int
        What is added to an exponent to count it as float32 does.
    entries : Array
        uint32, written: 0 where a cell has one bucket.
    outside : Array
        uint8, written: 1 for words that lie in no bucket of their cell.
    data : Array
        uint32, written, with room for all words and one more.

    Returns
    -------
    int
        Words of `data` that were written.
    """
    sign, least = 1 << (mantissa + exponents), offset + 1
    held, bits, at = np.uint64(0), np.uint64(0), 0
    for i in range(words.size):
        top, first, count = cell_range(np.int64(low[i]), np.int64(high[i]), mantissa, least, fine)
        word = np.int64(words[i])
        size = word & (sign - 1)
        raised = size >> mantissa
        whole = (size & ((1 << mantissa) - 1)) | ((1 << mantissa) if raised else 0)
        drop = top - max(raised + offset, least)
        bucket = whole >> min(max(drop, 0), 31)
        signed = -1 - bucket if word & sign else bucket
        begin, end = _places(signed, first, count, fine)
        if drop < 0 or raised == (1 << exponents) - 1 or begin >= end:
            outside[i] = 1
            signed, size = first >> fine, np.int64(0)
            begin, end = _places(signed, first, count, fine)
            bucket = -1 - signed if signed < 0 else signed
            width = _open_bits(bucket, mantissa, exponents, top - least)
        else:
            outside[i] = 0
            width = drop if bucket else mantissa + exponents
            size = whole & ((1 << drop) - 1) if bucket else size
        entries[i] = _entry(begin, end, count) if end - begin < count else np.uint64(0)
        held |= np.uint64(size) << bits
        bits += np.uint64(width)
        data[at] = held
        full = bits >> _U5
        at += np.int64(full)
        held >>= full << _U5
        bits &= _U31
    if bits:
        data[at] = held
        at += 1
    return at


@compiled
def encode_entries(entries: Array, words: Array, states: Array) -> int:
    """Code slots, last ones first; 0 is not coded. See `rans_encode`."""
    at = np.uint64(words.size - 1)
    states[:] = LOW
    for i in range(entries.size - 1, -1, -1):
        if entries[i]:
            lane = i % LANES
            states[lane], at = push(states[lane], at, words, np.uint64(entries[i]), _U16)
    return np.int64(at) + 1


@compiled
def decode_cells(
    coded: Array,
    end: int,
    states: Array,
    data: Array,
    size: int,
    low: Array,
    high: Array,
    mantissa: int,
    exponents: int,
    offset: int,
    fine: int,
    words: Array,
) -> bool:
    """Words from their cells; the mirror image of `encode_cells` and `encode_entries`.

    Behind the `end` words that are coded, and the `size` words of what buckets leave open, stand at least `BLOCK` + 8.
    """
    sign, least = 1 << (mantissa + exponents), offset + 1
    at, there, held, bits = np.uint64(0), np.uint64(1), np.uint64(data[0]), _U32
    for i in range(words.size):
        if i % BLOCK == 0 and (at > np.uint64(end) or there > np.uint64(size) + _U1):
            return False
        top, first, count = cell_range(np.int64(low[i]), np.int64(high[i]), mantissa, least, fine)
        signed = first >> fine
        begin, behind = _places(signed, first, count, fine)
        if behind - begin < count:
            lane = i % LANES
            slot = states[lane] & np.uint64(0xFFFF)
            signed = (first + np.int64((slot * np.uint64(count)) >> _U16)) >> fine
            begin, behind = _places(signed, first, count, fine)
            states[lane], at = pull(states[lane], at, coded, _entry(begin, behind, count), slot, _U16)
        bucket = -1 - signed if signed < 0 else signed
        width = _open_bits(bucket, mantissa, exponents, top - least)
        found = np.int64(held & ((_U1 << np.uint64(width)) - _U1))
        held >>= np.uint64(width)
        bits -= np.uint64(width)
        empty = np.uint64(bits < _U32)
        held |= (np.uint64(data[there]) * empty) << bits
        bits += empty << _U5
        there += empty
        if bucket:
            found += ((top - width - offset) << mantissa) + (bucket << width) - (1 << mantissa)
        words[i] = (found & (sign - 1)) | (sign if signed < 0 else 0)
    used = (there << _U5) - bits
    fits = at == np.uint64(end) and (used + _U31) >> _U5 == np.uint64(size)
    for lane in range(LANES):
        fits &= states[lane] == LOW
    return fits
