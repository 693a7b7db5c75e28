"""Rate control: finds the step that meets a size or an error, on a sample first, then on the whole tensor."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeVar

import numpy as np

from bale.compressors.trellis.coder import Coded, Coder
from bale.compressors.trellis.estimator import Estimator, Trial
from bale.compressors.trellis.scaled_tensor import ScaledTensor
from bale.compressors.trellis.stream import read_plain, write_plain
from bale.compressors.trellis.viterbi import LARGEST_LEVEL, Code
from bale.errors import Refused
from bale.spec import Array

_TRIES = 14
_LEAST_SHARE = 0.995  # of `bits`, promised
_SMALL = 4096  # elements of a tensor for which a plain stream is tried
_PEAKED = 0.4  # share of values within a step of zero from which on it is tried without a trellis

T = TypeVar("T", bound=Trial)


class Sized(Protocol):
    """Something that is to meet a target: its elements, sum of squares, and root mean square of the scaled values."""

    @property
    def size(self) -> int: ...  # noqa: D102
    @property
    def norm2(self) -> float: ...  # noqa: D102
    @property
    def deviation(self) -> float: ...  # noqa: D102


@dataclass(frozen=True)
class Target:
    """Bounds on the measure of a trial: at most `limit`, ideally `goal`; from `good_enough` on no more are made.

    The measure grows by about `slope` when the step doubles. Of two trials the one with the lower `cost` is better.
    """

    measure: Callable[[Trial], float]
    limit: float
    goal: float
    good_enough: float
    slope: float
    cost: Callable[[Trial], float]
    start: float

    @classmethod
    def bits(cls, bits: float, tensor: Sized) -> Target:
        """At most `bits` bits a weight; the step to start with is that of normal deviates."""
        return cls(
            measure=lambda trial: 8 * trial.size / tensor.size,
            limit=bits,
            goal=0.9992 * bits,
            good_enough=0.9984 * bits,
            slope=-1,
            cost=lambda trial: trial.error2,
            start=tensor.deviation * math.sqrt(2 * math.pi * math.e) * 2.0 ** (-bits - 1),
        )

    @classmethod
    def error(cls, error: float, tensor: Sized) -> Target:
        """At most this relative error, measured in octaves above it: the limit is 0."""
        limit2 = error**2 * tensor.norm2

        def octaves(trial: Trial) -> float:
            return max(math.log2(trial.error2 / limit2) / 2 if trial.error2 else -99.0, -99.0)

        start = 2 * error * tensor.deviation
        return cls(octaves, 0.0, math.log2(0.995), math.log2(0.99), 1, lambda trial: trial.size, start)

    def near(self, start: float) -> Target:
        """The same target, begun at a step that is good enough wherever it meets what is promised."""
        least = _LEAST_SHARE * self.limit if self.slope < 0 else self.good_enough
        return replace(self, start=start, good_enough=least)


def solve(measure: Callable[[float], T], target: Target, largest: float, tries: int = _TRIES) -> T | None:
    """The trial nearest to a target that is not above it, or None if none was found.

    Parameters
    ----------
    measure : callable
        Makes the trial of a step.
    largest : float
        The largest magnitude of the values, which bounds the step.
    """
    best: T | None = None
    bounds = [math.log2(largest / LARGEST_LEVEL), math.log2(4 * largest)]
    good = 0 if target.slope > 0 else 1  # the end of the range that meets the target
    x, slope, last = math.log2(target.start), target.slope, None
    for _ in range(tries):
        x = min(max(x, bounds[0]), bounds[1])
        trial = measure(2.0**x)
        value = target.measure(trial)
        if value <= target.limit and (best is None or value > target.measure(best)):
            best = trial
        if target.good_enough <= value <= target.limit:
            break
        bounds[good if value <= target.goal else 1 - good] = x
        if last is not None and x != last[0] and (value - last[1]) / (x - last[0]) / target.slope > 0.05:
            slope = (value - last[1]) / (x - last[0])
        last = (x, value)
        guess = x + (target.goal - value) / slope
        if not bounds[0] < guess < bounds[1]:
            guess = (bounds[0] + bounds[1]) / 2 if bounds[1] - bounds[0] < 8 else x + math.copysign(4, guess - x)
        if abs(guess - x) < 1e-7 or bounds[1] - bounds[0] < 1e-6:
            break
        x = guess
    return best


@dataclass(frozen=True)
class Stream:
    """The bytes of a tensor, and a function for the storage bits that they come back as, if those are known."""

    data: bytes
    decoded: Callable[[], Array] | None = None


def encode(tensor: ScaledTensor, target: Target, states: int, begin: float | None = None) -> Stream:
    """The stream of a tensor that meets a target, perhaps with the step `begin`. Raises `Refused` where none does."""
    if (stream := _constant(tensor)) is not None:
        return Stream(stream)
    if begin is not None:
        target = target.near(_own_step(tensor, begin))
    estimator, small = Estimator(tensor, Code(states)), tensor.size <= _SMALL
    measured = small or target.slope > 0
    if np.count_nonzero(np.abs(tensor.sample) < target.start) > _PEAKED * tensor.sample.size:
        estimator = _better(tensor, estimator, target)
    model = None
    if not tensor.whole:
        found = solve(partial(estimator.estimate, measured=measured), target, tensor.largest)
        if found is not None:
            target = replace(target, start=found.step)
        model = (found or estimator.estimate(target.start, measured=False)).model
    coder = Coder(tensor, estimator, model)
    encode = partial(coder.encode, measured=measured)
    best = solve(encode, target, tensor.largest, _TRIES if tensor.whole else 6)
    plain = _plain(tensor, target) if small else None
    found_ones = [each for each in (best, plain) if each is not None]
    if not found_ones:
        raise Refused("no stream of it is as small, or as near, as that")
    chosen = min(found_ones, key=target.cost)
    return Stream(chosen.data, None if chosen is plain else partial(coder.decoded, chosen))


def encode_step(tensor: ScaledTensor, step: float, states: int) -> Stream:
    """The stream of a tensor with a given step, or a larger one if values are too many steps."""
    if (stream := _constant(tensor)) is not None:
        return Stream(stream)
    step = _own_step(tensor, step)
    estimator = Estimator(tensor, Code(states))
    coder = Coder(tensor, estimator, None if tensor.whole else estimator.estimate(step, measured=False).model)
    coded = coder.encode(step, measured=False)
    return Stream(coded.data, partial(coder.decoded, coded))


def _own_step(tensor: ScaledTensor, step: float) -> float:
    """A step in the scale of a tensor, within the range where it matters."""
    step = min(math.ldexp(step, -tensor.scaling.exponent), 8 * tensor.largest)  # all is zero there, and beyond
    return max(step, tensor.largest / LARGEST_LEVEL)


def _constant(tensor: ScaledTensor) -> bytes | None:
    """The stream of a tensor whose elements are all the same, if they are; zeros are, whatever their signs."""
    array = tensor.array
    if tensor.largest and any((array[at] != array[0]).any() for at in tensor.blocks):
        return None
    scaling = replace(tensor.scaling, balance=None)
    value = float(scaling.down(array[:1], 0)[0])
    indices = np.full(tensor.size, np.sign(value), np.int32)
    return write_plain(indices, np.float32(abs(value) or 1.0), scaling)


def _better(tensor: ScaledTensor, estimator: Estimator, target: Target) -> Estimator:
    """A trellis, or none where levels are so often zero that the odd ones cost more than they gain."""
    found = [
        (each, solve(partial(each.estimate, measured=True), target, tensor.largest))
        for each in (Estimator(tensor, estimator.code), Estimator(tensor, Code(1)))
    ]
    code = min(found, key=lambda each: target.cost(each[1]) if each[1] is not None else math.inf)[0].code
    return Estimator(tensor, code)


def _plain(tensor: ScaledTensor, target: Target) -> Coded | None:
    """The best plain stream that meets a target: levels lie evenly between the least and the largest value."""
    scaling = replace(tensor.scaling, balance=None)
    values = scaling.down(tensor.array, 0)
    low, high = float(values.min()), float(values.max())
    found = []
    for width in range(1, 22):
        step = np.float32((high - low) / ((1 << width) - 1) or abs(low))
        if max(-low, high) > float(step) * LARGEST_LEVEL:
            break
        data = write_plain(np.rint(values / step).astype(np.int32), step, scaling)
        error2 = tensor.difference2(read_plain(memoryview(data), tensor.spec), 0)
        trial = Coded(float(step), len(data), error2, None, data)
        if target.measure(trial) <= target.limit:
            found.append(trial)
    return min(found, key=target.cost, default=None)
