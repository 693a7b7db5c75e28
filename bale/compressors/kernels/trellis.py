"""Trellis search and decoding.

Levels k stand for k times the step. A *path* is a walk over the states of a convolutional code: the lowest bit of the
state is the parity of the next level, and z = (k >> 1) & 1 decides where it leads: with parity checks h0 and h1,
``next = (state >> 1) ^ (parity * (h0 >> 1)) ^ (z * (h1 >> 1))``. Element i of a block lies on path ``i % paths``; all
paths of a block begin in state 0. The search finds, for each path, the levels with the least squared error: Viterbi's
algorithm, `WIDTH` paths side by side, in 16-bit whole numbers, so that it finds the same on every machine.

Codes are Ungerboeck's (1982, doi:10.1109/TIT.1982.1056454, table I), subsets as in Marcellin and Fischer (1990,
doi:10.1109/26.46532).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from bale.compressors.kernels import compiled, inlined, native
from bale.compressors.kernels.axes import log2
from bale.compressors.kernels.rans import BLOCK, LANES, pull
from bale.spec import Array

WIDTH = 64
"""Paths that the search goes along side by side."""

STEPS = 1024
"""Elements of a path in a block."""

UNIT = 128
"""Positions within a step: values come as whole numbers of step / 128."""

HEAVIEST = 255
"""The largest weight of an element."""

SCRATCH = (3 * WIDTH + 16 * 256 // 8) * STEPS + 64
"""Bytes that a search takes beside its levels."""

EXACT = 32
"""Pairs of levels, on each side of zero, that have tokens of their own."""

_FAR = 30_000  # Above log2(states) times the largest cost: whatever begins elsewhere than in state 0 loses.
_SQUARES = 16  # sums that go on side by side
_W = WIDTH
_U1, _U8, _LOW, _U16 = np.uint64(1), np.uint64(8), np.uint64(1 << 16), np.uint16


@inlined
def _costs(positions: Array, shift: int, costs: Array) -> None:
    """Squared distances of positions to the nearest level of each of the four subsets k mod 4."""
    for n in range(_W):
        u = _U16(positions[n])
        e0 = np.int16(max(_U16((u + 256) & 511), _U16(1)) - 256)
        e1 = np.int16(max(_U16((u + 128) & 511), _U16(1)) - 256)
        e2 = np.int16(max(_U16(u & 511), _U16(1)) - 256)
        e3 = np.int16(max(_U16((u + 384) & 511), _U16(1)) - 256)
        costs[n] = _U16(e0 * e0) >> shift
        costs[_W + n] = _U16(e1 * e1) >> shift
        costs[2 * _W + n] = _U16(e2 * e2) >> shift
        costs[3 * _W + n] = _U16(e3 * e3) >> shift


@inlined
def _weighted_costs(positions: Array, weights: Array, shift: int, costs: Array) -> None:
    """The same, multiplied with weights of up to `HEAVIEST`."""
    for n in range(_W):
        u, weight = _U16(positions[n]), np.uint32(weights[n])
        e0 = np.int32(_U16((u + 256) & 511)) - 256
        e1 = np.int32(_U16((u + 128) & 511)) - 256
        e2 = np.int32(_U16(u & 511)) - 256
        e3 = np.int32(_U16((u + 384) & 511)) - 256
        costs[n] = (np.uint32(e0 * e0) * weight) >> shift
        costs[_W + n] = (np.uint32(e1 * e1) * weight) >> shift
        costs[2 * _W + n] = (np.uint32(e2 * e2) * weight) >> shift
        costs[3 * _W + n] = (np.uint32(e3 * e3) * weight) >> shift


@inlined
def _lower(metrics: Array, least: Array) -> None:
    """Subtract from the metrics of each path the least one."""
    for n in range(_W):
        least[n] = metrics[n]
    for start in range(_W, metrics.size, _W):
        row = metrics[start : start + _W]
        for n in range(_W):
            least[n] = min(least[n], row[n])
    for start in range(0, metrics.size, _W):
        row = metrics[start : start + _W]
        for n in range(_W):
            row[n] = _U16(row[n] - least[n])


def _four(first: int, turn: int) -> Callable[..., None]:
    """A step into four states, from rows of two blocks of eight: `first` orders the rows, `turn` the second ones."""
    a0, a1, a2, a3 = (_W * (first ^ 2 * r) for r in range(4))
    b0, b1, b2, b3 = (_W * (first ^ 2 * r ^ turn) for r in range(4))

    @inlined
    def four(x: Array, y: Array, costs: Array, metrics: Array, survivors: Array, up: int, keep: int) -> None:
        for n in range(_W):
            zero, one = costs[n], costs[2 * _W + n]
            x0, y0 = _U16(x[a0 + n] + zero), _U16(y[b0 + n] + one)
            x1, y1 = _U16(x[a1 + n] + zero), _U16(y[b1 + n] + one)
            x2, y2 = _U16(x[a2 + n] + zero), _U16(y[b2 + n] + one)
            x3, y3 = _U16(x[a3 + n] + zero), _U16(y[b3 + n] + one)
            ones = _U16(1 if y0 < x0 else 0) | _U16(2 if y1 < x1 else 0)
            ones |= _U16(4 if y2 < x2 else 0) | _U16(8 if y3 < x3 else 0)
            survivors[n] = (survivors[n] & keep) | (ones << up)
            metrics[n], metrics[_W + n] = min(x0, y0), min(x1, y1)
            metrics[2 * _W + n], metrics[3 * _W + n] = min(x2, y2), min(x3, y3)

    return four


Search = Callable[[Array, Any, Array, int, Array], None]


def search_of(states: int, h0: int, h1: int, shift: int) -> Search:
    """The search for one code of 8, 32 or 256 states.

    Costs are squared distances >> `shift`, or weighted ones >> 8 more. Of the smallest metrics the first state wins,
    of two ways into a state that with z = 0. It is called with

    - values : float32, shape ``(n,)``; times the scale they are positions
    - scale : float32
    - weights : uint8, shape ``(n,)``, or ``(0,)`` where all weigh the same
    - paths : 8 or `WIDTH`
    - levels : int32, shape ``(n,)``, written
    """
    found = native.of("trellis_search")
    return _by_blocks(states, h0, h1, shift) if found is None else _with_scratch(found, states)


def _with_scratch(function: Callable[..., None], states: int) -> Search:
    def search(values: Array, scale: Any, weights: Array, paths: int, levels: Array) -> None:
        function(values, scale, weights, paths, states, levels, np.empty(SCRATCH, np.uint8))

    return search


def _by_blocks(states: int, h0: int, h1: int, shift: int) -> Search:
    """The search by numba, block by block; zeros take the empty places where paths are few, or do not end together."""

    def search(values: Array, scale: Any, weights: Array, paths: int, levels: Array) -> None:
        run = _search_by_numba(states, h0, h1, shift, weights.size > 0)
        metrics, costs = np.empty((2, states * WIDTH), np.uint16), np.empty(4 * WIDTH, np.uint16)
        survivors, path = np.empty(STEPS * states // 8 * WIDTH, np.uint8), np.empty(WIDTH, np.int32)
        for start in range(0, values.size, paths * STEPS):
            at = slice(start, start + paths * STEPS)
            positions = _table(np.rint(values[at] * np.float32(scale)).astype(np.int32), paths)
            weighed = _table(weights[at], paths) if weights.size else weights
            run(positions.reshape(-1), weighed.reshape(-1), *metrics, costs, survivors, path)
            levels[at] = positions[:, :paths].reshape(-1)[: levels[at].size]

    return search


def _table(flat: Array, paths: int) -> Array:
    """Elements of a block, `WIDTH` in a row."""
    rows, whole = -(-flat.size // paths), flat.size // paths
    table = np.zeros((rows, WIDTH), flat.dtype)
    table[:whole, :paths] = flat[: whole * paths].reshape(whole, paths)
    table[whole:, : flat.size - whole * paths] = flat[whole * paths :]
    return table


@cache
def _search_by_numba(states: int, h0: int, h1: int, shift: int, weighted: bool) -> Callable[..., None]:
    """The loop, which turns positions (int32) in rows of `WIDTH` into levels; the rest is scratch."""
    mask, top, quads = states - 1, states.bit_length() - 2, states // 4
    a, b = h0 & mask, h1
    even, odd = _four(0, b & 6), _four(a & 6, b & 6)
    cut = np.uint32(shift + 8) if weighted else _U16(shift)

    @inlined
    def search(
        positions: Array, weights: Array, metrics: Array, others: Array, costs: Array, survivors: Array, path: Array
    ) -> None:
        steps = positions.size // _W
        metrics[:] = _FAR
        metrics[:_W] = 0
        for i in range(steps):
            here = positions[i * _W : i * _W + _W]
            if weighted:
                _weighted_costs(here, weights[i * _W : i * _W + _W], cut, costs)
            else:
                _costs(here, cut, costs)
            for g in range(quads):
                parity = g >> (top - 2)
                x = ((8 * g) & mask) ^ (a if parity else 0)
                y = ((x ^ b) & ~7) + parity
                x = (x & ~7) + parity
                at = (i * quads + g) // 2 * _W
                rows, rows2 = metrics[x * _W : x * _W + 8 * _W], metrics[y * _W : y * _W + 8 * _W]
                into, kept = others[4 * g * _W : 4 * g * _W + 4 * _W], survivors[at : at + _W]
                up, keep = (_U16(4), _U16(15)) if g & 1 else (_U16(0), _U16(0))
                if parity:
                    odd(rows, rows2, costs[_W:], into, kept, up, keep)
                else:
                    even(rows, rows2, costs, into, kept, up, keep)
            metrics, others = others, metrics
            if i & 15 == 15:
                _lower(metrics, costs)
        for n in range(_W):
            best, path[n] = metrics[n], 0
            for t in range(1, states):
                if metrics[t * _W + n] < best:
                    best, path[n] = metrics[t * _W + n], t
        for i in range(steps - 1, -1, -1):
            row, kept = positions[i * _W : i * _W + _W], survivors[i * quads // 2 * _W : (i + 1) * quads // 2 * _W]
            for n in range(_W):
                t = path[n]
                z = np.int32((np.int32(kept[(t >> 3) * _W + n]) >> (t & 7)) & 1)
                parity = np.int32(t >> top)
                path[n] = np.int32(((t << 1) & mask) ^ (parity * a) ^ (z * b))
                subset = np.int32(parity + 2 * z)
                row[n] = np.int32((np.int32(row[n] - UNIT * subset + 2 * UNIT) >> 9) * 4 + subset)

    return search


@inlined
def _length(number: int) -> int:
    """Bits of a whole number."""
    length = 0
    while number >> length:
        length += 1
    return length


@inlined
def _position(value: Any, scale: Any) -> int:
    return np.int64(np.rint(np.float32(value * scale)))


@compiled
def survey(values: Array, scale: Any, levels: Array, lengths: Array, counts: Array, sums: Array) -> None:
    """Count how large levels are, and add up how far values lie from small ones, outwards.

    Parameters
    ----------
    values : Array
        float32, shape ``(n,)``; times `scale` they are positions.
    levels : Array
        int32, shape ``(n,)``.
    lengths : Array
        int64, shape ``(32,)``, added to: counts of the bits of the pair ``level >> 2``, or -1 - pair below zero.
    counts, sums : Array
        int64, added to: for each magnitude of a level how often it comes, and the sum.
    """
    factor = np.float32(scale)
    for i in range(levels.size):
        level = np.int64(levels[i])
        pair = level >> 2
        size = pair if pair >= 0 else -1 - pair
        lengths[_length(size) if size >= EXACT else 0] += 1
        size = abs(level)
        if size < counts.size:
            position = _position(values[i], factor)
            counts[size] += 1
            sums[size] += (position if level > 0 else -position) - UNIT * size


@compiled
def tokens_of(levels: Array, shift: int, tokens: Array) -> None:
    """Tokens of levels.

    ``index = level >> 1`` is a pair, ``index >> 1``, and a bit z. The *size* of a pair is the pair, or -1 - pair below
    zero; ``size >> shift`` is its own bucket below `EXACT`, and beyond there are two buckets for each octave. The token
    is ``2 (bucket + 64) + z``, or ``2 (63 - bucket) + z`` below zero.

    Parameters
    ----------
    levels : Array
        int32, shape ``(n,)``.
    tokens : Array
        uint8, shape ``(n,)``, written.
    """
    for i in range(levels.size):
        index = np.int64(levels[i]) >> 1
        pair = index >> 1
        bucket = (pair if pair >= 0 else -1 - pair) >> shift
        if bucket >= EXACT:
            length = _length(bucket)
            bucket = EXACT + 2 * (length - 6) + ((bucket >> (length - 2)) & 1)
        tokens[i] = 2 * (bucket + 64 if pair >= 0 else 63 - bucket) + (index & 1)


@compiled
def contexts_of(levels: Array, classes: Array, tokens: Array, contexts: Array, counts: Array) -> None:
    """Contexts of tokens, twice the class plus the parity of the level, and the counts of tokens in each.

    Parameters
    ----------
    levels : Array
        int32, shape ``(n,)``.
    classes : Array
        uint8, shape ``(n,)`` or ``(1,)``.
    tokens, contexts : Array
        uint8, shape ``(n,)``; contexts are written.
    counts : Array
        uint32, shape ``(contexts, 256)``, added to.
    """
    many = classes.size > 1
    for i in range(levels.size):
        context = 2 * (classes[i] if many else classes[0]) + (levels[i] & 1)
        contexts[i] = context
        counts[context, tokens[i]] += np.uint32(1)


@compiled
def fit_tables(counts: Array, costs: Array, coarse: Array, shapes: Array, scales: Array) -> int:
    """The shapes and scales that code some tokens in the fewest bits; the first of several that do.

    Of the coarse scales the best one is looked for first, then all around it.

    Parameters
    ----------
    counts : Array
        uint32, shape ``(contexts, 256)``; contexts are twice a class, plus the parity.
    costs : Array
        uint32, shape ``(2, 256, shapes, scales)``: for each parity 2^16 times the bits of each token.
    coarse : Array
        uint32, shape ``(2, 256, shapes, fewer scales)``: those of every eighth scale.
    shapes, scales : Array
        uint8, shape ``(contexts,)``, written.

    Returns
    -------
    int
        2^16 times the bits of all tokens.
    """
    many, starts, step = costs.shape[2], coarse.shape[3], costs.shape[3] // coarse.shape[3]
    total = np.int64(0)
    for context in range(counts.shape[0]):
        shapes[context], scales[context] = 0, 0
        parity, used = context & 1, np.int64(0)
        best, near = np.int64(-1), 0
        for scale in range(starts):
            for shape in range(many):
                found = np.int64(0)
                for token in range(counts.shape[1]):
                    count = np.int64(counts[context, token])
                    used |= count
                    if count:
                        found += count * np.int64(coarse[parity, token, shape, scale])
                if best < 0 or found < best:
                    best, near = found, scale * step
        if not used:
            continue
        best = np.int64(-1)
        for shape in range(many):
            for scale in range(max(near - step, 0), near + step):
                found = np.int64(0)
                for token in range(counts.shape[1]):
                    count = np.int64(counts[context, token])
                    if count:
                        found += count * np.int64(costs[parity, token, shape, scale])
                if best < 0 or found < best:
                    best, shapes[context], scales[context] = found, shape, scale
        total += best
    return total


@inlined
def _one(
    x: Any, at: Any, state: Any, base: Any, slots: Array, entries: Array, words: Array, width: Any, mask: Any
) -> Any:
    context = base | (state & _U1)
    slot = x & mask
    token = slots[context, slot]
    x, at = pull(x, at, words, entries[context, token], slot, width)
    return x, at, token


@compiled
def trellis_decode(
    words: Array,
    end: int,
    states: Array,
    classes: Array,
    slots: Array,
    entries: Array,
    bits: int,
    follow: Array,
    path: Array,
    values: Array,
    tokens: Array,
    out: Array,
) -> bool:
    """Decode tokens, whose contexts depend on the states of their paths, and look up their values.

    Parameters
    ----------
    words, end, states, slots, entries, bits
        As for `bale.compressors.kernels.rans.rans_decode`.
    classes : Array
        uint8, shape ``(n,)`` or ``(1,)``.
    follow : Array
        uint8, shape ``(2 * number of states,)``: the next state for ``2 state + (token & 1)``.
    path : Array
        uint8, one for each path, scratch.
    values : Array
        Unsigned, shape ``(512,)``: the bits of the value for ``256 parity + token``.
    tokens, out : Array
        uint8 and the kind of the values, shape ``(n,)``, written.

    Returns
    -------
    bool
        Whether all words were used and the states are those that the encoder began with.
    """
    width, many, last = np.uint64(bits), classes.size > 1, path.size - 1
    mask = (_U1 << width) - _U1
    at, count = np.uint64(0), tokens.size
    x0, x1, x2, x3 = states[0], states[1], states[2], states[3]
    x4, x5, x6, x7 = states[4], states[5], states[6], states[7]
    c0 = c1 = c2 = c3 = c4 = c5 = c6 = c7 = np.uint64(classes[0]) << _U1
    whole = count - count % LANES
    for start in range(0, whole, BLOCK):
        if at > np.uint64(end):
            return False
        if start % (STEPS * path.size) == 0:
            path[:] = 0
        for i in range(start, min(start + BLOCK, whole), LANES):
            p = path[i & last : (i & last) + LANES]
            s0, s1, s2, s3 = np.uint64(p[0]), np.uint64(p[1]), np.uint64(p[2]), np.uint64(p[3])
            s4, s5, s6, s7 = np.uint64(p[4]), np.uint64(p[5]), np.uint64(p[6]), np.uint64(p[7])
            if many:
                c = classes[i : i + LANES]
                c0, c1, c2, c3 = c[0] << _U1, c[1] << _U1, c[2] << _U1, c[3] << _U1
                c4, c5, c6, c7 = c[4] << _U1, c[5] << _U1, c[6] << _U1, c[7] << _U1
            x0, at, t0 = _one(x0, at, s0, c0, slots, entries, words, width, mask)
            x1, at, t1 = _one(x1, at, s1, c1, slots, entries, words, width, mask)
            x2, at, t2 = _one(x2, at, s2, c2, slots, entries, words, width, mask)
            x3, at, t3 = _one(x3, at, s3, c3, slots, entries, words, width, mask)
            x4, at, t4 = _one(x4, at, s4, c4, slots, entries, words, width, mask)
            x5, at, t5 = _one(x5, at, s5, c5, slots, entries, words, width, mask)
            x6, at, t6 = _one(x6, at, s6, c6, slots, entries, words, width, mask)
            x7, at, t7 = _one(x7, at, s7, c7, slots, entries, words, width, mask)
            t, v = tokens[i : i + LANES], out[i : i + LANES]
            t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7] = t0, t1, t2, t3, t4, t5, t6, t7
            v[0], v[1] = values[((s0 & _U1) << _U8) | t0], values[((s1 & _U1) << _U8) | t1]
            v[2], v[3] = values[((s2 & _U1) << _U8) | t2], values[((s3 & _U1) << _U8) | t3]
            v[4], v[5] = values[((s4 & _U1) << _U8) | t4], values[((s5 & _U1) << _U8) | t5]
            v[6], v[7] = values[((s6 & _U1) << _U8) | t6], values[((s7 & _U1) << _U8) | t7]
            p[0], p[1] = follow[(s0 << _U1) | (t0 & _U1)], follow[(s1 << _U1) | (t1 & _U1)]
            p[2], p[3] = follow[(s2 << _U1) | (t2 & _U1)], follow[(s3 << _U1) | (t3 & _U1)]
            p[4], p[5] = follow[(s4 << _U1) | (t4 & _U1)], follow[(s5 << _U1) | (t5 & _U1)]
            p[6], p[7] = follow[(s6 << _U1) | (t6 & _U1)], follow[(s7 << _U1) | (t7 & _U1)]
    states[0], states[1], states[2], states[3] = x0, x1, x2, x3
    states[4], states[5], states[6], states[7] = x4, x5, x6, x7
    if whole % (STEPS * path.size) == 0:
        path[:] = 0
    for i in range(whole, count):
        s = np.uint64(path[i & last])
        base = np.uint64(classes[i] if many else classes[0]) << _U1
        x, at, token = _one(states[i - whole], at, s, base, slots, entries, words, width, mask)
        states[i - whole], tokens[i], out[i] = x, token, values[((s & _U1) << _U8) | token]
        path[i & last] = follow[(s << _U1) | (token & _U1)]
    fits = at == np.uint64(end)
    for lane in range(LANES):
        fits &= states[lane] == _LOW
    return fits


@compiled
def look_up(tokens: Array, contexts: Array, values: Array, out: Array) -> None:
    """The values of tokens: that for ``256 parity + token``, where the parity is the lowest bit of the context."""
    for i in range(tokens.size):
        out[i] = values[((contexts[i] & 1) << 8) | tokens[i]]


@compiled
def values_of(tokens: Array, sizes: Array, step: Any, values: Array) -> None:
    """Values of tokens whose pairs have these sizes (uint32); before, they hold the parities of the levels."""
    for i in range(tokens.size):
        token, size = np.int64(tokens[i]), np.int64(sizes[i])
        pair = size if token >= 128 else -1 - size
        values[i] = np.float32(4 * pair + 2 * (token & 1) + np.int64(values[i])) * np.float32(step)


@compiled
def logarithms(numbers: Array, logs: Array) -> None:
    """2^16 times the binary logarithms of numbers up to 2^52, rounded down; those of zero are left as they are."""
    for i in range(numbers.size):
        if numbers[i]:
            logs[i] = log2(numbers[i])


@compiled
def magnitudes(values: Array, scale: Any, words: Array) -> None:
    """Magnitudes (uint32) of float32 values times a scale, rounded to whole numbers."""
    factor = np.float32(scale)
    for i in range(values.size):
        words[i] = abs(_position(values[i], factor))


@compiled
def add_along(words: Array, inner: int, at: int, sums: Array) -> None:
    """Add words (uint32) for each index along an axis; as `bale.compressors.kernels.axes.axis_sums`."""
    index, left = at // inner, inner - at % inner
    for i in range(words.size):
        sums[index] += np.int64(words[i])
        left -= 1
        if left == 0:
            left = inner
            index = index + 1 if index + 1 < sums.size else 0


@compiled
def moments(values: Array, found: Array) -> None:
    """The largest magnitude, and the sum of squares, in an order that is always the same; NaN where a value is.

    Parameters
    ----------
    values : Array
        float32 or float64.
    found : Array
        float64, shape ``(2,)``, written.
    """
    sums, largest = np.zeros(_SQUARES), np.zeros(_SQUARES)
    for i in range(values.size):
        value = np.float64(values[i])
        sums[i % _SQUARES] += value * value
        largest[i % _SQUARES] = max(largest[i % _SQUARES], abs(value))
    total = 0.0
    for lane in range(_SQUARES):
        total += sums[lane]
    found[0], found[1] = largest.max() if total == total else total, total
