"""Rate control: finds the step that meets a size or an error, on a sample first, then on the whole tensor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from bale.compressors.kernels.trellis import UNIT, survey, tokens_of
from bale.compressors.trellis import tables
from bale.compressors.trellis.context_classes import Classes, Scaled
from bale.compressors.trellis.coordinate_descent import descend
from bale.compressors.trellis.scaled_tensor import ScaledTensor
from bale.compressors.trellis.stream import (
    MOST_SHIFT,
    Model,
    Tokens,
    read_plain,
    write,
    write_plain,
)
from bale.compressors.trellis.viterbi import LARGEST_LEVEL, Code, Search, paths_of
from bale.errors import Refused
from bale.spec import Array

_TRIES = 14
_SMALL = 4096  # elements of a tensor for which a plain stream is tried
_PEAKED = 0.4  # share of values within a step of zero from which on it is tried without a trellis
_DEAD = 24
_SEEN = 16  # values that a level must have to get a centroid
_MANY = 1 << 16  # elements of a tensor that can pay for many centroids


@dataclass(frozen=True)
class Trial:
    """Outcome of a step: bytes, the sum of squared errors if it was asked for, and the stream if there is one."""

    step: float
    size: float
    error2: float
    data: bytes = b""


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


class TrialCoder:
    """Codes one tensor, or a sample of it, with any step.

    Parameters
    ----------
    measured : bool
        Whether errors are wanted.
    classes : Classes or None
        Those of an earlier coder; None: those that suit the first step best.
    """

    def __init__(self, tensor: ScaledTensor, code: Code, *, measured: bool, classes: Classes | None = None) -> None:
        self._tensor, self._measured = tensor, measured
        self._search = Search(code, paths_of(tensor.size), _DEAD, weighted=tensor.importance is not None)
        self._model = Model(code, np.float32(1), classes=classes or Classes())
        self._has_classes = classes is not None
        self._near = 24 if tensor.size >= _MANY else 6

    @property
    def classes(self) -> Classes:
        """The classes that are used."""
        return self._model.classes

    @property
    def _descends(self) -> bool:
        """Whether paths are searched again by covariances."""
        return self._tensor.covariance is not None and not self._search.scalar

    def estimate(self, step: float) -> Trial:
        """Size and error of the whole tensor, by the sample; the model that suits the step is kept for `encode`."""
        tensor = self._tensor
        levels = self._search.levels(tensor.sample, np.float32(step), tensor.sample_weights)
        if tensor.whole and self._descends:
            levels = descend(levels, tensor, self._search, np.float32(step))
        self._model = model = self._fit(levels, np.float32(step))
        scale, error2 = tensor.size / levels.size, 0.0
        if self._measured:
            runs = np.split(model.values(levels), tensor.starts.size)
            error2 = sum(tensor.error2(run, at) for run, at in zip(runs, tensor.starts.tolist(), strict=True))
        return Trial(step, self._cost(model, levels), error2 * scale)

    def encode(self, step: float) -> Trial:
        """Code the whole tensor."""
        tensor = self._tensor
        found, error2 = None, 0.0
        for at, levels in self._levels(np.float32(step)):
            if found is None:
                if tensor.whole:  # these are the levels of the sample
                    self._model = self._fit(levels, np.float32(step))
                found = Tokens.empty(replace(self._model, step=np.float32(step)), tensor.spec.shape)
            found.add(levels, at.start)
            if self._measured:
                error2 += tensor.error2(found.model.values(levels), at.start)
        assert found is not None
        data = write(found, tensor.scaling)
        return Trial(step, len(data), error2, data)

    def _levels(self, step: np.float32) -> Iterator[tuple[slice, Array]]:
        """The levels of each chunk."""
        tensor, search = self._tensor, self._search
        found = ((at, search.levels(tensor.down(at), step, tensor.weights(at))) for at in tensor.chunks)
        if not self._descends:
            yield from found
        else:
            levels = descend(np.concatenate([each for _, each in found]), tensor, search, step)
            yield from ((at, levels[at]) for at in tensor.chunks)

    def _fit(self, levels: Array, step: np.float32) -> Model:
        """The model that suits the levels of the sample."""
        positions = np.rint(self._tensor.sample * (np.float32(UNIT) / step)).astype(np.int32)
        lengths, (counts, sums) = np.zeros(32, np.int64), np.zeros((2, self._near + 1), np.int64)
        survey(levels, positions, lengths, counts, sums)
        centroids = np.clip(np.rint(sums[1:] / np.maximum(counts[1:], 1)), -127, 127) * (counts[1:] >= _SEEN)
        centroids = np.trim_zeros(centroids.astype(np.int8), "b")
        model = replace(self._model, step=step, shift=0, centroids=centroids)
        longer = lengths[::-1].cumsum()[::-1]  # pairs of at least that many bits
        if shift := min(int((longer[6:] > levels.size >> 6).sum()), MOST_SHIFT):
            other = replace(model, shift=shift, centroids=np.zeros(0, np.int8))
            model = min(model, other, key=lambda each: self._cost(each, levels))
        if not self._has_classes:
            self._has_classes = True
            options = [Classes(), *(self._classes(axes) for axes in self._tensor.axes)]
            model = min((replace(model, classes=each) for each in options), key=lambda each: self._cost(each, levels))
        return model

    def _classes(self, axes: tuple[Scaled, ...]) -> Classes:
        tensor = self._tensor
        return Classes.along(axes, tensor.spec.shape, tensor.starts, tensor.length)

    def _cost(self, model: Model, levels: Array) -> float:
        """Bytes of the whole tensor, by the levels of the sample."""
        tensor = self._tensor
        counts = np.zeros((model.contexts, tables.TOKENS), np.uint32)
        tokens, contexts = np.empty((2, levels.size), np.uint8)
        classes = model.classes.of(tensor.spec.shape, tensor.starts, tensor.length)
        tokens_of(levels, model.shift, classes, tokens, contexts, np.empty(levels.size, np.uint32), counts)
        bits = tables.fit(counts, model.shift)[2] / 65536 + int(counts.sum(axis=0) @ model.runs[1].astype(np.int64))
        side = 20 + 2 * model.contexts + sum(len(each.pack()) for each in model.classes.axes)
        return bits / 8 * tensor.size / levels.size + side + 40 * len(tensor.chunks)


def solve(measure: Callable[[float], Trial], target: Target, largest: float, tries: int = _TRIES) -> Trial | None:
    """The trial nearest to a target that is not above it, or None if none was found.

    Parameters
    ----------
    measure : callable
        Makes the trial of a step.
    largest : float
        The largest magnitude of the values, which bounds the step.
    """
    best: Trial | None = None
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


def encode(tensor: ScaledTensor, target: Target, states: int) -> bytes:
    """The stream of a tensor that meets a target. Raises `Refused` where none does."""
    if (stream := _constant(tensor)) is not None:
        return stream
    code = Code(states)
    if np.count_nonzero(np.abs(tensor.sample) < target.start) > _PEAKED * tensor.sample.size:
        code = _better_code(tensor, code, target)
    small = tensor.size <= _SMALL
    coder = TrialCoder(tensor, code, measured=small or target.slope > 0)
    if not tensor.whole and (found := solve(coder.estimate, target, tensor.largest)) is not None:
        target = replace(target, start=found.step)
        coder.estimate(found.step)
    best = solve(coder.encode, target, tensor.largest, _TRIES if tensor.whole else 6)
    plain = _plain(tensor, target) if small else None
    found_ones = [each for each in (best, plain) if each is not None]
    if not found_ones:
        raise Refused("no stream of it is as small, or as near, as that")
    return min(found_ones, key=target.cost).data


def encode_step(tensor: ScaledTensor, step: float, states: int) -> bytes:
    """The stream of a tensor with a given step, or a larger one if values are too many steps."""
    if (stream := _constant(tensor)) is not None:
        return stream
    step = min(math.ldexp(step, -tensor.scaling.exponent), 8 * tensor.largest)  # all is zero there, and beyond
    step = max(step, tensor.largest / LARGEST_LEVEL)
    coder = TrialCoder(tensor, Code(states), measured=False)
    if not tensor.whole:
        coder.estimate(step)
    return coder.encode(step).data


def _constant(tensor: ScaledTensor) -> bytes | None:
    """The stream of a tensor whose elements are all the same, if they are; zeros are, whatever their signs."""
    array = tensor.array
    if tensor.largest and any((array[at] != array[0]).any() for at in tensor.blocks):
        return None
    scaling = replace(tensor.scaling, balance=None)
    value = float(scaling.down(array[:1], 0)[0])
    indices = np.full(tensor.size, np.sign(value), np.int32)
    return write_plain(indices, np.float32(abs(value) or 1.0), scaling)


def _better_code(tensor: ScaledTensor, code: Code, target: Target) -> Code:
    """A trellis, or none where levels are so often zero that the odd ones cost more than they gain."""
    found = [
        (each, solve(TrialCoder(tensor, each, measured=True).estimate, target, tensor.largest))
        for each in (code, Code(1))
    ]
    return min(found, key=lambda each: target.cost(each[1]) if each[1] is not None else math.inf)[0]


def _plain(tensor: ScaledTensor, target: Target) -> Trial | None:
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
        trial = Trial(float(step), len(data), tensor.difference2(read_plain(memoryview(data), tensor.spec), 0), data)
        if target.measure(trial) <= target.limit:
            found.append(trial)
    return min(found, key=target.cost, default=None)
