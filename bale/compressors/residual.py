"""Two layers with loss: what the first leaves over, and how much of it the first is worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from bale.compressors.base import Values
from bale.compressors.floats import from_float32, to_float32
from bale.metrics import ErrorSums
from bale.spec import Array, TensorSpec

_LARGEST = np.finfo(np.float32).max
_BLOCK = 1 << 16
_RISES = 2  # ranks in a row that may be worse than the best before the search turns back
Leaves = dict[str, Values]


class Ranked(Protocol):
    """The parts of a first layer at every rank."""

    most: int

    def parts(self, rank: int) -> Leaves:
        """Those of one rank, none of rank 0."""


def subtract(array: Array, first: Array, spec: TensorSpec) -> Array:
    """What a first layer leaves over: the float32 difference, rounded to the dtype."""
    return _combined(np.subtract, array, first, spec)


def add(first: Array, rest: Array, spec: TensorSpec) -> Array:
    """Both layers together, added in float32; the mirror image of `subtract`, up to rounding."""
    return _combined(np.add, first, rest, spec)


def best_rank(
    ranked: Ranked, code: Callable[[Leaves], Leaves], decode: Callable[[Leaves], Array], values: Values
) -> Leaves:
    """The leaves of the rank at which both layers are smallest at equal error.

    Parameters
    ----------
    ranked : Ranked
        The parts of the first layer.
    code : callable
        Codes such parts, and what they leave over.
    decode : callable
        Gives the values that leaves stand for.
    values : Values
        The tensor.
    """
    spec = values.spec
    found: dict[str, Leaves] = {}
    x = to_float32(values.array, spec)

    def cost(rank: int) -> float:
        """Bits, with the error put at 6.02 dB a bit."""
        leaves = code(ranked.parts(rank))
        error2 = ErrorSums.between(x, to_float32(decode(leaves), spec)).error2
        costs[rank] = stored_bits(leaves) + spec.elements / 2 * float(np.log2(max(error2, 1e-300)))
        if costs[rank] <= min(costs.values()):
            found.update(best=leaves)
        return costs[rank]

    costs: dict[int, float] = {}
    rank, rises = 0, 0
    while rank <= ranked.most and rises < _RISES:
        rises = rises + 1 if cost(rank) > min(costs.values()) else 0
        rank = max(1, 2 * rank)
    best = min(costs, key=lambda at: costs[at])
    step = best // 4
    while step > best // 32:
        for near in (best - step, best + step):
            if near <= ranked.most and near not in costs:
                cost(near)
        best, step = min(costs, key=lambda at: costs[at]), step // 2
    return found["best"]


def stored_bits(leaves: Mapping[str, Values]) -> float:
    """Order-0 entropy of all codes, and the plain bits of what is not codes."""
    return sum(
        float(leaf.spec.elements * leaf.spec.info.bits) if leaf.bits is None else entropy(leaf.array)
        for leaf in leaves.values()
    )


def entropy(codes: Array) -> float:
    """Bits of all codes together, coded by their frequencies."""
    counts = np.bincount(codes.reshape(-1))
    counts = counts[counts > 0]
    return float(np.dot(counts, np.log2(counts.sum() / counts)))


def _combined(combine: np.ufunc, first: Array, second: Array, spec: TensorSpec) -> Array:
    """Storage bits of what is made of the values of two arrays; nothing else of their size is made on the way."""
    result = np.empty(first.shape, spec.storage)
    one, other, out = first.reshape(-1), second.reshape(-1), result.reshape(-1)
    for start in range(0, out.size, _BLOCK):
        at = slice(start, start + _BLOCK)
        with np.errstate(over="ignore"):
            values = combine(to_float32(one[at], spec), to_float32(other[at], spec))
        out[at] = from_float32(np.clip(values, -_LARGEST, _LARGEST, out=values), spec)
    return result
