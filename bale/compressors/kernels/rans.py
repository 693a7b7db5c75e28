"""Entropy coding and bit fields.

rANS is Duda 2013 (arXiv:1311.2540), with eight interleaved states as in Giesen 2014 (arXiv:1402.3392).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bale.compressors.kernels import compiled, inlined
from bale.spec import Array

LANES = 8
LOW = 1 << 16
"""States stay in ``[2^16, 2^32)``; a step takes or gives at most one word of 16 bits."""

BLOCK = 1 << 12
"""Tokens between two checks of whether the words have run out; as many words of padding must stand behind them."""

_U1, _U5, _U16, _U32 = np.uint64(1), np.uint64(5), np.uint64(16), np.uint64(32)
_ZERO, _LOW, _WORD = np.uint64(0), np.uint64(LOW), np.uint64(0xFFFF)


@inlined
def push(x: Any, at: Any, words: Array, entry: Any, bits: Any) -> Any:
    """Take a token with this table entry (frequency << 16 | sum of those before) into a state."""
    frequency = entry >> _U16
    words[at] = x & _WORD
    full = x >= frequency << (_U32 - bits)
    x = x >> _U16 if full else x
    quotient = np.uint64(np.uint32(x) // np.uint32(frequency))  # faster than by floats, or by a table of inverses
    return (quotient << bits) + (x - quotient * frequency) + (entry & _WORD), at - np.uint64(full)


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
    at, count = np.uint64(words.size - 1), tokens.size  # signed indices are slower
    states[:] = _LOW
    whole = count - count % LANES
    for i in range(count - 1, whole - 1, -1):
        context = contexts[i] if many else contexts[0]
        states[i - whole], at = push(states[i - whole], at, words, entries[context, tokens[i]], width)
    x0, x1, x2, x3 = states[0], states[1], states[2], states[3]
    x4, x5, x6, x7 = states[4], states[5], states[6], states[7]
    c0 = c1 = c2 = c3 = c4 = c5 = c6 = c7 = contexts[0]
    for i in range(whole - LANES, -1, -LANES):
        if many:
            c0, c1, c2, c3 = contexts[i], contexts[i + 1], contexts[i + 2], contexts[i + 3]
            c4, c5, c6, c7 = contexts[i + 4], contexts[i + 5], contexts[i + 6], contexts[i + 7]
        x7, at = push(x7, at, words, entries[c7, tokens[i + 7]], width)
        x6, at = push(x6, at, words, entries[c6, tokens[i + 6]], width)
        x5, at = push(x5, at, words, entries[c5, tokens[i + 5]], width)
        x4, at = push(x4, at, words, entries[c4, tokens[i + 4]], width)
        x3, at = push(x3, at, words, entries[c3, tokens[i + 3]], width)
        x2, at = push(x2, at, words, entries[c2, tokens[i + 2]], width)
        x1, at = push(x1, at, words, entries[c1, tokens[i + 1]], width)
        x0, at = push(x0, at, words, entries[c0, tokens[i]], width)
    states[0], states[1], states[2], states[3] = x0, x1, x2, x3
    states[4], states[5], states[6], states[7] = x4, x5, x6, x7
    return np.int64(at) + 1


@inlined
def pull(x: Any, at: Any, words: Array, entry: Any, slot: Any, bits: Any) -> Any:
    """Take the token with this table entry, which owns the slot, out of a state; the mirror image of `push`."""
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
        uint16, at least `BLOCK` + 8 more than `end`, the number that there are.
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
            x0, at = pull(x0, at, words, entries[c0, t0], x0 & mask, width)
            x1, at = pull(x1, at, words, entries[c1, t1], x1 & mask, width)
            x2, at = pull(x2, at, words, entries[c2, t2], x2 & mask, width)
            x3, at = pull(x3, at, words, entries[c3, t3], x3 & mask, width)
            x4, at = pull(x4, at, words, entries[c4, t4], x4 & mask, width)
            x5, at = pull(x5, at, words, entries[c5, t5], x5 & mask, width)
            x6, at = pull(x6, at, words, entries[c6, t6], x6 & mask, width)
            x7, at = pull(x7, at, words, entries[c7, t7], x7 & mask, width)
    states[0], states[1], states[2], states[3] = x0, x1, x2, x3
    states[4], states[5], states[6], states[7] = x4, x5, x6, x7
    for i in range(whole, count):
        context = contexts[i] if many else contexts[0]
        x = states[i - whole]
        tokens[i] = slots[context, x & mask]
        states[i - whole], at = pull(x, at, words, entries[context, tokens[i]], x & mask, width)
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


@inlined
def first_slot(place: Any, count: Any) -> Any:
    """The first of 2^16 slots that a place among `count` owns: their quotient, rounded up, in 32 bits."""
    return np.uint64(np.uint32((place << _U16) + count - _U1) // np.uint32(count))
