"""The compiled loops: entropy coding and bit fields, as plain functions of arrays.

Compiled by numba when first called, and kept on disk where a folder can be written to. Nothing here is imported on the
default lossless path. No function allocates or checks its arguments: callers do both.

rANS is Duda 2013 (arXiv:1311.2540), with eight interleaved states as in Giesen 2014 (arXiv:1402.3392).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numba import njit

from bale.spec import Array

Function = TypeVar("Function", bound=Callable[..., Any])

LANES = 8
LOW = 1 << 16
"""States stay in ``[2^16, 2^32)``; a step takes or gives at most one word of 16 bits."""

BLOCK = 1 << 12
"""Tokens between two checks of whether the words have run out; so many words of padding must stand behind them."""

_U1, _U5, _U16, _U32 = np.uint64(1), np.uint64(5), np.uint64(16), np.uint64(32)
_ZERO, _LOW, _WORD = np.uint64(0), np.uint64(LOW), np.uint64(0xFFFF)


def compiled(function: Function) -> Function:
    """Compile when first called, and cache if there is a place for it: a read-only installation has none."""
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:
        return njit(nogil=True)(function)


@compiled
def _push(x: Any, at: int, words: Array, entry: Any, bits: Any) -> Any:
    """Take a token with this table entry (frequency << 16 | sum of those before) into a state."""
    frequency = entry >> _U16
    words[at] = x & _WORD
    full = x >= frequency << (_U32 - bits)
    x = x >> _U16 if full else x
    quotient = np.uint64(np.uint32(x) // np.uint32(frequency))  # faster than by floats, or by a table of inverses
    return (quotient << bits) + (x - quotient * frequency) + (entry & _WORD), at - np.int64(full)


@compiled
def rans_encode(tokens: Array, contexts: Array, entries: Array, bits: int, words: Array, states: Array) -> int:
    """Code tokens given their contexts, last one first.

    Parameters
    ----------
    tokens, contexts : Array
        uint8, shape ``(n,)``; contexts may be of shape ``(1,)``, for all.
    entries : Array
        uint64, shape ``(contexts, tokens)``: frequency << 16 | sum of the frequencies before.
    bits : int
        The frequencies of a context sum to ``2**bits``.
    words : Array
        uint16, shape ``(n + 1,)``: filled from its end.
    states : Array
        uint64, shape ``(8,)``, set to the final states.

    Returns
    -------
    int
        Where the words begin.
    """
    width, many = np.uint64(bits), contexts.size > 1
    at, count = np.int64(words.size - 1), tokens.size
    states[:] = _LOW
    whole = count - count % LANES
    for i in range(count - 1, whole - 1, -1):
        context = contexts[i] if many else contexts[0]
        states[i - whole], at = _push(states[i - whole], at, words, entries[context, tokens[i]], width)
    x0, x1, x2, x3 = states[0], states[1], states[2], states[3]
    x4, x5, x6, x7 = states[4], states[5], states[6], states[7]
    c0 = c1 = c2 = c3 = c4 = c5 = c6 = c7 = contexts[0]
    for i in range(whole - LANES, -1, -LANES):
        if many:
            c0, c1, c2, c3 = contexts[i], contexts[i + 1], contexts[i + 2], contexts[i + 3]
            c4, c5, c6, c7 = contexts[i + 4], contexts[i + 5], contexts[i + 6], contexts[i + 7]
        x7, at = _push(x7, at, words, entries[c7, tokens[i + 7]], width)
        x6, at = _push(x6, at, words, entries[c6, tokens[i + 6]], width)
        x5, at = _push(x5, at, words, entries[c5, tokens[i + 5]], width)
        x4, at = _push(x4, at, words, entries[c4, tokens[i + 4]], width)
        x3, at = _push(x3, at, words, entries[c3, tokens[i + 3]], width)
        x2, at = _push(x2, at, words, entries[c2, tokens[i + 2]], width)
        x1, at = _push(x1, at, words, entries[c1, tokens[i + 1]], width)
        x0, at = _push(x0, at, words, entries[c0, tokens[i]], width)
    states[0], states[1], states[2], states[3] = x0, x1, x2, x3
    states[4], states[5], states[6], states[7] = x4, x5, x6, x7
    return at + 1


@compiled
def _pull(x: Any, at: Any, words: Array, entry: Any, slot: Any, bits: Any) -> Any:
    """Take the token with this table entry, which owns the slot, out of a state; the mirror image of `_push`."""
    x = (entry >> _U16) * (x >> bits) + slot - (entry & _WORD)
    empty = np.uint64(x < _LOW)
    return (x << (_U16 * empty)) | (np.uint64(words[at]) * empty), at + empty


@compiled
def rans_decode(
    words: Array, end: int, states: Array, contexts: Array, slots: Array, entries: Array, bits: int, tokens: Array
) -> bool:
    """Decode tokens given their contexts; the mirror image of `rans_encode`.

    Parameters
    ----------
    words : Array
        uint16, at least `BLOCK` + 8 more than `end`, which is how many there are.
    states : Array
        uint64, shape ``(8,)``; changed.
    slots : Array
        uint8, shape ``(contexts, 2**bits)``: the token that owns each slot.
    tokens : Array
        uint8, shape ``(n,)``, written.

    Returns
    -------
    bool
        Whether all words were used and the states are those that the encoder began with.
    """
    width, many = np.uint64(bits), contexts.size > 1
    mask = (_U1 << width) - _U1
    at, count = np.uint64(0), tokens.size
    x0, x1, x2, x3 = states[0], states[1], states[2], states[3]
    x4, x5, x6, x7 = states[4], states[5], states[6], states[7]
    c0 = c1 = c2 = c3 = c4 = c5 = c6 = c7 = contexts[0]
    whole = count - count % LANES
    for start in range(0, whole, BLOCK):
        if at > np.uint64(end):
            return False
        for i in range(start, min(start + BLOCK, whole), LANES):
            if many:
                c0, c1, c2, c3 = contexts[i], contexts[i + 1], contexts[i + 2], contexts[i + 3]
                c4, c5, c6, c7 = contexts[i + 4], contexts[i + 5], contexts[i + 6], contexts[i + 7]
            t0, t1, t2, t3 = slots[c0, x0 & mask], slots[c1, x1 & mask], slots[c2, x2 & mask], slots[c3, x3 & mask]
            t4, t5, t6, t7 = slots[c4, x4 & mask], slots[c5, x5 & mask], slots[c6, x6 & mask], slots[c7, x7 & mask]
            tokens[i], tokens[i + 1], tokens[i + 2], tokens[i + 3] = t0, t1, t2, t3
            tokens[i + 4], tokens[i + 5], tokens[i + 6], tokens[i + 7] = t4, t5, t6, t7
            x0, at = _pull(x0, at, words, entries[c0, t0], x0 & mask, width)
            x1, at = _pull(x1, at, words, entries[c1, t1], x1 & mask, width)
            x2, at = _pull(x2, at, words, entries[c2, t2], x2 & mask, width)
            x3, at = _pull(x3, at, words, entries[c3, t3], x3 & mask, width)
            x4, at = _pull(x4, at, words, entries[c4, t4], x4 & mask, width)
            x5, at = _pull(x5, at, words, entries[c5, t5], x5 & mask, width)
            x6, at = _pull(x6, at, words, entries[c6, t6], x6 & mask, width)
            x7, at = _pull(x7, at, words, entries[c7, t7], x7 & mask, width)
    states[0], states[1], states[2], states[3] = x0, x1, x2, x3
    states[4], states[5], states[6], states[7] = x4, x5, x6, x7
    for i in range(whole, count):
        context = contexts[i] if many else contexts[0]
        x = states[i - whole]
        tokens[i] = slots[context, x & mask]
        states[i - whole], at = _pull(x, at, words, entries[context, tokens[i]], x & mask, width)
    fits = at == np.uint64(end)
    for lane in range(LANES):
        fits &= states[lane] == _LOW
    return fits


@compiled
def put_fields(values: Array, tokens: Array, bases: Array, widths: Array, data: Array) -> int:
    """Write, for each value, its difference to the base of its token, in the token's width, lowest bit first.

    Parameters
    ----------
    values : Array
        Unsigned, shape ``(n,)``.
    bases, widths : Array
        uint64, shape ``(256,)``; widths up to 32.
    data : Array
        uint32, shape ``(words,)``, with room for all widths and one word more.

    Returns
    -------
    int
        Words written.
    """
    held, count, at = _ZERO, _ZERO, 0
    for i in range(values.size):
        token = tokens[i]
        held |= (np.uint64(values[i]) - bases[token]) << count
        count += widths[token]
        data[at] = held
        full = count >> _U5  # 0 or 1, for fewer than 32 bits were held
        at += np.int64(full)
        held >>= full << _U5
        count &= np.uint64(31)
    if count > _ZERO:
        data[at] = held
        at += 1
    return at


@compiled
def get_fields(data: Array, end: int, tokens: Array, bases: Array, widths: Array, values: Array) -> bool:
    """Read what `put_fields` wrote: `end` words, behind which `data` has at least `BLOCK` + 2 more."""
    held, count, at = np.uint64(data[0]), _U32, np.uint64(1)
    for start in range(0, tokens.size, BLOCK):
        if at > np.uint64(end) + _U1:
            return False
        for i in range(start, min(start + BLOCK, tokens.size)):
            token = tokens[i]
            width = widths[token]
            values[i] = bases[token] + (held & ((_U1 << width) - _U1))
            held >>= width
            count -= width
            empty = np.uint64(count < _U32)
            held |= (np.uint64(data[at]) * empty) << count
            count += empty << _U5
            at += empty
    used = (at << _U5) - count  # bits
    return (used + _U32 - _U1) >> _U5 == np.uint64(end)


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


@compiled
def log2(number: int) -> int:
    """2^16 times the binary logarithm of a number from 1 to 2^52, rounded down; off by 2^-11 at most."""
    exponent = 0
    while number >> (exponent + 12) > 1:
        exponent += 1
    scaled = number >> exponent
    if scaled < 4096:
        while scaled < 4096:
            scaled <<= 1
            exponent -= 1
    return ((exponent + 12) << 16) + _LOG2[scaled - 4096]


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
    starts: Array,
    contexts: Array,
) -> None:
    """Write ``min(max(a + b - low, 0), last)`` for what two axes say of each element.

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
                part, told = row[i : i + count], second[index2 : index2 + count]
                for j in range(count):
                    part[j] = min(max(base + told[j], 0), last)
                index2 += count
            else:
                count = min(left, left2, row.size - i)
                row[i : i + count] = min(max(base + second[index2], 0), last)
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
            part, told = words[i : i + run], flags[index : index + run]
            for j in range(run):
                part[j] ^= told[j]
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
    many, places = contexts.size > 1, counts.shape[2]
    context, rest = contexts[0], ~sign
    for i in range(words.size):
        if many:
            context = contexts[i]
        word = np.int64(words[i])
        place = ((word & rest) >> shift) - lowest + 1
        if place < 0 or place >= places:
            place = 0
        counts[context, 1 if word & sign else 0, place] += np.uint32(1)


