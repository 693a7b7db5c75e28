"""Tables of tokens, each generated from two bytes: whole numbers, the same on every machine.

A table is the distribution of levels of one parity if values are of a known shape, centred on zero, and of a known
scale. Explicit tables would take hundreds of bytes for each class of elements.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from bale.compressors.kernels.trellis import EXACT, fit_tables, logarithms
from bale.spec import Array

TOKENS = 256
BITS = 14
SHAPES = 6
SCALES = 256
_COARSE = 8
_OCTAVE = 16
_LEAST = -5  # octaves: scale 0 is 2^-5 steps
_GRID, _ENDS = 64, 32  # points of a distribution for each unit of its scale, and units until its end
_MASS = 30
_ONE = 1 << 120

STARTS = np.array([*range(EXACT), *(m << e for e in range(4, 20) for m in (2, 3)), 1 << 21])
"""The least size of each bucket, and the end of the last one; see `bale.compressors.kernels.trellis.tokens_of`."""


@cache
def _halves() -> Array:
    """For each shape 2^30 times the probability of 0 .. i / 64, shape ``(SHAPES, 32 * 64 + 1)``, int64.

    Student's t with 3, 5, 9 and 17 degrees of freedom, the normal and the Laplace distribution, by the midpoint rule
    in fixed point.
    """
    middles = range(1, 2 * _GRID * _ENDS, 2)  # in units of 1 / 128
    densities = [[_student(nu, i) for i in middles] for nu in (3, 5, 9, 17)]
    densities.append(_powers(_exponential(2 * (2 * _GRID) ** 2)))
    densities.append(_laplace(_exponential(2 * _GRID)))
    rows = []
    for density in densities:
        sums = [0]
        for each in density:
            sums.append(sums[-1] + each)
        rows.append([(value << (_MASS - 1)) // sums[-1] for value in sums])
    return np.array(rows, np.int64)


def _student(nu: int, i: int) -> int:
    """``(1 + x^2 / nu)^(-(nu + 1) / 2)`` at x = i / 128, for odd nu."""
    unit = nu * (2 * _GRID) ** 2
    power = (nu + 1) // 2
    return int(_ONE * unit**power // (unit + i * i) ** power)


def _exponential(denominator: int) -> int:
    """``exp(-1 / denominator)``, by the series of its inverse."""
    total, term, k = 0, _ONE, 0
    while term:
        total += term
        k += 1
        term //= denominator * k
    return _ONE * _ONE // total


def _powers(base: int) -> list[int]:
    """``base^(i^2)`` for odd i: the normal density, from ratios of neighbours."""
    square = base * base // _ONE
    fourth = square * square // _ONE
    eighth = fourth * fourth // _ONE
    values, value, ratio = [], base, eighth  # from i to i + 2 the exponent grows by 4 i + 4
    for _ in range(_GRID * _ENDS):
        values.append(value)
        value = value * ratio // _ONE
        ratio = ratio * eighth // _ONE
    return values


def _laplace(base: int) -> list[int]:
    values, value = [], base
    square = base * base // _ONE
    for _ in range(_GRID * _ENDS):
        values.append(value)
        value = value * square // _ONE
    return values


@cache
def _roots() -> tuple[int, ...]:
    """2^30 times 2^(i / 16), rounded down."""
    found = []
    for i in range(_OCTAVE):
        target, low, high = 1 << (i + 30 * _OCTAVE), 1 << 30, 1 << 31
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if middle**_OCTAVE <= target else (low, middle)
        found.append(low)
    return tuple(found)


def power(sixteenths: int) -> float:
    """2^(sixteenths / 16), rounded down to 30 bits: the same on every machine."""
    whole, part = divmod(sixteenths, _OCTAVE)
    return float(_roots()[part]) * 2.0 ** (whole - 30)


@cache
def _points() -> Array:
    """For each scale 2^16 times the points of the grid in a step."""
    return np.array([_roots()[-s % _OCTAVE] >> (8 + _LEAST + -(-s // _OCTAVE)) for s in range(SCALES)])


def weights(shapes: Array, scales: Array, parity: int, shift: int) -> Array:
    """Weights of tokens, one row for each shape and scale.

    Parameters
    ----------
    shapes, scales : Array
        Whole numbers below `SHAPES` and `SCALES`, shape ``(n,)``.
    parity : int
        Of the levels.
    shift : int
        See `bale.compressors.kernels.trellis.tokens_of`. Scales are in units of 2^shift steps.

    Returns
    -------
    Array
        int64, shape ``(n, 256)``, from 1 to 2^30.
    """
    points = _points()[scales]
    ends = 4 * np.concatenate((-STARTS[::-1], STARTS[1:]))
    if shift:
        return _mass(shapes, points, ends).repeat(2, axis=1) // 2 + 1
    ends += parity - 1
    found = _mass(shapes, points, ends).repeat(2, axis=1) // 2
    exact = 2 * np.arange(-2 * EXACT, 2 * EXACT + 1) + parity - 1
    found[:, 128 - 2 * EXACT : 128 + 2 * EXACT] = _mass(shapes, points, exact)
    return found + 1


def _mass(shapes: Array, points: Array, ends: Array) -> Array:
    """2^30 times the probabilities between neighbouring ends, in steps."""
    at = np.abs(ends)[None, :] * points[:, None]
    index = np.minimum(at >> 16, _GRID * _ENDS - 1)
    fraction = np.minimum(at - (index << 16), 1 << 16)
    index += (_halves().shape[1] * shapes.astype(np.int64))[:, None]
    below, above = _halves().reshape(-1)[index], _halves().reshape(-1)[index + 1]
    return np.diff(np.sign(ends) * (below + ((above - below) * fraction >> 16)), axis=1)


@cache
def _prices() -> Array:
    """2^16 times the bits of a token of each frequency."""
    logs = np.zeros((1 << BITS) + 1, np.int64)
    logarithms(np.arange(logs.size), logs)
    return (BITS << 16) - logs


def price(counts: Array, entries: Array) -> int:
    """2^16 times the bits of tokens with these table entries."""
    return int((counts * _prices()[(entries >> np.uint64(16)).astype(np.int64)]).sum())


@cache
def _costs(shift: int) -> tuple[Array, Array]:
    """2^16 times the bits of each token, and those of every eighth scale; see `kernels.trellis.fit_tables`."""
    scales = np.arange(SCALES)
    costs = np.empty((2, TOKENS, SHAPES, SCALES), np.uint32)
    for parity in range(2):
        for shape in range(SHAPES):
            found = weights(np.full(SCALES, shape), scales, parity, shift)
            shares = np.maximum((found << BITS) // found.sum(axis=1, keepdims=True), 1)
            costs[parity, :, shape] = _prices()[shares].T
    return costs, np.ascontiguousarray(costs[..., ::_COARSE])


def fit(counts: Array, shift: int) -> tuple[Array, Array, int]:
    """The shapes and scales that code some tokens in the fewest bits.

    Parameters
    ----------
    counts : Array
        uint32, shape ``(contexts, 256)``; contexts are twice a class, plus the parity.

    Returns
    -------
    shapes, scales : Array
        uint8, shape ``(contexts,)``.
    cost : int
        2^16 times the bits of all tokens.
    """
    shapes, scales = np.zeros((2, len(counts)), np.uint8)
    return shapes, scales, fit_tables(counts, *_costs(shift), shapes, scales)
