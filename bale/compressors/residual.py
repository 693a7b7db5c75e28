"""Two lossy layers: the residual of the first, and how much of the bits the first is worth."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from bale.compressors.base import Codec, Compressor, Place, Serializer, Transform, Values
from bale.compressors.floats import from_float32, to_float32
from bale.compressors.importance import Importance
from bale.compressors.serializers.smallest import smallest
from bale.compressors.trellis.codec import Trellis
from bale.errors import Refused
from bale.metrics import ErrorSums
from bale.spec import Array, TensorSpec

_LARGEST = np.finfo(np.float32).max
_BLOCK, _CHUNK = 1 << 16, 1 << 20
_LEAST_BITS, _LEAST_ERROR, _STEPS = 0.1, 1e-7, (1e-38, 1e38)  # what trellis takes
_CLOSER = 0.999
_RISES = 2  # ranks in a row, each worse than the one before, after which the search turns back,
_FEW = 4  # but not before this one
Leaves = dict[str, Values]


def subtract(array: Array, first: Array, spec: TensorSpec) -> Array:
    """The residual of a first layer: the float32 difference, rounded to the dtype."""
    return _combined(np.subtract, array, first, spec)


def add(first: Array, rest: Array, spec: TensorSpec) -> Array:
    """Both layers together, added in float32; the mirror image of `subtract`, up to rounding."""
    return _combined(np.add, first, rest, spec)


def code_rest(codec: Transform, values: Values, first: Array, spent: float) -> Leaves:
    """Parts of the second layer; what a trellis is to meet, it meets together with the first layer.

    Parameters
    ----------
    codec : Transform
        The second layer.
    values : Values
        The tensor.
    first : Array
        Storage bits that the first layer alone decodes to.
    spent : float
        Bits that the first layer takes.

    Raises
    ------
    Refused
        Where the first layer takes all bits, or rounding to the dtype alone exceeds the error.
    """
    spec = values.spec
    left = Values(spec, subtract(values.array, first, spec), importance=values.importance)
    if not isinstance(codec, Trellis) or not codec.has_target:
        return codec.encode(left)
    if codec.bits is not None:
        room = codec.bits - spent / spec.elements
        if room < _LEAST_BITS:
            raise Refused(f"of {codec.bits:g} bits a weight the first layer takes {codec.bits - room:.2f}")
        return replace(codec, bits=room).encode(left)
    x, rest = to_float32(values.array, spec), to_float32(left.array, spec)
    allowed = target = (codec.relative_error or 0.0) ** 2 * ErrorSums.exact(x).norm2
    size = ErrorSums.exact(rest).norm2
    while target > 0:
        parts = _with_error(codec, target, size).encode(left)
        decoded = codec.decode(parts, spec)
        excess = ErrorSums.between(x, to_float32(add(first, decoded, spec), spec)).error2 - allowed
        if excess <= 0:
            return parts
        target = min(target - excess, _CLOSER * target)  # rounding the sum to the dtype added something
    raise Refused("rounding of the two layers alone exceeds the error")


def _with_error(codec: Trellis, error2: float, norm2: float) -> Trellis:
    """The same codec for a squared error of values with this sum of squares: perhaps the error of zeros."""
    if error2 < norm2:
        return replace(codec, error=max(math.sqrt(error2 / norm2), _LEAST_ERROR), snr=None)
    return codec.with_step(min(max(4 * math.sqrt(norm2), _STEPS[0]), _STEPS[1]))


def best_rank(
    most: int, code: Callable[[int], Leaves], decode: Callable[[Leaves], Array], rest: Transform, values: Values
) -> Leaves:
    """The leaves of the rank at which both layers are smallest at equal error, of outputs if their inputs are known.

    Parameters
    ----------
    most : int
        The highest rank.
    code : callable
        Codes both layers with a rank; that of rank 0 has the second layer alone. Ranks that it refuses are left out.
    decode : callable
        Gives the values that leaves stand for.
    rest : Transform
        The second layer.
    values : Values
        The tensor.
    """
    spec = values.spec
    found: dict[str, Leaves] = {}
    x = to_float32(values.array, spec)
    has_level = isinstance(rest, Trellis) and rest.bits is None
    importance = None if has_level else values.importance  # a level is one of the weights' own error
    level = 1e-300
    least = math.inf

    def cost(rank: int) -> float:
        """Bits, with the error put at 6.02 dB a bit, and nothing for less error than what was asked for."""
        nonlocal level, least
        try:
            leaves = code(rank)
        except Refused:
            if not rank:
                raise
            return math.inf
        error2 = _error2(x, to_float32(decode(leaves), spec), spec, importance)
        if has_level and not rank:
            level = max(level, error2)
        bits = stored_bits(leaves) + spec.elements / 2 * math.log2(max(error2, level))
        if bits < least or not rank:
            least = bits
            found.update(best=leaves)
        return bits

    _try_ranks(cost, most)
    return found["best"]


def _error2(x: Array, y: Array, spec: TensorSpec, importance: Importance | None) -> float:
    """Sum of squared errors, weighted by importance where it is known."""
    flat, again, total = x.reshape(-1), y.reshape(-1), 0.0
    for start in range(0, flat.size, _BLOCK):
        at = slice(start, min(start + _BLOCK, flat.size))
        weights = None if importance is None else importance.weights(spec.shape, start, at.stop - start)
        total += ErrorSums.between(flat[at], again[at], weights).error2
    return total


def _try_ranks(cost: Callable[[int], float], most: int) -> None:
    """Ask for the costs of ranks among which the least is likely to be."""
    costs: dict[int, float] = {}
    rank, rises, last = 0, 0, math.inf
    while rank <= most and (rises < _RISES or rank <= _FEW):
        costs[rank] = cost(rank)
        rises = rises + 1 if costs[rank] >= last else 0
        rank, last = max(1, 2 * rank), costs[rank]
    best = min(filter(None, costs), key=lambda at: costs[at], default=0)  # costs have bumps: 0 may only seem better
    step = best // 4
    while step > best // 32:
        for near in (best - step, best + step):
            if near <= most and near not in costs:
                costs[near] = cost(near)
        best, step = min(filter(None, costs), key=lambda at: costs[at]), step // 2


def stored_bits(leaves: Mapping[str, Values], storers: Sequence[Codec] | None = None) -> float:
    """Bits of codes as they are stored, by these stages or the smallest one; plain bits of what is not codes."""
    return 8.0 * sum(
        sum(map(partial(_bytes, storers), _chunks(leaf))) if leaf.bits else leaf.spec.nbytes for leaf in leaves.values()
    )


def _chunks(leaf: Values) -> Iterator[Values]:
    """Codes as they are stored: a million at a time."""
    flat = leaf.array.reshape(-1)
    for start in range(0, flat.size, _CHUNK):
        piece = flat[start : start + _CHUNK]
        yield Values(TensorSpec(leaf.spec.dtype, piece.shape), piece, leaf.bits, Place(leaf.spec.shape, start))


def _bytes(storers: Sequence[Codec] | None, codes: Values) -> int:
    serializer, *compressors = storers or (None,)
    if not isinstance(serializer, Serializer) or serializer.name == "rans":  # which leaves the choice
        return len(smallest(codes)[1])
    data = serializer.encode(codes)
    for compressor in compressors:
        assert isinstance(compressor, Compressor)
        data = compressor.encode(data)
    return len(data)


def _combined(combine: np.ufunc, first: Array, second: Array, spec: TensorSpec) -> Array:
    """Storage bits of a function of the values of two arrays, without temporaries of their size."""
    result = np.empty(first.shape, spec.storage)
    one, other, out = first.reshape(-1), second.reshape(-1), result.reshape(-1)
    for start in range(0, out.size, _BLOCK):
        at = slice(start, start + _BLOCK)
        with np.errstate(over="ignore"):
            values = combine(to_float32(one[at], spec), to_float32(other[at], spec))
        out[at] = from_float32(np.clip(values, -_LARGEST, _LARGEST, out=values), spec)
    return result