@compiled
def split_costs(counts: Array, fine: int, entry: int, costs: Array) -> None:
    """What the tokens of each exponent cost if they tell so many bits of the mantissa, in 2^-16 bits.

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
                for told in range(fine + 1):
                    size = 1 << (fine - told)
                    for start in range(0, 1 << fine, size):
                        found = np.int64(0)
                        for j in range(start, start + size):
                            found += np.int64(counts[context, sign, exponent, j])
                        if found:
                            costs[exponent, told] += entry + found * (((fine - told) << 16) - log2(found))


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


@compiled
def _first_slot(place: Any, count: Any) -> Any:
    """The first of 2^16 slots that a place among so many owns: their quotient, rounded up, in 32 bits."""
    return np.uint64(np.uint32((place << _U16) + count - _U1) // np.uint32(count))


@compiled
def uniform_encode(places: Array, counts: Array, words: Array, states: Array) -> int:
    """Code numbers that are equally likely below their counts (1 to 2^12), last one first; see `rans_encode`."""
    at = np.int64(words.size - 1)
    states[:] = _LOW
    for i in range(places.size - 1, -1, -1):
        count, place = np.uint64(counts[i]), np.uint64(places[i])
        begin = _first_slot(place, count)
        entry = ((_first_slot(place + _U1, count) - begin) << _U16) | begin
        lane = i % LANES
        if count > _U1:
            states[lane], at = _push(states[lane], at, words, entry, _U16)
    return at + 1


@compiled
def uniform_decode(words: Array, end: int, states: Array, counts: Array, places: Array) -> bool:
    """Decode such numbers; the mirror image of `uniform_encode`, with the words and the result of `rans_decode`."""
    at = np.uint64(0)
    for i in range(places.size):
        if i % BLOCK == 0 and at > np.uint64(end):
            return False
        count = np.uint64(counts[i])
        if count == _U1:
            places[i] = 0
            continue
        lane = i % LANES
        x = states[lane]
        slot = x & _WORD
        place = (slot * count) >> _U16
        places[i] = place
        begin = _first_slot(place, count)
        entry = ((_first_slot(place + _U1, count) - begin) << _U16) | begin
        states[lane], at = _pull(x, at, words, entry, slot, _U16)
    fits = at == np.uint64(end)
    for lane in range(LANES):
        fits &= states[lane] == _LOW
    return fits
