"""Spreads bytes, or error, over tensors: a step for each, by curves of their size and error.

With a step d a tensor of n values has the squared error n d^2 / 12, about, and a further bit a value takes a factor of
4 off it. So the sum of squared errors times weights w is least, for a size, where w d^2 is the same everywhere: one
step for all tensors, times a factor for each. What these factors are is what an error means:

* ``absolute``: none. The sum of all squared errors is least.
* ``relative``: the tensor's root mean square. Each tensor's relative error counts by its size.
* ``quality`` (default): the fourth root of n, within a kind of tensors: small tensors are finer. Of the rules that need
  no data it keeps models nearest to themselves (docs/quality.md). Kinds get the same relative error. An embedding that
  is only looked up is taken to be four times coarser, and one that is the output matrix too as if it were a tensor of
  middling size.

Own; the principle is Shoham and Gersho 1988, doi:10.1109/29.90373.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bale.planning.budget import Weight
from bale.spec import Array

WEIGHT, EMBEDDING, TIED, FIRST, SECOND = "weight", "embedding", "tied-embedding", "first-moment", "second-moment"
_LOOKED_UP = 2.0  # octaves by which an embedding is coarser that is only looked up
_FINER, _COARSER = 2.5, 1.5  # bits that a moment gets at most above and below the mean of its kind
_HALVINGS = 36  # of some 40 octaves: far finer than the digits of a step
_MUCH_COARSER = 2  # octaves from a measured step that it says nothing about; what lies nearer shapes the curve there
_FINER_THAN_CURVES = 16  # octaves below the first point of a curve that matter


@dataclass(frozen=True)
class Curve:
    """Size and squared error of a tensor by its step.

    Parameters
    ----------
    steps : float64 array
        Binary logarithms of steps, an octave apart, ascending; of all tensors as many.
    bits : float64 array
        Stored bits a value with them.
    error2 : float64 array
        Binary logarithms of the squared error of all values.
    finest : float
        Binary logarithm of the least step that makes a difference.
    """

    steps: Array
    bits: Array
    error2: Array
    finest: float = -np.inf

    def bits_at(self, step: float) -> float:
        """Stored bits a value with a step (its logarithm): a bit more for each octave below the least one."""
        return float(_between(self.bits[None], self._place(step), below=1.0)[0])

    def error2_at(self, step: float) -> float:
        """Squared error of all values with a step."""
        return float(2.0 ** _between(self.error2[None], self._place(step), below=-2.0)[0])

    def _place(self, step: float) -> Array:
        return np.array([max(step, self.finest) - self.steps[0]])

    def through(self, step: float, bits: float, error2: float) -> Curve:
        """The same curve moved through a measured point.

        Where that lies above it, much coarser steps keep their sizes: they can still take next to nothing.
        """
        here = self.bits_at(step)
        if bits < here:
            moved = self.bits * (bits / here) if here < 1 else np.maximum(self.bits + bits - here, 0.0)
        else:
            moved = self.bits + np.where(self.steps < step + _MUCH_COARSER, bits - here, 0.0)
        lift = np.log2(error2 / self.error2_at(step)) if error2 > 0 else 0.0
        return Curve(self.steps, np.asarray(moved), self.error2 + lift, self.finest)


@dataclass(frozen=True)
class Item:
    """A tensor that a budget chooses the step of.

    Attributes
    ----------
    elements : int
        Number of its values.
    norm2 : float
        Their sum of squares.
    lossless : float
        Bytes that it takes without loss.
    side : float
        Bytes that it takes beside those of its curve.
    least, most : float
        Bytes that its curve takes at least and at most.
    spare : float
        Share by which it may take more, or lose more, than its curve says.
    """

    elements: int
    norm2: float
    curve: Curve
    kind: str = WEIGHT
    lossless: float = np.inf
    side: float = 0.0
    least: float = 0.0
    most: float = np.inf
    spare: float = 0.0

    def size(self, step: float) -> float:
        """Bytes with a step, at most."""
        own = self.curve.bits_at(step) * self.elements / 8 * (1 + self.spare)
        return min(max(own, self.least), self.most) + self.side

    def error2(self, step: float) -> float:
        """Squared error of all values with a step, at most."""
        return self.curve.error2_at(step) * (1 + self.spare) ** 2


def offsets(items: Sequence[Item], weight: Weight) -> Array:
    """The factor of each tensor's step, as its binary logarithm."""
    if not items:
        return np.zeros(0)
    sizes = np.array([float(item.elements) for item in items])
    norms = np.array([max(item.norm2, 1e-300) for item in items])
    spreads = np.log2(norms / sizes) / 2
    if weight == "absolute":
        return np.zeros(len(items))
    if weight == "relative":
        return np.asarray(spreads)
    found: Array = np.log2(sizes) / 4
    kinds = [item.kind for item in items]
    embeddings = np.array([kind in (EMBEDDING, TIED) for kind in kinds], bool)
    if not embeddings.all():
        middling = float(np.median(found[~embeddings]))
        found[embeddings] = middling
        found[np.array([kind == EMBEDDING for kind in kinds], bool)] += _LOOKED_UP
    for kind in (FIRST, SECOND):
        own = np.array([each == kind for each in kinds], bool)
        if own.any():
            found[own] = _levelled(found[own], spreads[own], sizes[own])
    groups = [each if each in (FIRST, SECOND) else WEIGHT for each in kinds]
    for group in set(groups):
        own = np.array([each == group for each in groups], bool)
        noise = float((sizes[own] * 4 ** (found[own] - found[own].max())).sum())
        found[own] += np.log2(norms[own].sum() / noise) / 2 - found[own].max()
    return found


def _levelled(found: Array, spreads: Array, sizes: Array) -> Array:
    """Offsets of moments, none of which may be erased for others of larger values."""
    relative = found - spreads
    mean = float((relative * sizes).sum() / sizes.sum())
    levelled: Array = np.clip(relative, mean - _FINER, mean + _COARSER) + spreads
    return levelled


def solve_size(items: Sequence[Item], factors: Array, limit: float) -> float | None:
    """The step (its logarithm) with which all items take `limit` bytes, each no more than without loss.

    None where the least that they can take is more.
    """
    if not items:
        return 0.0 if limit >= 0 else None
    table = _Table(items, factors)
    return _bisect(lambda step: float(table.sizes(step).sum()), limit, *table.range)


def solve_error(items: Sequence[Item], factors: Array, limit2: float) -> float:
    """The step (its logarithm) with which the squared errors of all items add up to `limit2`."""
    if not items:
        return 0.0
    table = _Table(items, factors)
    low, high = table.range
    found = _bisect(lambda finer: float(table.errors2(-finer).sum()), limit2, -high, -low)
    return low if found is None else -found


def sizes(items: Sequence[Item], steps: Sequence[float] | Array) -> Array:
    """Bytes of items with a step (its logarithm) for each, none more than without loss."""
    return _Table(items, np.asarray(steps)).sizes(0.0) if items else np.zeros(0)


def errors2(items: Sequence[Item], steps: Sequence[float] | Array) -> Array:
    """Squared errors of items with a step (its logarithm) for each."""
    return _Table(items, np.asarray(steps)).errors2(0.0) if items else np.zeros(0)


class _Table:
    """The curves of many tensors, looked up together."""

    def __init__(self, items: Sequence[Item], factors: Array) -> None:
        self._factors = factors
        self._steps = np.stack([item.curve.steps for item in items])
        self._bits = np.stack([item.curve.bits for item in items])
        self._finest = np.array([item.curve.finest for item in items])
        self._errors = np.stack([item.curve.error2 for item in items])
        self._elements, self._spare, self._side, self._least, self._most, self._lossless = (
            np.array([float(getattr(item, name)) for item in items])
            for name in ("elements", "spare", "side", "least", "most", "lossless")
        )

    @property
    def range(self) -> tuple[float, float]:
        """The steps (their logarithms) between which anything changes."""
        low, high = self._steps[:, 0] - _FINER_THAN_CURVES, self._steps[:, -1]
        return float((low - self._factors).min()), float((high - self._factors).max())

    def sizes(self, step: float) -> Array:
        """Bytes of each at a common step; see `Item.size`."""
        bits = self._at(self._bits, step, below=1.0)
        own = bits * self._elements / 8 * (1 + self._spare)
        found: Array = np.minimum(np.clip(own, self._least, self._most) + self._side, self._lossless)
        return found

    def errors2(self, step: float) -> Array:
        """Squared error of each at a common step; see `Item.error2`."""
        found: Array = 2.0 ** self._at(self._errors, step, below=-2.0) * (1 + self._spare) ** 2
        return found

    def _at(self, values: Array, step: float, below: float) -> Array:
        """Values between the points of all curves; below the first one they change by so much an octave."""
        return _between(values, np.maximum(step + self._factors, self._finest) - self._steps[:, 0], below)


def _between(values: Array, places: Array, below: float) -> Array:
    """Values of curves between their points, by cubics; below the first point they change by so much an octave.

    Parameters
    ----------
    values : float64 array
        Shape ``(curves, points)``.
    places : float64 array
        Where each curve is looked up: 0 for its first point, 1 for the next.
    """
    last = values.shape[1] - 1
    inside = np.clip(places, 0, last)
    number = np.clip(np.floor(inside), 0, last - 1).astype(np.int64)
    before, left, right, after = (
        np.take_along_axis(values, np.clip(number + more, 0, last)[:, None], axis=1)[:, 0] for more in (-1, 0, 1, 2)
    )
    t, rise = inside - number, right - left
    first, second = (np.where(each * rise > 0, each, 0.0) for each in ((right - before) / 2, (after - left) / 2))
    most = 3 * np.abs(rise)  # so that nothing lies beyond its neighbours (Fritsch and Carlson 1980)
    first, second = (np.clip(each, -most, most) for each in (first, second))
    cubic = left + t * (first + t * (3 * rise - 2 * first - second + t * (first + second - 2 * rise)))
    found: Array = np.where(places < 0, values[:, 0] - below * places, cubic)
    return found


def _bisect(falling: Callable[[float], float], limit: float, low: float, high: float) -> float | None:
    """The least x from `low` to `high` at which a falling function is no more than a limit."""
    if falling(high) > limit:
        return None
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if falling(middle) <= limit else (middle, high)
    return high
